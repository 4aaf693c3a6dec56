"""What becomes of Avro messages: rows in order, and a code and a clause for each that is bad."""

import json
import time
from decimal import Decimal
from typing import Any

import pytest

from lakehouse_assets.decode.avro.decoder import AvroDecoder
from lakehouse_assets.decode.avro.lockstep import FEWEST
from lakehouse_assets.model.errors import BrokenSchemaError
from lakehouse_assets.model.schemas import RegisteredSchema
from lakehouse_assets.model.types import parse_type
from lakehouse_assets_tests.decode.avro.messages import (
    SCHEMA_ID,
    VARIABLE_SCALE_DECIMAL,
    body_of,
    connect,
    decoder,
    framed,
    messages,
    record,
    registered,
)
from lakehouse_assets_tests.decode.declared import column

FEW, MANY = 3, FEWEST + 3
COUNTS = pytest.mark.parametrize("count", [FEW, MANY], ids=["exact", "fast"])
PLAIN = record(("id", "long"), ("text", ["null", "string"]))
COLUMNS = [column("id", "long", required=True), column("text", "string")]


def outcome(schema: Any, declared: str, value: Any, count: int, **how: Any) -> Any:
    """The row's value of a field `f`, or code and reason."""
    schema = record(("f", schema))
    decoded = decoder([column("f", parse_type(declared), **how)], schema).decode(messages(schema, [{"f": value}] * count))
    if decoded.bad:
        assert [bad.index for bad in decoded.bad] == list(range(count))
        return decoded.bad[0].code, decoded.bad[0].reason
    (found,) = {repr(one): one for one in decoded.table.column("f").to_pylist()}.values()
    return found


@COUNTS
def test_rows_keep_the_order_of_messages_of_several_schemas(count: int) -> None:
    newer = record(("text", "string"), ("extra", {"type": "array", "items": "long"}), ("id", "int"))
    schemas = {1: registered(PLAIN), 2: registered(newer)}
    values = []
    for i in range(count):
        values += messages(PLAIN, [{"id": 2 * i, "text": None}], 1)
        values += messages(newer, [{"id": 2 * i + 1, "text": "new", "extra": [i] * (i % 3)}], 2)

    decoded = AvroDecoder(COLUMNS, schemas.get).decode(values)

    assert decoded.bad == ()
    assert decoded.table.column("id").to_pylist() == list(range(2 * count))
    assert decoded.table.column("text").to_pylist() == [None, "new"] * count


@COUNTS
def test_what_is_no_message_of_a_known_schema_is_bad_by_itself(count: int) -> None:
    good = messages(PLAIN, [{"id": 1, "text": "a"}])[0]
    bad = {
        b"": "empty",
        b'{"id": 1}': "wrong_magic_byte",
        b"\0\0\0": "broken_avro",
        framed(b"", 99): "unknown_schema_id",
        good[:-1]: "broken_avro",
        good + b"\0": "broken_avro",
        framed(b"\x02\x06"): "broken_avro",
        framed(b"\x02\x02\x04\xff\xff"): "invalid_utf8",
    }
    values = [good] * count
    for value in bad:
        values += [value, good]

    decoded = decoder(COLUMNS, PLAIN).decode(values)

    assert {values[one.index]: one.code for one in decoded.bad} == bad
    assert decoded.table.to_pylist() == [{"id": 1, "text": "a"}] * (count + len(bad))


def test_a_schema_that_is_no_avro_or_broken_is_said() -> None:
    schemas = {1: RegisteredSchema("PROTOBUF", 'syntax = "proto3";'), 2: RegisteredSchema("AVRO", '{"type": "record"}')}
    decoded = AvroDecoder(COLUMNS, schemas.get).decode([framed(b"", 1), framed(b"", 2)])

    assert [bad.code for bad in decoded.bad] == ["wrong_schema_kind", "broken_schema"]
    assert "PROTOBUF" in decoded.bad[0].reason


@COUNTS
def test_a_required_column_needs_a_value(count: int) -> None:
    assert outcome(["null", "long"], "long", None, count, required=True)[0] == "missing_required"
    assert outcome("long", "long", 5, count, path="g", required=True) == (
        "missing_required",
        "field 'g' is missing or null, expected long",
    )
    assert outcome("long", "long", 5, count, path="g") is None


