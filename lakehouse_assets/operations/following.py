"""Keeps a table seconds behind its topic: ingestion that stays while the topic is hot, where it else ends when caught up."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from lakehouse_assets.model.errors import LakehouseError
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.ingest import CommitReport, IngestResult, run_ingest
from lakehouse_assets.operations.systems import Systems

COLD_AFTER = timedelta(minutes=5)  # without a commit; to start anew costs a few seconds of processor and of waiting
_LOOK_AGAIN = timedelta(seconds=30)  # while nothing comes: topic partitions may have joined, others may have changed the table


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
