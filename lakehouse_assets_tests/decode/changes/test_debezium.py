"""Debezium's JSON as changes: what was captured from a real PostgreSQL, and what other sources and settings send."""

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from lakehouse_assets.decode.changes.debezium import DebeziumDecoder
from lakehouse_assets.decode.changes.decoded import ChangeMessages, DecodedChanges, Truncation
from lakehouse_assets.decode.changes.positions import pack_binlog
from lakehouse_assets.decode.changes.table_names import TableNames
from lakehouse_assets.model.types import ListType, Primitive, parse_type
from lakehouse_assets_tests.decode.changes.captures import (
    CAPTURES,
    columns_of_all_types,
    read_capture,
    rows_of_all_types,
)
from lakehouse_assets_tests.decode.declared import DeclaredColumn, column

PLACEHOLDER = "__debezium_unavailable_value"
CUSTOMERS = (
    column("id", "int", required=True),
    column("email", "string"),
    column("balance", Primitive("decimal", (20, 2))),
    column("created_at", "timestamptz"),
    column("tags", ListType(Primitive("string"))),
)


def _changes(found: DecodedChanges, *names: str) -> list[tuple[Any, ...]]:
    """Of each change its message, what it is, and the values of some columns."""
    rows = zip(*(found.table.column(name).to_pylist() for name in names), strict=True)
    assert found.operations is not None
    kinds = zip(found.messages.tolist(), found.operations.to_pylist(), found.deletes.tolist(), strict=True)
    described = [(message, kind, *row) for (message, kind, _), row in zip(kinds, rows, strict=True)]
    assert found.deletes.tolist() == [kind == "delete" for _, kind, *_ in described]
    return described


def _message(op: str | None = "c", after: Any = None, before: Any = None, **parts: Any) -> bytes:
    source = {"connector": "postgresql", "lsn": 17}
    return json.dumps({"before": before, "after": after, "source": source, "op": op, **parts}).encode()


def _decode(
    columns: Sequence[DeclaredColumn], *values: bytes | None, key: Any = None, headers: Any = None, by: str = "id"
) -> DecodedChanges:
    encoded = key if isinstance(key, bytes) or key is None else json.dumps(key).encode()
    messages = ChangeMessages(values, [encoded] * len(values), [headers] * len(values))
    return DebeziumDecoder(columns, by.split(","), TableNames()).decode(messages)


def _value(kind: str, found: Any, schema: Mapping[str, Any] | None = None, **parts: Any) -> Any:
    """What a value becomes in a column of the declared type; the code where it is bad."""
    declared = (column("id", "int", required=True), column("v", parse_type(kind), **parts))
    value = _message(after={"id": 1, "v": found})
    if schema is not None:
        fields = [{"type": "int32", "field": "id"}, {**schema, "field": "v"}]
        images = [{"type": "struct", "field": name, "fields": fields} for name in ("before", "after")]
        wrapped = {"schema": {"type": "struct", "fields": images}, "payload": json.loads(value)}
        value = json.dumps(wrapped, separators=(",", ":")).encode()
        assert _decode(declared, json.dumps(wrapped).encode()).table == _decode(declared, value).table
    changes = _decode(declared, value)
    if changes.bad:
        return changes.bad[0].code
    return "unavailable" if changes.unavailable else changes.table.column("v")[0].as_py()


@pytest.mark.parametrize("capture", CAPTURES)
def test_every_type_of_postgres_becomes_the_value_that_was_written(capture: str) -> None:
    found = _decode_capture(capture, columns_of_all_types(capture), "alltypes")
    rows = {row["id"]: row for row in found.table.to_pylist()}
    assert str(rows[4]["c_f4"]) == "nan"
    rows[4]["c_f4"] = "nan"
    assert rows == rows_of_all_types(capture)
    assert [(one.index, one.code) for one in found.bad] == [(4, "out_of_range")]  # the infinite date
    assert found.operations is not None
    assert found.operations.to_pylist() == ["read", "read", "insert", "insert", "insert"]
    assert not found.unavailable


