"""A run that follows stays between messages that come with pauses, and ends at a commit when it has a reason to."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta

import pytest

from lakehouse_assets.operations.following import COLD_AFTER, rehearse, run_follow
from lakehouse_assets.operations.ingest import IngestResult
from lakehouse_assets_tests.operations.lake import Lake
from lakehouse_assets_tests.waiting import wait_until

pytestmark = pytest.mark.kafka


def follow(
    table: Lake, find_reason_to_end: Callable[[], str | None] = lambda: None, cold_after: timedelta = COLD_AFTER
) -> IngestResult:
    return run_follow(
        table.systems,
        table.spec,
        find_reason_to_end=find_reason_to_end,
        on_commit=table.reports.append,
        on_retry=lambda e, _: table.retries.append(e),
        now_ms=table.now_ms,
        cold_after=cold_after,
    )


@pytest.mark.parametrize(("workers", "limit"), [(1, "1s"), pytest.param(2, "1m", marks=pytest.mark.slow)])
def test_what_comes_after_the_table_was_caught_up_lands_in_the_same_run(
    lake: Callable[..., Lake], workers: int, limit: str
) -> None:
    table = lake(topic_partitions=2, workers=workers, run_time_limit=limit)
    table.produce(3)
    reasons: list[str] = []

    with ThreadPoolExecutor() as background, ExitStack() as ending:
        ending.callback(reasons.append, "enough")
        run = background.submit(follow, table, lambda: reasons[0] if reasons else None)
        wait_until(lambda: len(table.reports) == 1)
        for commits in (2, 3):
            # Longer than its time limit and than some commit intervals: any other run would have ended meanwhile.
            quiet_until = time.monotonic() + 1.2
            wait_until(lambda until=quiet_until: time.monotonic() >= until)
            table.produce(2, partition=1)
            wait_until(lambda expected=commits: len(table.reports) == expected)
        reasons.append("enough")
        result = run.result(30)

    assert (result.commits, result.row_count, result.ended) == (3, 7, "enough")
    table.assert_holds({0: [0, 1, 2], 1: [0, 1, 2, 3]})


def test_a_run_ends_by_itself_once_the_topic_was_cold_for_long(lake: Callable[..., Lake]) -> None:
    table = lake()
    table.produce(3)

    result = follow(table, cold_after=timedelta(seconds=1))

    assert (result.commits, result.row_count, result.ended) == (1, 3, "nothing came for 1 s")


def test_a_rehearsal_leaves_the_table_and_its_files_as_they_were(lake: Callable[..., Lake]) -> None:
    table = lake(topic_partitions=2)
    table.produce(3)
    table.ingest()
    table.produce(2, partition=1)
    table.broker.produce(table.topic, ["no JSON"])
    before = table.table.metadata_location, sorted(table.folder.rglob("*.parquet"))

    rehearse(table.systems, table.spec, table.now_ms)

    assert (table.table.metadata_location, sorted(table.folder.rglob("*.parquet"))) == before
    table.ingest()
    table.assert_holds({0: [0, 1, 2], 1: [0, 1]}, bad={0: [3]})
