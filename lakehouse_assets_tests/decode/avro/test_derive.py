"""The columns that an Avro schema gives."""

from typing import Any

import pytest

from lakehouse_assets.decode.avro.derive import derive_columns, derive_row_columns
from lakehouse_assets.decode.decoded import BrokenSchema
from lakehouse_assets_tests.decode.avro.messages import VARIABLE_SCALE_DECIMAL, connect, record, registered


@pytest.mark.parametrize(
    ("kind", "declared"),
    [
        ("int", "int"), ("long", "long"), ("boolean", "boolean"), ("bytes", "binary"), ("string", "string"),
        ({"type": "fixed", "name": "F", "size": 3}, "fixed[3]"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "string"),
        ({"type": "array", "items": ["null", "int"]}, "list<int>"),
        ({"type": "map", "values": {"type": "long", "logicalType": "timestamp-millis"}}, "map<string, timestamptz>"),
        (record(("a", ["null", "int"]), ("b", "string"), name="R"), "struct<a: int, b: string>"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "decimal(9, 2)"),
        ({"type": "long", "logicalType": "local-timestamp-nanos"}, "timestamp"),
        ({"type": "int", "logicalType": "time-millis"}, "time"),
        ({"type": "int", "logicalType": "date"}, "date"),
        ({"type": "string", "logicalType": "uuid"}, "uuid"),
        ({"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}, "fixed[12]"),
        ({"type": "int", "logicalType": "from-nowhere"}, "int"),
        (connect("int", "time.Date"), "date"),
        (connect("long", "time.MicroTime"), "time"),
        (connect("long", "time.MicroTimestamp"), "timestamp"),
        (connect("long", "org.apache.kafka.connect.data.Timestamp", logicalType="timestamp-millis"), "timestamptz"),
        (connect("string", "time.ZonedTimestamp"), "timestamptz"),
        (connect("string", "time.ZonedTime"), "string"),
        (connect("string", "data.Uuid"), "uuid"),
        (connect("string", "data.Json"), "string"),
        (connect("bytes", "org.apache.kafka.connect.data.Decimal", scale=2, precision=64, logicalType="decimal"), "decimal(38, 2)"),
        (connect("bytes", "org.apache.kafka.connect.data.Decimal", scale=2, precision=10, logicalType="decimal"), "decimal(10, 2)"),
        (VARIABLE_SCALE_DECIMAL, "string"),
        (["int", "long"], "long"),
        (["float", "int"], "double"),
        (["string", {"type": "enum", "name": "E", "symbols": ["A"]}], "string"),
    ],
)  # fmt: skip
def test_each_type_has_a_column(kind: Any, declared: str) -> None:
    (column,) = derive_columns(registered(record({"name": "f", "type": kind, "doc": "what it is"})))

    assert (column.name, str(column.type), column.required, column.doc) == ("f", declared, True, "what it is")


def test_a_field_that_may_be_null_or_has_a_default_is_optional() -> None:
    schema = record(
        {"name": "a", "type": ["null", "int"]}, {"name": "b", "type": ["string", "null"]}, {"name": "c", "type": "int", "default": 0}
    )

    assert [column.required for column in derive_columns(registered(schema))] == [False, False, False]


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ("long", "no record"),
        (record(), "no record with fields"),
        (record(("f", ["string", "int"])), "the field 'f' is one of int, string"),
        (record(("f", ["long", "double"])), "the field 'f' is one of double, long"),
        (record(("f", "null")), "'f' is never anything but null"),
        (record(("f", ["null", "Message"])), "'f' contains itself"),
        (record(("f", {"type": "array", "items": record(name="Empty")})), "'f[]' is a record without fields"),
        (record(("f", {"type": "bytes", "logicalType": "decimal", "precision": 50})), "has 50 digits"),
        ({"type": "record"}, "lacks 'name'"),
    ],
)
def test_what_gives_no_columns_says_which_field_and_why(schema: Any, reason: str) -> None:
    with pytest.raises(BrokenSchema, match=reason.replace("[]", r"\[\]")):
        derive_columns(registered(schema))


def test_the_rows_of_an_envelope_give_its_columns() -> None:
    row = record(("id", "long"), ("name", ["null", "string"]), name="Value")
    envelope = record(("before", ["null", row]), ("after", ["null", "Value"]), ("op", "string"), name="Envelope")

    columns = derive_row_columns(registered(envelope))
    assert [(column.name, str(column.type), column.required) for column in columns] == [("id", "long", True), ("name", "string", False)]


def test_a_number_in_the_rows_of_an_envelope_is_a_time_without_a_zone_and_text_one_with_it() -> None:
    number = connect("long", "org.apache.kafka.connect.data.Timestamp", logicalType="timestamp-millis")
    row = record(("at", ["null", number]), ("ats", {"type": "array", "items": number}), ("zoned", connect("string", "time.ZonedTimestamp")))
    columns = derive_row_columns(registered(record(("after", ["null", {**row, "name": "Value"}]))))
    assert [str(column.type) for column in columns] == ["timestamp", "list<timestamp>", "timestamptz"]


@pytest.mark.parametrize("schema", ["long", record(("a", "long")), record(("after", ["null", "long"]))])
def test_what_is_no_envelope_gives_no_columns(schema: Any) -> None:
    with pytest.raises(BrokenSchema):
        derive_row_columns(registered(schema))