@pytest.mark.parametrize("capture", CAPTURES)
@pytest.mark.parametrize(("name", "kind"), [("c_date", "date"), ("c_ts", "timestamp"), ("c_tstz", "timestamptz")])
def test_infinite_dates_and_times_are_bad(capture: str, name: str, kind: str) -> None:
    columns = [one for one in columns_of_all_types(capture) if one.name in ("id", name)]
    assert [one.type for one in columns] == [Primitive("long"), Primitive(kind)]
    found = _decode_capture(capture, columns, "alltypes")
    assert [one.index for one in found.bad] == [4]
    assert found.messages.tolist() == [0, 1, 2, 3, 5]


def _decode_capture(capture: str, columns: Sequence[DeclaredColumn], *topics: str, by: str = "id") -> DecodedChanges:
    return DebeziumDecoder(columns, by.split(","), TableNames()).decode(read_capture(capture, *topics))


def test_the_life_of_a_table_from_its_snapshot_on() -> None:
    found = _decode_capture("schemaless_precise_adaptive", CUSTOMERS, "customers")
    assert _changes(found, "id", "email", "balance")[:14] == [
        (0, "read", 1, "a@example.com", Decimal("10.50")),
        (1, "read", 2, "b@example.com", Decimal("-0.01")),
        (2, "read", 3, "c@example.com", None),
        (3, "insert", 10, "new@example.com", Decimal("99999999.99")),
        (4, "update", 10, "new@example.com", Decimal("99999999.00")),
        (5, "update", 1, "same", None),
        (6, "delete", 2, None, None),
        (7, "delete", 2, None, None),
        (8, "delete", 3, None, None),  # the key of this row becomes 100
        (9, "delete", 3, None, None),
        (10, "insert", 100, "c@example.com", None),
        (11, "update", 100, "c@example.com", Decimal("1.00")),
        (12, "insert", 50, "tmp@example.com", Decimal("1.00")),
        (13, "delete", 50, None, None),
    ]
    # Columns that were added while it ran; one of them is a new name.
    assert {path: one.count for path, one in found.unknown.fields.items()} == {("phone",): 6, ("score",): 5, ("mail",): 3}
    assert found.positions is not None
    positions = found.positions.to_pylist()
    assert positions[8] == positions[10] > positions[6]
    assert positions[7] is None  # a tombstone says nothing


def test_a_value_that_did_not_change_is_unavailable_and_the_header_names_the_key_it_had() -> None:
    columns = [column("id", "int", required=True), *(column(name, "string") for name in ("title", "body", "attrs"))]
    parts = column("parts", ListType(Primitive("string")))
    found = _decode_capture("schemaless_precise_adaptive", [*columns, column("blob", "binary"), parts], "docs")
    assert _changes(found, "id", "title", "blob") == [
        (0, "read", 1, "t1", None),
        (1, "update", 1, "t1-b", None),
        (2, "delete", 1, None, None),
        (3, "delete", 1, None, None),
        (4, "insert", 2, "t1-b", None),
    ]
    is_held = {name: found.table.column(name).is_valid().to_pylist() for name in ("body", "attrs", "parts")}
    assert set(map(tuple, is_held.values())) == {(True, False, False, False, False)}
    assert {name: np.flatnonzero(mask).tolist() for name, mask in found.unavailable.items()} == {
        name: [1, 4] for name in ("body", "attrs", "parts")
    }
    assert found.old_keys is not None
    assert found.old_keys.to_pylist() == [{"id": None}, {"id": None}, {"id": None}, {"id": None}, {"id": 1}]
    assert found.truncations == (Truncation(5, 27277224),)


