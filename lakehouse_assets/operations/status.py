"""How far a table is: its ledger against its topic. Reads no message and no row."""

from collections.abc import Mapping
from dataclasses import dataclass

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse_assets.model.errors import OffsetsExpiredError, TopicReplacedError, TopicTruncatedError
from lakehouse_assets.model.ledger import OPERATION_KEY, TopicLedger
from lakehouse_assets.model.offsets import NO_OFFSETS, TopicRanges
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.systems.catalog import load_table
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets.systems.kafka import LogBounds, TopicDescription

_COMMITS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class CommitSummary:
    """One snapshot, ours or another's: when it was made, by which operation, and what it did to the number of rows."""

    snapshot_id: int
    at_ms: int
    operation: str
    added_rows: int
    total_rows: int


@dataclass(frozen=True, slots=True)
class TableStatus:
    """Where a table and its topic stand. `entry` is None before the table's first use; then its lag is the topic's length.

    `commits` are the newest snapshots, newest first. `lag` counts offsets that are missing: an upper bound on messages.
    `committed_ms` is the time of the current snapshot.
    """

    topic_id: str
    entry: TopicLedger | None
    bounds: Mapping[int, LogBounds]
    missing: TopicRanges
    committed_ms: int | None
    commits: tuple[CommitSummary, ...] = ()

    @property
    def lag(self) -> int:
        """Offsets that the table lacks."""
        return self.missing.span


def read_status(systems: Systems, spec: TableSpec, rowless: TopicRanges = NO_OFFSETS) -> TableStatus:
    """Compare ledger and topic. `rowless` offsets were read by an earlier run and held no row: they are no lag.

    Raises:
        TopicReplacedError, TopicTruncatedError, OffsetsExpiredError: the next run would stop for that reason.
        SourceError, TableError, CatalogUnavailableError
    """
    topic = spec.source.topic
    # The table first: what is committed after that can't make it look further than its topic.
    table = load_table(systems.catalog, spec.table)
    ledger = read_ledger(table) if table is not None else None
    description = systems.source.describe(spec.table, topic)
    bounds = systems.source.read_bounds(spec.table, topic, description.partitions)
    stops = {p: b.stop for p, b in bounds.items()}
    if table is None or ledger is None:
        begin = {p: b.stop if spec.source.start == "latest" else b.low for p, b in bounds.items()}
        whole = TopicRanges.of({p: [(begin[p], stop)] for p, stop in stops.items()})
        return TableStatus(description.topic_id, None, bounds, whole, None)
    entry = ledger[topic]
    refuse_other_log(spec.table, topic, entry, description, bounds)
    missing = entry.missing(stops) - rowless
    refuse_expired(spec.table, topic, missing, bounds)
    current = table.metadata.current_snapshot()
    committed_ms = current.timestamp_ms if current else None
    return TableStatus(description.topic_id, entry, bounds, missing, committed_ms, _newest_commits(table))


def _newest_commits(table: Table) -> tuple[CommitSummary, ...]:
    newest = sorted(table.metadata.snapshots, key=lambda snapshot: snapshot.timestamp_ms)[-_COMMITS_SHOWN:]
    return tuple(_summarize(snapshot) for snapshot in reversed(newest))


def _summarize(snapshot: Snapshot) -> CommitSummary:
    words = snapshot.summary.additional_properties if snapshot.summary is not None else {}
    engine = snapshot.summary.operation.value if snapshot.summary is not None else "unknown"
    counts = (int(words.get(name, "0")) for name in ("added-records", "total-records"))
    return CommitSummary(snapshot.snapshot_id, snapshot.timestamp_ms, words.get(OPERATION_KEY, engine), *counts)


def refuse_other_log(
    table: str, topic: str, entry: TopicLedger, description: TopicDescription, bounds: Mapping[int, LogBounds]
) -> None:
    """Raise where the log is not the one that the ledger speaks of, or not all of it.

    Raises:
        TopicReplacedError: the topic has another id.
        TopicTruncatedError: a log ends before what the table holds of it, so its offsets will be given out again.
    """
    if entry.topic_id != description.topic_id:
        raise TopicReplacedError(table, topic, entry.topic_id, description.topic_id)
    cut = {p: (b.stop, entry.held[p].stop) for p, b in bounds.items() if entry.held[p].stop > b.stop}
    if cut:
        raise TopicTruncatedError(table, topic, cut)


def refuse_expired(table: str, topic: str, missing: TopicRanges, bounds: Mapping[int, LogBounds]) -> None:
    """Raise OffsetsExpiredError if something that is missing lies before the oldest offset held."""
    expired = missing & TopicRanges.of({p: [(0, b.low)] for p, b in bounds.items()})
    if expired:
        raise OffsetsExpiredError(
            table, topic, {p: (held.ranges[0].start, bounds[p].low) for p, held in expired.partitions.items()}
        )
