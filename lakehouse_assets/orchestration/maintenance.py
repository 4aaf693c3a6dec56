"""Maintenance as Dagster runs it: a job and a schedule for each operation, and a sensor that starts what debt asks for.

Runs of maintenance wait behind those of ingestion, and take a few slots only. Nothing here keeps two of them apart for safety:
commits do that. Tables report to their assets, by observations: nothing was materialized.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from lakehouse_assets.model.errors import LakehouseError
from lakehouse_assets.model.maintenance import MaintenanceReport
from lakehouse_assets.model.maintenance_spec import MaintenanceOperation, MaintenanceSpec
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.orchestration.checks import evaluate_check
from lakehouse_assets.orchestration.metadata import maintenance_line, maintenance_metadata
from lakehouse_assets.orchestration.names import MAINTENANCE_TAG
from lakehouse_assets.orchestration.resources import LakehouseResource
from lakehouse_assets.orchestration.sensors import find_unfinished
from lakehouse_assets.orchestration.stopping import stop_at_boundary

if TYPE_CHECKING:
    from lakehouse_assets.operations.maintaining import TableDebt
    from lakehouse_assets.operations.systems import Systems

MAINTAIN: Final = "maintain"  # the job that does what debt asks for
SENSOR: Final = "debt"
LOOK_SECONDS: Final = 60

# Minutes that other schedules rarely have; orphans are looked for in the night from Saturday to Sunday.
_CRONS: Final[Mapping[MaintenanceOperation, str]] = {
    "compact": "7 * * * *",
    "expire": "37 * * * *",
    "rewrite_manifests": "17 3 * * *",
    "remove_orphans": "23 2 * * 0",
}
_DESCRIPTIONS: Final[Mapping[str, str]] = {
    "compact": "Writes small files again as fewer, without the rows that were deleted.",
    "expire": "Removes snapshots that retention lets go, and the files that nothing reaches any more.",
    "rewrite_manifests": "Writes manifests again, sorted by partition, so that planning a scan reads few of them.",
    "remove_orphans": "Removes files that no snapshot knows, left behind by runs that crashed.",
    MAINTAIN: f"Does for each table what its debt asks for. The sensor {SENSOR!r} starts it.",
}
_RUN_SECONDS, _ORPHANS_SECONDS = 3600, 12 * 3600  # how long a run begins with further tables
_MARGIN_SECONDS = 1800  # until Dagster takes it for dead
_REMEMBERED_RUNS = 50
_MOST_RUNS, _TABLES_OF_A_RUN = 3, 20  # of the sensor
_PAUSE_SECONDS, _SHORT_PAUSE_SECONDS = 300, 60  # before a table is looked after again
_HOT = 10.0  # times its limit; then only the short pause


class MaintenanceConfig(dg.Config):
    """What to look after. Nothing chosen: every declared table."""

    tables: list[str] = []
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What Dagster is given for the maintenance of all tables."""

    jobs: Sequence[dg.JobDefinition] = ()
    schedules: Sequence[dg.ScheduleDefinition] = ()
    sensors: Sequence[dg.SensorDefinition] = ()


def build_maintenance(specs: Sequence[TableSpec], policies: Mapping[str, MaintenanceSpec]) -> Upkeep:
    """Jobs, schedules and the sensor over all tables of `policies`; nothing, where there is no table.

    `specs` are those that are filled from Kafka, of which the check of their debt is evaluated.
    """
    if not policies:
        return Upkeep()
    checked = {spec.table: spec for spec in specs}
    jobs = {operation: _build_job(operation, checked, policies, (operation,)) for operation in _CRONS}
    schedules = [_build_schedule(job, _CRONS[operation]) for operation, job in jobs.items()]
    maintain = _build_job(MAINTAIN, checked, policies, None)
    return Upkeep([*jobs.values(), maintain], schedules, [_build_sensor(maintain, policies)])


def _build_job(
    name: str,
    checked: Mapping[str, TableSpec],
    policies: Mapping[str, MaintenanceSpec],
    operations: tuple[MaintenanceOperation, ...] | None,
) -> dg.JobDefinition:
    seconds = _ORPHANS_SECONDS if name == "remove_orphans" else _RUN_SECONDS
    longest = max(policy.max_time_per_run.total_seconds() for policy in policies.values())

    @dg.op(name=_op_name(name), description=_DESCRIPTIONS[name])
    def operate(context: dg.OpExecutionContext, config: MaintenanceConfig, lakehouse: LakehouseResource) -> None:
        try:
            _Run(context, checked, policies, config, lakehouse.systems()).do(operations, seconds)
        except LakehouseError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error

    @dg.job(
        name=name,
        description=_DESCRIPTIONS[name],
        tags={
            MAINTENANCE_TAG: name,
            "dagster/priority": "-5",
            "dagster/max_runtime": str(int(seconds + longest + _MARGIN_SECONDS)),
        },
    )
    def job() -> None:
        operate()

    return job