def test_a_table_without_a_key_of_its_own_is_keyed_by_whole_rows() -> None:
    columns = [column("a", "int", required=True), column("b", "string", required=True)]
    found = _decode_capture("schemaless_precise_adaptive", columns, "nopk", by="a,b")
    assert _changes(found, "a", "b") == [
        (0, "read", 1, "one"),
        (1, "read", 1, "one"),
        (2, "delete", 1, "one"),  # the update of a row to another key is two changes
        (2, "update", 1, "two"),
        (3, "delete", 1, "one"),
        (3, "update", 1, "two"),
        (4, "delete", 1, "two"),
        (6, "delete", 1, "two"),
    ]
    assert found.old_keys is not None
    assert found.old_keys.to_pylist()[3] == {"a": 1, "b": "one"}
    # Tombstones without a key, and a row of nulls.
    assert [(one.index, one.code) for one in found.bad] == [(5, "missing_required"), (7, "missing_required"), (8, "missing_required")]


@pytest.mark.parametrize(("capture", "count"), [(CAPTURES[0], 6), (CAPTURES[1], 4)])
def test_messages_beside_the_rows_are_skipped(capture: str, count: int) -> None:
    columns = [column("order_id", "int", required=True), column("line_no", "int", required=True), column("qty", "int")]
    topics = ("lines", "heartbeat", "transaction", "message")
    messages = read_capture(capture, *topics)
    found = DebeziumDecoder(columns, ["order_id", "line_no"], TableNames()).decode(messages)
    assert not found.bad
    assert len(found.skipped) == count
    assert len(found.messages) + count == len(messages)
    assert [change[1:] for change in _changes(found, "order_id", "line_no", "qty")[:3]] == [
        ("insert", 1, 1, 2),
        ("insert", 1, 2, 1),
        ("update", 1, 1, 3),
    ]


