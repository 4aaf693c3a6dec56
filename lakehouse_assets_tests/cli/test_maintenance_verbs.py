"""The verbs of maintenance: any table of the catalog, a plan that changes nothing, reports, and where they end."""

import json
import os
import re
import signal
import subprocess
from argparse import Namespace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lakehouse_assets.cli import main
from lakehouse_assets.cli.maintenance import maintain_tables
from lakehouse_assets.environment import Environment
from lakehouse_assets.model.errors import StorageError
from lakehouse_assets.model.maintenance import MaintenanceReport, PlannedWork
from lakehouse_assets.operations.maintaining import RUNS
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.systems.catalog import open_catalog
from lakehouse_assets.systems.commit import publish
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import append_foreign_rows, make_delivery, make_spec, make_table
from lakehouse_assets_tests.command import COMMAND, place_variables

Output = pytest.CaptureFixture[str]
DECLARATION = """
table: ods.clicks
source: {topic: clicks}
schema: [{name: id, type: long, required: true}, {name: text, type: string}]
"""


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of a home with a declared table of three small files, and one that nobody declared."""
    (tmp_path / "tables").mkdir()
    declare(tmp_path, "maintenance: {small_files: 3}")
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_TABLES_DIR", str(tmp_path / "tables"))
    environment = Environment.read()
    environment.ensure_home()
    catalog = open_catalog(environment.catalog_name, environment.catalog_properties)
    make_table(catalog)
    make_table(catalog, make_spec(table="ods.foreign"))
    for i in range(3):
        publish(catalog, "ods.clicks", make_delivery(catalog.load_table("ods.clicks"), {0: range(i, i + 1)}))
    for _ in range(2):
        append_foreign_rows(catalog.load_table("ods.foreign"))
    return catalog


def declare(folder: Path, maintenance: str) -> None:
    (folder / "tables" / "clicks.yaml").write_text(DECLARATION + maintenance)


def documents(output: Output) -> list[Any]:
    return [json.loads(line) for line in output.readouterr().out.splitlines()]


def test_compact_shows_its_plan_and_changes_nothing_then_does_it(catalog: Any, capsys: Output) -> None:
    before = catalog.load_table("ods.clicks")

    assert main(["compact", "ods.clicks", "ods.foreign", "--dry-run"]) == 0
    titles, *lines = capsys.readouterr().out.splitlines()[1:]
    assert re.search(r"\bpartition +files +size\b", titles)
    assert re.search(r"\ball +3 +", lines[1])
    assert lines[-1] == "compact ods.foreign: nothing to do"
    assert catalog.load_table("ods.clicks").metadata_location == before.metadata_location

    assert main(["compact", "ods.clicks", "ods.foreign", "--json"]) == 0
    done, nothing = documents(capsys)
    assert (done["table"], done["figures"]["files_before"], done["figures"]["files_after"]) == ("ods.clicks", 3, 1)
    assert (done["dry_run"], len(done["snapshot_ids"]), done["kept_back"]) == (False, 1, [])
    assert (nothing["table"], nothing["planned"], nothing["snapshot_ids"]) == ("ods.foreign", [], [])
    assert judge.query(catalog.load_table("ods.clicks"), "SELECT id FROM {table} ORDER BY id") == [(0,), (1,), (2,)]


def test_expire_names_what_would_go_then_removes_it(catalog: Any, capsys: Output) -> None:
    ages = {"history.expire.max-snapshot-age-ms": "1", "history.expire.min-snapshots-to-keep": "1"}
    with catalog.load_table("ods.clicks").transaction() as transaction:
        transaction.set_properties(ages)
    oldest = catalog.load_table("ods.clicks").snapshots()[0].snapshot_id

    assert main(["expire", "ods.clicks", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert re.search(rf"^snapshot +{oldest} ", said, re.MULTILINE)
    assert "in all: snapshots 2" in said
    assert main(["expire", "ods.clicks"]) == 0
    assert capsys.readouterr().out.startswith("expire ods.clicks: snapshots 3 -> 1, snapshots deleted 2")
    assert len(catalog.load_table("ods.clicks").snapshots()) == 1


@pytest.mark.parametrize("verb", ["compact", "expire", "manifests", "orphans", "maintain"])
def test_a_table_that_is_not_there_is_a_wrong_call(catalog: Any, capsys: Output, verb: str) -> None:
    assert main([verb, "ods.click"]) == 2
    assert "Cannot find the table 'ods.click': the catalog 'lakehouse' has none" in (said := capsys.readouterr().err)
    assert "Did you mean 'ods.clicks'?" in said

    assert main([verb, "ods.clicks__quarantine", "--json"]) == 2
    assert "It is declared: its first run creates it." in capsys.readouterr().err
    assert main([verb, "clicks"]) == 2


def test_orphans_names_each_file_and_wants_a_yes_for_too_many(catalog: Any, capsys: Output) -> None:
    folder = Path(catalog.load_table("ods.clicks").location().removeprefix("file://"), "data")
    for number in range(8):
        left = folder / f"left-{number}.parquet"
        left.write_bytes(b"rows")
        os.utime(left, (0, 0))

    assert main(["orphans", "ods.clicks", "--dry-run", "--json"]) == 0
    (plan,) = documents(capsys)
    assert {Path(row["location"]).name for row in plan["planned"]} == {f"left-{number}.parquet" for number in range(8)}
    assert plan["planned_figures"]["share"] > 0.2
    assert main(["orphans", "ods.clicks"]) == 1
    assert "are known to no snapshot, expected at most 20%" in capsys.readouterr().err
    assert main(["orphans", "ods.clicks", "--yes"]) == 0
    assert "files deleted 8, size deleted 32 B" in capsys.readouterr().out
    assert list(folder.glob("left-*")) == []


def test_maintain_does_what_debt_asks_for_and_says_what_it_leaves(catalog: Any, tmp_path: Path, capsys: Output) -> None:
    now = datetime.now(UTC)
    closed = f"{now + timedelta(hours=2):%H:00}-{now + timedelta(hours=3):%H:00}"
    declare(tmp_path, f"maintenance: {{small_files: 3, window: '{closed}'}}")

    assert main(["maintain"]) == 0
    assert f"kept back: compact: its window is {closed} UTC" in capsys.readouterr().out
    assert main(["maintain", "--dry-run", "--yes"]) == 0
    assert "compact ods.clicks: would do" in capsys.readouterr().out
    assert len(catalog.load_table("ods.clicks").snapshots()) == 3
    assert main(["maintain", "--yes", "--json"]) == 0
    assert [(one["table"], one["operation"]) for one in documents(capsys)] == [("ods.clicks", "compact")]

    (tmp_path / "tables" / "wrong.yaml").write_text("table: ods.wrong\n")
    assert main(["maintain"]) == 1
    said = capsys.readouterr()
    assert (said.out, "tables/wrong.yaml:1:" in said.err) == ("", True)
    assert main(["maintain", "ods.foreign"]) == 0
    assert capsys.readouterr().err == "1 table owes nothing that is due\n"
    assert main(["maintain", "ods.foreign", "--all", "--json"]) == 0
    assert [one["operation"] for one in documents(capsys)] == list(RUNS)


def make_arguments(**parts: Any) -> Namespace:
    return Namespace(**{"table": ["ods.clicks", "ods.foreign"], "dry_run": False, "yes": False, "json": True} | parts)


def test_an_error_of_one_table_does_not_hold_up_the_others(catalog: Any, capsys: Output) -> None:
    seen: list[tuple[int, bool]] = []

    def operate(task: MaintenanceTask) -> MaintenanceReport:
        seen.append((task.policy.small_files, task.is_confirmed))
        if task.table == "ods.clicks":
            raise StorageError("read", "file", "no such thing")
        return MaintenanceReport(task.table, "expire", False, PlannedWork((), ()))

    assert maintain_tables(make_arguments(yes=True), Environment.read(), operate) == 1

    failed, done = documents(capsys)
    assert (failed["table"], failed["error"], done["table"]) == ("ods.clicks", "StorageError", "ods.foreign")
    assert seen == [(3, True), (6, True)]


def test_an_interrupt_ends_at_the_boundary_with_the_report_of_what_was_done(catalog: Any, capsys: Output) -> None:
    def operate(task: MaintenanceTask) -> MaintenanceReport:
        signal.raise_signal(signal.SIGINT)
        assert task.stop()
        return MaintenanceReport(task.table, "compact", False, PlannedWork((), ()))

    with pytest.raises(KeyboardInterrupt):  # which ends the command with 130
        maintain_tables(make_arguments(), Environment.read(), operate)

    assert [document["table"] for document in documents(capsys)] == ["ods.clicks"]


def test_after_a_kill_the_same_verb_runs_again_at_once(catalog: Any, tmp_path: Path) -> None:
    for i in range(3, 12):
        publish(catalog, "ods.clicks", make_delivery(catalog.load_table("ods.clicks"), {0: range(1000 * i, 1000 * i + 1000)}))
    table = catalog.load_table("ods.clicks")
    folder = Path(table.location().removeprefix("file://"), "data")
    rows, files = judge.query(table, "SELECT count(*), sum(id) FROM {table}"), count_files(folder)

    with subprocess.Popen([*COMMAND, "compact", "ods.clicks"], env=place_variables(tmp_path)) as command:
        while count_files(folder) == files:  # without a pause: the run is short
            assert command.poll() is None
        command.kill()
    assert command.returncode == -signal.SIGKILL
    assert len(catalog.load_table("ods.clicks").snapshots()) == 12

    assert main(["compact", "ods.clicks"]) == 0
    table = catalog.load_table("ods.clicks")
    assert table.current_snapshot().summary["total-data-files"] == "1"
    assert judge.query(table, "SELECT count(*), sum(id) FROM {table}") == rows


def count_files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))