@COUNTS
@pytest.mark.parametrize(
    ("schema", "declared", "value", "found"),
    [
        ("long", "int", 5, "the long 5"),
        ("double", "float", 0.5, "the double 0.5"),
        ("string", "long", "5", "the string '5'"),
        ("boolean", "string", True, "true"),
        ({"type": "array", "items": "long"}, "long", [1], "an array"),
        ({"type": "map", "values": "long"}, "list<long>", {"a": 1}, "a map"),
        (record(("a", "long"), name="Inner"), "long", {"a": 1}, "a record"),
        ("long", "struct<a: long>", 1, "the long 1"),
        ({"type": "long", "logicalType": "local-timestamp-micros"}, "timestamptz", 5, "the local-timestamp-micros 5"),
        ("long", "timestamptz", 5, "the long 5"),
    ],
)
def test_a_type_that_can_not_become_the_columns_is_a_bad_message(
    schema: Any, declared: str, value: Any, found: str, count: int
) -> None:
    code, reason = outcome(schema, declared, value, count)

    assert code == "wrong_type"
    assert reason.startswith(f"field 'f': found {found}, expected ")


@COUNTS
def test_null_is_null_whatever_the_type_would_have_been(count: int) -> None:
    assert outcome(["null", "boolean"], "long", None, count) is None


@COUNTS
@pytest.mark.parametrize(
    ("schema", "declared", "value", "code"),
    [
        ({"type": "int", "logicalType": "time-millis"}, "time", 86_400_000, "out_of_range"),
        ({"type": "long", "logicalType": "time-micros"}, "time", -1, "out_of_range"),
        ({"type": "int", "logicalType": "date"}, "date", 2**31 - 1, "out_of_range"),
        ({"type": "long", "logicalType": "timestamp-millis"}, "timestamptz", 253_402_300_800_000, "out_of_range"),
        ({"type": "long", "logicalType": "timestamp-micros"}, "timestamptz", -(2**63), "out_of_range"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "decimal(5, 2)", b"\x01\x86\xa0", "out_of_range"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "decimal(9, 1)", b"\x0b", "out_of_range"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "decimal(9, 2)", b"", "out_of_range"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "decimal(9, 2)", b"\x01" + bytes(20), "out_of_range"),
        ("string", "uuid", "no uuid", "invalid_text"),
        ("string", "date", "2026-02-30", "out_of_range"),
        ("string", "decimal(5, 2)", "1.234", "out_of_range"),
        ("bytes", "string", b"\xff", "invalid_utf8"),
        (connect("int", "time.Date"), "date", -2_147_472_692, "out_of_range"),
        (connect("long", "time.MicroTimestamp"), "timestamp", -9_223_372_036_832_400_000, "out_of_range"),
        (connect("long", "time.NanoTimestamp"), "timestamp", 2**63 - 1, "out_of_range"),
        (connect("long", "time.NanoTime"), "time", 86_400_000_000_000, "out_of_range"),
        (connect("string", "time.ZonedTimestamp"), "timestamptz", "infinity", "invalid_text"),
        (connect("string", "time.IsoDate"), "date", "2026-02-28ZZ", "invalid_text"),
        ("int", "boolean", 2, "out_of_range"),
        ("double", "decimal(10, 2)", 0.125, "out_of_range"),
        ("double", "decimal(10, 2)", 1e20, "out_of_range"),
        ("double", "decimal(10, 2)", float("nan"), "invalid_text"),
        ("double", "decimal(10, 2)", float("inf"), "invalid_text"),
    ],
)
def test_a_value_that_does_not_fit_is_a_bad_message(schema: Any, declared: str, value: Any, code: str, count: int) -> None:
    raw = schema["type"] if isinstance(schema, dict) else schema
    body = body_of(record(("f", raw)), {"f": value})
    decoded = decoder([column("f", parse_type(declared))], record(("f", schema))).decode([framed(body)] * count)

    assert {bad.code for bad in decoded.bad} == {code}
    assert len(decoded.bad) == count


