"""Debezium's envelopes in Avro as changes."""

import datetime
import random
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from hashlib import md5
from typing import Any
from uuid import UUID

import pytest

from lakehouse_assets.decode.changes.building import build_change_decoder
from lakehouse_assets.decode.changes.debezium import DebeziumDecoder
from lakehouse_assets.decode.changes.debezium_avro import DebeziumAvroDecoder
from lakehouse_assets.decode.changes.decoded import ChangeMessages, DecodedChanges
from lakehouse_assets.decode.changes.table_names import TableNames
from lakehouse_assets.decode.decoded import Headers
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.types import parse_type
from lakehouse_assets_tests.decode.avro.messages import (
    VARIABLE_SCALE_DECIMAL,
    body_of,
    connect,
    framed,
    record,
    registered,
)
from lakehouse_assets_tests.decode.changes.captures import (
    columns_of_all_types,
    read_avro_capture,
    read_capture,
    rows_of_all_types,
)
from lakehouse_assets_tests.decode.changes.envelopes import (
    MYSQL,
    NEWER,
    OTHERS,
    PLACEHOLDER,
    Stream,
    beside,
    envelope,
    row,
)
from lakehouse_assets_tests.decode.changes.streams import bad_of, declare, rows_of
from lakehouse_assets_tests.decode.declared import DeclaredColumn, column

_ROW = row(("id", "long"), ("name", ["null", "string"]), ("notes", ["null", "string"]))
_KEY = record(("id", "long"), name="shop.public.items.Key")
ITEMS = declare("debezium-avro", {"id": "long", "name": "string", "notes": "string"})
SHOP = Stream(_ROW, _KEY)
_SAME = "schemas_precise_adaptive"  # the capture in JSON of the same statements, whose messages say their types too
COUNTS = pytest.mark.parametrize("times", [1, 20], ids=["exact", "fast"])


def _decode(
    spec: TableSpec,
    stream: Stream,
    values: Sequence[bytes | None],
    keys: Sequence[bytes | None] | None = None,
    headers: Sequence[Headers | None] | None = None,
) -> DecodedChanges:
    nothing = [None] * len(values)
    return build_change_decoder(spec, stream.schemas.get).decode(ChangeMessages(values, keys or nothing, headers or nothing))


def _item(number: int, name: str | None = "a", notes: str | None = None) -> dict[str, Any]:
    return {"id": number, "name": name, "notes": notes}


@COUNTS
def test_each_envelope_is_a_change_in_the_order_of_the_messages(times: int) -> None:
    values = [
        SHOP.change("r", _item(1), lsn=10, snapshot="first"),
        SHOP.change("c", _item(2, None), lsn=11),
        SHOP.change("d", None, _item(1, ""), lsn=12),
        SHOP.change("u", _item(2, "b"), lsn=13),
        None,
    ]
    keys = [SHOP.key({"id": number}) for number in (1, 2, 1, 2, 1)]
    found = _decode(ITEMS, SHOP, values * times, keys * times)

    assert rows_of(found) == times * [
        ("read", {"id": 1, "name": "a"}),
        ("insert", {"id": 2}),
        ("delete", {"id": 1}),
        ("update", {"id": 2, "name": "b"}),
        ("delete", {"id": 1}),
    ]
    assert found.messages.tolist() == list(range(5 * times))
    assert found.deletes.tolist() == [False, False, True, False, True] * times
    assert found.positions is not None
    assert found.positions.to_pylist() == [10, 11, 12, 13, None] * times
    assert (found.bad, found.old_keys, found.unavailable) == ((), None, {})


@COUNTS
def test_what_stands_beside_the_changes_is_skipped_and_a_truncation_told(times: int) -> None:
    found = _decode(ITEMS, SHOP, [*beside(), SHOP.change("m"), SHOP.change("t", lsn=7), SHOP.change("c", _item(1))] * times)

    assert found.skipped.tolist() == [7 * i + j for i in range(times) for j in range(5)]
    assert [(one.message, one.position) for one in found.truncations] == [(7 * i + 5, 7) for i in range(times)]
    assert found.messages.tolist() == [7 * i + 6 for i in range(times)]
    assert found.bad == ()


