"""Keeps a table seconds behind its topic: ingestion that stays while the topic is hot, where it else ends when caught up."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from lakehouse_assets.model.errors import LakehouseError
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.decoding import resolve_columns
from lakehouse_assets.operations.ingest import CommitReport, IngestResult, open_table, run_ingest
from lakehouse_assets.operations.status import describe_source
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.operations.workers import stage_batches
from lakehouse_assets.systems.parquet import delete_staged

COLD_AFTER = timedelta(minutes=5)  # without a commit; to start anew costs a few seconds of processor and of waiting
_LOOK_AGAIN = timedelta(seconds=30)  # while nothing comes: topic partitions may have joined, others may have changed the table
_REHEARSED_OFFSETS = 100  # of each topic partition


def rehearse(systems: Systems, spec: TableSpec, now_ms: Callable[[], int]) -> None:
    """Do once what a commit takes, all but the commit, with the newest messages: the first time costs a process seconds.

    Raises:
        LakehouseError: the table's next run would stop for that reason.
    """
    spec = resolve_columns(systems, spec).model_copy(update={"workers": 1})
    table, ledger = open_table(systems, spec, now_ms)
    bounds = systems.source.read_bounds(spec.table, describe_source(systems.source, spec).logs)
    ranges = {log: (max(b.low, b.stop - _REHEARSED_OFFSETS), b.stop) for log, b in bounds.items()}
    for batch in stage_batches(systems, spec, table, ledger, ranges, lambda: False, now_ms, slowdown=1):
        delete_staged(table.io, batch.locations)


def run_follow(
    systems: Systems,
    spec: TableSpec,
    *,
    find_reason_to_end: Callable[[], str | None],
    on_commit: Callable[[CommitReport], None],
    on_retry: Callable[[LakehouseError, float], None],
    now_ms: Callable[[], int],
    cold_after: timedelta = COLD_AFTER,
) -> IngestResult:
    """Ingest until no commit was made for `cold_after`, or there is a reason to end.

    After each of the table's time limits it opens the table anew, and finds columns that a registry has given since.
    The reason becomes the `ended` of the result. Ends at a commit boundary in every case.

    Raises:
        LakehouseError: as `run_ingest`.
    """
    hot_until = time.monotonic() + cold_after.total_seconds()

    def hear(report: CommitReport) -> None:
        nonlocal hot_until
        on_commit(report)
        hot_until = time.monotonic() + cold_after.total_seconds()

    commits = rows = 0
    while True:
        result = run_ingest(
            systems,
            spec,
            stop=lambda: find_reason_to_end() is not None,
            on_commit=hear,
            on_retry=on_retry,
            now_ms=now_ms,
            patience=min(_LOOK_AGAIN, cold_after),
        )
        commits, rows = commits + result.commits, rows + result.row_count
        reason = find_reason_to_end()
        if reason is None and result.ended == "caught up" and time.monotonic() >= hot_until:
            reason = f"nothing came for {cold_after.total_seconds():g} s"
        if reason is not None:
            return replace(result, commits=commits, row_count=rows, ended=reason)