@COUNTS
@pytest.mark.parametrize(
    ("schema", "declared", "value", "shown"),
    [
        ({"type": "long", "logicalType": "timestamp-nanos"}, "timestamptz", -1, "1969-12-31 23:59:59.999999+00:00"),
        ({"type": "long", "logicalType": "timestamp-millis"}, "timestamp", 1, "1970-01-01 00:00:00.001000"),
        ("string", "timestamptz", "2026-11-27T01:02:03.123456789+01:00", "2026-11-27 00:02:03.123456+00:00"),
        ("string", "date", "2026-11-27", "2026-11-27"),
        ("string", "decimal(5, 2)", "1.5", "1.50"),
        ({"type": "string", "logicalType": "uuid"}, "string", "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000001"),
        ({"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}, "uuid", bytes(15) + b"\1", "00000000-0000-0000-0000-000000000001"),
        ({"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}, "fixed[12]", bytes(12), str(bytes(12))),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "decimal(9, 1)", b"\x0a", "0.1"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 2}, "decimal(38, 2)", b"\xff" * 16, "-0.01"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "binary", b"\x0a", str(b"\x0a")),
        ({"type": "bytes", "logicalType": "decimal", "precision": 50, "scale": 2}, "string", b"\x01" + bytes(20), "14615016373309029182036848327162830196559325429.76"),
        (connect("int", "time.Date"), "date", 20_512, "2026-02-28"),
        (connect("int", "time.Time"), "time", 1, "00:00:00.001000"),
        (connect("long", "time.MicroTime"), "time", 1, "00:00:00.000001"),
        (connect("long", "time.NanoTime"), "time", 1_999, "00:00:00.000001"),
        (connect("long", "time.Timestamp"), "timestamp", 1, "1970-01-01 00:00:00.001000"),
        (connect("long", "time.MicroTimestamp"), "timestamptz", 1, "1970-01-01 00:00:00.000001+00:00"),
        (connect("long", "time.NanoTimestamp"), "timestamp", -1, "1969-12-31 23:59:59.999999"),
        (connect("long", "time.MicroTimestamp"), "long", 17, "17"),
        (connect("string", "time.ZonedTimestamp"), "timestamptz", "2025-01-01T09:00:00.000001Z", "2025-01-01 09:00:00.000001+00:00"),
        (connect("string", "time.ZonedTime"), "time", "09:00:00Z", "09:00:00"),
        (connect("string", "time.IsoDate"), "date", "2026-02-28Z", "2026-02-28"),
        (connect("string", "time.IsoTimestamp"), "timestamp", "2026-02-28T01:02:03Z", "2026-02-28 01:02:03"),
        (connect("string", "time.IsoTime"), "time", "01:02:03Z", "01:02:03"),
        (connect("string", "data.Uuid"), "uuid", "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000001"),
        (connect("string", "data.Json"), "string", "{}", "{}"),
        (connect("bytes", "org.apache.kafka.connect.data.Decimal", scale=2, precision=64, logicalType="decimal"), "decimal(9, 2)", b"\x0a", "0.10"),
        (connect("bytes", "org.apache.kafka.connect.data.Decimal", **{"connect.parameters": {"scale": "3"}}), "decimal(9, 3)", b"\x0a", "0.010"),
        ("int", "boolean", 1, "True"),
        ("double", "decimal(10, 2)", 12345678.9, "12345678.90"),
        ("double", "decimal(10, 2)", 1e5, "100000.00"),
        ("float", "decimal(4, 2)", 0.1, "0.10"),
    ],
)  # fmt: skip
def test_logical_types_and_text_of_values(schema: Any, declared: str, value: Any, shown: str, count: int) -> None:
    raw = {**schema, "logicalType": None} if isinstance(schema, dict) else schema
    body = body_of(record(("f", raw)), {"f": value})
    decoded = decoder([column("f", parse_type(declared))], record(("f", schema))).decode([framed(body)] * count)

    assert decoded.bad == ()
    assert {str(one) for one in decoded.table.column("f").to_pylist()} == {shown}


@COUNTS
@pytest.mark.parametrize(
    ("declared", "value", "expected"),
    [
        ("decimal(9, 2)", {"scale": 1, "value": b"\x0b"}, Decimal("1.10")),
        ("decimal(9, 2)", {"scale": -2, "value": b"\xff"}, Decimal("-100.00")),
        ("string", {"scale": 25, "value": b"\x01"}, "0." + "0" * 24 + "1"),
        ("decimal(9, 2)", None, None),
        ("decimal(9, 2)", {"scale": 3, "value": b"\x0b"}, "out_of_range"),
        ("decimal(9, 2)", {"scale": 0, "value": b""}, "out_of_range"),
        ("string", {"scale": 10**9, "value": b"\x01"}, "out_of_range"),
        ("long", {"scale": 0, "value": b"\x01"}, "wrong_type"),
    ],
)
def test_a_decimal_may_bring_its_own_scale(declared: str, value: Any, expected: Any, count: int) -> None:
    schema = record(("f", ["null", VARIABLE_SCALE_DECIMAL]))
    decoded = decoder([column("f", parse_type(declared))], schema).decode(messages(schema, [{"f": value}]) * count)

    found = {bad.code for bad in decoded.bad} if decoded.bad else set(decoded.table["f"].to_pylist())
    assert found == {expected}


@COUNTS
def test_a_number_with_an_epoch_is_a_time(count: int) -> None:
    assert str(outcome("long", "timestamptz", 1_790_000_000, count, epoch="seconds")) == "2026-09-21 14:13:20+00:00"


@COUNTS
def test_paths_lead_through_records_that_may_be_null(count: int) -> None:
    inner = record(("b", ["null", "long"]), name="Inner")
    schema = record(("a", ["null", inner]), ("z", "long"))
    columns = [column("b", "long", path="a.b"), column("a", parse_type("struct<b: long, missing: string>")), column("z", "long")]
    rows = [{"a": None, "z": 1}, {"a": {"b": None}, "z": 2}, {"a": {"b": 5}, "z": 3}]

    decoded = decoder(columns, schema).decode(messages(schema, rows * count))

    assert decoded.bad == ()
    assert decoded.table.to_pylist() == [
        {"b": None, "a": None, "z": 1},
        {"b": None, "a": {"b": None, "missing": None}, "z": 2},
        {"b": 5, "a": {"b": 5, "missing": None}, "z": 3},
    ] * count  # fmt: skip


@COUNTS
def test_messages_may_be_of_one_of_several_records(count: int) -> None:
    schema = [record(("id", "long"), name="Born"), record(("id", "int"), ("text", "string"), name="Named")]
    values = messages(schema, [("Born", {"id": 1}), ("Named", {"id": 2, "text": "x"})] * count)

    decoded = decoder(COLUMNS, schema).decode(values)

    assert decoded.table.to_pylist() == [{"id": 1, "text": None}, {"id": 2, "text": "x"}] * count


@COUNTS
def test_types_of_references_are_known(count: int) -> None:
    city = record(("name", "string"), name="geo.City")
    schema = record(("city", "geo.City"))
    whole = record(("city", city))
    decoded = AvroDecoder(
        [column("name", "string", path="city.name")], {SCHEMA_ID: registered(schema, ("geo.City", city))}.get
    ).decode(messages(whole, [{"city": {"name": "Bonn"}}] * count))

    assert decoded.table.column("name").to_pylist() == ["Bonn"] * count


@COUNTS
def test_a_map_with_a_key_twice_is_bad(count: int) -> None:
    schema = record(("m", {"type": "map", "values": "long"}))
    good, twice = framed(b"\x04\x02a\x02\x02b\x02\0"), framed(b"\x04\x02a\x02\x02a\x02\0")

    decoded = decoder([column("m", parse_type("map<string, long>"))], schema).decode([*[good] * count, twice])

    assert [(bad.index, bad.code) for bad in decoded.bad] == [(count, "duplicate_key")]
    assert decoded.table.column("m").to_pylist() == [[("a", 1), ("b", 1)]] * count


@COUNTS
def test_blocks_with_their_size_and_several_blocks_are_one_list(count: int) -> None:
    schema = record(("l", {"type": "array", "items": "int"}))
    value = framed(b"\x03\x04\x02\x04\x02\x06\0")  # two items in a block of two bytes, one in another

    decoded = decoder([column("l", parse_type("list<int>"))], schema).decode([value] * count)

    assert decoded.table.column("l").to_pylist() == [[1, 2, 3]] * count


def test_a_few_long_lists_do_not_hold_up_the_others() -> None:
    schema = record(("l", {"type": "array", "items": "long"}))
    lengths = [1] * MANY + [100_000, 20_000]
    values = messages(schema, [{"l": list(range(length))} for length in lengths])
    began = time.process_time()

    decoded = decoder([column("l", parse_type("list<long>"))], schema).decode(values)

    assert [len(one) for one in decoded.table.column("l").to_pylist()] == lengths
    assert time.process_time() - began < 2


def test_what_stands_behind_a_long_list_is_read_too() -> None:
    lists = ("l", {"type": "array", "items": "long"}), ("m", {"type": "array", "items": {"type": "array", "items": "long"}})
    schema = record(*lists, ("text", ["null", "string"]), *(("n" + name, kind) for name, kind in lists), ("id", "long"))
    lengths = [1] * MANY + [50, 9]
    rows = [
        {"l": [1] * length, "m": [[2] * length], "text": "x", "nl": [3] * length, "nm": [[4]] * length, "id": length} for length in lengths
    ]
    columns = [column(name, parse_type("list<long>")) for name in ("l", "nl")] + [column("id", "long"), column("text", "string")]
    decoded = decoder(columns, schema).decode([*messages(schema, rows), messages(schema, rows)[-1][:-1]])

    assert [(bad.index, bad.code) for bad in decoded.bad] == [(len(rows), "broken_avro")]
    assert decoded.table.to_pylist() == [{name: one[name] for name in ("l", "nl", "id", "text")} for one in rows]


TREE = record(("id", "long"), ("children", {"type": "array", "items": "Message"}))


@COUNTS
def test_a_schema_that_contains_itself_is_read_as_deep_as_the_column_goes(count: int) -> None:
    leaf: dict[str, Any] = {"id": 3, "children": []}
    row = {"id": 1, "children": [{"id": 2, "children": [leaf]}]}
    columns = [column("id", "long"), column("children", parse_type("list<struct<id: long>>"))]

    decoded = decoder(columns, TREE).decode(messages(TREE, [row] * count))

    assert decoded.table.to_pylist() == [{"id": 1, "children": [{"id": 2}]}] * count


@COUNTS
@pytest.mark.parametrize(
    ("schema", "body", "code"),
    [
        (TREE, b"\x02\x02" * 100_000, "too_deep"),
        (record(("l", {"type": "array", "items": "null"})), b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f\0", "broken_avro"),
        (record(("l", {"type": "array", "items": "long"})), b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f\0", "broken_avro"),
        (record(("l", {"type": "array", "items": "long"})), b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\0", "broken_avro"),
        (record(("l", "bytes")), b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", "broken_avro"),
        (record(("l", "long")), b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "broken_avro"),
    ],
)
def test_bombs_cost_neither_memory_nor_time(schema: Any, body: bytes, code: str, count: int) -> None:
    good = {"id": 1, "children": []} if schema is TREE else {"l": [] if isinstance(schema["fields"][0]["type"], dict) else 0}
    if schema["fields"][0]["type"] == "bytes":
        good = {"l": b""}
    values = [*messages(schema, [good] * count), framed(body)]
    began = time.process_time()

    decoded = decoder([column("id", "long")], schema).decode(values)

    assert [(bad.index, bad.code) for bad in decoded.bad] == [(count, code)]
    assert time.process_time() - began < 2


def test_messages_of_a_schema_file_are_bare_bodies() -> None:
    decoded = AvroDecoder(COLUMNS, registered(PLAIN)).decode([body_of(PLAIN, {"id": 4, "text": "bare"}), b"\0"])

    assert decoded.table.to_pylist() == [{"id": 4, "text": "bare"}]
    assert [(bad.index, bad.code) for bad in decoded.bad] == [(1, "broken_avro")]


@pytest.mark.parametrize("text", ["{", '{"type": "record", "name": "R"}', '"nobody"', "[" * 100_000, json.dumps(["null", ["int"]])])
def test_a_schema_file_that_is_no_schema_is_an_error(text: str) -> None:
    with pytest.raises(BrokenSchemaError):
        AvroDecoder(COLUMNS, RegisteredSchema("AVRO", text))


def test_no_message_gives_no_row() -> None:
    decoded = decoder([column("f", parse_type("list<uuid>"))], PLAIN).decode([])

    assert (decoded.table.num_rows, decoded.bad) == (0, ())


@pytest.mark.parametrize("place", [0, 17, MANY - 1])
def test_bytes_of_fixed_size_behind_a_list_that_only_one_message_has_so_long_are_read(place: int) -> None:
    schema = record(
        ("flags", {"type": "array", "items": "boolean"}), ("mark", [{"type": "fixed", "name": "Mark", "size": 3}, "null"])
    )
    rows = [{"flags": [], "mark": b"%03d" % i} for i in range(MANY)]
    rows[place] = {"flags": [True] * 9, "mark": b"end"}
    for declared in ("binary", "fixed[3]"):
        columns = [column("mark", parse_type(declared)), column("flags", parse_type("list<boolean>"))]

        decoded = decoder(columns, schema).decode(messages(schema, rows))

        assert decoded.bad == ()
        assert decoded.table.to_pylist() == [{"mark": row["mark"], "flags": row["flags"]} for row in rows]