class _Run:
    """One run over some tables: calls the operations, reports to the assets what it hears."""

    def __init__(
        self,
        context: dg.OpExecutionContext,
        checked: Mapping[str, TableSpec],
        policies: Mapping[str, MaintenanceSpec],
        config: MaintenanceConfig,
        systems: "Systems",
    ) -> None:
        self._context, self._config, self._systems = context, config, systems
        self._specs, self._policies = checked, policies
        self._failures: dict[str, list[str]] = defaultdict(list)
        self._idle_count, self._has_reported = 0, False

    def do(self, operations: tuple[MaintenanceOperation, ...] | None, seconds: float) -> None:
        from lakehouse_assets.operations.maintaining import run_maintenance

        deadline = time.monotonic() + seconds
        with stop_at_boundary() as is_interrupted:
            left = run_maintenance(
                self._systems.catalog,
                self._choose(),
                now_ms=_now_ms,
                operations=operations,
                stop=lambda: is_interrupted() or time.monotonic() >= deadline,
                on_report=self._report,
                on_failure=self._report_failure,
                on_progress=self._context.log.info,
                is_dry_run=self._config.dry_run,
                purges_dropped=operations == ("expire",) and not self._config.tables,
            )
        if self._idle_count:
            self._context.log.info(f"{self._idle_count:,} times there was nothing to do")
        elif not self._has_reported and not self._failures:
            self._context.log.info("nothing is due any more")
        if left:
            self._context.log.warning(f"left to the next run: {', '.join(left)}")
        if self._failures:
            said = "\n".join(f"{table}: {'; '.join(errors)}" for table, errors in sorted(self._failures.items()))
            description = f"{len(self._failures)} tables failed, the others were looked after.\n{said}"
            raise dg.Failure(description=description, allow_retries=False)

    def _choose(self) -> Mapping[str, MaintenanceSpec]:
        if not self._config.tables:
            return self._policies
        if unknown := sorted(set(self._config.tables) - self._policies.keys()):
            known = ", ".join(sorted(self._policies))
            raise dg.Failure(description=f"nothing declares {', '.join(unknown)}; there are {known}", allow_retries=False)
        return {table: self._policies[table] for table in self._config.tables}

    def _report(self, report: MaintenanceReport) -> None:
        self._has_reported = True
        # Events that say nothing would hide the others.
        if not report.planned and not report.kept_back:
            self._idle_count += 1
            return
        self._context.log.info(maintenance_line(report))
        if not report.planned:
            return
        self._observe(report.table, maintenance_line(report), maintenance_metadata(report))
        spec = self._specs.get(report.table)
        # A run of ingestion records its checks itself; the UI would take this one for outdated with the next commit.
        if spec is not None and not report.is_dry_run and find_unfinished(self._context.instance, spec) is None:
            check = evaluate_check("debt", spec, lambda: self._systems)
            self._context.instance.report_runless_asset_event(check)

    def _report_failure(self, table: str, error: LakehouseError) -> None:
        self._failures[table].append(str(error))
        self._context.log.error(f"{table}: {error}")
        self._observe(table, str(error), {"error": dg.MetadataValue.text(type(error).__name__)})

    def _observe(self, table: str, description: str, metadata: Mapping[str, dg.MetadataValue[Any]]) -> None:
        self._context.log_event(
            dg.AssetObservation(dg.AssetKey(table.split(".")), description=description, metadata=metadata)
        )


def _build_schedule(job: dg.JobDefinition, cron: str) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"{job.name}_all",
        job=job,
        cron_schedule=cron,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"{job.description} For every table, at {cron} (UTC).",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        for run in _latest_runs(context.instance, job.name):
            if not run.dagster_run.is_finished:
                return dg.SkipReason(f"Run {run.dagster_run.run_id[:8]} of {job.name!r} has not ended.")
        return dg.RunRequest()

    return schedule


def _build_sensor(job: dg.JobDefinition, policies: Mapping[str, MaintenanceSpec]) -> dg.SensorDefinition:
    @dg.sensor(
        name=SENSOR,
        job=job,
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Measures what every table owes (small files, deleted rows, manifests, snapshots) and has it paid.",
    )
    def debt(context: dg.SensorEvaluationContext, lakehouse: LakehouseResource) -> dg.SensorResult:
        return _Look(context, lakehouse.systems(), policies).evaluate()

    return debt


