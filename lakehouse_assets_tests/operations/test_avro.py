"""Avro topics with a real registry, from Kafka to what DuckDB finds in the table."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lakehouse_assets.model.errors import (
    ConfigurationError,
    DeclarationError,
    RegistryAccessError,
    RegistryUnavailableError,
)
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations import retrying
from lakehouse_assets.operations.peek import peek_newest
from lakehouse_assets.operations.replay import run_replay
from lakehouse_assets.systems.registry import SchemaRegistry
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import make_systems
from lakehouse_assets_tests.decode.avro.messages import body_of, messages, record
from lakehouse_assets_tests.faults import FAULTY
from lakehouse_assets_tests.operations.lake import Lake, hours_ago
from lakehouse_assets_tests.proxy import FaultyProxy
from lakehouse_assets_tests.registry import Registry, gate
from lakehouse_assets_tests.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("registry")]

OLD = record(("id", "long"), ("text", "string"))
NEW = record(("text", ["null", "string"]), ("extra", "double"), ("id", "int"))

MakeLake = Callable[..., Lake]


@pytest.fixture
def avro_lake(tmp_path: Path, broker: Broker, topic: Callable[..., str], registry: Registry) -> MakeLake:
    """`avro_lake(**declaration)` creates a topic of Avro messages and opens its table."""

    def open_lake(**declaration: object) -> Lake:
        lake = Lake.open(tmp_path, broker, topic(), source={"format": "avro"}, **declaration)
        return replace(lake, systems=make_systems(tmp_path, broker.bootstrap_servers, registry.url, **FAULTY))

    return open_lake


def rows_of(lake: Lake) -> list[tuple[object, ...]]:
    return judge.query(lake.table, "SELECT id, text FROM {table} ORDER BY _kafka_offset")


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_messages_of_several_schemas_in_one_batch_become_rows_in_order(
    avro_lake: MakeLake, registry: Registry, broker: Broker, workers: int
) -> None:
    lake = avro_lake(workers=workers)
    old, new = (registry.register(f"{lake.topic}-{name}", schema) for name, schema in (("old", OLD), ("new", NEW)))
    values = []
    for i in range(100):
        values += messages(OLD, [{"id": 2 * i, "text": "old"}], old)
        values += messages(NEW, [{"id": 2 * i + 1, "text": None, "extra": 0.5}], new)
    broker.produce(lake.topic, values)

    lake.ingest()

    assert rows_of(lake) == [(i, None if i % 2 else "old") for i in range(200)]


def test_bad_messages_are_kept_as_they_came(avro_lake: MakeLake, registry: Registry, broker: Broker) -> None:
    lake = avro_lake()
    known = registry.register(f"{lake.topic}-value", OLD)
    (good,) = messages(OLD, [{"id": 1, "text": "a"}], known)
    (unknown,) = messages(OLD, [{"id": 1, "text": "a"}], 2**31 - 1)
    bad = [b'{"id": 1}', unknown, good[:-1], good + b"!"]
    broker.produce(lake.topic, [good, *bad, None, good])

    lake.ingest()

    lake.assert_holds({0: [0, 6]}, bad={0: [1, 2, 3, 4]})
    assert lake.quarantine is not None
    found = judge.query(lake.quarantine, 'SELECT error_code, "value" FROM {table} ORDER BY "offset"')
    assert found == list(zip(["wrong_magic_byte", "unknown_schema_id", "broken_avro", "broken_avro"], bad, strict=True))


def test_a_registry_that_goes_away_is_waited_for_and_no_message_is_called_bad(
    avro_lake: MakeLake, registry: Registry, broker: Broker
) -> None:
    lake, port = avro_lake(), urlsplit(registry.url).port
    assert port is not None
    first = registry.register(f"{lake.topic}-old", OLD)
    second = registry.register(f"{lake.topic}-new", NEW)
    broker.produce(lake.topic, messages(OLD, [{"id": 0, "text": "a"}], first))
    with FaultyProxy(port) as line:
        client = SchemaRegistry({"url": registry.url.replace(str(port), str(line.port))})
        lake = replace(lake, systems=replace(lake.systems, registry=client))
        lake.ingest()
        line.go_away()
        broker.produce(lake.topic, messages(OLD, [{"id": 1, "text": "b"}], first))
        broker.produce(lake.topic, messages(NEW, [{"id": 2, "text": "c", "extra": 1.0}], second))

        def come_back() -> None:
            wait_until(lambda: bool(lake.retries), 60)
            line.come_back()

        back = threading.Thread(target=come_back)
        back.start()
        lake.ingest()
        back.join()

    assert {type(error) for error in lake.retries} == {RegistryUnavailableError}
    assert rows_of(lake) == [(0, "a"), (1, "b"), (2, "c")]
    lake.assert_holds({0: [0, 1, 2]})


def test_a_registry_that_stays_away_ends_the_run_with_nothing_quarantined(
    avro_lake: MakeLake, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "_FIRST_WAIT_SECONDS", 0.01)
    lake = avro_lake()
    lake = replace(lake, systems=replace(lake.systems, registry=SchemaRegistry({"url": "http://127.0.0.1:1"})))
    broker.produce(lake.topic, messages(OLD, [{"id": 0, "text": "a"}]))

    with pytest.raises(RegistryUnavailableError):
        lake.ingest()

    assert (lake.positions(), lake.quarantined(), lake.lag()) == ([], [], 1)


def test_a_wrong_password_stops_at_once(avro_lake: MakeLake, registry: Registry, broker: Broker) -> None:
    lake = avro_lake()
    broker.produce(lake.topic, messages(OLD, [{"id": 0, "text": "a"}]))
    with gate(registry.url, "ann", "right") as url:
        client = SchemaRegistry({"url": url, "basic.auth.user.info": "ann:hunter2"})
        with pytest.raises(RegistryAccessError, match="authentication") as caught:
            replace(lake, systems=replace(lake.systems, registry=client)).ingest()

    assert "hunter2" not in str(caught.value)
    assert lake.retries == []


def test_without_a_registry_the_setting_is_named(avro_lake: MakeLake, broker: Broker) -> None:
    lake = avro_lake()
    broker.produce(lake.topic, messages(OLD, [{"id": 0, "text": "a"}]))

    with pytest.raises(ConfigurationError, match="SCHEMA_REGISTRY_URL"):
        replace(lake, systems=replace(lake.systems, registry=SchemaRegistry({}))).ingest()


def test_an_unknown_schema_that_is_registered_later_can_be_replayed(
    avro_lake: MakeLake, registry: Registry, broker: Broker
) -> None:
    lake = avro_lake()
    known = registry.register(f"{lake.topic}-old", {**OLD, "doc": lake.topic})  # schemas that nobody else has, so ids follow
    broker.produce(lake.topic, messages(OLD, [{"id": 0, "text": "a"}], known))
    broker.produce(lake.topic, messages(NEW, [{"id": 1, "text": None, "extra": 0.0}], known + 1))
    lake.ingest()
    lake.assert_holds({0: [0]}, bad={0: [1]})
    assert registry.register(f"{lake.topic}-new", {**NEW, "doc": lake.topic}) == known + 1

    again = lake.reopened()
    again.systems = replace(again.systems, registry=SchemaRegistry({"url": registry.url}))
    result = run_replay(again.systems, again.spec, lake.now_ms)

    assert (result.moved, result.still_bad) == (1, 0)
    lake.assert_holds({0: [0, 1]})


def test_a_slice_is_replaced_and_messages_are_shown(avro_lake: MakeLake, registry: Registry, broker: Broker) -> None:
    lake = avro_lake()
    schema_id = registry.register(f"{lake.topic}-value", OLD)
    hour = hours_ago(2)
    broker.produce(lake.topic, messages(OLD, [{"id": i, "text": "a"} for i in range(3)], schema_id), timestamp_ms=hour)
    lake.ingest()

    lake.replace(lake.key(hour))

    lake.assert_holds({0: [0, 1, 2]})
    assert [message.reading.row for message in peek_newest(lake.systems, lake.spec, 1)] == [{"id": 2, "text": "a"}]


def test_a_schema_file_needs_no_registry(tmp_path: Path, broker: Broker, topic: Callable[..., str]) -> None:
    file = tmp_path / "message.avsc"
    file.write_text(json.dumps(OLD))
    lake = Lake.open(tmp_path / "lake", broker, topic(), source={"format": "avro", "schema_file": str(file)})
    broker.produce(lake.topic, [body_of(OLD, {"id": i, "text": "bare"}) for i in range(50)])

    lake.ingest()

    assert rows_of(lake) == [(i, "bare") for i in range(50)]


def test_where_sees_the_columns_that_a_schema_gives(tmp_path: Path, broker: Broker, topic: Callable[..., str]) -> None:
    file = tmp_path / "message.avsc"
    file.write_text(json.dumps(OLD))
    source = {"format": "avro", "schema_file": str(file)}
    parts = {"table": "ods.clicks", "source": {"topic": topic(), **source}}
    lake = Lake.open(tmp_path / "lake", broker, parts["source"]["topic"], source=source)
    broker.produce(lake.topic, [body_of(OLD, {"id": i, "text": "bare"}) for i in range(10)])

    lake.spec = TableSpec(**parts, where="id >= 7")
    lake.ingest()
    assert rows_of(lake) == [(i, "bare") for i in range(7, 10)]

    lake.spec = TableSpec(**parts, where="idd >= 7")
    with pytest.raises(DeclarationError, match="the column 'idd'"):
        lake.reopened().ingest()
