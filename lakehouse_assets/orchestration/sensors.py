"""The sensor of a table: polls Kafka's offsets against the table's ledger, and starts a run when the table is behind.

It reads no message. Its cursor and its runs are hints only: the ledger in the table decides what is read, so a lost or repeated
tick, a pause or a reset of the cursor loses nothing and brings nothing twice.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from lakehouse_assets.model.errors import LakehouseError
from lakehouse_assets.model.offsets import NO_OFFSETS, TopicRanges
from lakehouse_assets.model.slices import SliceClock
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.orchestration.checks import lag_evaluation
from lakehouse_assets.orchestration.following import (
    HAND_OVER_AFTER,
    LEFT_ALONE_AFTER,
    bury_silent,
    digest,
    needs_successor,
)
from lakehouse_assets.orchestration.names import (
    FOLLOW_TAG,
    INGEST_TAG,
    ROWLESS_TAG,
    definition_name,
    next_up,
    ready,
    table_key,
)
from lakehouse_assets.orchestration.resources import LakehouseResource

if TYPE_CHECKING:
    from lakehouse_assets.operations.status import TableStatus

INTERVAL_SECONDS = 5  # the daemon's own loop; less has no effect
_EVALUATE_SECONDS = 60  # the lag check is recorded when it changes its mind, else about so often
_REMEMBERED_RUNS = 20
_RUN_MARGIN_SECONDS = 600  # over the time a run gives itself, before Dagster takes it for dead
_WAITING = {dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.QUEUED}
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 10, 600


def build_offsets_sensor(spec: TableSpec) -> dg.SensorDefinition:
    """The sensor of one table, on by default."""

    @dg.sensor(
        name=definition_name(spec, "offsets"),
        target=dg.AssetSelection.assets(table_key(spec)),
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Polls the offsets of {spec.source.label} and brings {spec.table} up to date.",
    )
    def offsets(context: dg.SensorEvaluationContext, lakehouse: LakehouseResource) -> dg.SensorResult:
        return _Tick(spec, context, lakehouse).evaluate()

    return offsets


@dataclass(slots=True)
class _Tick:
    """One look."""

    spec: TableSpec
    context: dg.SensorEvaluationContext
    lakehouse: LakehouseResource

    def evaluate(self) -> dg.SensorResult:
        from lakehouse_assets.operations.idling import run_idle_move
        from lakehouse_assets.operations.status import read_status

        bury_silent(self.context.instance, self.spec, datetime.now(UTC))
        runs = _latest_runs(self.context.instance, self.spec)
        try:
            status = read_status(self.lakehouse.systems(), self.spec, _rowless(runs))
            if not status.lag:
                # An empty commit is cheaper here than in a process of its own.
                run_idle_move(self.lakehouse.systems(), self.spec, status, int(time.time() * 1000))
        except LakehouseError as error:
            self._record_failure(error)
            raise dg.Failure(description=str(error)) from error
        events, cursor = self._lag_events(status, is_working=_unfinished(runs) is not None)
        reason = self._reason_to_wait(status, runs)
        if reason is not None:
            return dg.SensorResult(skip_reason=reason, asset_events=events, cursor=cursor)
        request = build_ingest_request(self.spec, succeeds=_unfinished(runs) is not None)
        return dg.SensorResult(run_requests=[request], asset_events=events, cursor=cursor)

    def _reason_to_wait(self, status: "TableStatus", runs: Sequence[dg.RunRecord]) -> str | None:
        behind = f"{self.spec.table} is {status.lag:,} messages behind {self.spec.source.label!r}"
        wants_successor = needs_successor(runs, self.spec, datetime.now(UTC))
        is_to_be_made = status.ledger is None and self._follows_clock
        if not status.lag and not wants_successor and not is_to_be_made:
            return f"{self.spec.table} has everything: {behind.removeprefix(self.spec.table + ' is ')}."
        if not wants_successor and (run := _unfinished(runs)) is not None:
            return f"{behind}; run {run.run_id[:8]} is {describe_progress(run)}."
        pause = _seconds_to_wait(runs, time.time())
        if pause > 0:
            failed = runs[0].dagster_run.run_id[:8]
            return f"{behind}; run {failed} failed, its page says why. Next attempt in {pause:.0f} s, or materialize by hand."
        return None

    @property
    def _follows_clock(self) -> bool:
        """Whether the table says something though its topics never had a message: then it must be there."""
        return self.spec.event_time is not None and self.spec.event_time.follow_clock

    def _lag_events(self, status: "TableStatus", is_working: bool) -> tuple[list[dg.AssetCheckEvaluation], str]:
        """The lag check, when it is due. A run that works records it itself; then only a change is worth an event."""
        evaluation = lag_evaluation(self.spec, status)
        seen = json.loads(self.context.cursor) if self.context.cursor else {}
        now = int(time.time())
        changed = seen.get("passed") != evaluation.passed
        due = changed or (not is_working and now - seen.get("recorded_at", 0) >= _EVALUATE_SECONDS)
        recorded_at = now if due else seen["recorded_at"]
        cursor = json.dumps({"lag": status.lag, "passed": evaluation.passed, "recorded_at": recorded_at})
        return [evaluation] if due else [], cursor

    def _record_failure(self, error: LakehouseError) -> None:
        """Show on the asset what keeps it from being read; a failed tick alone is easily overlooked."""
        seen = json.loads(self.context.cursor) if self.context.cursor else {}
        if seen.get("error") == str(error):
            return
        self.context.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=table_key(self.spec),
                check_name="lag",
                passed=False,
                description=str(error),
                metadata={"error": dg.MetadataValue.text(type(error).__name__)},
            )
        )


def build_ingest_request(spec: TableSpec, *, succeeds: bool = False) -> dg.RunRequest:
    """A run that goes on from the ledger. Its partition is the current one; it reports every slice that it touches.

    `succeeds`: it takes the table over from a run that works on it.
    """
    clock = SliceClock(spec.partitions.every, spec.partitions.start)
    follows = spec.follows_at(datetime.now(UTC))
    limit = HAND_OVER_AFTER + LEFT_ALONE_AFTER if follows else spec.run_time_limit
    return dg.RunRequest(
        partition_key=clock.key(int(time.time() * 1000)),
        asset_selection=[table_key(spec)],
        asset_check_keys=[],
        run_config={"ops": {definition_name(spec, "table"): {"config": {"mode": "follow" if follows else "continue"}}}},
        tags={
            INGEST_TAG: next_up(spec) if succeeds else spec.table,
            "dagster/priority": "10",
            "dagster/max_runtime": str(int(limit.total_seconds()) + _RUN_MARGIN_SECONDS),
            **({FOLLOW_TAG: digest(spec)} if follows else {}),
        },
    )


def describe_progress(run: dg.DagsterRun) -> str:
    """What a run that has not ended is doing, in words."""
    return "waiting for its turn" if run.status in _WAITING else "working on it"


def find_unfinished(instance: dg.DagsterInstance, spec: TableSpec) -> dg.DagsterRun | None:
    """An ingestion run of the table that waits or works; None where there is none."""
    return _unfinished(_latest_runs(instance, spec))


def _latest_runs(instance: dg.DagsterInstance, spec: TableSpec) -> Sequence[dg.RunRecord]:
    tags = {INGEST_TAG: [spec.table, ready(spec), next_up(spec)]}
    return instance.get_run_records(dg.RunsFilter(tags=tags), limit=_REMEMBERED_RUNS)


def _unfinished(runs: Sequence[dg.RunRecord]) -> dg.DagsterRun | None:
    # Any of them: one that waits for its turn may be newer than the one that works.
    return next((run.dagster_run for run in reversed(runs) if not run.dagster_run.is_finished), None)


def _rowless(runs: Sequence[dg.RunRecord]) -> TopicRanges:
    """Offsets that the last finished run read and found without a row: control records, tombstones."""
    for run in runs:
        if text := run.dagster_run.tags.get(ROWLESS_TAG):
            return TopicRanges.from_lists(json.loads(text))
    return NO_OFFSETS


def _seconds_to_wait(runs: Sequence[dg.RunRecord], now: float) -> float:
    """After failures in a row the next attempt comes ever later; a success starts the count anew."""
    failures = 0
    for run in runs:
        if run.dagster_run.status != dg.DagsterRunStatus.FAILURE:
            break
        failures += 1
    if not failures:
        return 0.0
    pause: float = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** (failures - 1))
    return (runs[0].end_time or now) + pause - now
