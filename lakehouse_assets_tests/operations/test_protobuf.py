"""Protobuf topics with a real registry, from Kafka to what DuckDB finds in the table."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass

from lakehouse_assets.decode.protobuf.schema import compile_schema
from lakehouse_assets.operations.peek import peek_newest
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import make_systems
from lakehouse_assets_tests.faults import FAULTY
from lakehouse_assets_tests.operations.lake import Lake
from lakehouse_assets_tests.registry import Registry

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("registry")]

MONEY = 'syntax = "proto3"; package shop; message Money { int64 cents = 1; string currency = 2; }'
OLD = """syntax = "proto3";
package shop;
import "shop/money.proto";
import "google/protobuf/timestamp.proto";
message Nothing {}
message Order {
  int64 id = 1; optional string text = 2; Money price = 3; google.protobuf.Timestamp at = 4; map<string, Money> parts = 5;
  Order origin = 6;
}
"""
NEW = OLD.replace("int64 id = 1;", "int64 id = 1; repeated string tags = 7;")
SCHEMA = [
    {"name": "id", "type": "long", "required": True},
    {"name": "text", "type": "string"},
    {"name": "cents", "type": "long", "from": "price.cents"},
    {"name": "at", "type": "timestamptz"},
    {"name": "parts", "type": "map<string, struct<cents: long>>"},
    {"name": "tags", "type": "list<string>"},
    {"name": "origin", "type": "long", "from": "origin.origin.id"},
]

MakeLake = Callable[..., Lake]


@pytest.fixture
def protobuf_lake(tmp_path: Path, broker: Broker, topic: Callable[..., str], registry: Registry) -> MakeLake:
    """`protobuf_lake(**declaration)` creates a topic of Protobuf messages and opens its table."""

    def open_lake(**declaration: object) -> Lake:
        lake = Lake.open(tmp_path, broker, topic(), **{"source": {"format": "protobuf"}, "schema": SCHEMA} | declaration)
        return replace(lake, systems=make_systems(tmp_path, broker.bootstrap_servers, registry.url, **FAULTY))

    return open_lake


def register(registry: Registry, lake: Lake, name: str, text: str) -> int:
    registry.register(f"{lake.topic}-money", MONEY, kind="PROTOBUF")
    return registry.register(
        f"{lake.topic}-{name}", text, kind="PROTOBUF", references=[("shop/money.proto", f"{lake.topic}-money", 1)]
    )


def message(schema_id: int, text: str, /, **parts: Any) -> bytes:
    """An Order, which is the schema's second message, as Confluent's serializers write it."""
    found = compile_schema(text, [("shop/money.proto", MONEY)]).find_message([1])
    assert found is not None
    return b"\0" + schema_id.to_bytes(4) + b"\x02\x02" + GetMessageClass(found)(**parts).SerializeToString()


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_messages_of_several_schemas_become_rows_in_order(
    protobuf_lake: MakeLake, registry: Registry, broker: Broker, workers: int
) -> None:
    lake = protobuf_lake(workers=workers)
    old, new = (register(registry, lake, name, text) for name, text in (("old", OLD), ("new", NEW)))
    first = message(
        old, OLD, id=1, text="a", price={"cents": 150}, at={"seconds": 1_800_000_000, "nanos": 1999},
        parts={"x": {"cents": 2}}, origin={"origin": {"id": 7, "origin": {"id": 8}}},
    )  # fmt: skip
    second = message(new, NEW, tags=["p", "q"])
    broker.produce(lake.topic, [first, second] * 100)

    lake.ingest()

    lake.assert_holds({0: list(range(200))})
    rows = judge.query(
        lake.table,
        'SELECT id, text, cents, epoch_us("at"), map_entries(parts), tags, origin FROM {table} ORDER BY _kafka_offset',
    )
    assert rows == [
        (1, "a", 150, 1_800_000_000_000_001, [{"key": "x", "value": {"cents": 2}}], None, 7),
        (0, None, None, None, [], ["p", "q"], None),
    ] * 100  # fmt: skip


def test_bad_messages_are_kept_as_they_came(protobuf_lake: MakeLake, registry: Registry, broker: Broker) -> None:
    lake = protobuf_lake()
    known = register(registry, lake, "value", OLD)
    good = message(known, OLD, id=1, text="a")
    bad = [b'{"id": 1}', message(2**31 - 1, OLD, id=1), good[:5] + b"\x02\x08", good[:-1], good + b"\xff", good[:5]]
    broker.produce(lake.topic, [good, *bad, None, good[:7], good])

    lake.ingest()

    lake.assert_holds({0: [0, 8, 9]}, bad={0: [1, 2, 3, 4, 5, 6]})
    assert lake.quarantine is not None
    found = judge.query(lake.quarantine, 'SELECT error_code, "value" FROM {table} ORDER BY "offset"')
    codes = ["wrong_magic_byte", "unknown_schema_id", "unknown_message_type", *["broken_protobuf"] * 3]
    assert found == list(zip(codes, bad, strict=True))


def test_an_empty_message_is_a_row_of_defaults(protobuf_lake: MakeLake, registry: Registry, broker: Broker) -> None:
    lake = protobuf_lake(schema=SCHEMA[1:2])
    known = register(registry, lake, "value", OLD)
    broker.produce(lake.topic, [b"\0" + known.to_bytes(4) + b"\0"] * 3)

    lake.ingest()

    assert judge.query(lake.table, "SELECT text FROM {table}") == [(None,)] * 3


def test_peek_shows_what_a_run_would_write(protobuf_lake: MakeLake, registry: Registry, broker: Broker) -> None:
    lake = protobuf_lake()
    known = register(registry, lake, "value", OLD)
    broker.produce(lake.topic, [message(known, OLD, id=5), b"x"])

    good, bad = (message.reading for message in peek_newest(lake.systems, lake.spec, 2))

    assert good.row is not None
    assert (good.row["id"], good.row["text"], bad.row) == (5, None, None)
    assert "0x78" in str(bad.error)


def test_columns_that_are_not_declared_come_from_the_registry(protobuf_lake: MakeLake, registry: Registry, broker: Broker) -> None:
    lake = protobuf_lake(schema=None)
    known = registry.register(f"{lake.topic}-value", MONEY, kind="PROTOBUF")
    broker.produce(lake.topic, [b"\0" + known.to_bytes(4) + b"\0\x08\x05"] * 2)
    lake.ingest()
    grown = registry.register(f"{lake.topic}-value", MONEY.replace("}", "string note = 3; }"), kind="PROTOBUF")
    broker.produce(lake.topic, [b"\0" + grown.to_bytes(4) + b"\0\x08\x06\x1a\x01n"])

    replace(lake, systems=make_systems(lake.folder, broker.bootstrap_servers, registry.url, **FAULTY)).ingest()

    rows = judge.query(lake.table, "SELECT cents, currency, note FROM {table} ORDER BY _kafka_offset")
    assert rows == [(5, "", None), (5, "", None), (6, "", "n")]
