"""How Dagster shows and starts maintenance, with real tables and without Kafka."""

from pathlib import Path

import dagster as dg
import pytest
from pyiceberg.manifest import DataFileContent

from lakehouse_assets.environment import Environment
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.systems import Systems, open_environment
from lakehouse_assets.orchestration.checks import evaluate_check
from lakehouse_assets.systems.commit import publish
from lakehouse_assets_tests.builders import make_delivery, make_spec, make_table
from lakehouse_assets_tests.foreign_deletes import delete_rows


@pytest.fixture
def systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systems:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_TABLES_DIR", str(tmp_path))
    return open_environment(Environment.read())


def _fill(systems: Systems, spec: TableSpec, commits: int) -> None:
    make_table(systems.catalog, spec)
    for at in range(commits):
        publish(systems.catalog, spec.table, make_delivery(systems.catalog.load_table(spec.table), {0: range(at, at + 1)}))


def test_the_check_shows_each_number_beside_its_limits_and_warns_only_where_nobody_pays(systems: Systems) -> None:
    spec = make_spec()
    _fill(systems, spec, commits=7)

    check = evaluate_check("debt", spec, lambda: systems)

    assert (check.passed, check.severity) == (True, dg.AssetCheckSeverity.WARN)
    assert check.description == "7 data files, 7 manifests, 7 snapshots; compact is due"
    numbers = {name: value.value for name, value in check.metadata.items()}
    assert (numbers["small_files"], numbers["small_files_limit"], numbers["small_files_late_limit"]) == (7, 6, 60)
    assert numbers["oldest_debt_seconds"] > 0

    delete_rows(systems.catalog, spec.table, "id", [0], DataFileContent.EQUALITY_DELETES)
    warned = evaluate_check("debt", spec, lambda: systems)
    assert (warned.passed, warned.description) == (False, "1 equality deletes of another engine; compact is due from 1 on")
