"""The event-time watermark: how far a table's rows are complete, by the times at which they happened.

Per topic partition it is the largest event time that was committed, less the disorder that is allowed; the table's is the least
of these. A topic partition speaks only for what it holds without a hole, and one that is idle holds nothing back. Everything
here is a pure value; what a commit moves is kept in the ledger, so that rows, ledger and watermark move together.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from lakehouse_assets.model.completeness import HOUR_MS, DayTags
from lakehouse_assets.model.ledger import Ledger, larger_of_both
from lakehouse_assets.model.offsets import TopicPartition, TopicRanges

WATERMARK_KEY: Final = "lakehouse.event-time-watermark"  # table property and summary: ms since 1970, as text
FLINK_STORES_KEY: Final = "flink.store-watermark"  # a table property by which people ask for the other one
FLINK_WATERMARK_KEY: Final = "flink.current-watermark"


@dataclass(frozen=True, slots=True)
class EventTimes:
    """What the rows of a commit say of event time.

    Attributes:
        newest_ms: The largest event time per topic partition, ms since 1970; none that is too far ahead.
        hours: Rows by the beginning of the hour in which they happened, ms since 1970.
        ahead_count: Rows whose event time is too far ahead of their Kafka timestamp.
        null_count: Rows without event time.
    """

    newest_ms: Mapping[TopicPartition, int] = field(default_factory=dict)
    hours: Mapping[int, int] = field(default_factory=dict)
    ahead_count: int = 0
    null_count: int = 0

    def joined(self, other: "EventTimes") -> "EventTimes":
        """Those of both."""
        return EventTimes(
            larger_of_both(self.newest_ms, other.newest_ms),
            Counter(self.hours) + Counter(other.hours),
            self.ahead_count + other.ahead_count,
            self.null_count + other.null_count,
        )

    def late(self, watermark_ms: int | None) -> dict[int, int]:
        """Rows by hour that came when their hour was complete already."""
        if watermark_ms is None:
            return {}
        return {hour: count for hour, count in self.hours.items() if hour + HOUR_MS <= watermark_ms}



@dataclass(frozen=True, slots=True)
class Arrivals:
    """When the rows of a commit happened, to tell which are late.

    Late rows are remembered until the slice (`slice_ms` long) in which they happened ended `horizon_ms` before the watermark.
    """

    times: EventTimes
    slice_ms: int
    horizon_ms: int


@dataclass(frozen=True, slots=True)
class WatermarkMove:
    """What a commit does to the watermark.

    Attributes:
        newest_ms: As in `EventTimes`.
        logs: The topic partitions that there are.
        idle: Those of them that hold nothing back.
        disorder_ms: How much older than those before it a row may be.
        clock_ms: Stands for the largest event time while all are idle; None: the clock moves nothing.
        began_ms: As in the ledger, for one that does not know it yet.
        tags: Of the days that it closes; None where the table wants none.
    """

    newest_ms: Mapping[TopicPartition, int]
    logs: frozenset[TopicPartition]
    idle: frozenset[TopicPartition]
    disorder_ms: int
    clock_ms: int | None = None
    began_ms: int | None = None
    tags: DayTags | None = None

    def find(self, settled_ms: Mapping[TopicPartition, int]) -> int | None:
        """The least of the topic partitions that are not idle; of all idle ones the largest; None where one says nothing."""
        holding = self.logs - self.idle
        if any(log not in settled_ms for log in holding):
            return None
        newest = [settled_ms[log] for log in holding]
        if newest:
            return min(newest) - self.disorder_ms
        last = [settled_ms[log] for log in self.logs if log in settled_ms]
        last += [self.clock_ms] if self.clock_ms is not None and self.logs else []
        return max(last) - self.disorder_ms if last else None

    def list_holding(self, settled_ms: Mapping[TopicPartition, int]) -> dict[TopicPartition, int | None]:
        """How far each topic partition is that is not idle; the furthest back first.

        None: it has no row that says a time, or a hole since its beginning.
        """
        reached = {log: settled_ms[log] - self.disorder_ms if log in settled_ms else None for log in self.logs - self.idle}
        return dict(sorted(reached.items(), key=lambda one: (one[1] is not None, one[1] or 0, one[0])))


def move_watermark(ledger: Ledger, move: WatermarkMove, added: TopicRanges) -> Ledger:
    """The ledger, which holds `added` by now, with event times and watermark after the move. It never goes back."""
    event_ms = larger_of_both(ledger.event_ms, move.newest_ms)
    whole = {log: event_ms[log] for log in added.partitions if log in event_ms and _is_whole(ledger, log)}
    began_ms = move.began_ms if ledger.began_ms is None else ledger.began_ms
    moved = replace(ledger, event_ms=event_ms, settled_ms={**ledger.settled_ms, **whole}, began_ms=began_ms)
    return replace(moved, watermark_ms=later_of_both(move.find(moved.settled_ms), ledger.watermark_ms))


def count_late(ledger: Ledger, arrivals: Arrivals) -> Ledger:
    """The ledger with the late ones among rows that arrive, before the watermark moves by them."""
    late = Counter(ledger.late_rows) + Counter(arrivals.times.late(ledger.watermark_ms))
    oldest_ms = (ledger.watermark_ms or 0) - arrivals.horizon_ms - arrivals.slice_ms
    remembered = {hour: count for hour, count in late.items() if hour // arrivals.slice_ms * arrivals.slice_ms >= oldest_ms}
    return replace(ledger, late_rows=remembered)


def later_of_both(one: int | None, other: int | None) -> int | None:
    """The later watermark; the one that is there, where only one is."""
    return max((ms for ms in (one, other) if ms is not None), default=None)


def _is_whole(ledger: Ledger, log: TopicPartition) -> bool:
    """Whether the table holds all of a topic partition from its beginning to the newest offset held."""
    held = ledger.held[log].ranges
    return len(held) == 1 and held[0].start <= ledger.start_of(log)
