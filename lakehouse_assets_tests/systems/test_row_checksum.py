"""The same rows have the same checksum in any order and layout; other rows have another."""

import datetime as dt
import decimal
import random
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakehouse_assets.systems.row_checksum import SLICE_ROWS, ChecksumThread, RowChecksum

_DAY = dt.date(2026, 1, 1)
TYPES: dict[str, tuple[pa.DataType, Callable[[int], Any]]] = {
    "boolean": (pa.bool_(), lambda i: i % 2 == 0),
    "int": (pa.int32(), lambda i: i - 50),
    "long": (pa.int64(), lambda i: (i - 50) << 40),
    "float": (pa.float32(), lambda i: i / 3),
    "double": (pa.float64(), lambda i: i / 7),
    "decimal": (pa.decimal128(38, 4), lambda i: decimal.Decimal((i - 50) << 70).scaleb(-4)),
    "date": (pa.date32(), lambda i: _DAY + dt.timedelta(i)),
    "time": (pa.time64("us"), lambda i: dt.time(1, 2, 3, i)),
    "timestamp": (pa.timestamp("us"), lambda i: dt.datetime(2026, 1, 1, microsecond=i)),
    "timestamptz": (pa.timestamp("us", "UTC"), lambda i: dt.datetime(2026, 1, 1, microsecond=i, tzinfo=dt.UTC)),
    "string": (pa.string(), lambda i: "äöü" * (i % 9) + str(i)),
    "text": (pa.string(), lambda i: "x" * (7 * i) + str(i)),
    "large text": (pa.large_string(), lambda i: "x" * (7 * i) + str(i)),
    "binary": (pa.binary(), lambda i: bytes(i % 17) + bytes([i])),
    "fixed": (pa.binary(11), lambda i: bytes(10) + bytes([i])),
    "wide fixed": (pa.binary(700), lambda i: bytes(699) + bytes([i])),
    "uuid": (pa.uuid(), lambda i: uuid.UUID(int=i << 90).bytes),
    "list": (pa.list_(pa.int64()), lambda i: [i % 3, None] * (i % 5) + [i]),
    "strings": (pa.list_(pa.string()), lambda i: ["a" * (i % 4), None, str(i)]),
    "map": (pa.map_(pa.string(), pa.float64()), lambda i: [(str(k), None if k else i / 2) for k in range(i % 3 + 1)]),
    "struct": (
        pa.struct([("a", pa.int32()), ("b", pa.list_(pa.struct([("c", pa.string())])))]),
        lambda i: {"a": None, "b": [{"c": str(i)}, None]},
    ),
}


def _build(kind: pa.DataType, values: list[Any]) -> pa.Table:
    return pa.table({"value": pa.array(values, kind), "again": pa.array(values, kind)})


@pytest.mark.parametrize("name", TYPES)
def test_rows_count_not_their_order_or_layout(name: str) -> None:
    kind, make = TYPES[name]
    values = [None if i % 11 == 0 else make(i) for i in range(120)]
    whole = RowChecksum.of(_build(kind, values))

    random.Random(name).shuffle(values)
    padded = _build(kind, [make(1), None, *values, make(2)]).slice(2, 120)
    pieces = [padded.slice(i, 7) for i in range(0, 120, 7)]

    assert whole.rows == 120
    assert RowChecksum.of(padded) == whole
    assert RowChecksum.of(pa.concat_tables(pieces)) == whole
    assert sum(map(RowChecksum.of, pieces), RowChecksum()) == whole


@pytest.mark.parametrize("name", TYPES)
def test_a_value_that_differs_is_seen(name: str) -> None:
    kind, make = TYPES[name]
    values = [make(i) for i in range(100)]
    whole = RowChecksum.of(_build(kind, values))
    for at, other in ((3, None), (17, make(18 if name == "boolean" else 101)), (99, make(0) if name != "boolean" else True)):
        changed = [*values[:at], other, *values[at + 1 :]]
        if changed != values:
            assert RowChecksum.of(_build(kind, changed)) != whole


def test_values_are_bound_to_their_rows_and_columns() -> None:
    rows = pa.table({"a": [1, 2], "b": [3, 4]})
    others = [
        pa.table({"a": [1, 2], "b": [4, 3]}),
        pa.table({"a": [3, 4], "b": [1, 2]}),
        pa.table({"a": [1, 2, 2], "b": [3, 4, 4]}),
        pa.table({"a": [1, 1], "b": [3, 3]}),
    ]
    sums = {RowChecksum.of(each) for each in (rows, *others)}
    assert len(sums) == 5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([""], [None]),
        ([b"\0"], [b"\0\0"]),
        ([0.0], [-0.0]),
        ([0.0], [None]),
        ([0], [None]),
        ([[]], [None]),
        ([[None]], [[]]),
        ([[1, 2]], [[2, 1]]),
        ([{"a": None}], [None]),
        (["ab", "c"], ["a", "bc"]),
        (["abcdefghijklmnop"], ["ijklmnopabcdefgh"]),
        ([b"\0" * 512], [b"\0" * 513]),
        ([b"a" + b"\0" * 599], [b"\0" * 599 + b"a"]),
        ([["ab"], ["c"]], [["ab", "c"], []]),
    ],
)
def test_what_is_nearly_the_same_differs(one: list[Any], other: list[Any]) -> None:
    kind = pa.array(one).type
    assert RowChecksum.of(_build(kind, one)) != RowChecksum.of(_build(kind, other))


def test_every_nan_is_the_same() -> None:
    quiet = np.array([0x7FF8000000000001, 0x7FF8000000000000], np.uint64).view(np.float64)
    one, other = (pa.table({"x": pa.array([nan])}) for nan in quiet)
    assert RowChecksum.of(one) == RowChecksum.of(other)


def test_a_thread_adds_up_what_it_is_given() -> None:
    rows = pa.table({"x": range(3 * SLICE_ROWS)})
    with ChecksumThread() as thread:
        for begin in range(0, rows.num_rows, 999):
            thread.add(rows.slice(begin, 999))
        assert thread.finish() == RowChecksum.of(rows)
