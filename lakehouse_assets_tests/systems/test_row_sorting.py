"""Rows come back in order, all of them, though only a part fits into memory."""

import datetime as dt
import decimal
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from lakehouse_assets.systems.row_sorting import RowSorter, ZOrder

ROWS = 30_000


def _sort(rows: pa.Table, columns: Sequence[str], memory_bytes: int, curve: ZOrder | None = None) -> list[pa.Table]:
    with RowSorter(columns, memory_bytes, curve) as sorter:
        for begin in range(0, rows.num_rows, 999):
            sorter.add(rows.slice(begin, 999))
        return list(sorter.read())


def _make(seed: int = 1) -> pa.Table:
    rng = random.Random(seed)
    numbers = [rng.randrange(10**6) for _ in range(ROWS)]
    none = lambda value: None if rng.random() < 0.01 else value  # noqa: E731
    return pa.table(
        {
            "few": pa.array([none(rng.choice(["a", "b", "ä"])) for _ in numbers]),
            "float": pa.array([none(rng.choice([float("nan"), -0.0, number / 7])) for number in numbers]),
            "decimal": pa.array([decimal.Decimal(number).scaleb(-2) for number in numbers], pa.decimal128(20, 2)),
            "time": pa.array([dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=n) for n in numbers]),
            "bytes": pa.array([number.to_bytes(4, "big") for number in numbers], pa.binary(4)),
            "same": pa.array([7] * ROWS),
            "number": pa.array(numbers),
            "row": pa.array(range(ROWS)),
        }
    )


@pytest.mark.parametrize(
    "columns", [["number"], ["few", "float"], ["decimal"], ["time", "row"], ["bytes"], ["same"], ["few", "number", "row"]]
)
@pytest.mark.parametrize("memory_bytes", [10**9, 400_000], ids=["in memory", "on disk"])
def test_rows_are_sorted_as_arrow_sorts_them(columns: list[str], memory_bytes: int) -> None:
    rows = _make()
    pieces = _sort(rows, columns, memory_bytes)
    found = pa.concat_tables(pieces)

    assert sorted(found["row"].to_pylist()) == list(range(ROWS))
    expected = rows.sort_by([(name, "ascending") for name in columns])
    for name in columns:
        assert str(found[name].to_pylist()) == str(expected[name].to_pylist())
    assert found.schema == rows.schema
    if memory_bytes < 10**6:
        assert max(piece.nbytes for piece in pieces) < 4 * memory_bytes


def test_what_is_on_disk_has_no_name_so_that_a_kill_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with RowSorter(["number"], 100_000) as sorter:
        sorter.add(_make())
        pieces = sorter.read()

        assert next(pieces).num_rows < ROWS  # the others wait on disk
        assert list(tmp_path.iterdir()) == []


def test_a_curve_keeps_rows_near_each_other_in_every_column() -> None:
    rows = _make()
    rows = rows.append_column("other", pa.array(random.Random(2).choices(range(1000), k=ROWS)))
    curve = ZOrder(rows.slice(0, 5000), ["number", "other"])
    found = pa.concat_tables(_sort(rows, ["number", "other"], 400_000, curve))

    assert sorted(found["row"].to_pylist()) == list(range(ROWS))
    assert found.schema == rows.schema
    for name in ("number", "other"):
        values = found[name].to_pylist()
        spans = [max(part) - min(part) for part in (values[i : i + ROWS // 64] for i in range(0, ROWS, ROWS // 64))]
        assert sum(spans) / len(spans) < (max(values) - min(values)) / 4


@pytest.mark.parametrize("column", ["few", "float", "decimal", "time", "bytes", "same"])
def test_a_curve_takes_every_type_and_null(column: str) -> None:
    rows = _make().slice(0, 1000)
    rows = rows.append_column("null", pa.nulls(1000, pa.int64()))
    curve = ZOrder(rows, [column, "null", "number"])
    assert sorted(pa.concat_tables(_sort(rows, [], 10_000, curve))["row"].to_pylist()) == list(range(1000))


def test_no_rows_are_no_rows() -> None:
    assert _sort(_make().slice(0, 0), ["number"], 1000) == []
