"""A drain reads what the topic held when it began, and waits for nothing."""

import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.offsets import NO_OFFSETS, LogBounds, TopicPartition
from lakehouse_assets.operations.drain import run_drain
from lakehouse_assets.operations.ingest import CommitReport, plan_ingest
from lakehouse_assets_tests.operations.lake import Lake, clock_ms, never

LOG = TopicPartition("clicks", 0)


@pytest.mark.kafka
def test_a_drain_waits_for_no_commit_interval_and_reads_nothing_that_came_later(lake: Callable[..., Lake]) -> None:
    table = lake(commit_size="1MiB")
    table.spec = table.spec.model_copy(update={"commit_interval": timedelta(minutes=1)})
    count = 50_000  # three batches: two are a commit by their size, the third by the end of what was there
    table.produce(count)
    heard: list[tuple[int, CommitReport | None]] = []

    def hear(left: int, report: CommitReport | None) -> None:
        heard.append((left, report))
        table.produce(5)

    began = time.monotonic()
    result = run_drain(table.systems, table.spec, stop=never, on_progress=hear, on_retry=lambda *_: None, now_ms=clock_ms)

    assert time.monotonic() - began < 45
    assert (result.row_count, result.was_stopped) == (count, False)
    assert result.commits >= 2
    assert (heard[0], heard[-1][0]) == ((count, None), 0)
    assert table.held().ranges[0].stop == count


def test_where_a_log_was_cut_short_there_is_nothing_to_wait_for() -> None:
    ledger, bounds = Ledger({"clicks": "id"}), {LOG: LogBounds(0, 7)}

    assert plan_ingest("ods.clicks", ledger, NO_OFFSETS, bounds, {LOG: 10}) == {LOG: (0, 7)}
    held = ledger.with_rows(NO_OFFSETS.of({LOG: [(0, 7)]}), {}, {})
    assert not plan_ingest("ods.clicks", held, NO_OFFSETS, bounds, {LOG: 10})