@COUNTS
def test_messages_that_are_no_envelopes_and_rows_without_their_key_are_bad_one_by_one(times: int) -> None:
    flat = framed(body_of(_ROW, _item(1)), OTHERS)
    values = [flat, SHOP.change("x", _item(1)), SHOP.change("c"), SHOP.change("d"), SHOP.change("c", _item(1))[:-1], b"{}", b""]
    found = _decode(ITEMS, SHOP, [*values, SHOP.change("c", _item(5)), None] * times)

    codes = ["no_envelope", "unknown_operation", "missing_required", "missing_required", "broken_avro", "wrong_magic_byte", "empty"]
    expected = [(9 * i + j, code) for i in range(times) for j, code in [*enumerate(codes), (8, "missing_required")]]
    assert bad_of(found) == expected
    assert found.messages.tolist() == [9 * i + 7 for i in range(times)]


@COUNTS
def test_a_deletion_is_of_the_message_s_key_and_else_of_the_row_before(times: int) -> None:
    values = [SHOP.change("d", None, _item(0, "")), SHOP.change("d", None, _item(3)), SHOP.change("d", None, _item(4))]
    found = _decode(ITEMS, SHOP, values * times, [SHOP.key({"id": 2}), None, b'{"id": 5}'] * times)

    assert rows_of(found) == [("delete", {"id": 2}), ("delete", {"id": 3}), ("delete", {"id": 5})] * times


@COUNTS
def test_an_update_with_another_key_before_deletes_that_one_unless_the_message_is_keyed_by_it(times: int) -> None:
    spec = declare("debezium-avro", {"id": "long", "name": "string", "notes": "string"}, key=["name"])
    values = [
        SHOP.change("u", _item(1, "new", PLACEHOLDER), _item(1, "old"), lsn=5),
        SHOP.change("u", _item(1, "new"), _item(1, "new")),
        SHOP.change("u", _item(1, "new"), _item(1, None)),
        SHOP.change("u", _item(1, "newer")),
    ]
    found = _decode(spec, SHOP, values * times, [SHOP.key({"id": 1})] * 4 * times)
    assert rows_of(found) == times * [
        ("delete", {"name": "old"}),
        ("update", {"id": 1, "name": "new"}),
        ("update", {"id": 1, "name": "new"}),
        ("update", {"id": 1, "name": "new"}),
        ("update", {"id": 1, "name": "newer"}),
    ]
    assert found.messages.tolist() == [4 * i + j for i in range(times) for j in (0, 0, 1, 2, 3)]
    assert found.old_keys is not None
    assert found.old_keys["name"].to_pylist() == [None, "old", None, None, None] * times

    keyed = _decode(ITEMS, SHOP, [SHOP.change("u", _item(2), _item(1))] * times, [SHOP.key({"id": 2})] * times)
    assert rows_of(keyed) == [("update", {"id": 2, "name": "a"})] * times


@COUNTS
def test_unavailable_values_are_told_and_the_key_that_the_row_had_by_the_header(times: int) -> None:
    values = [SHOP.change("u", _item(1, PLACEHOLDER, "n")), SHOP.change("c", _item(2, "b", PLACEHOLDER)), SHOP.change("c", _item(3))]
    headers: list[Headers | None] = [None, [("x", b"y"), ("__debezium.oldkey", b'{"id":7}')], [("__debezium.oldkey", b'{"id":8}')]]
    found = _decode(ITEMS, SHOP, values * times, [SHOP.key({"id": 1})] * 3 * times, headers * times)

    assert rows_of(found) == times * [("update", {"id": 1, "notes": "n"}), ("insert", {"id": 2, "name": "b"}), ("insert", {"id": 3, "name": "a"})]
    assert {name: mask.tolist() for name, mask in found.unavailable.items()} == {
        "name": [True, False, False] * times,
        "notes": [False, True, False] * times,
    }
    assert found.old_keys is not None
    assert found.old_keys["id"].to_pylist() == [None, 7, None] * times


