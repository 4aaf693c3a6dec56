"""Upsert tables of Debezium's envelopes in Avro, and of plain Avro rows, with the real schema registry."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lakehouse_assets.model.errors import SchemaMovedError
from lakehouse_assets.operations.ingest import CommitReport
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import make_systems
from lakehouse_assets_tests.decode.avro.messages import body_of, framed, record
from lakehouse_assets_tests.decode.changes.captures import read_avro_capture
from lakehouse_assets_tests.decode.changes.envelopes import PLACEHOLDER, envelope, row
from lakehouse_assets_tests.faults import FAULTY
from lakehouse_assets_tests.operations.lake import Lake
from lakehouse_assets_tests.registry import Registry

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("registry")]

MakeLake = Callable[..., Lake]


@pytest.fixture
def open_lake(tmp_path: Path, broker: Broker, topic: Callable[..., str], registry: Registry) -> MakeLake:
    """`open_lake(**declaration)` creates a topic and opens its upsert table, which declares no columns unless they are given."""

    def open_one(**declaration: Any) -> Lake:
        parts = {"mode": "upsert", "key": ["id"], "schema": None, "source": {"format": "debezium-avro"}} | declaration
        lake = Lake.open(tmp_path, broker, topic(), **parts)
        return replace(lake, systems=make_systems(tmp_path, broker.bootstrap_servers, registry.url, **FAULTY))

    return open_one


def _replay_capture(lake: Lake, registry: Registry, table: str, count: int | None = None) -> None:
    """Send what a real connector sent of a table, under the ids that this registry gives to its schemas."""
    messages, schemas = read_avro_capture(table)
    ids: dict[int, int] = {}

    def renumbered(octets: bytes | None, part: str) -> bytes | None:
        if octets is None:
            return None
        old = int.from_bytes(octets[1:5], "big")
        if old not in ids:
            ids[old] = registry.register(f"{lake.topic}-{part}", schemas[old].text)
        return framed(octets[5:], ids[old])

    for value, key, headers in list(zip(messages.values, messages.keys, messages.headers, strict=True))[:count]:
        named = [(name, octets) for name, octets in headers or () if octets is not None]
        lake.broker.produce(lake.topic, [renumbered(value, "value")], key=renumbered(key, "key"), headers=named)


def test_a_real_table_of_postgres_with_all_its_changes_of_schema(open_lake: MakeLake, registry: Registry) -> None:
    lake = open_lake()
    _replay_capture(lake, registry, "customers")
    lake.ingest()

    kinds = {field.name: (str(field.field_type), field.required) for field in lake.table.schema().fields}
    assert kinds["id"] == ("int", True)
    assert (kinds["balance"], kinds["created_at"][0], kinds["score"][0]) == (("decimal(20, 4)", False), "timestamptz", "long")
    found = judge.query(lake.table, "SELECT id, mail, balance, phone, score FROM {table} ORDER BY id")
    assert found == [
        (1, "m2", Decimal("1.2345"), "x", 8_589_934_592),
        # Not sent again since `email` became `mail` and `score` was added.
        (10, None, Decimal("5.0000"), None, None),
        (20, None, Decimal("1.0000"), "+41", None),
        (100, None, Decimal("1.0000"), None, None),
    ]
    assert lake.quarantined() == []
    assert lake.lag() == 0


def test_values_that_were_not_sent_are_taken_from_the_row_of_the_key_before(open_lake: MakeLake, registry: Registry) -> None:
    lake = open_lake()
    _replay_capture(lake, registry, "docs", 1)
    lake.ingest()
    [(body, parts)] = judge.query(lake.table, "SELECT body, parts FROM {table}")
    assert len(str(body)) > 2000
    _replay_capture(lake, registry, "docs", 5)
    lake.ingest()

    assert judge.query(lake.table, "SELECT id, title, body, parts FROM {table}") == [(2, "t1-b", body, parts)]
    _replay_capture(lake, registry, "docs")
    lake.ingest()
    assert judge.query(lake.table, "SELECT * FROM {table}") == []


def test_a_column_that_is_added_while_the_table_runs_comes_into_it(open_lake: MakeLake, registry: Registry, broker: Broker) -> None:
    lake = open_lake()
    subject = f"{lake.topic}-value"
    first = envelope(row(("id", "long"), ("name", ["null", "string"])))
    second = envelope(row(("id", "long"), ("name", ["null", "string"]), ("note", ["null", "string"])))

    def send(schema: dict[str, Any], schema_id: int, op: str, after: dict[str, Any]) -> None:
        source = {"version": "3", "connector": "postgresql", "name": "s", "ts_ms": 1, "db": "d", "schema": "p", "table": "t", "lsn": 9}
        broker.produce(lake.topic, [framed(body_of(schema, {"op": op, "after": after, "source": source}), schema_id)])

    first_id = registry.register(subject, first)
    send(first, first_id, "c", {"id": 1, "name": "a"})

    def go_on(_: CommitReport) -> None:
        if len(lake.reports) == 1:
            second_id = registry.register(subject, second)
            send(second, second_id, "u", {"id": 1, "name": PLACEHOLDER, "note": "new"})
            send(first, first_id, "c", {"id": 2, "name": "b"})

    lake.ingest(on_commit=go_on)

    assert judge.query(lake.table, "SELECT id, name, note FROM {table} ORDER BY id") == [(1, "a", "new"), (2, "b", None)]
    assert {type(error) for error in lake.retries} == {SchemaMovedError}


def test_plain_avro_rows_are_taken_out_by_keys_in_avro(open_lake: MakeLake, registry: Registry, broker: Broker) -> None:
    columns = [{"name": "id", "type": "long", "required": True}, {"name": "text", "type": "string"}]
    lake = open_lake(source={"format": "avro"}, schema=columns)
    value, key = record(("id", "long"), ("text", ["null", "string"])), record(("id", "long"), name="Key")
    value_id, key_id, bare_id = (
        registry.register(f"{lake.topic}-{part}", schema) for part, schema in (("value", value), ("key", key), ("bare", {"type": "long"}))
    )
    for number in (1, 2, 3):
        broker.produce(lake.topic, [framed(body_of(value, {"id": number, "text": "a"}), value_id)])
    broker.produce(lake.topic, [None], key=framed(body_of(key, {"id": 1}), key_id))
    broker.produce(lake.topic, [None], key=framed(body_of("long", 3), bare_id))
    lake.ingest()

    assert judge.query(lake.table, "SELECT id FROM {table}") == [(2,)]
