"""`lakehouse plan --partition` and `status` of tables in both modes, against the real broker: they say it, and change nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from lakehouse_assets.cli import main
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.reading import load_table
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.conftest import TopicFactory

pytestmark = pytest.mark.kafka

Output = pytest.CaptureFixture[str]

HOUR_MS = 3_600_000
TEN = 1_795_168_800_000  # 2026-11-20 10:00 UTC
DECLARATION = """
table: shop.orders
source: {{topic: {topic}}}
schema:
  - {{name: id, type: long, required: true}}
  - {{name: state, type: string}}
"""


@pytest.fixture
def orders(topic: TopicFactory, broker: Broker, kafka: LocalKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A topic with three messages of 10 o'clock and two of 11."""
    name = topic()
    put(broker, name, TEN, _1="new", _2="new", _3="new")
    put(broker, name, TEN + HOUR_MS, _1="paid", _2=None)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "orders.yaml").write_text(DECLARATION.format(topic=name))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_TABLES_DIR", str(tmp_path / "tables"))
    return name


def put(broker: Broker, topic: str, time_ms: int, **states: str | None) -> None:
    for name, state in states.items():
        key = name.removeprefix("_")
        value = None if state is None else json.dumps({"id": int(key), "state": state})
        broker.produce(topic, [value], key=key, timestamp_ms=time_ms)


def upsert(folder: Path, topic: str) -> None:
    (folder / "tables" / "orders.yaml").write_text(DECLARATION.format(topic=topic) + "mode: upsert\nkey: [id]\n")


def call(capsys: Output, *arguments: str) -> list[str]:
    assert main(arguments) == 0
    return capsys.readouterr().out.splitlines()


def document(capsys: Output, *arguments: str) -> dict[str, Any]:
    (line,) = call(capsys, *arguments, "--json")
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_replay_is_told_from_where_to_where_and_what_it_does_to_others_rows(
    orders: str, broker: Broker, tmp_path: Path, capsys: Output
) -> None:
    upsert(tmp_path, orders)
    assert call(capsys, "plan", "shop.orders")[0] == "would create shop.orders, one row per id"
    assert call(capsys, "plan", "shop.orders", "--partition", "2026-11-20-10:00") == [
        "there is no shop.orders yet; a run would create it"
    ]
    call(capsys, "ingest", "shop.orders")
    put(broker, orders, TEN + HOUR_MS, _4="new")
    put(broker, orders, TEN + 2 * HOUR_MS, _5="new")
    before = load_table("shop.orders").metadata_location

    of_ten = call(capsys, "plan", "shop.orders", "--partition", "2026-11-20-10:00")
    of_eleven = call(capsys, "plan", "shop.orders", "--partition", "2026-11-20-11:00")
    later = document(capsys, "plan", "shop.orders", "--partition", "2026-11-20-13:00")

    where = "to where the table stands"
    assert of_ten[:-1] == [f"would read again {orders}-0 offsets 0 to 4, at most 5 messages, from the start of 2026-11-20-10:00 {where}"]
    assert of_eleven == [
        f"would read again {orders}-0 offsets 3 to 4, at most 2 messages, from the start of 2026-11-20-11:00 {where}",
        f"would read {orders}-0 offsets 5 to 5, at most 1 messages, to the end of 2026-11-20-11:00",
        "rows whose keys have a change there become what the log says, also those that somebody else changed or deleted; all "
        "others stay as they are",
    ]
    assert (later["mode"], later["reads_again"]) == ("upsert", [])
    assert later["reads"] == [{"topic": orders, "partition": 0, "first_offset": 5, "last_offset": 6}]
    assert load_table("shop.orders").metadata_location == before


def test_an_hour_of_an_append_table_is_told_with_the_rows_that_would_be_replaced(orders: str, capsys: Output) -> None:
    call(capsys, "ingest", "shop.orders")

    assert call(capsys, "plan", "shop.orders", "--partition", "2026-11-20-10:00") == [
        f"would replace the rows of {orders}-0 offsets 0 to 2, at most 3 messages"
    ]
    assert call(capsys, "plan", "shop.orders", "--partition", "2026-11-20-15:00") == ["Kafka has no message of 2026-11-20-15:00"]


def test_a_key_of_another_form_is_a_wrong_call(orders: str, capsys: Output) -> None:
    assert main(["plan", "shop.orders", "--partition", "2026-11-20"]) == 2

    assert capsys.readouterr().err.startswith("--partition: found '2026-11-20'; allowed: an hour as ")


def test_the_status_of_an_upsert_table_counts_rows_that_are_alive(
    orders: str, broker: Broker, tmp_path: Path, capsys: Output
) -> None:
    upsert(tmp_path, orders)
    call(capsys, "ingest", "shop.orders")
    put(broker, orders, TEN + HOUR_MS, **{f"_{key}": "new" for key in range(10, 60)})
    call(capsys, "ingest", "shop.orders")
    put(broker, orders, TEN + HOUR_MS, _10=None)
    call(capsys, "ingest", "shop.orders")

    details = call(capsys, "status", "shop.orders")
    found = document(capsys, "status", "shop.orders")

    assert details[2] == "  rows     51, one per id; merge-on-read; 1 dead rows, by 1 delete files"
    assert (found["mode"], found["key"], found["rows"], found["dead_rows"], found["delete_files"]) == ("upsert", ["id"], 51, 1, 1)
    assert [commit["added_rows"] for commit in found["commits"]] == [-1, 50, 2]
    assert [commit["total_rows"] for commit in found["commits"]] == [51, 52, 2]