def test_old_keys_in_headers_may_be_avro_and_one_that_can_not_be_read_makes_its_message_bad() -> None:
    values = [SHOP.change("c", _item(number, "b", PLACEHOLDER)) for number in (1, 2)]
    headers: list[Headers | None] = [[("__debezium.oldkey", SHOP.key({"id": 7}))], [("__debezium.oldkey", b"?")]]
    found = _decode(ITEMS, SHOP, values, [None, None], headers)

    assert found.old_keys is not None
    assert found.old_keys["id"].to_pylist() == [7]
    assert bad_of(found) == [(1, "invalid_json")]


@COUNTS
def test_a_key_that_is_unavailable_makes_its_message_bad(times: int) -> None:
    spec = declare("debezium-avro", {"id": "long", "name": "string"}, key=["name"])
    assert bad_of(_decode(spec, SHOP, [SHOP.change("u", _item(1, PLACEHOLDER))] * times)) == [(i, "missing_required") for i in range(times)]


# As Java's UUID.nameUUIDFromBytes makes it.
_PLACEHOLDER_UUID = str(UUID(bytes=md5(PLACEHOLDER.encode(), usedforsecurity=False).digest(), version=3))


@COUNTS
@pytest.mark.parametrize(
    ("schema", "declared", "value"),
    [
        ("bytes", "binary", PLACEHOLDER.encode()),
        ({"type": "array", "items": ["null", "string"]}, "list<string>", [PLACEHOLDER]),
        ({"type": "array", "items": ["null", "int"]}, "list<int>", list(PLACEHOLDER.encode())),
        ({"type": "array", "items": "long"}, "list<long>", list(PLACEHOLDER.encode())),
        ({"type": "array", "items": connect("string", "data.Uuid")}, "list<uuid>", [_PLACEHOLDER_UUID]),
        ({"type": "map", "values": ["null", "string"]}, "map<string, string>", {PLACEHOLDER: PLACEHOLDER}),
        (connect("string", "data.Json"), "string", f'{{"{PLACEHOLDER}":"{PLACEHOLDER}"}}'),
    ],
)
def test_the_placeholder_is_known_in_every_form(schema: Any, declared: str, value: Any, times: int) -> None:
    stream = Stream(row(("id", "long"), ("value", ["null", schema])))
    spec = declare("debezium-avro", {"id": "long", "value": declared})
    found = _decode(spec, stream, [stream.change("u", {"id": 1, "value": value}), stream.change("u", {"id": 2, "value": None})] * times)

    assert {name: mask.tolist() for name, mask in found.unavailable.items()} == {"value": [True, False] * times}
    assert found.table["value"].null_count == 2 * times


@COUNTS
def test_positions_of_mysql_are_of_its_binlog(times: int) -> None:
    stream = Stream(_ROW, _KEY, MYSQL)
    places = [("bin.000002", 4, 1), ("bin.000002", 5000, 3000), ("log", 4, 0)]
    values = [stream.change("c", _item(1), file=file, pos=pos, row=number) for file, pos, number in places]
    found = _decode(ITEMS, stream, values * times)

    assert found.positions is not None
    assert found.positions.to_pylist() == [(2 << 43) + (4 << 11) + 1, (2 << 43) + (5000 << 11) + 2047, None] * times


