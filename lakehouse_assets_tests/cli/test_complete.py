"""`lakehouse complete`, as a scheduler calls it: its exit codes, and what a person reads."""

import json
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

from lakehouse_assets.cli import main
from lakehouse_assets.environment import Environment
from lakehouse_assets.model.completeness import HOUR_MS, read_time_slice
from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.offsets import TopicPartition
from lakehouse_assets.model.watermark import Arrivals, EventTimes, WatermarkMove
from lakehouse_assets.systems.catalog import ensure_table, open_catalog
from lakehouse_assets.systems.commit import publish
from lakehouse_assets.systems.schema import TableShape
from lakehouse_assets_tests.builders import TOPIC_ID, make_delivery, make_spec

DECLARATION = """
table: ods.clicks
source: {topic: clicks}
event_time: {column: at, max_disorder: 1m}
schema:
  - {name: id, type: long, required: true}
  - {name: at, type: timestamptz}
"""
COLUMNS = [{"name": "id", "type": "long", "required": True}, {"name": "at", "type": "timestamptz"}]
FIRST, SECOND = TopicPartition("clicks", 0), TopicPartition("clicks", 1)
HOUR = read_time_slice("2026-11-01T14")
MINUTE = 60_000

Output = pytest.CaptureFixture[str]


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """That of the command, with a declared table of two topic partitions that is empty."""
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "clicks.yaml").write_text(DECLARATION)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_TABLES_DIR", str(tmp_path / "tables"))
    environment = Environment.read()
    environment.ensure_home()
    opened = open_catalog(environment.catalog_name, environment.catalog_properties)
    shape = TableShape.declared(make_spec(schema=COLUMNS, event_time={"column": "at", "max_disorder": "1m"}))
    ensure_table(opened, shape, lambda: Ledger({"clicks": TOPIC_ID}, {FIRST: 0, SECOND: 0}))
    return opened


def put(catalog: Catalog, partition: int, offset: int, ms: int, late: int = 0) -> None:
    """A row that happened at a time, and others that are late for the hour."""
    move = WatermarkMove({TopicPartition("clicks", partition): ms}, frozenset([FIRST, SECOND]), frozenset(), MINUTE)
    arrivals = Arrivals(EventTimes(hours={HOUR.start_ms: late} if late else {}), HOUR_MS, 24 * HOUR_MS)
    offsets = {partition: range(offset, offset + 1)}
    table = catalog.load_table("ods.clicks")
    publish(catalog, "ods.clicks", make_delivery(table, offsets, files=[], watermark=move, arrivals=arrivals))


