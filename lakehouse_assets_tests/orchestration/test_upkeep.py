"""How Dagster shows and starts maintenance, with real tables and without Kafka."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from pyiceberg.manifest import DataFileContent

from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.environment import Environment
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.systems import Systems, open_environment
from lakehouse_assets.orchestration.checks import evaluate_check
from lakehouse_assets.orchestration.resources import LakehouseResource
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
    numbers = {name: value.value for name, value in check.metadata.items() if name != "limits"}
    assert (numbers["small_files"], numbers["small_files_limit"], numbers["waiting_files_limit"]) == (7, 6, 5_000)
    assert check.metadata["limits"].records[0].data == {  # type: ignore[union-attr]
        "debt": "small files in one partition", "now": "7", "due from": "6", "late from": "60", "slows ingestion from": "500",
    }  # fmt: skip
    assert numbers["oldest_debt_seconds"] > 0

    delete_rows(systems.catalog, spec.table, "id", [0], DataFileContent.EQUALITY_DELETES)
    warned = evaluate_check("debt", spec, lambda: systems)
    assert (warned.passed, warned.description) == (False, "1 equality deletes of another engine; compact is due from 1 on")


DECLARATION = """
table: ods.{name}
source: {{topic: clicks}}
maintenance: {{small_files: 2{policy}}}
schema:
  - {{name: id, type: long, required: true}}
  - {{name: text, type: string}}
"""


class Dagster:
    """One instance over the declared tables."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.defs = build_definitions(Environment.read())

    def look(self) -> dg.SensorResult:
        sensor = next(sensor for sensor in self.defs.sensors or () if sensor.name == "debt")
        with dg.build_sensor_context(instance=self.instance) as context:
            result = sensor(context, lakehouse=LakehouseResource())
        assert isinstance(result, dg.SensorResult)
        return result

    def run(self, job: str, **config: Any) -> dg.ExecuteInProcessResult:
        run_config = {"ops": {f"run_{job}": {"config": config}}}
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance, run_config=run_config, raise_on_error=False
        )

    def add_run(self, job: str, status: dg.DagsterRunStatus, tables: Sequence[str]) -> dg.DagsterRun:
        """A run in a certain state."""
        definition, config = self.defs.resolve_job_def(job), {"ops": {f"run_{job}": {"config": {"tables": tables}}}}
        return self.instance.create_run_for_job(definition, status=status, run_config=config, tags=definition.tags)

    def observed(self, table: str) -> list[dg.AssetObservation]:
        records = self.instance.fetch_observations(dg.AssetKey(["ods", table]), limit=20).records
        return [record.asset_observation for record in reversed(records) if record.asset_observation is not None]


@pytest.fixture
def platform(systems: Systems, tmp_path: Path) -> Iterator[Dagster]:
    for name, policy in (("calm", ""), ("one", ""), ("two", ""), ("nightly", ", leave_out: [compact]")):
        (tmp_path / f"{name}.yaml").write_text(DECLARATION.format(name=name, policy=policy))
        _fill(systems, make_spec(table=f"ods.{name}"), commits=1 if name == "calm" else 2)
    with dg.instance_for_test() as instance:
        yield Dagster(instance)


def _requested(result: dg.SensorResult) -> list[str]:
    configs: list[Any] = [request.run_config for request in result.run_requests or ()]
    return sorted(table for config in configs for table in config["ops"]["run_maintain"]["config"]["tables"])


def _skipped(result: dg.SensorResult) -> str:
    assert isinstance(result.skip_reason, dg.SkipReason)
    return str(result.skip_reason.skip_message)


def test_a_look_starts_runs_for_the_tables_in_debt_which_report_to_their_assets(platform: Dagster, systems: Systems) -> None:
    result = platform.look()

    assert _requested(result) == ["ods.one", "ods.two"]
    assert platform.run("maintain", tables=["ods.one", "ods.two"]).success
    (observation,) = platform.observed("one")
    numbers = {name: value.value for name, value in observation.metadata.items()}
    assert (numbers["compact_files_before"], numbers["compact_files_after"]) == (2, 1)
    assert numbers["compact_size_bytes_before"] > numbers["compact_size_bytes_after"] > 0
    assert numbers["compact_seconds"] > 0
    assert str(observation.description).startswith("compact ods.one: files 2 -> 1, size_bytes ")
    assert [len(platform.observed(table)) for table in ("two", "calm", "nightly")] == [1, 0, 0]
    (record,) = platform.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey(["ods", "one"]), "debt"), limit=5
    )
    assert record.evaluation is not None
    assert record.evaluation.metadata["small_files"].value == 1
    assert "0 of 4 tables owe something" in _skipped(platform.look())