@COUNTS
def test_columns_that_a_schema_lacks_or_has_more_do_not_stop_a_table(times: int) -> None:
    newer = envelope(row(("id", "long"), ("extra", "string"), ("name", ["null", "string"])))
    SHOP.schemas[NEWER] = registered(newer)
    body = {"op": "c", "after": {"id": 2, "extra": "x", "name": "b"}, "before": None, "ts_ms": 1, "transaction": None}
    source = {"version": "1", "connector": "postgresql", "name": "s", "ts_ms": 1, "db": "d", "schema": "p", "table": "t", "lsn": 3}
    message = framed(body_of(newer, {**body, "source": source}), NEWER)
    found = _decode(ITEMS, SHOP, [SHOP.change("c", _item(1, "a", "n"), lsn=2), message] * times)

    assert rows_of(found) == [("insert", {"id": 1, "name": "a", "notes": "n"}), ("insert", {"id": 2, "name": "b"})] * times
    assert found.positions is not None
    assert found.positions.to_pylist() == [2, 3] * times


_TYPES: dict[str, tuple[Any, str, Any, Any]] = {
    "c_bool": ("boolean", "boolean", True, True),
    "c_tiny": (connect("int", "x", **{"connect.type": "int16"}), "boolean", 1, True),
    "c_long": ("long", "long", -(2**63), -(2**63)),
    "c_double": ("double", "double", 1.5, 1.5),
    "c_decimal": (
        connect("bytes", "org.apache.kafka.connect.data.Decimal", scale=2, precision=10, logicalType="decimal"),
        "decimal(10, 2)",
        Decimal("10.42"),
        Decimal("10.42"),
    ),
    "c_numeric": (VARIABLE_SCALE_DECIMAL, "decimal(20, 4)", {"scale": 1, "value": b"\x0b"}, Decimal("1.1000")),
    "c_text_decimal": ("string", "decimal(10, 2)", "12.3", Decimal("12.30")),
    "c_date": (connect("int", "time.Date"), "date", 20_512, datetime.date(2026, 2, 28)),
    "c_time": (connect("long", "time.MicroTime"), "time", 1, datetime.time(0, 0, 0, 1)),
    "c_timestamp": (connect("long", "time.Timestamp"), "timestamp", 1, datetime.datetime(1970, 1, 1, 0, 0, 0, 1000)),
    "c_timestamp6": (connect("long", "time.MicroTimestamp"), "timestamp", 1, datetime.datetime(1970, 1, 1, 0, 0, 0, 1)),
    "c_timestamptz": (
        connect("string", "time.ZonedTimestamp"),
        "timestamptz",
        "2025-01-01T09:00:00.000000Z",
        datetime.datetime(2025, 1, 1, 9, tzinfo=datetime.UTC),
    ),
    "c_json": (connect("string", "data.Json"), "string", '{"a": 1}', '{"a": 1}'),
    "c_enum": (connect("string", "data.Enum", **{"connect.parameters": {"allowed": "a,b"}}), "string", "a", "a"),
    "c_bytes": ("bytes", "binary", b"\x00\xff", b"\x00\xff"),
    "c_bits": (connect("bytes", "data.Bits", **{"connect.parameters": {"length": "8"}}), "binary", b"\x05", b"\x05"),
    "c_interval": (connect("long", "time.MicroDuration"), "long", 7, 7),
    "c_array": ({"type": "array", "items": ["null", "string"]}, "list<string>", ["a", None], ["a", None]),
}


@COUNTS
def test_every_encoding_becomes_its_declared_type(times: int) -> None:
    schema = row(("id", "long"), *((name, ["null", one[0]]) for name, one in _TYPES.items()))
    stream = Stream(schema)
    spec = declare("debezium-avro", {"id": "long", **{name: one[1] for name, one in _TYPES.items()}})
    raw = {name: one[2] for name, one in _TYPES.items()}
    nothing = dict.fromkeys(_TYPES)
    found = _decode(spec, stream, [stream.change("c", {"id": 1, **raw}), stream.change("c", {"id": 2, **nothing})] * times)

    assert found.bad == ()
    assert found.table.to_pylist() == [{"id": 1, **{name: one[3] for name, one in _TYPES.items()}}, {"id": 2, **nothing}] * times


