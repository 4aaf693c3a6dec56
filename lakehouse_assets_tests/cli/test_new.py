"""`lakehouse new` against the real broker: what it writes is a declaration by which every message becomes a row."""

import json
from pathlib import Path
from typing import Any

import pytest

from lakehouse_assets.cli import main
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.reading import load_table
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.conftest import TopicFactory
from lakehouse_assets_tests.decode.changes.captures import read_capture

Output = pytest.CaptureFixture[str]

OLD = [{"id": i, "user": {"id": i}, "at": "2026-11-25T10:00:00Z"} for i in range(50)]
NEW = [{"id": i, "user": {"id": i, "name": "Zoë"}, "at": "2026-11-25T10:00:00Z", "price list": [1.5]} for i in range(50)]
HOSTILE = {"x: !!python/object/apply:os.system [id]": "\n- {name: evil, type: long}\n# \x1b[31m\x7f\u2028", "}]": {"a": "\"'"}}


@pytest.fixture
def folder(tmp_path: Path, kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tables").mkdir()
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_TABLES_DIR", str(tmp_path / "tables"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    return tmp_path / "tables"


@pytest.fixture
def clicks(topic: TopicFactory, broker: Broker) -> str:
    """A topic of three topic partitions: old messages, then new ones with more fields, and what is no message."""
    name = topic(3)
    for messages in (OLD, NEW):
        for p in range(3):
            broker.produce(name, [json.dumps(message) for message in messages], partition=p)
    broker.produce(name, [None, "{", json.dumps(NEW[0] | HOSTILE)], partition=2)
    return name


def rows(output: Output) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.readouterr().out.splitlines()]


@pytest.mark.kafka
def test_it_writes_a_valid_file_by_which_every_message_becomes_a_row(clicks: str, folder: Path, capsys: Output) -> None:
    assert main(["new", "ods.clicks", "--topic", clicks]) == 0
    said = capsys.readouterr()
    assert said.out == f"wrote {folder}/ods_clicks.yaml: 6 columns from 301 messages\n"
    assert said.err == "left out: 0 fields; 1 messages that are no JSON objects; the file says why\n"
    text = (folder / "ods_clicks.yaml").read_text()
    assert text.isascii()
    assert "\n  - {name: id, type: long, required: true}  # as \"0\"\n" in text
    assert '\n  - {name: user, type: "struct<id: long, name: string>", required: true}\n' in text
    assert '\n# partition_by: ["day(at)"]\n' in text

    assert main(["validate"]) == 0
    capsys.readouterr()
    assert main(["peek", "ods.clicks", "--count", "999", "--json"]) == 0
    peeked = rows(capsys)
    assert len(peeked) == 303
    assert [one["error"] is None for one in peeked].count(False) == 1  # "{", which no declaration reads


@pytest.mark.kafka
def test_of_a_long_topic_it_looks_at_the_oldest_and_the_newest(clicks: str, folder: Path, capsys: Output) -> None:
    assert main(["new", "ods.clicks", "--topic", clicks, "--count", "12", "--json"]) == 0

    (document,) = rows(capsys)
    assert document["messages"] == 11  # of twelve, one is no JSON
    shares = {column["name"]: column["share"] for column in document["columns"]}
    assert shares["id"] == 1
    assert 0 < shares["price_list"] < 1


@pytest.mark.kafka
def test_a_dry_run_prints_the_file_and_writes_nothing(clicks: str, folder: Path, capsys: Output) -> None:
    assert main(["new", "ods.clicks", "--topic", clicks, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert list(folder.iterdir()) == []

    assert main(["new", "ods.clicks", "--topic", clicks]) == 0
    assert (folder / "ods_clicks.yaml").read_text() == printed


@pytest.mark.kafka
def test_the_changes_of_a_database_become_an_upsert_table_that_fills(
    folder: Path, topic: TopicFactory, broker: Broker, capsys: Output
) -> None:
    name = topic()
    messages = read_capture("schemas_precise_adaptive", "lines")
    for value, key in zip(messages.values, messages.keys, strict=True):
        broker.produce(name, [value], key=key)

    assert main(["new", "shop.lines", "--topic", name, "--json"]) == 0
    (document,) = rows(capsys)
    assert (document["format"], document["mode"], document["key"]) == ("debezium-json", "upsert", ["order_id", "line_no"])
    assert document["buckets"] == 1

    assert main(["validate"]) == 0
    assert main(["ingest", "shop.lines"]) == 0
    keys = judge.query(load_table("shop.lines"), "SELECT order_id, line_no FROM {table} ORDER BY ALL")
    assert keys
    assert len(set(keys)) == len(keys)


@pytest.mark.kafka
def test_nothing_is_overwritten(clicks: str, folder: Path, capsys: Output) -> None:
    mine = folder / "mine.yaml"
    mine.write_text("table: ods.Clicks\nsource: {topic: t}\nschema: [{name: id, type: long}]\n")
    assert main(["new", "ods.clicks", "--topic", clicks]) == 1
    assert capsys.readouterr().err.startswith("Cannot write a declaration of ods.clicks: found a declaration of it in ")

    mine.rename(folder / "ods_clicks.yaml").write_text("half a dec")
    assert main(["new", "ods.clicks", "--topic", clicks]) == 1
    assert "Nothing was changed." in capsys.readouterr().err
    assert (folder / "ods_clicks.yaml").read_text() == "half a dec"


@pytest.mark.kafka
def test_a_topic_without_messages_and_one_that_is_not_there_are_errors_of_one_line(
    folder: Path, topic: TopicFactory, capsys: Output
) -> None:
    empty = topic()
    for name, begin, end in (
        (empty, "Cannot draft a declaration of ods.clicks: ", ""),
        (empty[:-1], "Cannot read ods.clicks: ", f"Did you mean '{empty}'?"),
    ):
        assert main(["new", "ods.clicks", "--topic", name]) == 1
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith(begin)
        assert said.endswith(end)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("table", ["clicks", "ods.cl icks", "../ods.clicks", "ods.click__s"])
def test_a_name_that_no_table_can_have_is_a_wrong_call(folder: Path, capsys: Output, table: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(["new", table, "--topic", "t"])

    assert end.value.code == 2
    assert "namespace.name" in capsys.readouterr().err
