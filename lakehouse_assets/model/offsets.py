"""Arithmetic of Kafka offsets: topic partitions, half-open ranges, sets of ranges, and sets per topic partition.

Offsets are positions, not counts: transactions and log compaction leave gaps, so `stop - start` is a span. Every value here
is immutable and normalised: ranges are sorted, disjoint, not adjacent and never empty, so equal sets compare equal.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class TopicPartition(NamedTuple):
    """One log of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


@dataclass(frozen=True, slots=True)
class LogBounds:
    """Where the log of one topic partition begins (oldest offset held) and stops (first offset not readable yet)."""

    low: int
    stop: int


Bounds = Mapping[TopicPartition, LogBounds]


class OffsetRange(NamedTuple):
    """Offsets `start <= offset < stop` of one topic partition."""

    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.start}..{self.stop - 1}"


@dataclass(frozen=True, slots=True)
class RangeSet:
    """A set of offsets of one topic partition, held as ranges. Build it with `RangeSet.of`."""

    ranges: tuple[OffsetRange, ...] = ()

    @classmethod
    def of(cls, ranges: Iterable[tuple[int, int]]) -> "RangeSet":
        """Normalise any pairs `(start, stop)`; empty pairs vanish, overlapping and adjacent ones join."""
        joined: list[OffsetRange] = []
        for start, stop in sorted(ranges):
            if start >= stop:
                continue
            if joined and start <= joined[-1].stop:
                joined[-1] = OffsetRange(joined[-1].start, max(joined[-1].stop, stop))
            else:
                joined.append(OffsetRange(start, stop))
        return cls(tuple(joined))

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __iter__(self) -> Iterator[OffsetRange]:
        return iter(self.ranges)

    def __contains__(self, offset: int) -> bool:
        return any(r.start <= offset < r.stop for r in self.ranges)

    def meets(self, first: int, last: int) -> bool:
        """Whether any offset from `first` to `last`, both included, is in the set."""
        following = bisect_right(self.ranges, last, key=lambda r: r.start)
        return following > 0 and self.ranges[following - 1].stop > first

    def __or__(self, other: "RangeSet") -> "RangeSet":
        return RangeSet.of((*self.ranges, *other.ranges))

    def __and__(self, other: "RangeSet") -> "RangeSet":
        # Side by side, in one pass: a topic with transactions has a gap for each of them.
        common: list[tuple[int, int]] = []
        i = j = 0
        while i < len(self.ranges) and j < len(other.ranges):
            a, b = self.ranges[i], other.ranges[j]
            common.append((max(a.start, b.start), min(a.stop, b.stop)))
            if a.stop < b.stop:
                i += 1
            else:
                j += 1
        return RangeSet.of(common)

    def __sub__(self, other: "RangeSet") -> "RangeSet":
        if not self.ranges or not other.ranges:
            return self
        starts = [self.ranges[0].start, *(r.stop for r in other.ranges)]
        stops = [*(r.start for r in other.ranges), self.ranges[-1].stop]
        return self & RangeSet.of(zip(starts, stops, strict=True))

    @property
    def span(self) -> int:
        """How many offsets the set covers; an upper bound on messages."""
        return sum(r.stop - r.start for r in self.ranges)

    @property
    def stop(self) -> int:
        """First offset after the last range; 0 for the empty set."""
        return self.ranges[-1].stop if self.ranges else 0

    def __str__(self) -> str:
        return ", ".join(map(str, self.ranges)) or "nothing"


EMPTY = RangeSet()


@dataclass(frozen=True, slots=True)
class TopicRanges:
    """Offsets of one or several topics: a `RangeSet` for each topic partition; those without offsets are left out."""

    partitions: Mapping[TopicPartition, RangeSet]

    @classmethod
    def of(cls, ranges: Mapping[TopicPartition, Iterable[tuple[int, int]]]) -> "TopicRanges":
        """Normalise pairs `(start, stop)` per topic partition."""
        sets = {log: RangeSet.of(pairs) for log, pairs in sorted(ranges.items())}
        return cls({log: held for log, held in sets.items() if held})

    def __bool__(self) -> bool:
        return bool(self.partitions)

    def __getitem__(self, log: TopicPartition) -> RangeSet:
        return self.partitions.get(log, EMPTY)

    def __or__(self, other: "TopicRanges") -> "TopicRanges":
        every = self.partitions.keys() | other.partitions.keys()
        return TopicRanges.of({log: self[log] | other[log] for log in every})

    def __and__(self, other: "TopicRanges") -> "TopicRanges":
        return TopicRanges.of({log: self[log] & other[log] for log in self.partitions})

    def __sub__(self, other: "TopicRanges") -> "TopicRanges":
        return TopicRanges.of({log: self[log] - other[log] for log in self.partitions})

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics of which there are offsets, in order."""
        return tuple(dict.fromkeys(log.topic for log in self.partitions))

    @property
    def span(self) -> int:
        """How many offsets are covered over all topic partitions; an upper bound on messages."""
        return sum(held.span for held in self.partitions.values())

    def to_lists(self) -> dict[str, dict[str, list[list[int]]]]:
        """Plain lists by topic and topic partition, for JSON; `from_lists` gives back an equal value."""
        lists: dict[str, dict[str, list[list[int]]]] = {}
        for log, held in self.partitions.items():
            lists.setdefault(log.topic, {})[str(log.partition)] = [list(r) for r in held]
        return lists

    @classmethod
    def from_lists(cls, lists: Mapping[str, Mapping[str, Iterable[Iterable[int]]]]) -> "TopicRanges":
        """Read `to_lists`' answer."""
        return cls.of(
            {
                TopicPartition(topic, int(p)): [(start, stop) for start, stop in pairs]
                for topic, partitions in lists.items()
                for p, pairs in partitions.items()
            }
        )

    def __str__(self) -> str:
        return "; ".join(f"{log} offsets {held}" for log, held in self.partitions.items()) or "nothing"


NO_OFFSETS = TopicRanges({})