@pytest.mark.parametrize(
    ("kind", "found", "parts", "expected"),
    [
        ("boolean", True, {}, True),
        ("boolean", 1, {}, True),
        ("boolean", 2, {}, "out_of_range"),
        ("boolean", -1, {}, "out_of_range"),
        ("boolean", 1.0, {}, "wrong_type"),
        ("double", "NaN", {}, "nan"),
        ("float", "-Infinity", {}, float("-inf")),
        ("double", "nan", {}, "wrong_type"),
        ("decimal(10, 2)", "SZYC0g==", {}, Decimal("12345678.90")),
        ("decimal(10, 2)", "12345678.90", {}, Decimal("12345678.90")),
        ("decimal(10, 2)", 12345678.9, {}, Decimal("12345678.90")),
        ("decimal(10, 2)", "/w==", {}, Decimal("-0.01")),
        ("decimal(10, 2)", "AIAAAAAAAAAA", {}, "out_of_range"),
        ("decimal(10, 2)", 1.234, {}, "out_of_range"),
        ("decimal(10, 2)", "NaN", {}, "invalid_text"),
        ("decimal(10, 2)", "", {}, "invalid_text"),
        ("decimal(10, 2)", {"scale": 1, "value": "AQ=="}, {}, Decimal("0.10")),
        ("decimal(10, 2)", {"scale": 3, "value": "AQ=="}, {}, "out_of_range"),
        ("decimal(10, 2)", {"scale": 3}, {}, "wrong_type"),
        ("decimal(10, 2)", {"scale": 2, "value": "A" * 9000}, {}, "out_of_range"),
        ("decimal(10, 0)", "1234", {}, "ambiguous"),
        ("decimal(10, 0)", "1234", {"encoding": "text"}, Decimal(1234)),
        ("decimal(10, 0)", "1234", {"encoding": "base64"}, Decimal(-2658824)),
        ("decimal(10, 0)", "12345", {}, Decimal(12345)),
        ("list<decimal(10, 0)>", ["1234"], {"encoding": "text"}, [Decimal(1234)]),
        ("string", {"scale": 20, "value": "EQfV61tbpNfG"}, {}, "3.14159265358979323846"),
        ("string", {"other": 1}, {}, "wrong_type"),
        ("date", 20512, {}, date(2026, 2, 28)),
        ("date", "2026-02-28", {}, date(2026, 2, 28)),
        ("date", "2026-02-28Z", {}, date(2026, 2, 28)),
        ("date", 2932897, {}, "out_of_range"),
        ("date", "infinity", {}, "invalid_text"),
        ("time", 86399123, {"epoch": "milliseconds"}, time(23, 59, 59, 123000)),
        ("time", 86399123456789, {"epoch": "nanoseconds"}, time(23, 59, 59, 123456)),
        ("time", 86400000, {"epoch": "milliseconds"}, "out_of_range"),
        ("time", 86399123, {}, "unknown_unit"),
        ("time", "23:59:59.123456Z", {}, time(23, 59, 59, 123456)),
        ("time", "23:59:59.123456+01", {}, "invalid_text"),
        ("timestamp", 1772323199123456, {"epoch": "microseconds"}, datetime(2026, 2, 28, 23, 59, 59, 123456)),
        ("timestamp", -1, {"epoch": "nanoseconds"}, datetime(1969, 12, 31, 23, 59, 59, 999999)),
        ("timestamp", -(2**63), {"epoch": "nanoseconds"}, "out_of_range"),
        ("timestamp", 9223372036825200000, {"epoch": "nanoseconds"}, "out_of_range"),
        ("timestamp", -9223372036832400000, {"epoch": "microseconds"}, "out_of_range"),
        ("timestamp", 1772323199123456, {}, "unknown_unit"),
        ("timestamp", "2026-02-28T23:59:59.123456", {}, datetime(2026, 2, 28, 23, 59, 59, 123456)),
        ("timestamp", "2026-02-28T23:59:59.123456Z", {}, datetime(2026, 2, 28, 23, 59, 59, 123456)),
        ("timestamp", "2026-02-28T23:59:59+01:00", {}, "invalid_text"),
        ("timestamptz", "2026-02-28T23:59:59", {}, "invalid_text"),
        ("timestamptz", "-infinity", {}, "invalid_text"),
        ("binary", "3q2+7wD/", {}, b"\xde\xad\xbe\xef\x00\xff"),
        ("binary", "3q2-7wD_", {}, b"\xde\xad\xbe\xef\x00\xff"),
        ("binary", "deadbeef00", {}, b"\xde\xad\xbe\xef\x00"),
        ("binary", "deadbeef", {}, "ambiguous"),
        ("binary", "deadbeef", {"encoding": "hex"}, b"\xde\xad\xbe\xef"),
        ("binary", "deadbeef", {"encoding": "base64"}, base64.b64decode("deadbeef")),
        ("binary", "DEAD", {"encoding": "hex"}, "invalid_text"),
        ("binary", "", {}, b""),
        ("fixed[2]", "3q0=", {}, b"\xde\xad"),
        ("fixed[2]", "dead00", {"encoding": "hex"}, "out_of_range"),
        ("map<string, string>", {"a": "1"}, {}, [("a", "1")]),
        ("long", "1", {}, "wrong_type"),
        *[(kind, PLACEHOLDER, {}, "unavailable") for kind in ("string", "decimal(5, 2)", "binary", "timestamp", "long", "list<int>")],
        ("binary", base64.b64encode(PLACEHOLDER.encode()).decode(), {}, "unavailable"),
        ("list<string>", [PLACEHOLDER], {}, "unavailable"),
        ("list<binary>", [base64.b64encode(PLACEHOLDER.encode()).decode()], {}, "unavailable"),
        ("list<int>", list(PLACEHOLDER.encode()), {}, "unavailable"),
        ("list<uuid>", ["b68a35a7-17ad-35b3-af2a-ae46edb4545a"], {}, "unavailable"),
        ("map<string, string>", {PLACEHOLDER: PLACEHOLDER}, {}, "unavailable"),
        ("list<string>", [PLACEHOLDER, "b"], {}, [PLACEHOLDER, "b"]),
    ],
)  # fmt: skip
def test_a_value_without_a_schema_is_read_as_its_declared_type(kind: str, found: Any, parts: Any, expected: Any) -> None:
    value = _value(kind, found, **parts)
    assert (str(value) if expected == "nan" else value) == expected


