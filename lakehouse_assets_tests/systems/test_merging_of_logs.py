"""Changes of several logs, changes that lack values, and truncations, merged with the rows of a table."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest

from lakehouse_assets.decode.columns import arrow_type
from lakehouse_assets.decode.nested import build_array
from lakehouse_assets.model.types import parse_type
from lakehouse_assets.systems import tombstones
from lakehouse_assets.systems.changes import Changes, Truncated
from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets.systems.merging import MergeFigures
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import append_foreign_rows, expire
from lakehouse_assets_tests.faults import FaultyCatalog
from lakehouse_assets_tests.foreign_deletes import delete_rows
from lakehouse_assets_tests.systems.merges import (
    IN_EVERY_MODE,
    NAME,
    Merger,
    Mode,
    make_changes,
    make_upsert_spec,
)

DEBEZIUM = make_upsert_spec(source={"topic": "clicks", "format": "debezium-json"})


def make_placed(rows: Sequence[tuple[int, str | None, int, int, int | None, int | None]]) -> Changes:
    """Changes as (id, text, topic partition, offset, second of Kafka's timestamp, source position)."""
    ids, texts, partitions, offsets, seconds, positions = zip(*rows, strict=True)
    stamps = [None if second is None else second * 1_000_000 for second in seconds]
    columns = {
        "_kafka_partition": pa.array(partitions, pa.int32()),
        "_kafka_offset": pa.array(offsets, pa.int64()),
        "_kafka_timestamp": pa.array(stamps, pa.timestamp("us", tz="UTC")),
        "_source_position": pa.array(positions, pa.int64()),
    }
    return make_changes(dict(zip(ids, texts, strict=True)), **columns)


@pytest.mark.parametrize(
    ("live", "incoming", "wins"),
    [
        ((0, 5, 10, 100), (0, 6, 9, 99), True),
        ((0, 5, 10, 100), (0, 5, 10, 100), True),
        ((0, 5, 10, 100), (0, 4, 11, 101), False),
        ((0, 5, 10, 100), (1, 2, 9, 101), True),
        ((0, 5, 10, 100), (1, 6, 11, 99), False),
        ((0, 5, 10, 100), (1, 6, 9, 100), True),
        ((0, 5, 10, None), (1, 6, 11, 1), True),
        ((0, 5, 10, None), (1, 6, 9, 1), False),
        ((0, 5, 10, 1), (1, 6, 9, None), False),
        ((0, 5, None, None), (1, 6, 9, 1), True),
        ((0, 5, 10, None), (1, 6, None, None), True),
    ],
)
@IN_EVERY_MODE
@pytest.mark.parametrize("text", ["new", None])
def test_of_two_logs_the_newer_change_stays(
    catalog: FaultyCatalog,
    live: tuple[Any, ...],
    incoming: tuple[Any, ...],
    wins: bool,
    mode: Mode,
    text: str | None,
) -> None:
    merger = Merger(catalog, DEBEZIUM, mode)
    merger.merge(make_placed([(1, "old", *live), (2, "other", 0, 9, 50, 500)]))

    figures = merger.merge(make_placed([(1, text, *incoming), (3, "third", 1, 9, 50, 500)]), has_several_logs=True).figures

    assert figures.stale == (0 if wins else 1)
    assert merger.read() == {2: "other", 3: "third"} | ({1: "old"} if not wins else {1: text} if text else {})


def lacking_text(rows: dict[int, Any], old_keys: list[int | None] | None = None, **columns: Any) -> Changes:
    """Changes that don't hold their text."""
    changes = make_changes(dict.fromkeys(rows, ""), **columns)
    old = pa.table({"id": pa.array(old_keys, pa.int64())}) if old_keys else None
    return replace(changes, unavailable={"text": np.ones(len(rows), np.bool_)}, old_keys=old)


@IN_EVERY_MODE
def test_a_value_that_a_change_lacks_is_the_one_of_the_row(catalog: FaultyCatalog, mode: Mode) -> None:
    merger = Merger(catalog, mode=mode)
    merger.put({1: "one", 2: None, 3: "three"})
    merger.put({4: "four", 5: None})
    changes = lacking_text(dict.fromkeys([1, 4]), _kafka_offset=pa.array([70, 71], pa.int64()))

    assert len(merger.merge(changes).unresolved) == 0

    assert merger.read() == {1: "one", 3: "three", 4: "four"}
    assert judge.query(merger.table, "SELECT count(*) FROM {table} WHERE _kafka_offset >= 70") == [(2,)]


def test_a_change_whose_value_is_nowhere_is_named_and_nothing_is_written(catalog: FaultyCatalog) -> None:
    merger = Merger(catalog)
    merger.put({1: "one"})
    merge = merger.plan(lacking_text(dict.fromkeys([7, 1, 8]), [None, None, 9]))

    merge.prepare(merger.table)

    assert merge.unresolved.tolist() == [0, 2]
    assert merge.written_locations == []


@IN_EVERY_MODE
def test_after_a_change_of_key_values_are_those_of_the_old_row_even_if_it_is_gone(
    catalog: FaultyCatalog, mode: Mode
) -> None:
    merger = Merger(catalog, mode=mode)
    merger.put({1: "stale"})
    merger.put({1: "one", 2: "two", 4: "four"})
    merger.put({1: None, 20: "is another"})
    delete_rows(catalog, NAME, "id", [4])
    merger.put({5: "five"})

    moved = lacking_text(dict.fromkeys([10, 20, 40, 41]), [1, 2, 4, 4])
    gone = make_changes({2: None})
    both = Changes(
        pa.concat_tables([moved.rows, gone.rows]),
        np.concatenate([moved.deletes, gone.deletes]),
        {"text": np.array([True] * 4 + [False])},
        pa.concat_tables([moved.old_keys, pa.table({"id": pa.array([None], pa.int64())})]),
    )
    merger.merge(both)

    assert merger.read() == {5: "five", 10: "one", 20: "two", 40: "four", 41: "four"}


def test_a_change_of_key_that_comes_again_keeps_what_it_brought(catalog: FaultyCatalog) -> None:
    merger = Merger(catalog)
    merger.put({1: "one"})
    message = {"_kafka_partition": pa.array([0], pa.int32()), "_kafka_offset": pa.array([77], pa.int64())}
    merger.merge(lacking_text({10: ""}, [1], **message))
    merger.put({1: None})
    expire(merger.table, [snapshot.snapshot_id for snapshot in merger.table.metadata.snapshots[:-1]])

    merger.merge(lacking_text({10: ""}, [1], **message))
    merge = merger.plan(lacking_text({10: ""}, [1], **message | {"_kafka_offset": pa.array([78], pa.int64())}))
    merge.prepare(merger.table)

    assert merger.read() == {10: "one"}
    assert merge.unresolved.tolist() == [0]


@IN_EVERY_MODE
def test_a_truncation_takes_every_row_before_what_comes_after_it(catalog: FaultyCatalog, mode: Mode) -> None:
    merger = Merger(catalog, mode=mode)
    merger.put(dict.fromkeys(range(10), "old"))
    merger.put({3: "newer", 4: None})

    figures = merger.merge(replace(make_changes({3: "after", 20: "after", 5: None}), truncated=Truncated())).figures

    assert figures == MergeFigures(inserted=2, absent=1, truncated=9)
    assert merger.read() == {3: "after", 20: "after"}
    merger.merge(Changes.truncation(Truncated()))
    assert merger.read() == {}
    assert judge.query(merger.table, "SELECT count(*) FROM {table}") == [(0,)]


@IN_EVERY_MODE
def test_a_truncation_spares_rows_of_another_log_that_are_newer(catalog: FaultyCatalog, mode: Mode) -> None:
    merger = Merger(catalog, DEBEZIUM, mode)
    merger.merge(make_placed([(1, "before", 0, 0, 1, 10), (2, "after", 1, 0, 2, 30), (3, "unknown", 1, 1, 2, None)]))
    merger.merge(make_placed([(4, "before", 0, 1, 1, 20), (5, "changed", 0, 2, 1, 15), (6, "after", 1, 2, 3, 31)]))
    changes = make_placed([(5, "again", 0, 3, 4, 40), (2, "late", 0, 4, 4, 29)])

    figures = merger.merge(replace(changes, truncated=Truncated(20)), has_several_logs=True).figures

    assert merger.read() == {2: "after", 5: "again", 6: "after"}
    assert (figures.truncated, figures.stale) == (4, 1)


@IN_EVERY_MODE
def test_a_row_that_one_log_deleted_does_not_come_back_with_an_older_change_of_another(
    catalog: FaultyCatalog, mode: Mode
) -> None:
    merger = Merger(catalog, DEBEZIUM, mode)

    def put(*rows: tuple[int, str | None, int, int, int | None, int | None]) -> MergeFigures:
        return merger.merge(make_placed(rows), has_several_logs=True).figures

    put((1, "a", 0, 0, 10, 100), (2, "a", 0, 1, 10, 101))
    put((1, None, 0, 2, 20, 200), (3, None, 0, 3, 20, 201), (4, None, 0, 4, 20, None))
    put((9, "other", 0, 5, 21, 202))
    append_foreign_rows(merger.table, 1)

    figures = put((1, "late", 1, 0, 30, 150), (3, "late", 1, 1, 30, 150), (4, "late", 1, 2, 19, 150), (2, "late", 1, 3, 30, 150))
    assert (figures.stale, figures.updated) == (3, 1)
    assert put((1, None, 1, 4, 31, 160), (3, None, 0, 3, 20, 201)) == MergeFigures(absent=1, stale=1)
    assert merger.read() == {2: "late", 9: "other", 1_000_000: None}

    put((1, "born again", 1, 5, 40, 300), (3, "born again", 0, 6, 40, 301))
    assert put((1, "late", 0, 7, 41, 299), (3, "late", 1, 6, 41, 302)).stale == 1
    assert merger.read() == {1: "born again", 2: "late", 3: "late", 9: "other", 1_000_000: None}


def test_deletions_are_remembered_for_a_day_and_not_without_end(
    catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tombstones, "KEPT_TOMBSTONES", 3)
    merger = Merger(catalog, DEBEZIUM)

    def held() -> list[int]:
        kept = tombstones.Tombstones(merger.table, ["id"], FileCache())
        late = make_placed([(k, "late", 1, k, 0, None) for k in range(20)])
        return np.flatnonzero(kept.find_stale(late.rows)).tolist()  # type: ignore[no-any-return]

    for k in range(5):
        merger.merge(make_placed([(k, None, 0, k, 10 + k, None)]), has_several_logs=True)
    assert held() == [2, 3, 4]
    merger.merge(make_placed([(10, None, 0, 10, 86_400 + 13, None)]), has_several_logs=True)
    assert held() == [3, 4, 10]
    merger.table.io.delete(tombstones.Tombstones(merger.table, ["id"], FileCache()).location or "")
    assert held() == []


VALUES: dict[str, list[Any]] = {
    "string": ["a" * 5000, None],
    "binary": [b"\x00\xff", b""],
    "decimal(20, 4)": [Decimal("1.2345"), None],
    "timestamptz": [datetime(2026, 11, 27, 1, 2, 3, tzinfo=UTC), None],
    "uuid": [UUID(int=7).bytes, None],
    "list<string>": [["a", None], []],
    "list<uuid>": [[UUID(int=7).bytes], None],
    "map<string, int>": [[("a", 1)], None],
    "struct<a: int, b: list<string>>": [{"a": 1, "b": ["x"]}, {"a": None, "b": None}],
}


@IN_EVERY_MODE
def test_values_of_every_kind_are_taken_from_the_row(catalog: FaultyCatalog, mode: Mode) -> None:
    names = [f"column_{at}" for at in range(len(VALUES))]
    columns = [{"name": name, "type": kind} for name, kind in zip(names, VALUES, strict=True)]
    spec = make_upsert_spec(
        schema=[{"name": "id", "type": "long", "required": True}, {"name": "text", "type": "string"}, *columns]
    )
    merger = Merger(catalog, spec, mode)
    arrays = [build_array([*values, values[0]], arrow_type(parse_type(kind))) for kind, values in VALUES.items()]
    merger.merge(make_changes({1: "a", 2: "a", 0: "a"}, **dict(zip(names, arrays, strict=True))))
    before = merger.table.scan().to_arrow().sort_by("id").select(names).to_pylist()

    for text in ("b", "c"):
        second = make_changes({3: text, 1: text, 2: text})
        merger.merge(replace(second, unavailable={name: np.array([False, True, True]) for name in names}))

    rows = merger.table.scan().to_arrow().sort_by("id")
    assert rows["text"].to_pylist() == ["a", "c", "c", "c"]
    assert rows.select(names).to_pylist() == [*before, dict.fromkeys(names)]
    assert judge.query(merger.table, "SELECT count(*), count(column_5), count(column_8) FROM {table}") == [(4, 3, 3)]
