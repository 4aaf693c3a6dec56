"""How runs that follow a table succeed each other: one works, at most one waits to take over, and a dead one is buried.

They speak through their tags alone. Nothing here decides whether rows are exact: two that work at once waste work, no more.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES, NOT_FINISHED_STATUSES

from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.orchestration.names import FOLLOW_TAG, INGEST_TAG, ROWLESS_TAG, SIGN_TAG, next_up, ready

HAND_OVER_AFTER = timedelta(hours=1)  # a run's log stays readable, a changed library or memory that grew goes with its process
LEFT_ALONE_AFTER = timedelta(minutes=5)  # behind that a run ends without a successor: the sensor is off, or starts none
_SLOT_SECONDS = 300.0  # a run that follows keeps its slot so long, whoever waits
_LOOK_SECONDS, _SLOT_LOOK_SECONDS, _SIGN_SECONDS = 1.0, 10.0, 30.0
_SILENT_SECONDS = 300.0  # longer than any commit takes in which a run gives no sign
_LAST_COMMIT_SECONDS = 30.0
_POLL_SECONDS = 0.1


def digest(spec: TableSpec) -> str:
    """What is another one for another declaration."""
    return hashlib.sha256(spec.model_dump_json(by_alias=True).encode()).hexdigest()[:12]


class Relay:
    """One ingestion run of a table among the others, from its own side."""

    def __init__(
        self, instance: dg.DagsterInstance, run: dg.DagsterRun, spec: TableSpec, stop: Callable[[], bool], *, follows: bool
    ) -> None:
        self._instance, self._run, self._spec, self._stop, self._follows = instance, run, spec, stop, follows
        self._began = time.monotonic()
        self._next_look = self._next_sign = float("-inf")
        self._next_slot_look = self._began + _SLOT_SECONDS
        self._reason: str | None = None

    @property
    def succeeds(self) -> bool:
        """Whether the run was started to take the table over from another one."""
        return self._run.tags.get(INGEST_TAG) in (next_up(self._spec), ready(self._spec))

    def begin(self) -> None:
        """Return when the table is this run's: at once, or when the run before it has made its last commit."""
        if self.succeeds:
            self._tag({INGEST_TAG: ready(self._spec)})
            deadline = time.monotonic() + _LAST_COMMIT_SECONDS
            while self._has_predecessor() and not self._stop() and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        follow = {FOLLOW_TAG: self._run.tags.get(FOLLOW_TAG, digest(self._spec))} if self._follows else {}
        self._tag({INGEST_TAG: self._spec.table, **follow})

    def find_reason_to_end(self) -> str | None:
        """Why the run has to end now, in words; None while it may go on. A reason stays."""
        if self._reason is None and self._stop():
            self._reason = "stopped"
        elif self._reason is None and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK_SECONDS
            self._reason = self._look()
        return self._reason

    def _look(self) -> str | None:
        now = time.monotonic()
        runs = _list_runs(self._instance, [self._spec.table, ready(self._spec)], NOT_FINISHED_STATUSES)
        if self._run.run_id not in {run.run_id for run in runs}:
            return "Dagster takes this run for ended"
        if successor := next((run for run in runs if run.tags[INGEST_TAG] == ready(self._spec)), None):
            return f"run {successor.run_id[:8]} takes over"
        if now - self._began >= (HAND_OVER_AFTER + LEFT_ALONE_AFTER).total_seconds():
            return "no run has come to take over"
        if self._spec.follow and not self._spec.follows_at(datetime.now(UTC)):
            return f"{self._spec.table} is followed {self._spec.follow} UTC"
        if now >= self._next_sign:
            self._next_sign = now + _SIGN_SECONDS
            self._tag({SIGN_TAG: str(int(time.time()))})
        if now >= self._next_slot_look:
            self._next_slot_look = now + _SLOT_LOOK_SECONDS
            if self._run.run_id in list_giving_way(self._instance):
                return "other runs wait for its slot"
        return None

    def _has_predecessor(self) -> bool:
        runs = _list_runs(self._instance, [self._spec.table], IN_PROGRESS_RUN_STATUSES)
        return any(ROWLESS_TAG not in run.tags for run in runs)

    def _tag(self, tags: Mapping[str, str]) -> None:
        self._instance.add_run_tags(self._run.run_id, tags)


def list_giving_way(instance: dg.DagsterInstance) -> list[str]:
    """The runs that follow and have to end because others wait and every slot is taken: the oldest ones, as many as wait."""
    queue = instance.get_concurrency_config().run_queue_config
    working = instance.get_run_records(dg.RunsFilter(statuses=IN_PROGRESS_RUN_STATUSES))
    if queue is None or queue.max_concurrent_runs < 0 or len(working) < queue.max_concurrent_runs:
        return []
    waiting = instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]))
    following = [record for record in working if FOLLOW_TAG in record.dagster_run.tags and record.start_time is not None]
    following.sort(key=lambda record: record.start_time or 0.0)
    return [record.dagster_run.run_id for record in following[:waiting]]


def needs_successor(runs: Sequence[dg.RunRecord], spec: TableSpec, now: datetime) -> bool:
    """Whether a run follows the table that has done so for long, or by another declaration, and none is there to take over."""
    unfinished = [run for run in runs if not run.dagster_run.is_finished]
    if len(unfinished) != 1 or unfinished[0].start_time is None:
        return False
    tags, age_seconds = unfinished[0].dagster_run.tags, now.timestamp() - unfinished[0].start_time
    if tags.get(INGEST_TAG) != spec.table or FOLLOW_TAG not in tags:
        return False
    return age_seconds >= HAND_OVER_AFTER.total_seconds() or tags[FOLLOW_TAG] != digest(spec)


def bury_silent(instance: dg.DagsterInstance, spec: TableSpec, now: datetime) -> None:
    """Mark a run that follows as failed where it gave no sign for minutes: its machine is gone, and nobody else says so."""
    started = dg.RunsFilter(tags={INGEST_TAG: spec.table}, statuses=[dg.DagsterRunStatus.STARTED])
    for record in instance.get_run_records(started):
        sign = record.dagster_run.tags.get(SIGN_TAG)
        if sign is None or record.start_time is None:
            continue
        # What was tried again has the tags of the run before.
        silent_seconds = now.timestamp() - max(float(sign), record.start_time)
        if silent_seconds > _SILENT_SECONDS:
            instance.report_run_failed(
                record.dagster_run,
                f"The run has given no sign for {silent_seconds:.0f} s, so its process is gone. What it had committed is kept, "
                "what it had not is read again; its table is free for the next run.",
            )


def _list_runs(
    instance: dg.DagsterInstance, values: Sequence[str], statuses: Sequence[dg.DagsterRunStatus]
) -> Sequence[dg.DagsterRun]:
    return instance.get_runs(dg.RunsFilter(tags={INGEST_TAG: values}, statuses=statuses))
