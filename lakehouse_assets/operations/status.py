"""How far a table is: its ledger against its topic. Reads no message and no row."""

from collections.abc import Mapping
from dataclasses import dataclass

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse_assets.model.errors import (
    OffsetsExpiredError,
    TopicGoneError,
    TopicReplacedError,
    TopicTruncatedError,
)
from lakehouse_assets.model.ledger import OPERATION_KEY, Ledger
from lakehouse_assets.model.offsets import NO_OFFSETS, Bounds, TopicRanges
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.systems.catalog import load_table
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets.systems.kafka import KafkaSource, SourceDescription
from lakehouse_assets.systems.snapshots import Totals, read_totals

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
    """Where a table and its topics stand. `ledger` is None before the table's first use; then its lag is the topics' length.

    `commits` are the newest snapshots, newest first. `lag` counts offsets that are missing: an upper bound on messages.
    `committed_ms` is the time of the current snapshot, `totals` what it holds; `table` is as it was looked at.
    """

    topic_ids: Mapping[str, str]
    ledger: Ledger | None
    bounds: Bounds
    missing: TopicRanges
    committed_ms: int | None
    commits: tuple[CommitSummary, ...] = ()
    totals: Totals = Totals(0, 0, 0)
    table: Table | None = None

    @property
    def lag(self) -> int:
        """Offsets that the table lacks."""
        return self.missing.span

    def waited_seconds(self, now_ms: int) -> float | None:
        """How long the oldest missing message can have waited: since the last commit. None: nothing was committed yet."""
        if not self.lag:
            return 0.0
        return None if self.committed_ms is None else max(0.0, (now_ms - self.committed_ms) / 1000)


def read_status(systems: Systems, spec: TableSpec, rowless: TopicRanges = NO_OFFSETS) -> TableStatus:
    """Compare ledger and topic. `rowless` offsets were read by an earlier run and held no row: they are no lag.

    Raises:
        TopicReplacedError, TopicTruncatedError, OffsetsExpiredError: the next run would stop for that reason.
        SourceError, TableError, CatalogUnavailableError
    """
    # The table first: what is committed after that can't make it look further than its topics.
    table = load_table(systems.catalog, spec.table)
    ledger = read_ledger(table) if table is not None else None
    description = describe_source(systems.source, spec)
    bounds = systems.source.read_bounds(spec.table, description.logs)
    stops = {log: b.stop for log, b in bounds.items()}
    if table is None or ledger is None:
        begin = {log: b.stop if spec.source.start == "latest" else b.low for log, b in bounds.items()}
        whole = TopicRanges.of({log: [(begin[log], stop)] for log, stop in stops.items()})
        return TableStatus(description.topic_ids, None, bounds, whole, None)
    refuse_other_log(systems.source, spec, ledger, description, bounds)
    missing = _missing(ledger, bounds) - rowless
    refuse_expired(spec.table, missing, bounds)
    current = table.metadata.current_snapshot()
    committed_ms = current.timestamp_ms if current else None
    commits, totals = _newest_commits(table), read_totals(current)
    return TableStatus(description.topic_ids, ledger, bounds, missing, committed_ms, commits, totals, table)


def list_topics(source: KafkaSource, spec: TableSpec) -> tuple[str, ...]:
    """Names of the topics that a table reads, as there are now; where the declaration names them, Kafka is not asked.

    Raises:
        TopicMissingError: none matches the pattern.
        SourceError
    """
    pattern = spec.source.topic_pattern
    return spec.source.named_topics if pattern is None else source.find_topics(spec.table, pattern)


def describe_source(source: KafkaSource, spec: TableSpec) -> SourceDescription:
    """The topics that a table reads, as they are now.

    Raises:
        TopicMissingError: one that is named does not exist, or none matches the pattern.
        SourceError
    """
    return source.describe(spec.table, list_topics(source, spec))


def with_topics_of(source: KafkaSource, spec: TableSpec, ledger: Ledger) -> Ledger:
    """The ledger as the next run begins with it: a topic that has joined since begins with what Kafka holds of it.

    Raises:
        SourceError
    """
    return _joined(ledger, source.read_bounds(spec.table, describe_source(source, spec).logs))


def _joined(ledger: Ledger, bounds: Bounds) -> Ledger:
    return ledger.with_topics(dict.fromkeys((log.topic for log in bounds), ""), {log: b.low for log, b in bounds.items()})


def _missing(ledger: Ledger, bounds: Bounds) -> TopicRanges:
    return _joined(ledger, bounds).missing({log: b.stop for log, b in bounds.items()})


def _newest_commits(table: Table) -> tuple[CommitSummary, ...]:
    newest = sorted(table.metadata.snapshots, key=lambda snapshot: snapshot.timestamp_ms)[-_COMMITS_SHOWN:]
    return tuple(_summarize(table, snapshot) for snapshot in reversed(newest))


def _summarize(table: Table, snapshot: Snapshot) -> CommitSummary:
    words = snapshot.summary.additional_properties if snapshot.summary is not None else {}
    engine = snapshot.summary.operation.value if snapshot.summary is not None else "unknown"
    parent, rows = snapshot.parent_snapshot_id, read_totals(snapshot).live_rows
    before = table.metadata.snapshot_by_id(parent) if parent is not None else None
    # Where the parent was expired, what it held can't be told: what was added stands for the difference.
    added = rows - read_totals(before).live_rows if parent is None or before else int(words.get("added-records", "0"))
    return CommitSummary(snapshot.snapshot_id, snapshot.timestamp_ms, words.get(OPERATION_KEY, engine), added, rows)


def refuse_other_log(
    source: KafkaSource, spec: TableSpec, ledger: Ledger, description: SourceDescription, bounds: Bounds
) -> None:
    """Raise where a log is not the one that the ledger speaks of, or not all of it.

    Raises:
        TopicGoneError: a topic that the table has messages of is gone, though a pattern still means it.
        TopicReplacedError: a topic has another id.
        TopicTruncatedError: a log ends before what the table holds of it, so its offsets will be given out again.
    """
    for topic, topic_id in ledger.topic_ids.items():
        if topic not in description.topic_ids:
            if spec.source.reads(topic) and topic not in ledger.lost_topics:
                raise TopicGoneError(spec.table, topic, source.servers)
        elif description.topic_ids[topic] != topic_id:
            raise TopicReplacedError(spec.table, topic, topic_id, description.topic_ids[topic])
    cut = {log: (b.stop, ledger.held[log].stop) for log, b in bounds.items() if ledger.held[log].stop > b.stop}
    if cut:
        raise TopicTruncatedError(spec.table, cut)


def list_expired(missing: TopicRanges, bounds: Bounds) -> TopicRanges:
    """What of the missing offsets lies before the oldest one that Kafka has."""
    return missing & TopicRanges.of({log: [(0, b.low)] for log, b in bounds.items()})


def refuse_expired(table: str, missing: TopicRanges, bounds: Bounds) -> None:
    """Raise OffsetsExpiredError if something that is missing lies before the oldest offset held."""
    if expired := list_expired(missing, bounds):
        raise OffsetsExpiredError(
            table, {log: (held.ranges[0].start, bounds[log].low) for log, held in expired.partitions.items()}
        )