@pytest.mark.parametrize("status", ["NOT_STARTED", "STARTED"])
def test_a_table_that_is_being_looked_after_is_not_asked_for_again(platform: Dagster, status: str) -> None:
    platform.add_run("maintain", dg.DagsterRunStatus(status), ["ods.one"])
    assert _requested(platform.look()) == ["ods.two"]

    platform.add_run("compact", dg.DagsterRunStatus(status), [])
    assert _skipped(platform.look()) == "2 of 4 tables owe something; 2 are or were just looked after; 1 runs are working."


def test_a_table_that_was_just_looked_after_gathers_some_more_debt_first(platform: Dagster) -> None:
    assert platform.run("maintain", tables=["ods.one"], dry_run=True).success

    assert _requested(platform.look()) == ["ods.two"]


def test_a_job_over_all_tables_goes_on_where_one_fails_and_shows_the_failure_on_its_asset(
    platform: Dagster, systems: Systems
) -> None:
    broken = systems.catalog.load_table("ods.one")
    broken.io.delete(broken.metadata.snapshots[-1].manifest_list)

    result = platform.run("compact")

    assert not result.success
    (failure,) = result.get_step_failure_events()
    assert failure.step_failure_data.user_failure_data is not None
    said = str(failure.step_failure_data.user_failure_data.description)
    assert said.startswith("1 tables failed, the others were looked after.\nods.one: Cannot ")
    (observation,) = platform.observed("one")
    assert str(observation.description) in said
    assert observation.metadata["error"].value == "StorageError"
    assert len(platform.observed("two")) == 1


def test_what_can_not_be_measured_is_shown_on_its_asset_and_keeps_no_other_from_being_looked_after(
    platform: Dagster, systems: Systems
) -> None:
    broken = systems.catalog.load_table("ods.one")
    broken.io.delete(broken.metadata.snapshots[-1].manifest_list)

    result = platform.look()

    assert _requested(result) == ["ods.two"]
    (event,) = result.asset_events
    assert (event.asset_key, "Cannot measure the debt of ods.one" in str(event.description)) == (dg.AssetKey(["ods", "one"]), True)


def test_a_dry_run_shows_its_plan_and_changes_nothing(platform: Dagster, systems: Systems) -> None:
    assert platform.run("compact", tables=["ods.one"], dry_run=True).success

    (observation,) = platform.observed("one")
    assert observation.metadata["operation"].value == "dry run of compact"
    assert len(observation.metadata["planned"].records) == 1  # type: ignore[union-attr]
    assert len(systems.catalog.load_table("ods.one").snapshots()) == 2


def test_a_name_that_nothing_declares_fails_the_run_with_those_there_are(platform: Dagster) -> None:
    result = platform.run("expire", tables=["ods.gone"])

    (failure,) = result.get_step_failure_events()
    assert "nothing declares ods.gone; there are ods.calm, " in str(failure.step_failure_data.user_failure_data)


def test_maintenance_waits_behind_ingestion_and_leaves_it_most_slots(platform: Dagster) -> None:
    jobs = [platform.defs.resolve_job_def(name) for name in ("compact", "expire", "rewrite_manifests", "remove_orphans", "maintain")]

    assert {job.tags["dagster/priority"] for job in jobs} == {"-5"}
    assert [job.tags["lakehouse/maintenance"] for job in jobs] == [job.name for job in jobs]
    settings = yaml.safe_load((Path(__file__).parents[2] / "dagster.yaml").read_text())["concurrency"]["runs"]
    (limit,) = [one["limit"] for one in settings["tag_concurrency_limits"] if one["key"] == "lakehouse/maintenance"]
    assert limit <= settings["max_concurrent_runs"] / 3


def test_each_operation_has_a_schedule_that_waits_for_its_last_run(platform: Dagster) -> None:
    schedules = {schedule.name: schedule for schedule in platform.defs.schedules or ()}
    assert {name: one.cron_schedule for name, one in schedules.items()} == {  # type: ignore[union-attr]
        "compact_all": "7 * * * *",
        "expire_all": "37 * * * *",
        "rewrite_manifests_all": "17 3 * * *",
        "remove_orphans_all": "23 2 * * 0",
    }
    schedule = schedules["compact_all"]
    assert isinstance(schedule, dg.ScheduleDefinition)
    with dg.build_schedule_context(instance=platform.instance) as context:
        assert isinstance(schedule(context), dg.RunRequest)

        platform.add_run("compact", dg.DagsterRunStatus.STARTED, [])

        assert isinstance(schedule(context), dg.SkipReason)