@dataclass(slots=True)
class _Look:
    """One look at all tables."""

    context: dg.SensorEvaluationContext
    systems: "Systems"
    policies: Mapping[str, MaintenanceSpec]

    def evaluate(self) -> dg.SensorResult:
        from lakehouse_assets.operations.maintaining import measure_debts

        failures: dict[str, LakehouseError] = {}
        now_ms = _now_ms()
        found = measure_debts(self.systems.catalog, self.policies, now_ms, failures.__setitem__)
        if failures and not found:
            raise dg.Failure(description=str(next(iter(failures.values()))))
        runs = _Runs(_latest_runs(self.context.instance, *_CRONS, MAINTAIN))
        due = [one for one in found if _due_now(one, now_ms)]
        idle = [one for one in due if set(_due_now(one, now_ms)) - runs.doing(one.table) and not runs.has_just_ended(one)]
        slots = _MOST_RUNS - runs.working
        said = f"{len(due):,} of {len(found):,} tables owe something; {len(due) - len(idle):,} are or were just looked after"
        events, cursor = self._failure_events(failures)
        if not idle or slots <= 0:
            reason = f"{said}; {runs.working} runs are working."
            return dg.SensorResult(skip_reason=reason, asset_events=events, cursor=cursor)
        self.context.log.info("; ".join([said, *(f"{one.table}: {', '.join(one.due)}" for one in idle)]))
        return dg.SensorResult(run_requests=_requests(idle, slots), asset_events=events, cursor=cursor)

    def _failure_events(self, failures: Mapping[str, LakehouseError]) -> tuple[list[dg.AssetObservation], str]:
        """What can't be measured is shown on the asset, once."""
        said = {table: f"{table}: {error}" for table, error in sorted(failures.items())}
        for line in said.values():
            self.context.log.warning(line)
        new = [table for table, line in said.items() if line not in (self.context.cursor or "")]
        events = [dg.AssetObservation(dg.AssetKey(table.split(".")), description=str(failures[table])) for table in new]
        return events, "\n".join(said.values())


class _Runs:
    """What runs of maintenance, the newest first, are doing and did."""

    def __init__(self, records: Sequence[dg.RunRecord]) -> None:
        self._records = records

    @property
    def working(self) -> int:
        """How many of the sensor's runs have not ended."""
        return sum(_is_of_debt(run) and not run.dagster_run.is_finished for run in self._records)

    def doing(self, table: str) -> set[MaintenanceOperation]:
        """What is done for the table, or waits for its turn."""
        doing: set[MaintenanceOperation] = set()
        for run in self._records:
            if not run.dagster_run.is_finished and _concerns(run, table):
                doing |= _CRONS.keys() if _is_of_debt(run) else {run.dagster_run.job_name}  # type: ignore[arg-type]
        return doing

    def has_just_ended(self, owing: "TableDebt") -> bool:
        """Whether the sensor had the table looked after so recently that it should be left to gather some more debt."""
        ends = [run.end_time for run in self._records if _is_of_debt(run) and run.end_time and _concerns(run, owing.table)]
        pause = _SHORT_PAUSE_SECONDS if owing.debt.heat(owing.policy) >= _HOT else _PAUSE_SECONDS
        return bool(ends) and time.time() - max(ends) < pause


def _due_now(owing: "TableDebt", now_ms: int) -> list[MaintenanceOperation]:
    from lakehouse_assets.operations.maintaining import find_reason_to_wait

    return [operation for operation in owing.due if find_reason_to_wait(operation, owing.policy, now_ms) is None]


def _requests(owing: Sequence["TableDebt"], slots: int) -> list[dg.RunRequest]:
    """Runs for the hottest tables, dealt out so that none of them waits behind all others."""
    tables = [one.table for one in owing[: slots * _TABLES_OF_A_RUN]]
    shares = [tables[i::slots] for i in range(min(slots, len(tables)))]
    return [dg.RunRequest(run_config={"ops": {_op_name(MAINTAIN): {"config": {"tables": share}}}}) for share in shares]


def _latest_runs(instance: dg.DagsterInstance, *jobs: str) -> Sequence[dg.RunRecord]:
    return instance.get_run_records(dg.RunsFilter(tags={MAINTENANCE_TAG: list(jobs)}), limit=_REMEMBERED_RUNS)


def _is_of_debt(run: dg.RunRecord) -> bool:
    return run.dagster_run.job_name == MAINTAIN


def _concerns(run: dg.RunRecord, table: str) -> bool:
    config: Any = run.dagster_run.run_config
    tables = config.get("ops", {}).get(_op_name(run.dagster_run.job_name), {}).get("config", {}).get("tables")
    return not tables or table in tables


def _op_name(job: str) -> str:
    return f"run_{job}"  # Dagster wants other names for ops than for jobs


def _now_ms() -> int:
    return int(time.time() * 1000)