def test_it_ends_with_1_until_every_topic_partition_has_passed_the_hour_and_with_0_then(catalog: Catalog, capsys: Output) -> None:
    assert main(["complete", "ods.clicks", "2026-11-01T14"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "ods.clicks 2026-11-01T14: not yet; no watermark so far",
        "  held back by clicks-0: no row says a time yet",
        "  held back by clicks-1: no row says a time yet",
    ]

    put(catalog, 0, 0, HOUR.stop_ms + 5 * MINUTE)
    assert main(["complete", "ods.clicks", "2026-11-01T14"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "ods.clicks 2026-11-01T14: not yet; no watermark so far", "  held back by clicks-1: no row says a time yet"
    ]  # fmt: skip

    put(catalog, 1, 0, HOUR.stop_ms - 10 * MINUTE)
    assert main(["complete", "ods.clicks", "2026-11-01T14"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "ods.clicks 2026-11-01T14: not yet; watermark 2026-11-01T14:49:00.000+00:00, 11 min before its end",
        "  held back by clicks-1: at 2026-11-01T14:49:00.000+00:00",
    ]

    put(catalog, 1, 1, HOUR.stop_ms + MINUTE)
    put(catalog, 1, 2, HOUR.stop_ms + MINUTE, late=3)
    assert main(["complete", "ods.clicks", "2026-11-01T14"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ods.clicks 2026-11-01T14: complete; watermark 2026-11-01T15:00:00.000+00:00; 3 rows came late"
    ]
    assert main(["complete", "ods.clicks", "2026-11-01"]) == 1


def test_a_document_says_the_same_to_scripts(catalog: Catalog, capsys: Output) -> None:
    put(catalog, 0, 0, HOUR.stop_ms)

    assert main(["complete", "ods.clicks", "2026-11-01", "--json"]) == 1

    assert json.loads(capsys.readouterr().out) == {
        "table": "ods.clicks", "slice": "2026-11-01", "start": "2026-11-01T00:00:00.000+00:00",
        "stop": "2026-11-02T00:00:00.000+00:00", "complete": False, "watermark": None,
        "held_back_by": [
            {"topic": "clicks", "partition": 1, "at": None},
            {"topic": "clicks", "partition": 0, "at": "2026-11-01T14:59:00.000+00:00"},
        ],
        "late_rows": 0,
    }  # fmt: skip


def test_a_table_that_nothing_declares_and_that_has_no_ledger_is_asked_like_any_other(catalog: Catalog) -> None:
    properties = {"lakehouse.event-time-column": "at", "lakehouse.event-time-watermark": str(HOUR.stop_ms)}
    catalog.create_namespace("dm")
    catalog.create_table("dm.delays", pa.schema([pa.field("at", pa.timestamp("us", "UTC"))]), properties=properties)

    assert main(["complete", "dm.delays", "2026-11-01T14"]) == 0
    assert main(["complete", "dm.delays", "2026-11-01-14:00"]) == 0
    assert main(["complete", "dm.delays", "2026-11-01T15:00"]) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ods.clikcs", "2026-11-01T14"], "ods.clikcs"),
        (["ods.plain", "2026-11-01T14"], "event_time: {column: ...}"),
    ],
)
def test_a_mistake_ends_with_2_and_its_sentence(catalog: Catalog, capsys: Output, arguments: list[str], sentence: str) -> None:
    catalog.create_table("ods.plain", pa.schema([pa.field("id", pa.int64())]))

    assert main(["complete", *arguments]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["2026-11-01T14:30"], ["yesterday"], ["2026-13-01"], ["2026-11-01T14", "--timeout", "soon"]])
def test_a_slice_or_a_time_that_is_none_ends_with_2_and_says_what_one_is(capsys: Output, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["complete", "ods.clicks", *arguments])

    assert ended.value.code == 2
    assert "allowed: a" in capsys.readouterr().err


def test_waiting_ends_with_0_when_the_hour_becomes_complete_and_says_on_the_way_what_changes(
    catalog: Catalog, capsys: Output
) -> None:
    put(catalog, 0, 0, HOUR.stop_ms + MINUTE)
    codes: list[int] = []
    waiting = threading.Thread(target=lambda: codes.append(main(["complete", "ods.clicks", "2026-11-01T14", "--wait"])))
    waiting.start()

    put(catalog, 1, 0, HOUR.stop_ms + MINUTE)
    waiting.join(30)

    assert codes == [0]
    assert "2026-11-01T14: complete" in capsys.readouterr().out


def test_waiting_ends_with_1_when_its_time_is_over(catalog: Catalog, capsys: Output) -> None:
    put(catalog, 0, 0, HOUR.stop_ms)

    assert main(["complete", "ods.clicks", "2026-11-01T14", "--wait", "--timeout", "1s"]) == 1

    said = capsys.readouterr()
    assert said.err.count("not yet") == 1
    assert "not yet" in said.out


def test_what_nobody_expected_ends_with_2_too_so_that_nobody_waits_for_it(
    catalog: Catalog, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse_assets.operations.completeness.read_completeness", lambda *_: 1 / 0)

    assert main(["complete", "ods.clicks", "2026-11-01T14"]) == 2
    assert "ZeroDivisionError" in capsys.readouterr().err
