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


def test_verbs_that_read_a_topic_say_that_it_has_none(tables: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "dm.delays"]) != 0

    assert "it is computed by SQL and has no topic" in capsys.readouterr().err
