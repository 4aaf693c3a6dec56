"""`lakehouse status` shows tables that are computed; verbs that read a topic say that they have none."""

import json
from pathlib import Path

import pytest

from lakehouse_assets.cli.command import main
from lakehouse_assets.environment import Environment
from lakehouse_assets.operations.systems import open_environment
from lakehouse_assets_tests.operations.flights import ROLL_UP, compute, fly, make_flights

DELAYS = f"table: dm.delays\nevent_time: {{column: hour}}\ninputs: [{{table: ods.flights}}]\nsql: |{ROLL_UP.replace(chr(10), chr(10) + '  ')}"


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "delays.yaml").write_text(DELAYS)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_TABLES_DIR", str(folder))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")


def test_status_says_how_far_a_computed_table_is(tables: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    assert "never" in capsys.readouterr().out
    catalog = open_environment(Environment.read()).catalog
    make_flights(catalog)
    fly(catalog, [(0.1, "AB", 5), (1.2, "AB", 1)], complete_hours=2)
    compute(catalog, 0, 1)

    assert main(["status", "dm.delays"]) == 0
    shown = capsys.readouterr().out
    assert main(["status", "dm.delays", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)

    assert "dm.delays" in shown
    assert "ods.flights" in shown
    assert "2026-11-01T02:00" in shown
    assert (document["rows"], document["inputs"]) == (2, ["ods.flights"])
    assert document["complete_until"].startswith("2026-11-01T02:00")


def test_plan_says_what_would_be_read_and_replaced(tables: None, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = open_environment(Environment.read()).catalog
    make_flights(catalog)
    fly(catalog, [(0.1, "AB", 5)], complete_hours=1)
    snapshot_id = catalog.load_table("ods.flights").metadata.current_snapshot_id

    assert main(["plan", "dm.delays", "--partition", "2026-11-01-00:00"]) == 0
    shown = capsys.readouterr().out
    assert main(["plan", "dm.delays", "--partition", "2026-11-01-01:00", "--json"]) == 0
    (read,) = json.loads(capsys.readouterr().out)["reads"]

    assert shown.splitlines() == [
        "would create dm.delays",
        "would replace 2026-11-01T00:00:00Z to 2026-11-01T01:00:00Z",
        f"would read the slice of ods.flights at snapshot {snapshot_id}, which is complete",
    ]
    assert read == {"table": "ods.flights", "snapshot_id": str(snapshot_id), "slice": True, "complete": False}
    assert not catalog.table_exists("dm.delays")
    assert main(["plan", "dm.delays", "--partition", "2026-11-01"]) == 2


def test_verbs_that_read_a_topic_say_that_it_has_none(tables: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["peek", "dm.delays"]) != 0

    assert "it is computed by SQL and has no topic" in capsys.readouterr().err
