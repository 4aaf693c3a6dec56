"""Slices: which offsets belong to which asset partition (an hour or a day).

A slice begins, per topic partition, at the first message stamped at or after the partition's start and stops at the first one
stamped at or after its end. It is a range of offsets, so it is exact whatever order the stamps have. Messages that are stamped
more than an hour ahead of now begin no slice: they belong to the one in which they lie.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, Self

from lakehouse_assets.model.offsets import TopicPartition

MAX_AHEAD_MS = 3_600_000
EVENT_TIME_COLUMN_KEY: Final = "lakehouse.event-time-column"  # table property: the column by which readers slice the rows

Every = Literal["hour", "day"]
Boundaries = Mapping[TopicPartition, Mapping[int, int]]  # topic partition -> time in ms -> offset

_KEY_FORMATS: dict[Every, str] = {"hour": "%Y-%m-%d-%H:%M", "day": "%Y-%m-%d"}
_LENGTHS: dict[Every, timedelta] = {"hour": timedelta(hours=1), "day": timedelta(days=1)}


@dataclass(frozen=True, slots=True)
class TimeSlice:
    """A range of event time, ms since 1970: from `start_ms` on, up to but not at `stop_ms`.

    Raises:
        ValueError: it ends before it begins, or where it begins.
    """

    start_ms: int
    stop_ms: int

    def __post_init__(self) -> None:
        if self.stop_ms <= self.start_ms:
            raise ValueError(f"the slice {self} ends no later than it begins")

    @classmethod
    def between(cls, start: datetime, stop: datetime) -> Self:
        """The slice of two aware datetimes."""
        return cls(to_ms(start), to_ms(stop))

    @property
    def start(self) -> datetime:
        """The first moment of it, in UTC."""
        return datetime.fromtimestamp(self.start_ms / 1000, UTC)

    @property
    def stop(self) -> datetime:
        """The first moment after it, in UTC."""
        return datetime.fromtimestamp(self.stop_ms / 1000, UTC)

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%dT%H:%M:%SZ} to {self.stop:%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True, slots=True)
class SliceClock:
    """Turns times into partition keys and back; `start` is the beginning of the first partition."""

    every: Every
    start: datetime

    @property
    def length_ms(self) -> int:
        """Length of one slice in milliseconds."""
        return int(_LENGTHS[self.every].total_seconds() * 1000)

    @property
    def start_ms(self) -> int:
        """Beginning of the first slice, ms since 1970."""
        return to_ms(self.start)

    @property
    def key_format(self) -> str:
        """`strftime` format of a partition key; Dagster's own default."""
        return _KEY_FORMATS[self.every]

    def begin_ms(self, time_ms: int) -> int:
        """Beginning of the slice that holds a time; times before the first slice lie in the first."""
        steps = max(0, (time_ms - self.start_ms) // self.length_ms)
        return self.start_ms + steps * self.length_ms

    def key(self, time_ms: int) -> str:
        """Partition key of the slice that holds a time."""
        return datetime.fromtimestamp(self.begin_ms(time_ms) / 1000, UTC).strftime(self.key_format)

    def split(self, within: TimeSlice) -> list[TimeSlice]:
        """The slices that a range of time is made of; itself, where it does not begin and end with slices."""
        begins = range(within.start_ms, within.stop_ms, self.length_ms)
        if (within.start_ms - self.start_ms) % self.length_ms or (within.stop_ms - within.start_ms) % self.length_ms:
            return [within]
        return [TimeSlice(begin, begin + self.length_ms) for begin in begins]

    def window_ms(self, key: str) -> tuple[int, int]:
        """Beginning and end of a partition, ms since 1970.

        Raises:
            ValueError: the key has another form.
        """
        begin = to_ms(datetime.strptime(key, self.key_format).replace(tzinfo=UTC))
        return begin, begin + self.length_ms


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970 of an aware datetime."""
    return int(moment.timestamp() * 1000)


def slice_offsets(
    clock: SliceClock, key: str, boundaries: Boundaries, table_starts: Mapping[TopicPartition, int]
) -> dict[TopicPartition, tuple[int, int]]:
    """Offsets `(start, stop)` of one partition. The first partition reaches back to the table's beginning."""
    begin, end = clock.window_ms(key)
    reaches_back = begin <= clock.start_ms
    return {
        log: (min(found[begin], table_starts.get(log, 0)) if reaches_back else found[begin], found[end])
        for log, found in boundaries.items()
    }


def boundary_times(clock: SliceClock, keys: Sequence[str]) -> list[int]:
    """Every time whose boundary is needed to know the slices of `keys`, ms since 1970."""
    return sorted({time for key in keys for time in clock.window_ms(key)})
