"""`lakehouse new` over a topic whose messages name schemas of a real registry."""

from pathlib import Path

import pytest

from lakehouse_assets.cli import main
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.reading import load_table
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.conftest import TopicFactory
from lakehouse_assets_tests.decode.avro.messages import messages, record
from lakehouse_assets_tests.decode.changes.envelopes import KEYS, VALUES, Stream, envelope, row
from lakehouse_assets_tests.registry import Registry

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("registry")]

ID = {"name": "id", "type": "long", "doc": 'The "number": # 1\n- {name: evil, type: long}'}
OLD = record(ID)
CREATED = {"name": "created_at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}], "default": None}
NEW = record(ID, CREATED, {"name": "_rest", "type": ["null", "string"], "default": None})


@pytest.fixture
def folder(
    tmp_path: Path, kafka: LocalKafka, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> Path:
    (tmp_path / "tables").mkdir()
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_TABLES_DIR", str(tmp_path / "tables"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("SCHEMA_REGISTRY_URL", registry.url)
    return tmp_path / "tables"


def test_the_columns_are_those_of_the_newest_version_and_every_message_becomes_a_row(
    folder: Path, registry: Registry, topic: TopicFactory, broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    name = topic()
    broker.produce(name, messages(OLD, [{"id": 1}], registry.register(f"{name}-value", OLD)))
    rows = [{"id": 2, "created_at": 1_790_000_000_000, "_rest": "x"}]
    broker.produce(name, messages(NEW, rows, registry.register(f"{name}-value", NEW)))

    assert main(["new", "ods.clicks", "--topic", name]) == 0

    assert capsys.readouterr().out == (
        f"wrote {folder}/ods_clicks.yaml: 3 columns from the registry's subject {name}-value, version 2\n"
    )
    text = (folder / "ods_clicks.yaml").read_text()
    assert "\n  format: avro\n" in text
    assert "\n  - {name: rest, type: string, from: [_rest]}\n" in text
    assert '\n# partition_by: ["day(created_at)"]\n' in text
    assert main(["validate"]) == 0
    assert main(["ingest", "ods.clicks"]) == 0
    sql = "SELECT id, rest FROM {table} ORDER BY id"
    assert judge.query(load_table("ods.clicks"), sql) == [(1, None), (2, "x")]


def test_a_field_that_no_column_can_hold_is_left_out_with_the_reason(
    folder: Path, registry: Registry, topic: TopicFactory, broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    name, schema = topic(), record(ID, {"name": "either", "type": ["int", "string"]})
    broker.produce(name, messages(schema, [{"id": 1, "either": "x"}], registry.register(f"{name}-value", schema)))

    assert main(["new", "ods.clicks", "--topic", name]) == 0

    assert capsys.readouterr().err == "left out: 1 fields; the file says why\n"
    text = (folder / "ods_clicks.yaml").read_text()
    reason = "the field 'either' is one of int, string, and no type holds them all"
    assert f'\n  # Left out:\n  #   "either": {reason}\n' in text
    assert main(["validate"]) == 0
    assert main(["ingest", "ods.clicks"]) == 0
    assert judge.query(load_table("ods.clicks"), "SELECT id FROM {table}") == [(1,)]


def test_protobuf_messages_are_drafted_from_their_registered_schema_too(
    folder: Path, registry: Registry, topic: TopicFactory, broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    name = topic()
    text = 'syntax = "proto3"; message Money { int64 cents = 1; string currency = 2; }'
    known = registry.register(f"{name}-value", text, kind="PROTOBUF")
    broker.produce(name, [b"\0" + known.to_bytes(4) + b"\0\x08\x07\x12\x03EUR"])

    assert main(["new", "ods.clicks", "--topic", name]) == 0

    assert "\n  format: protobuf\n" in (folder / "ods_clicks.yaml").read_text()
    assert main(["validate"]) == 0
    assert main(["ingest", "ods.clicks"]) == 0
    assert judge.query(load_table("ods.clicks"), "SELECT cents, currency FROM {table}") == [(7, "EUR")]


@pytest.mark.parametrize("knows_keys", [True, False])
def test_debeziums_envelopes_become_an_upsert_table_with_the_key_of_the_messages(
    folder: Path, registry: Registry, topic: TopicFactory, broker: Broker, capsys: pytest.CaptureFixture[str], knows_keys: bool
) -> None:
    name = topic()
    key = record(("shop", "string"), ("id", "int"), name="shop.public.items.Key")
    value = row(("id", "int"), ("shop", "string"), ("amount", ["null", "double"]))
    stream = Stream(value, key)
    ids = {VALUES: registry.register(f"{name}-value", envelope(value))}
    ids[KEYS] = registry.register(f"{name}-key" if knows_keys else f"{name}-others", key)

    def written(message: bytes, number: int) -> bytes:
        return b"\0" + ids[number].to_bytes(4) + message[5:]

    for item, amount in ((1, 1.5), (2, None)):
        after = {"id": item, "shop": "a", "amount": amount}
        found = written(stream.change("c", after, lsn=item), VALUES)
        broker.produce(name, [found], key=written(stream.key({"shop": "a", "id": item}), KEYS))

    assert main(["new", "shop.items", "--topic", name]) == 0

    text = (folder / "shop_items.yaml").read_text()
    assert "\n  format: debezium-avro\n" in text
    assert "\nmode: upsert " in text
    if not knows_keys:
        assert capsys.readouterr().err == "no message says what names a row: fill in 'key'\n"
        assert "\nkey: [] " in text
        return
    assert "\nkey: [shop, id]\n" in text
    assert "\n  - {name: amount, type: double}\n" in text
    assert main(["validate"]) == 0
    assert main(["ingest", "shop.items"]) == 0
    rows = judge.query(load_table("shop.items"), "SELECT id, shop, amount FROM {table} ORDER BY id")
    assert rows == [(1, "a", 1.5), (2, "a", None)]


def test_a_table_without_declared_columns_is_brought_up_to_date_too(
    folder: Path, registry: Registry, topic: TopicFactory, broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    name = topic()
    broker.produce(name, messages(OLD, [{"id": 1}], registry.register(f"{name}-value", OLD)))
    (folder / "bare.yaml").write_text(f"table: ods.bare\nsource: {{topic: {name}, format: avro}}\ncommit_interval: 1s\n")

    assert main(["ingest", "ods.bare"]) == 0
    newer = record(ID, CREATED)
    broker.produce(name, messages(newer, [{"id": 2, "created_at": 1000}], registry.register(f"{name}-value", newer)))
    assert main(["ingest", "ods.bare"]) == 0

    assert capsys.readouterr().out.count("ods.bare caught up: 1 rows in 1 commits\n") == 2
    rows = judge.query(load_table("ods.bare"), "SELECT id, epoch(created_at) FROM {table} ORDER BY id")
    assert rows == [(1, None), (2, 1.0)]


def test_a_subject_that_is_not_there_is_an_error_of_one_line(
    folder: Path, topic: TopicFactory, broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    name = topic()
    broker.produce(name, messages(OLD, [{"id": 1}], 12345))

    assert main(["new", "ods.clicks", "--topic", name]) == 1

    said = capsys.readouterr().err
    assert f"{name}-value" in said
    assert len(said.splitlines()) == 1
    assert list(folder.iterdir()) == []