def _connect(kind: str, name: str = "", **parameters: str) -> dict[str, Any]:
    return {"type": kind, "name": name, "parameters": parameters} if name else {"type": kind}


DECIMAL = "org.apache.kafka.connect.data.Decimal"


@pytest.mark.parametrize(
    ("kind", "found", "schema", "expected"),
    [
        ("decimal(10, 2)", "SZYC0g==", _connect("bytes", DECIMAL, scale="2"), Decimal("12345678.90")),
        ("decimal(10, 2)", "SZYC0g==", _connect("bytes", DECIMAL, scale="1"), "out_of_range"),
        ("decimal(12, 4)", "MDk=", _connect("bytes", DECIMAL, scale="4"), Decimal("1.2345")),
        ("decimal(10, 2)", "MDk=", _connect("bytes", DECIMAL, scale="4"), "out_of_range"),
        ("decimal(10, 0)", "1234", _connect("bytes", DECIMAL, scale="0"), Decimal(-2658824)),
        *[("decimal(10, 2)", "SZYC0g==", _connect("bytes", DECIMAL, scale=odd), Decimal("12345678.90")) for odd in ("9" * 5000, "²", "x")],
        ("decimal(10, 2)", "AQ==", _connect("bytes", DECIMAL, scale="-2"), Decimal("100.00")),
        ("decimal(10, 2)", "AQ==", _connect("bytes", DECIMAL, scale="99999"), "out_of_range"),
        ("decimal(10, 0)", "1234", _connect("string"), Decimal(1234)),
        ("string", "SZYC0g==", _connect("bytes", DECIMAL, scale="2"), "12345678.90"),
        ("time", 86399123, _connect("int32", "io.debezium.time.Time"), time(23, 59, 59, 123000)),
        ("time", 86399123456, _connect("int64", "io.debezium.time.MicroTime"), time(23, 59, 59, 123456)),
        ("time", 86399123456789, _connect("int64", "io.debezium.time.NanoTime"), time(23, 59, 59, 123456)),
        ("time", 86399123, _connect("int32", "org.apache.kafka.connect.data.Time"), time(23, 59, 59, 123000)),
        ("timestamp", 1772323199123, _connect("int64", "io.debezium.time.Timestamp"), datetime(2026, 2, 28, 23, 59, 59, 123000)),
        ("timestamp", 1772323199123456, _connect("int64", "io.debezium.time.MicroTimestamp"), datetime(2026, 2, 28, 23, 59, 59, 123456)),
        ("timestamp", 1772323199123456789, _connect("int64", "io.debezium.time.NanoTimestamp"), datetime(2026, 2, 28, 23, 59, 59, 123456)),
        ("timestamp", 1772323199123, _connect("int64", "org.apache.kafka.connect.data.Timestamp"), datetime(2026, 2, 28, 23, 59, 59, 123000)),
        ("timestamp", 1772323199123, _connect("int64"), "unknown_unit"),
        ("date", 20512, _connect("int32", "org.apache.kafka.connect.data.Date"), date(2026, 2, 28)),
        ("int", 2026, _connect("int32", "io.debezium.time.Year"), 2026),
        ("binary", "deadbeef", _connect("bytes"), base64.b64decode("deadbeef")),
        ("binary", "deadbeef", _connect("string"), "ambiguous"),
        ("list<timestamp>", [1772323199123], {"type": "array", "items": _connect("int64", "io.debezium.time.Timestamp")},
         [datetime(2026, 2, 28, 23, 59, 59, 123000)]),
        ("struct<x: time>", {"x": 1000}, {"type": "struct", "fields": [{**_connect("int32", "io.debezium.time.Time"), "field": "x"}]},
         {"x": time(0, 0, 1)}),
    ],
)  # fmt: skip
def test_a_schema_around_the_message_says_how_a_value_is_encoded(kind: str, found: Any, schema: Any, expected: Any) -> None:
    assert _value(kind, found, schema) == expected


