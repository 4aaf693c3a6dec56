"""The event-time watermark of any arrivals never goes back, and is never ahead of a row that is still to come."""

import random
from collections.abc import Collection

from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.offsets import TopicPartition, TopicRanges
from lakehouse_assets.model.watermark import WatermarkMove, move_watermark

DISORDER_MS = 1000
LOGS = [TopicPartition("clicks", number) for number in range(3)]


def _arrivals(rng: random.Random, count: int) -> list[int]:
    """Event times of one topic partition by offset; none is older than those before it by more than the disorder."""
    times: list[int] = []
    newest = rng.randrange(10_000)
    for _ in range(count):
        newest = max(newest, newest + rng.randrange(-500, 800))
        times.append(max(newest - rng.randrange(DISORDER_MS + 1), 0))
        newest = max(newest, times[-1])
    return times


@given(st.integers(0, 2**32), st.integers(1, 3), st.booleans())
def test_it_never_goes_back_and_is_never_ahead_of_a_row_that_is_still_to_come(seed: int, count: int, gaps: bool) -> None:
    rng, logs = random.Random(seed), LOGS[:count]
    times = {log: _arrivals(rng, rng.randrange(1, 30)) for log in logs}
    # Two writers and backfills land pieces in any order; whoever brings a piece knows its own event times alone.
    pieces = [(log, at, min(at + 4, len(all_of))) for log, all_of in times.items() for at in range(0, len(all_of), 4)]
    if gaps:
        rng.shuffle(pieces)
    ledger, left = Ledger({"clicks": "id"}), {log: set(range(len(all_of))) for log, all_of in times.items()}
    for log, start, stop in pieces:
        added = TopicRanges.of({log: [(start, stop)]})
        move = WatermarkMove({log: max(times[log][start:stop])}, frozenset(logs), frozenset(), DISORDER_MS)
        before = ledger.watermark_ms
        ledger = move_watermark(ledger.with_rows(added, {}, {}), move, added)
        left[log] -= set(range(start, stop))

        assert before is None or (ledger.watermark_ms is not None and ledger.watermark_ms >= before)
        to_come = [times[one][at] for one, offsets in left.items() for at in offsets]
        assert ledger.watermark_ms is None or all(ms >= ledger.watermark_ms for ms in to_come)
        assert Ledger.from_json(ledger.to_json()) == ledger
    if not gaps:
        assert ledger.watermark_ms == min(max(all_of) for all_of in times.values()) - DISORDER_MS


def test_a_topic_partition_without_rows_holds_it_until_it_is_idle_and_all_idle_ones_let_it_to_the_newest() -> None:
    first, second, third = LOGS
    settled = {first: 5000, second: 9000}

    assert _move(()).find(settled) is None
    assert _move((third,)).find(settled) == 4000
    assert _move((first, third)).find(settled) == 8000
    assert _move(LOGS).find(settled) == 8000
    assert _move(LOGS).find({}) is None


def test_the_clock_moves_it_where_all_are_idle_and_only_forward() -> None:
    first, second, third = LOGS

    assert _move(LOGS, clock_ms=70_000).find({first: 5000, second: 9000}) == 69_000
    assert _move(LOGS, clock_ms=7_000).find({first: 5000, second: 9000}) == 8_000
    assert _move(LOGS, clock_ms=70_000).find({}) == 69_000
    assert _move((first, second), clock_ms=70_000).find({third: 3_000}) == 2_000
    assert _move((first, second), clock_ms=70_000).find({}) is None


def _move(idle: Collection[TopicPartition], clock_ms: int | None = None) -> WatermarkMove:
    return WatermarkMove({}, frozenset(LOGS), frozenset(idle), 1000, clock_ms)