@pytest.mark.parametrize(
    ("schema", "declared", "value"),
    [
        (connect("int", "time.Date"), "date", -2_147_472_692),
        (connect("long", "time.MicroTimestamp"), "timestamp", -9_223_372_036_832_400_000),
        (connect("string", "time.ZonedTimestamp"), "timestamptz", "infinity"),
    ],
)
@COUNTS
def test_infinite_times_are_bad(schema: Any, declared: str, value: Any, times: int) -> None:
    stream = Stream(row(("id", "long"), ("at", ["null", schema])))
    spec = declare("debezium-avro", {"id": "long", "at": declared})
    found = _decode(spec, stream, [stream.change("c", {"id": 1, "at": value}), stream.change("c", {"id": 2, "at": None})] * times)

    assert [one.index for one in found.bad] == [2 * i for i in range(times)]
    assert found.messages.tolist() == [2 * i + 1 for i in range(times)]


def _of_capture(columns: Sequence[DeclaredColumn], *topics: str, key: str = "id") -> DecodedChanges:
    messages, schemas = read_avro_capture(*topics)
    return DebeziumAvroDecoder(columns, key.split(","), schemas.get, TableNames()).decode(messages)


def test_every_type_of_postgres_becomes_the_value_that_was_written() -> None:
    found = _of_capture(columns_of_all_types(_SAME), "alltypes")
    rows = {row["id"]: row for row in found.table.to_pylist()}
    assert str(rows[4]["c_f4"]) == "nan"
    rows[4]["c_f4"] = "nan"
    assert rows == rows_of_all_types(_SAME)
    assert bad_of(found) == [(4, "out_of_range")]  # the infinite date


_TABLES: list[tuple[str, str, dict[str, str]]] = [
    ("customers", "id", {"id": "int", "email": "string", "mail": "string", "tags": "list<string>", "phone": "string", "score": "long"}),
    ("docs", "id", {"id": "int", "title": "string", "body": "string", "blob": "binary", "attrs": "string", "parts": "list<string>"}),
    ("nopk", "a", {"a": "int", "b": "string"}),
    ("Mixed_Case", "id", {"id": "int", "Weird_Col": "string", "select": "int"}),
]


@pytest.mark.parametrize(("topic", "key", "kinds"), _TABLES)
def test_avro_says_what_json_says_of_the_same_statements(topic: str, key: str, kinds: dict[str, str]) -> None:
    columns = [column(name, parse_type(kind), required=name in key.split(",")) for name, kind in kinds.items()]
    paths = [replace(one, path=(one.name.replace("Weird_", "Weird "),)) for one in columns]  # in JSON names need no adjustment
    avro = _of_capture(columns, topic, key=key)
    json = DebeziumDecoder(paths, key.split(","), TableNames()).decode(read_capture("schemaless_precise_adaptive", topic))

    assert rows_of(avro) == rows_of(json)
    assert len(avro) > 0
    assert (avro.messages.tolist(), avro.deletes.tolist()) == (json.messages.tolist(), json.deletes.tolist())
    assert {name: mask.tolist() for name, mask in avro.unavailable.items()} == {name: mask.tolist() for name, mask in json.unavailable.items()}
    assert (avro.old_keys is None) == (json.old_keys is None)
    assert avro.old_keys is None or avro.old_keys.to_pylist() == json.old_keys.to_pylist()
    assert bad_of(avro) == bad_of(json)
    assert [one.message for one in avro.truncations] == [one.message for one in json.truncations]