ROW = (column("id", "int", required=True), column("name", "string"))


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", "empty"),
        (b"{", "invalid_json"),
        (b"\xff", "invalid_utf8"),
        (b"[]", "not_an_object"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "too_deep"),
        (b'{"id": 1, "name": "flattened"}', "no_envelope"),
        (b'{"ts_ms": 1, "after": null}', "no_envelope"),
        (_message("x", {"id": 1}), "unknown_operation"),
        (_message("c", None), "missing_required"),
        (_message("c", [1]), "wrong_type"),
        (_message("c", {"id": None}), "missing_required"),
        (_message("u", {"name": "n"}), "missing_required"),
        (_message("r", {"id": PLACEHOLDER}), "missing_required"),
        (_message("c", {"id": 2**31}), "out_of_range"),
        (b'{"op": "c", "after": {"id": 1, "id": 2}}', "duplicate_key"),
        (b'{"op": "c", "op": "d", "after": {"id": 1}}', "duplicate_key"),
        (b'{"op": "c", "after": {"id": 1}, "after": {"id": 1}}', "duplicate_key"),
        (b'{"op": "c", "after": {"id": ' + b"9" * 5000 + b"}}", "out_of_range"),
        (_message("d", None, {"id": None}), "missing_required"),
        (_message("d"), "missing_required"),
        (None, "missing_required"),
        (b'{"schema":' + b'{"type":"array","items":' * 400 + b"{}" + b"}" * 400 + b',"payload":{"op":"c"}}', "too_deep"),
        (b'{"schema":{"type":"struct"},"payload":{"op":"c","after":{"id":1}},"op":"c"}', "invalid_json"),
        (b'{"schema":{},"payload":1}', "not_an_object"),
        (b'{"schema": {}, "payload": 1}', "not_an_object"),
    ],
)  # fmt: skip
def test_what_is_no_change_is_bad_one_by_one(value: bytes | None, code: str) -> None:
    good = _message("c", {"id": 1, "name": "n"})
    found = _decode(ROW, good, value, good)
    assert [(one.index, one.code) for one in found.bad] == [(1, code)]
    assert found.messages.tolist() == [0, 2]


