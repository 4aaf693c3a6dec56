"""Brings a table to where its topic ended when the call began, and no further: what a person or a script waits for."""

from collections.abc import Callable
from dataclasses import dataclass

from lakehouse_assets.model.errors import LakehouseError
from lakehouse_assets.model.offsets import NO_OFFSETS, TopicRanges
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.decoding import resolve_columns
from lakehouse_assets.operations.idling import run_idle_move
from lakehouse_assets.operations.ingest import CommitReport, open_table, run_ingest
from lakehouse_assets.operations.retrying import retry_transient
from lakehouse_assets.operations.status import read_status
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.operations.waiting import read_waiting


@dataclass(frozen=True, slots=True)
class DrainResult:
    """What was done. `slowdown`: the most times that the declared interval lay between commits, because of the table's debt."""

    commits: int
    row_count: int
    bad_count: int
    skipped_count: int
    filtered_count: int
    was_stopped: bool
    slowdown: int = 1


@dataclass(slots=True)
class _Tally:
    """`left` may keep what other runs bring, and what holds no row."""

    left: TopicRanges
    commits: int = 0
    row_count: int = 0
    bad_count: int = 0
    skipped_count: int = 0
    filtered_count: int = 0
    slowdown: int = 1

    def add(self, report: CommitReport) -> None:
        self.left -= report.ranges
        self.commits += 1
        self.row_count += report.row_count
        self.bad_count += sum(report.bad_codes.values())
        self.skipped_count += report.skipped_count
        self.filtered_count += report.filtered_count
        self.slowdown = max(self.slowdown, report.pace.slowdown)


def run_drain(
    systems: Systems,
    spec: TableSpec,
    *,
    stop: Callable[[], bool],
    on_progress: Callable[[int, CommitReport | None], None],
    on_retry: Callable[[LakehouseError, float], None],
    now_ms: Callable[[], int],
) -> DrainResult:
    """Ingest, whatever the table's time limit, until it has all that its topic holds now, or `stop()`.

    `on_progress` hears how many offsets are still missing, once before the first commit and then with each.

    Raises:
        LakehouseError: as `run_ingest`.
    """
    tally = _Tally(retry_transient(lambda: _read_missing(systems, spec, now_ms), stop, on_retry))
    on_progress(tally.left.span, None)

    def hear(report: CommitReport) -> None:
        tally.add(report)
        on_progress(tally.left.span, report)

    rowless = NO_OFFSETS
    if tally.left:
        ends = {log: missing.stop for log, missing in tally.left.partitions.items()}
        rowless = run_ingest(
            systems, spec, stop=stop, on_commit=hear, on_retry=on_retry, now_ms=now_ms, until=ends
        ).rowless
    if not stop():
        run_idle_move(systems, spec, read_status(systems, spec, rowless), now_ms())
    return DrainResult(
        commits=tally.commits,
        row_count=tally.row_count,
        bad_count=tally.bad_count,
        skipped_count=tally.skipped_count,
        filtered_count=tally.filtered_count,
        was_stopped=bool(tally.left) and stop(),
        slowdown=tally.slowdown,
    )


def _read_missing(systems: Systems, spec: TableSpec, now_ms: Callable[[], int]) -> TopicRanges:
    open_table(systems, resolve_columns(systems, spec), now_ms)  # a new table begins where its declaration says
    return read_waiting(systems, spec).missing
