"""The ledger: which offsets of which topics a table says it holds.

It is kept as one JSON text in the table property `lakehouse.ledger` and in the summary of the snapshot that moved it. The
property survives expiry and foreign writers, the summary survives rollback; which of the two counts is decided in
`systems.history`. Everything here is a pure value.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from lakehouse_assets.model.offsets import NO_OFFSETS, OffsetRange, RangeSet, TopicPartition, TopicRanges

LEDGER_KEY = "lakehouse.ledger"
COMMIT_ID_KEY = "lakehouse.commit-id"
OPERATION_KEY = "lakehouse.operation"
_VERSION = 1
Key = TypeVar("Key", TopicPartition, int)


@dataclass(frozen=True, slots=True)
class AcceptedLoss:
    """What an operator declared lost: offsets that count as held though no row has them, topics that are gone.

    `at` is a time in UTC, ISO 8601.
    """

    reason: str
    at: str
    offsets: TopicRanges = NO_OFFSETS
    topics: tuple[str, ...] = ()

    def __str__(self) -> str:
        what = f"topic {', '.join(self.topics)}" if self.topics else f"{self.offsets} ({self.offsets.span:,} offsets)"
        return f"{what}, since {self.at}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a table holds of its topics.

    `topic_ids` are Kafka's own ids, so that a topic created again under its name is noticed; rows of a table that has no topic
    column, or none for a row, are of the first. `start` says per topic partition where the table begins (one that is not named
    begins at 0). `held` are the offsets the table holds. `last_row` is the largest offset of a row, `newest_ms` the largest
    plausible Kafka timestamp seen: it says in which slice the next message lies. A topic is in `out_of_order` once offsets
    were added out of order, or where rows take each other's place: then the last row proves nothing of those before it, even
    after the ranges have joined.

    `event_ms` is the largest event time of a row, `settled_ms` what it was when the topic partition was last held without a
    hole, `watermark_ms` the event-time watermark, `late_rows` are rows by the beginning of the hour in which they happened, ms
    since 1970, and which was complete when they came; see `model.watermark`. `began_ms` is since when a topic partition without
    messages has been without.

    The last three say where it was written: in which table, by which snapshot; None before the first one.
    """

    topic_ids: Mapping[str, str]
    start: Mapping[TopicPartition, int] = field(default_factory=dict)
    held: TopicRanges = NO_OFFSETS
    last_row: Mapping[TopicPartition, int] = field(default_factory=dict)
    newest_ms: Mapping[TopicPartition, int] = field(default_factory=dict)
    out_of_order: frozenset[str] = frozenset()
    losses: tuple[AcceptedLoss, ...] = ()
    event_ms: Mapping[TopicPartition, int] = field(default_factory=dict)
    settled_ms: Mapping[TopicPartition, int] = field(default_factory=dict)
    watermark_ms: int | None = None
    late_rows: Mapping[int, int] = field(default_factory=dict)
    began_ms: int | None = None
    table_uuid: str | None = None
    snapshot_id: int | None = None
    sequence_number: int | None = None

    @property
    def first_topic(self) -> str:
        """The topic of rows that don't say theirs."""
        return next(iter(self.topic_ids), "")

    @property
    def lost_topics(self) -> frozenset[str]:
        """Topics that are gone, and of which the table has all that an operator wants of them."""
        return frozenset(topic for loss in self.losses for topic in loss.topics)

    def start_of(self, log: TopicPartition) -> int:
        """First offset of this topic partition that belongs to the table."""
        return self.start.get(log, 0)

    def missing(self, stops: Mapping[TopicPartition, int]) -> TopicRanges:
        """Offsets from the table's start up to `stops` (exclusive) that the table does not hold."""
        wanted = TopicRanges.of({log: [(self.start_of(log), stop)] for log, stop in stops.items()})
        return wanted - self.held

    def lag(self, stops: Mapping[TopicPartition, int]) -> int:
        """How many offsets are missing up to `stops`; an upper bound on messages."""
        return self.missing(stops).span

    def with_topics(self, topic_ids: Mapping[str, str], start: Mapping[TopicPartition, int]) -> "Ledger":
        """The same ledger with further topics, of which nothing is held. Topics that it knows stay as they are."""
        begins = {log: offset for log, offset in start.items() if log.topic not in self.topic_ids}
        fresh = {topic: topic_id for topic, topic_id in topic_ids.items() if topic not in self.topic_ids}
        return replace(self, topic_ids={**self.topic_ids, **fresh}, start={**self.start, **begins})

    def with_topics_of(self, other: "Ledger") -> "Ledger":
        """The same ledger with the topics of another that it does not know, as they began there."""
        return self.with_topics(other.topic_ids, other.start)

    def with_rows(
        self, added: TopicRanges, last_row: Mapping[TopicPartition, int], newest_ms: Mapping[TopicPartition, int]
    ) -> "Ledger":
        """The ledger after `added` landed. Maxima only grow."""
        return replace(
            self,
            held=self.held | added,
            last_row=larger_of_both(self.last_row, last_row),
            newest_ms=larger_of_both(self.newest_ms, newest_ms),
            out_of_order=self.out_of_order | self._leaps(added),
        )

    def unproved(self) -> "Ledger":
        """The same ledger of a table whose rows take each other's place: its last rows prove nothing."""
        return replace(self, out_of_order=frozenset(self.topic_ids))

    def with_loss(self, loss: AcceptedLoss) -> "Ledger":
        """The ledger in which an operator accepted that offsets are lost: they are held from now on, without rows."""
        return replace(self.with_rows(loss.offsets, {}, {}), losses=(*self.losses, loss))

    def _leaps(self, added: TopicRanges) -> frozenset[str]:
        """Topics of which what is new of `added` does not follow what is held without a gap."""
        return frozenset(
            log.topic
            for log, fresh in (added - self.held).partitions.items()
            if len(fresh.ranges) != 1 or fresh.ranges[0].start != max(self.held[log].stop, self.start_of(log))
        )

    def cut_to(self, last_row: Mapping[TopicPartition, int]) -> "Ledger | None":
        """The ledger of an older state, known only by the largest row offset per topic partition.

        None where that can't be told: offsets that were filled out of order.
        """
        if self.out_of_order:
            return None
        same = {log for log, offset in last_row.items() if offset >= self.last_row.get(log, -1)}
        cut = {
            log: held if log in same else held & RangeSet((OffsetRange(0, last_row[log] + 1),))
            for log, held in self.held.partitions.items()
            if log in last_row
        }
        newest_ms, event_ms, settled_ms = (
            {log: ms for log, ms in of.items() if log in same} for of in (self.newest_ms, self.event_ms, self.settled_ms)
        )
        return replace(
            self,
            held=TopicRanges.of(cut),
            last_row=dict(last_row),
            newest_ms=newest_ms,
            event_ms=event_ms,
            settled_ms=settled_ms,
        )

    def never_before(self, other: "Ledger") -> "Ledger":
        """The same ledger, of which what never goes back is as far as in the other one: watermark, late rows, the beginning."""
        watermarks = [ms for ms in (self.watermark_ms, other.watermark_ms) if ms is not None]
        beginnings = [ms for ms in (self.began_ms, other.began_ms) if ms is not None]
        return replace(
            self,
            watermark_ms=max(watermarks, default=None),
            late_rows=larger_of_both(self.late_rows, other.late_rows),
            began_ms=min(beginnings, default=None),
        )

    def emptied(self) -> "Ledger":
        """Where the table began: the same topics and starts, nothing held, written by no snapshot."""
        return Ledger(self.topic_ids, self.start, table_uuid=self.table_uuid)

    def written_by(self, table_uuid: str, snapshot_id: int, sequence_number: int) -> "Ledger":
        """The same ledger, signed by the snapshot that carries it."""
        return replace(self, table_uuid=table_uuid, snapshot_id=snapshot_id, sequence_number=sequence_number)

    def to_json(self) -> str:
        """Compact text; `from_json` gives back an equal value."""
        held = self.held.to_lists()
        topics = {
            topic: {
                "id": topic_id,
                "start": _of_topic(self.start, topic),
                "held": held.get(topic, {}),
                "last-row": _of_topic(self.last_row, topic),
                "newest-ms": _of_topic(self.newest_ms, topic),
                "in-order": topic not in self.out_of_order,
                **_event_times(self, topic),
            }
            for topic, topic_id in self.topic_ids.items()
        }
        body: dict[str, object] = {
            "version": _VERSION,
            "table-uuid": self.table_uuid,
            "snapshot-id": self.snapshot_id,
            "sequence-number": self.sequence_number,
            "topics": topics,
        }
        if self.watermark_ms is not None:
            body["watermark-ms"] = self.watermark_ms
        if self.began_ms is not None:
            body["began-ms"] = self.began_ms
        if self.late_rows:
            body["late-rows"] = {str(hour_ms): count for hour_ms, count in sorted(self.late_rows.items())}
        if self.losses:
            body["losses"] = [
                {"offsets": loss.offsets.to_lists(), "topics": loss.topics, "reason": loss.reason, "at": loss.at}
                for loss in self.losses
            ]
        return json.dumps(body, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Ledger":
        """Read `to_json`'s text.

        Raises:
            ValueError: the text is no ledger of a version known here.
        """
        body = json.loads(text)
        if not isinstance(body, dict) or body.get("version") != _VERSION:
            raise ValueError(f"expected a ledger of version {_VERSION}, found {text[:80]!r}")
        topics: dict[str, dict[str, Any]] = body["topics"]
        return cls(
            topic_ids={topic: entry["id"] for topic, entry in topics.items()},
            start=_of_topics(topics, "start"),
            held=TopicRanges.from_lists({topic: entry["held"] for topic, entry in topics.items()}),
            last_row=_of_topics(topics, "last-row"),
            newest_ms=_of_topics(topics, "newest-ms"),
            out_of_order=frozenset(topic for topic, entry in topics.items() if not entry["in-order"]),
            losses=tuple(
                AcceptedLoss(loss["reason"], loss["at"], TopicRanges.from_lists(loss["offsets"]), tuple(loss["topics"]))
                for loss in body.get("losses", ())
            ),
            event_ms=_of_topics(topics, "event-ms"),
            settled_ms=_of_topics(topics, "settled-ms"),
            watermark_ms=body.get("watermark-ms"),
            late_rows={int(hour_ms): count for hour_ms, count in body.get("late-rows", {}).items()},
            began_ms=body.get("began-ms"),
            table_uuid=body["table-uuid"],
            snapshot_id=body["snapshot-id"],
            sequence_number=body["sequence-number"],
        )


def larger_of_both(one: Mapping[Key, int], other: Mapping[Key, int]) -> dict[Key, int]:
    """The larger number of each topic partition, or hour, where both have one."""
    every = sorted(one.keys() | other.keys())
    return {key: max(one.get(key, other.get(key, 0)), other.get(key, one.get(key, 0))) for key in every}


def _event_times(ledger: Ledger, topic: str) -> dict[str, dict[str, int]]:
    """Nothing for a table without event time."""
    of_topic = {"event-ms": _of_topic(ledger.event_ms, topic), "settled-ms": _of_topic(ledger.settled_ms, topic)}
    return {name: numbers for name, numbers in of_topic.items() if numbers}


def _of_topic(numbers: Mapping[TopicPartition, int], topic: str) -> dict[str, int]:
    return {str(log.partition): number for log, number in numbers.items() if log.topic == topic}


def _of_topics(topics: Mapping[str, Mapping[str, Any]], key: str) -> dict[TopicPartition, int]:
    return {
        TopicPartition(topic, int(p)): number for topic, entry in topics.items() for p, number in entry.get(key, {}).items()
    }
