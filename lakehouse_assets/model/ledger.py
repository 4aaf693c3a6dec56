"""The ledger: what a table says it already holds of its topic.

One JSON text, kept in a table property and in the summary of the snapshot that moved it. The property survives expiry and
foreign writers, the summary survives rollback; `systems.history` decides which of the two counts. Pure arithmetic here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lakehouse_assets.model.offsets import NO_OFFSETS, OffsetRange, RangeSet, TopicRanges

LEDGER_KEY = "lakehouse.ledger"
COMMIT_ID_KEY = "lakehouse.commit-id"
OPERATION_KEY = "lakehouse.operation"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class TopicLedger:
    """What a table holds of one topic.

    `topic_id` is Kafka's own id, so that a topic created again under its name is noticed. `start` says per topic partition
    where the table begins (a topic partition that is not named begins at 0). `held` are the offsets the table holds.
    `last_row` is the largest offset of a row, `newest_ms` the largest plausible Kafka timestamp seen: it says in which slice
    the next message lies. `in_order` is False once offsets were added out of order: then the last row proves nothing of those
    before it, even after the ranges have joined.
    """

    topic_id: str
    start: Mapping[int, int] = field(default_factory=dict)
    held: TopicRanges = NO_OFFSETS
    last_row: Mapping[int, int] = field(default_factory=dict)
    newest_ms: Mapping[int, int] = field(default_factory=dict)
    in_order: bool = True

    def start_of(self, partition: int) -> int:
        """First offset of this topic partition that belongs to the table."""
        return self.start.get(partition, 0)

    def missing(self, stops: Mapping[int, int]) -> TopicRanges:
        """Offsets from the table's start up to `stops` (exclusive) that the table does not hold."""
        wanted = TopicRanges.of({p: [(self.start_of(p), stop)] for p, stop in stops.items()})
        return wanted - self.held

    def lag(self, stops: Mapping[int, int]) -> int:
        """How many offsets are missing up to `stops`; an upper bound on messages."""
        return self.missing(stops).span

    def with_rows(
        self, added: TopicRanges, last_row: Mapping[int, int], newest_ms: Mapping[int, int]
    ) -> "TopicLedger":
        """The ledger after `added` landed. Maxima only grow."""
        return replace(
            self,
            held=self.held | added,
            last_row=_larger_of_both(self.last_row, last_row),
            newest_ms=_larger_of_both(self.newest_ms, newest_ms),
            in_order=self.in_order and self._continues(added),
        )

    def _continues(self, added: TopicRanges) -> bool:
        """Whether what is new of `added` follows what is held, without a gap."""
        return all(
            len(fresh.ranges) == 1 and fresh.ranges[0].start == max(self.held[p].stop, self.start_of(p))
            for p, fresh in (added - self.held).partitions.items()
        )

    def cut_to(self, last_row: Mapping[int, int]) -> "TopicLedger | None":
        """The ledger of an older state, known only by the largest row offset per topic partition.

        None where that can't be told: offsets that were filled out of order.
        """
        if not self.in_order:
            return None
        same = {p for p, offset in last_row.items() if offset >= self.last_row.get(p, -1)}
        cut = {
            p: held if p in same else held & RangeSet((OffsetRange(0, last_row[p] + 1),))
            for p, held in self.held.partitions.items()
            if p in last_row
        }
        newest_ms = {p: ms for p, ms in self.newest_ms.items() if p in same}
        return replace(self, held=TopicRanges.of(cut), last_row=dict(last_row), newest_ms=newest_ms)


def _larger_of_both(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    return {p: max(one.get(p, other.get(p, 0)), other.get(p, one.get(p, 0))) for p in sorted(one.keys() | other.keys())}


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledgers of a table's topics, and the snapshot that wrote them (None before the first one)."""

    topics: Mapping[str, TopicLedger]
    table_uuid: str | None = None
    snapshot_id: int | None = None
    sequence_number: int | None = None

    def __getitem__(self, topic: str) -> TopicLedger:
        return self.topics[topic]

    def with_topic(self, topic: str, entry: TopicLedger) -> "Ledger":
        """The same ledger with one topic's entry replaced."""
        return replace(self, topics={**self.topics, topic: entry})

    def written_by(self, table_uuid: str, snapshot_id: int, sequence_number: int) -> "Ledger":
        """The same ledger, signed by the snapshot that carries it."""
        return replace(self, table_uuid=table_uuid, snapshot_id=snapshot_id, sequence_number=sequence_number)

    def to_json(self) -> str:
        """Compact text; `from_json` gives back an equal value."""
        topics = {
            name: {
                "id": entry.topic_id,
                "start": entry.start,
                "held": entry.held.to_lists(),
                "last-row": entry.last_row,
                "newest-ms": entry.newest_ms,
                "in-order": entry.in_order,
            }
            for name, entry in self.topics.items()
        }
        body = {
            "version": _VERSION,
            "table-uuid": self.table_uuid,
            "snapshot-id": self.snapshot_id,
            "sequence-number": self.sequence_number,
            "topics": topics,
        }
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
        topics = {
            name: TopicLedger(
                topic_id=entry["id"],
                start=_int_keys(entry["start"]),
                held=TopicRanges.from_lists(entry["held"]),
                last_row=_int_keys(entry["last-row"]),
                newest_ms=_int_keys(entry["newest-ms"]),
                in_order=entry["in-order"],
            )
            for name, entry in body["topics"].items()
        }
        return cls(topics, body["table-uuid"], body["snapshot-id"], body["sequence-number"])


def _int_keys(numbers: Mapping[str, int]) -> dict[int, int]:
    return {int(key): number for key, number in numbers.items()}
