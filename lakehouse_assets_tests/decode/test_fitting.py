"""A table that must stay as it is takes what fits it; the rest is told apart, message by message."""

import json
from typing import Any

import pyarrow as pa
import pytest

from lakehouse_assets.decode.fitting import FittingDecoder
from lakehouse_assets.model.types import parse_type
from lakehouse_assets_tests.decode.declared import column, decoder


def judge(declared: str, there: pa.DataType | None, *values: Any, required: bool = False) -> tuple[list[Any], dict[int, str]]:
    """The values of the column `v` that fit, and the reasons for those that don't; `l` is there always."""
    schema = pa.schema([("l", pa.int64()), *([pa.field("v", there, nullable=not required)] if there else [])])
    fitting = FittingDecoder(decoder(column("l", "long"), column("v", parse_type(declared))), schema)
    decoded = fitting.decode([json.dumps({"l": i, "v": value}).encode() for i, value in enumerate(values)])
    assert len(decoded.bad) + decoded.table.num_rows == len(values)
    assert {bad.code for bad in decoded.bad} <= {"schema_changed"}
    assert decoded.table.column_names == schema.names
    kept = decoded.table.column("v").to_pylist() if there else decoded.table.column("l").to_pylist()
    return kept, {bad.index: bad.reason for bad in decoded.bad}


STRUCT, TABLE_STRUCT = "struct<a:long,b:string>", pa.struct([("a", pa.int32())])


@pytest.mark.parametrize(
    ("declared", "there", "values", "misfits"),
    [
        ("string", None, ["x", None, "y"], [0, 2]),
        ("long", pa.int32(), [1, 2**31, -(2**31), -(2**31) - 1, None], [1, 3]),
        ("double", pa.float32(), [0.5, 0.1, 1e300, None], [1, 2]),
        ("decimal(12,2)", pa.decimal128(4, 2), ["99.99", "100", "-99.99", "-100.00", None], [1, 3]),
        ("decimal(4,2)", pa.decimal128(4, 2), ["99.99"], []),
        (STRUCT, TABLE_STRUCT, [{"a": 1}, {"a": 2**31}, {"b": "x"}, {}, None, {"a": 1, "b": None}], [1, 2]),
        (f"list<{STRUCT}>", pa.list_(TABLE_STRUCT), [[], [{"a": 1}], None, [{"a": 1}, {"a": 2, "b": "x"}], [None], [{"a": 2**40}]], [3, 5]),
        ("list<list<long>>", pa.list_(pa.list_(pa.int32())), [[[1], [2, 2**33]], [[]], [None, [7]], [[2**33]]], [0, 3]),
        (f"map<string,{STRUCT}>", pa.map_(pa.string(), TABLE_STRUCT), [{}, {"k": {"b": "x"}}, {"k": {"a": 1}}, None], [1]),
        ("timestamp", pa.timestamp("us"), ["2026-11-01T10:20"], []),
    ],
)  # fmt: skip
def test_what_the_table_can_not_hold_is_told_apart(declared: str, there: pa.DataType, values: list[Any], misfits: list[int]) -> None:
    kept, reasons = judge(declared, there, *values)

    assert list(reasons) == misfits
    assert len(kept) == len(values) - len(misfits)
    assert all("'v'" in reason for reason in reasons.values())


def test_a_column_that_the_table_still_requires_is_missed_where_it_is_null() -> None:
    kept, reasons = judge("long", pa.int64(), 1, None, 2, required=True)

    assert kept == [1, 2]
    assert reasons == {1: "field 'v' is missing or null, and the table requires it still"}


def test_every_message_lacks_what_the_table_requires_and_nobody_declares() -> None:
    schema = pa.schema([pa.field("old", pa.int64(), nullable=False), ("l", pa.int64())])

    decoded = FittingDecoder(decoder(column("l", "long")), schema).decode([b'{"l":1}', b'{"l":2}'])

    assert [bad.reason for bad in decoded.bad] == ["the table requires 'old' still, which is not declared"] * 2


def test_messages_that_are_bad_anyway_keep_their_own_reason_and_their_place() -> None:
    fitting = FittingDecoder(decoder(column("l", "long"), column("v", "string")), pa.schema([("l", pa.int64())]))

    decoded = fitting.decode([b"x", b'{"l":1}', b'{"l":2,"v":"x"}', b'{"l":"x"}', b'{"l":3}'])

    assert [(bad.index, bad.code) for bad in decoded.bad] == [(0, "invalid_json"), (2, "schema_changed"), (3, "wrong_type")]
    assert decoded.table.to_pylist() == [{"l": 1}, {"l": 3}]


def test_nothing_at_all_fits() -> None:
    fitting = FittingDecoder(decoder(column("l", "long")), pa.schema([("l", pa.int32())]))

    assert fitting.decode([]).table.num_rows == 0