@pytest.mark.parametrize(
    "value",
    [
        {"ts_ms": 1},
        {"status": "BEGIN", "id": "571:53195829", "ts_ms": 1, "event_count": None, "data_collections": None},
        {"status": "END", "id": "571:53195832", "ts_ms": 1, "event_count": 2, "data_collections": [{"data_collection": "s1.a", "event_count": 2}]},
        {"source": {"connector": "mysql"}, "ts_ms": 1, "databaseName": "inventory", "schemaName": None, "ddl": "ALTER TABLE t", "tableChanges": []},
        {"op": "m", "ts_ms": 1, "source": {}, "message": {"prefix": "p", "content": ""}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_wrapped", [False, True])
def test_what_says_nothing_of_rows_is_skipped_with_its_schema_and_without(value: Any, is_wrapped: bool) -> None:
    message = {"schema": {"type": "struct"}, "payload": value} if is_wrapped else value
    found = _decode(ROW, json.dumps(message).encode(), json.dumps(message, separators=(",", ":")).encode())
    assert found.skipped.tolist() == [0, 1]
    assert not found.bad
    assert not len(found)


WRAPPED_KEY = {"schema": {"type": "struct", "fields": [{"type": "int32", "field": "id"}]}, "payload": {"id": 5}}


@pytest.mark.parametrize(
    ("key", "before", "expected"),
    [
        ({"id": 5}, {"id": 6, "name": ""}, 5),
        (WRAPPED_KEY, None, 5),
        (json.dumps(WRAPPED_KEY, separators=(",", ":")).encode(), None, 5),
        (b"5", None, 5),
        (b'{"schema":{"type":"int32"},"payload":5}', {"id": 6}, 5),
        (b"null", {"id": 6}, 6),
        (None, {"id": 6, "name": "n"}, 6),
        ({"name": "n"}, {"id": 6, "name": "n"}, 6),
        (b"Struct{id=5}", {"id": 6}, 6),
    ],
)
def test_a_deletion_is_of_the_messages_key_or_of_before(key: Any, before: Any, expected: int) -> None:
    found = _decode(ROW, _message("d", None, before), key=key)
    assert _changes(found, "id", "name") == [(0, "delete", expected, None)]


@pytest.mark.parametrize("value", [None, b'{"schema":null,"payload":null}', b'{"schema": null, "payload": null}'])
def test_a_tombstone_deletes_the_row_of_its_key(value: bytes | None) -> None:
    assert _changes(_decode(ROW, value, key={"id": 5}), "id") == [(0, "delete", 5)]


def test_an_update_under_another_key_is_two_changes_where_messages_have_another_key_than_the_table() -> None:
    update = _message("u", {"id": 2, "name": "n"}, {"id": 1, "name": "m"})
    found = _decode(ROW, update, key={"name": "n"})
    assert _changes(found, "id", "name") == [(0, "delete", 1, None), (0, "update", 2, "n")]
    assert found.old_keys is not None
    assert found.old_keys.to_pylist() == [{"id": None}, {"id": 1}]
    # Keyed by the table's key, `before` may hold what nobody wrote.
    assert _changes(_decode(ROW, update, key={"id": 2}), "id", "name") == [(0, "update", 2, "n")]
    # A row that had no key was never in the table.
    was_null = _message("u", {"id": 2, "name": "n"}, {"id": None, "name": "m"})
    assert _changes(_decode(ROW, was_null, key={"name": "n"}), "id", "name") == [(0, "update", 2, "n")]
    unreadable = _message("u", {"id": 2, "name": "n"}, {"id": "x", "name": "m"})
    assert [one.code for one in _decode(ROW, unreadable, key={"name": "n"}).bad] == ["wrong_type"]


def test_composite_keys_and_names_of_the_source_are_read_by_path() -> None:
    columns = [
        column("order_number", "long", path="order_id", required=True),
        column("line", "int", path="line_no", required=True),
        column("x", "double", path="place.x"),
    ]
    row = _message("c", {"order_id": 1, "line_no": 2, "place": {"x": 1.5, "srid": None}})
    found = _decode(columns, row, None, key={"order_id": 1, "line_no": 2}, by="line,order_number")
    assert found.table.to_pylist() == [
        {"order_number": 1, "line": 2, "x": 1.5},
        {"order_number": 1, "line": 2, "x": None},
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"lsn": 26945488}, 26945488),
        ({"lsn": None}, None),
        ({"file": "mysql-bin.000003", "pos": 154, "row": 2}, 3 << 43 | 154 << 11 | 2),
        ({"file": "mysql-bin.000003", "pos": 154, "row": 5000}, 3 << 43 | 154 << 11 | 2047),
        ({"file": "mysql-bin.1048576", "pos": 154, "row": 0}, None),
        ({"file": "", "pos": 0, "row": 0}, None),
        ({"scn": "1122334", "commit_scn": "1122335"}, 1122334),
        ({"scn": None}, None),
        ({"commit_lsn": "00000027:00000758:0005", "change_lsn": "00000027:00000758:0003"}, None),
        ("text", None),
        (None, None),
    ],
)
def test_the_position_is_that_of_the_sources_log(source: Any, expected: int | None) -> None:
    found = _decode(ROW, _message("c", {"id": 1}, source=source))
    assert found.positions is not None
    assert found.positions.to_pylist() == [expected]


def test_positions_in_a_binlog_sort_as_the_log_does() -> None:
    first = [("b.000001", 4, 0), ("b.000001", 4, 1), ("b.000001", 5, 0), ("b.000001", 2**32 - 1, 0)]
    packed = [pack_binlog(*place) for place in [*first, ("b.000002", 4, 0), ("b.999999", 4, 0), ("b.1000000", 4, 0)]]
    numbers = [number for number in packed if number is not None]
    assert numbers == sorted(set(packed))  # type: ignore[type-var]
    assert len(numbers) == 7
    assert numbers[-1] < 2**63