def test_a_real_table_of_two_key_columns_with_a_key_that_changes_and_a_truncation() -> None:
    kinds = {"order_id": "int", "line_no": "int", "sku": "string", "qty": "int", "price": "decimal(10, 2)"}
    columns = [column(name, parse_type(kind), required=name in ("order_id", "line_no")) for name, kind in kinds.items()]
    found = _of_capture(columns, "lines", key="order_id,line_no")

    def row_of(order: int, line: int, sku: str, qty: int, price: str) -> dict[str, Any]:
        return {"order_id": order, "line_no": line, "sku": sku, "qty": qty, "price": Decimal(price)}

    assert rows_of(found) == [
        ("insert", row_of(1, 1, "sku-a", 2, "9.99")),
        ("insert", row_of(1, 2, "sku-b", 1, "100.00")),
        ("update", row_of(1, 1, "sku-a", 3, "9.99")),
        *[("delete", {"order_id": 1, "line_no": 2})] * 2,
        ("insert", row_of(1, 9, "sku-b", 1, "100.00")),
        *[("delete", {"order_id": 1, "line_no": 1})] * 2,
        ("insert", row_of(2, 1, "after-truncate", 1, "1.00")),
        *[("insert", row_of(3, i, "bulk", i, str(Decimal(i).quantize(Decimal("0.01"))))) for i in range(1, 6)],
    ]
    assert [one.message for one in found.truncations] == [8]
    assert found.positions is not None
    known = [position for position in found.positions.to_pylist() if position is not None]
    assert known == sorted(known)
    assert found.truncations[0].position is not None
    assert found.bad == ()


def test_balances_of_real_customers_keep_their_value_when_their_scale_changes() -> None:
    found = _of_capture([column("id", "int", required=True), column("balance", parse_type("decimal(20, 4)"))], "customers")
    last = {row["id"]: row.get("balance") for _, row in rows_of(found)}
    assert last[1] == Decimal("1.2345")
    assert last[100] == Decimal("1.0000")
    assert last[20] == Decimal("1.0000")


def test_real_transactions_and_logical_messages_are_skipped() -> None:
    found = _of_capture([column("id", "int", required=True)], "transaction", "message")
    assert len(found.skipped) == 6
    assert (len(found), found.bad) == (0, ())


@pytest.mark.parametrize("seed", range(4))
def test_many_random_envelopes_together_are_what_each_is_alone(seed: int) -> None:
    chance = random.Random(seed)
    values: list[bytes | None] = []
    keys: list[bytes | None] = []
    headers: list[Headers | None] = []
    for _ in range(150):
        item = _item(chance.randrange(5), chance.choice(["a", None, PLACEHOLDER]), chance.choice(["n", PLACEHOLDER, None]))
        before = _item(chance.randrange(5), "z") if chance.random() < 0.4 else None
        op = chance.choice("cccuuuudrtmx")
        value = SHOP.change(op, None if op in "dtm" or chance.random() < 0.1 else item, before, lsn=chance.randrange(9))
        values.append(chance.choice([value] * 8 + [None, value[:-1], beside()[0], b"\x00\x00\x00\x00\x09"]))
        keys.append(chance.choice([SHOP.key({"id": chance.randrange(5)}), b'{"id": 3}', None, b'{"x": 1}']))
        headers.append(chance.choice([None, None, [("__debezium.oldkey", b'{"id":7}')], [("__debezium.oldkey", b"?")]]))
    together = _decode(ITEMS, SHOP, values, keys, headers)
    rows, bad, messages = [], [], []
    for i in range(len(values)):
        alone = _decode(ITEMS, SHOP, values[i : i + 1], keys[i : i + 1], headers[i : i + 1])
        assert len(alone.messages) + len(alone.bad) + len(alone.skipped) + len(alone.truncations) >= 1
        rows += _facts(alone)
        messages += [i] * len(alone)
        bad += [(i, one.code, one.reason) for one in alone.bad]

    assert _facts(together) == rows
    assert together.messages.tolist() == messages
    assert [(one.index, one.code, one.reason) for one in together.bad] == bad
    assert len(bad) + len(set(messages)) + len(together.skipped) + len(together.truncations) == len(values)


def _facts(found: DecodedChanges) -> list[Any]:
    assert found.positions is not None
    gaps = [sorted(name for name, mask in found.unavailable.items() if mask[row]) for row in range(len(found))]
    old = found.old_keys["id"].to_pylist() if found.old_keys is not None else [None] * len(found)
    return list(zip(rows_of(found), found.deletes.tolist(), found.positions.to_pylist(), gaps, old, strict=True))
