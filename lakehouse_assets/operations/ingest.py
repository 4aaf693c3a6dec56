"""Ingestion: brings a table forward from its ledger to the end of its topic, one guarded commit after the other.

Plan: which offsets are missing (pure). Stage: `operations.staging`. Publish: `systems.commit`. A run that dies anywhere leaves
at most orphan files; the next one starts from the ledger and needs no repair.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from pyiceberg.table import Table

from lakehouse_assets.model.changes import SchemaChange
from lakehouse_assets.model.column_spec import ColumnSpec
from lakehouse_assets.model.errors import LakehouseError
from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.offsets import NO_OFFSETS, Bounds, TopicPartition, TopicRanges
from lakehouse_assets.model.schemas import SubjectVersion
from lakehouse_assets.model.slices import to_ms
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.unknown import UnknownFields
from lakehouse_assets.model.watermark import EventTimes
from lakehouse_assets.operations.decoding import resolve_columns
from lakehouse_assets.operations.event_times import build_move, count_arrivals
from lakehouse_assets.operations.pacing import Pace, Pacer
from lakehouse_assets.operations.quarantine import find_unsettled, settle
from lakehouse_assets.operations.retrying import retry_transient
from lakehouse_assets.operations.staging import StagedBatch
from lakehouse_assets.operations.status import describe_source, list_topics, refuse_expired, refuse_other_log
from lakehouse_assets.operations.swapping import undo_unless_landed
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.operations.upserting import (
    ChangeMerge,
    Merged,
    collapse_all,
    refuse_gap,
    refuse_other_tables,
)
from lakehouse_assets.operations.workers import stage_batches
from lakehouse_assets.systems.catalog import ensure_table, require_table
from lakehouse_assets.systems.commit import Delivery, Landed, publish
from lakehouse_assets.systems.datafiles import build_data_files
from lakehouse_assets.systems.evolution import find_schema_change
from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets.systems.kafka import KafkaSource, SourceDescription
from lakehouse_assets.systems.merging import MergeFigures
from lakehouse_assets.systems.messages import Ranges
from lakehouse_assets.systems.parquet import delete_staged
from lakehouse_assets.systems.schema import Base, TableShape, position_columns
from lakehouse_assets.systems.snapshots import read_totals

CACHE_SHARE = 4  # of the memory for rows, what may be kept of an upsert table's files


@dataclass(frozen=True, slots=True)
class CommitReport:
    """One commit that landed, in numbers.

    `says_topic`: rows of the table say their topic. `slice_rows`: rows by the beginning of their slice, ms since 1970.
    `bad_codes`: quarantined messages by their error code. `schema_change`: since the commit before, whoever made it.
    `read_count` = `row_count` + quarantined + `skipped_count` + `filtered_count`, where messages are rows.
    `column_source`: the schema that gave `derived_columns`, where none are declared. `merge`: what the changes of an upsert
    table did; `row_count` and `slice_rows` are the changes that were read then. `dead_rows`: rows in data files that
    `delete_file_count` files mark as gone; `total_rows` are the others. `pace`: with which it came.
    `watermark_ms`: the event-time watermark since this commit; `late_rows`: rows by the hour in which they happened, if over.
    """

    table: str
    location: str
    says_topic: bool
    snapshot_id: int
    ranges: TopicRanges
    slice_rows: Mapping[int, int]
    row_count: int
    read_count: int
    skipped_count: int
    filtered_count: int
    bad_codes: Mapping[str, int]
    bytes_written: int
    data_file_count: int
    total_rows: int
    lag_before: int
    lag_after: int
    commit_seconds: float
    commit_attempts: int
    schema_change: SchemaChange | None = None
    column_source: SubjectVersion | None = None
    derived_columns: tuple[ColumnSpec, ...] = ()
    unknown: UnknownFields = UnknownFields()
    merge: MergeFigures | None = None
    delete_file_count: int = 0
    dead_rows: int = 0
    pace: Pace = Pace()
    watermark_ms: int | None = None
    late_rows: Mapping[int, int] = field(default_factory=dict)
    event_times: EventTimes = EventTimes()


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What a run did. `rowless`: offsets behind the last commit that were read and held no row, so they are no lag."""

    commits: int
    row_count: int
    ended: str
    rowless: TopicRanges = NO_OFFSETS


def plan_ingest(
    table: str,
    ledger: Ledger,
    rowless: TopicRanges,
    bounds: Bounds,
    until: Mapping[TopicPartition, int] | None = None,
) -> Ranges:
    """Choose the next range of each topic partition from what the ledger lacks; without a stop it means on and on. Pure.

    `rowless` was read already in this run, and held no row.

    The range at the end of a log is open, so that a run goes on with what arrives. Where a topic partition has gaps before it,
    every range of this plan is closed, and the next plan goes on from there. With `until` all are closed, and none where the
    table is there, or where a log ends that was cut short.

    Raises:
        OffsetsExpiredError: something that the table lacks is not in the log any more.
    """
    done = ledger.held | rowless
    stops = {log: b.stop if until is None else min(b.stop, until.get(log, 0)) for log, b in bounds.items()}
    missing = ledger.missing(stops) - rowless
    refuse_expired(table, missing, bounds)
    has_gaps = any(len(held.ranges) > 1 or held.stop < stops[log] for log, held in missing.partitions.items())
    ranges: dict[TopicPartition, tuple[int, int | None]] = {}
    for log, bound in bounds.items():
        first = missing[log].ranges[0] if missing[log] else None
        if has_gaps or until is not None:
            if first is not None:
                ranges[log] = (first.start, first.stop)
        else:
            start = first.start if first is not None else max(done[log].stop, ledger.start_of(log), bound.low)
            ranges[log] = (start, None)
    return ranges


def open_table(
    systems: Systems, spec: TableSpec, now_ms: Callable[[], int], *, judged_before: bool = False
) -> tuple[Table, Ledger]:
    """The declared table and its ledger, which knows every topic of it. See `ensure_table`.

    Created on first use, and brought to its declaration.
    """
    shape = TableShape.declared(spec)
    while True:
        table, ledger = ensure_table(
            systems.catalog,
            shape,
            lambda: _with_beginnings(systems.source, spec, Ledger({}), now_ms(), spec.source.start),
            judged_before=judged_before,
        )
        if not spec.source.has_several or ledger.topic_ids.keys() >= set(list_topics(systems.source, spec)):
            return table, ledger
        # A topic that joins later has messages from before it was found: none of them may be left out.
        start = "earliest" if spec.source.start == "latest" else spec.source.start
        joined = _with_beginnings(systems.source, spec, ledger, now_ms(), start)
        publish(systems.catalog, spec.table, Delivery.amending(table, partial(Ledger.with_topics_of, other=joined)))


def _with_beginnings(
    source: KafkaSource, spec: TableSpec, ledger: Ledger, now_ms: int, start: "datetime | str"
) -> Ledger:
    """The ledger with the topics that it does not know yet; they begin where `start` says, with nothing held."""
    description = describe_source(source, spec)
    bounds = source.read_bounds(spec.table, description.logs)
    if isinstance(start, datetime):
        found = source.find_boundaries(spec.table, bounds, [to_ms(start)], now_ms)
        starts = {log: times[to_ms(start)] for log, times in found.items()}
    else:
        starts = {log: b.low if start == "earliest" else b.stop for log, b in bounds.items()}
    return ledger.with_topics(description.topic_ids, starts)


def run_ingest(
    systems: Systems,
    spec: TableSpec,
    *,
    stop: Callable[[], bool],
    on_commit: Callable[[CommitReport], None],
    on_retry: Callable[[LakehouseError, float], None],
    now_ms: Callable[[], int],
    until: Mapping[TopicPartition, int] | None = None,
    patience: timedelta | None = None,
) -> IngestResult:
    """Drain the topic into the table until it is quiet for the `patience`, the time limit is reached, or `stop()`.

    The patience is a commit interval unless it is given. With `until`, until the table is there: no further, and without a time
    limit. Ends at a commit boundary in every case. Errors that can pass by themselves are tried again with growing waits; every
    commit that lands starts the count anew.

    Raises:
        LakehouseError: of the tree; a retryable one only after several failures in a row.
    """
    deadline = time.monotonic() + spec.run_time_limit.total_seconds() if until is None else float("inf")
    state = _Run(systems, spec, on_commit, now_ms, lambda: stop() or time.monotonic() >= deadline, until, patience)
    while True:
        finished = retry_transient(state.drain_once, stop, on_retry, lambda: state.commits)
        if stop():
            return state.result("stopped")
        if time.monotonic() >= deadline:
            return state.result("time limit")
        if finished:
            return state.result("caught up")


class _Run:
    """The state of one run over its retries."""

    def __init__(
        self,
        systems: Systems,
        spec: TableSpec,
        on_commit: Callable[[CommitReport], None],
        now_ms: Callable[[], int],
        stop: Callable[[], bool],
        until: Mapping[TopicPartition, int] | None,
        patience: timedelta | None,
    ) -> None:
        self._until, self._patience = until, patience
        self._systems, self._spec, self._on_commit = systems, spec, on_commit
        self._declared = spec
        self._now_ms, self._stop = now_ms, stop
        self.commits = 0
        self._rows = 0
        # Read, but without a row in it: control records, tombstones, what log compaction left out. It alone makes no commit;
        # the next one takes it along.
        self._rowless: StagedBatch | None = None
        self._has_opened = False
        self._ledger = Ledger({})
        self._unsettled = NO_OFFSETS
        self._met: frozenset[str] = frozenset()  # tables of the source
        self._cache = FileCache(spec.buffer_size // CACHE_SHARE)
        self._pacer = Pacer(spec, now_ms)

    def result(self, ended: str) -> IngestResult:
        return IngestResult(self.commits, self._rows, ended, self._rowless_ranges)

    @property
    def _rowless_ranges(self) -> TopicRanges:
        return self._rowless.ranges if self._rowless is not None else NO_OFFSETS

    def drain_once(self) -> bool:
        """Plan, then stage and publish until the plan is done. True: nothing was left to plan."""
        systems, spec = self._systems, resolve_columns(self._systems, self._declared)
        self._has_opened = self._has_opened and spec == self._spec  # the registry may have given other columns since
        self._spec = spec
        table, ledger = open_table(systems, spec, self._now_ms, judged_before=self._has_opened)
        self._has_opened = True
        description = describe_source(systems.source, spec)
        bounds = systems.source.read_bounds(spec.table, description.logs)
        refuse_other_log(systems.source, spec, ledger, description, bounds)
        self._forget_rowless(ledger.held)
        self._ledger = ledger
        self._unsettled = find_unsettled(systems, spec, ledger)
        plan = plan_ingest(spec.table, ledger, self._rowless_ranges, bounds, self._until)
        if not plan:
            return True
        self._pacer.look(table.metadata, lambda: table)
        slowdown, grown = self._pacer.pace.slowdown, False

        def is_outdated() -> bool:
            return grown or self._pacer.pace.slowdown != slowdown

        def stop() -> bool:
            return is_outdated() or self._stop()

        pace = (slowdown, self._patience)
        for batch in stage_batches(systems, spec, table, ledger, plan, stop, self._now_ms, *pace):
            # A topic created again under its name has other messages at these offsets. Its id is looked up after they were
            # read, so an equal id proves that they come from the topic that the ledger means.
            now = describe_source(systems.source, spec)
            self._publish(table, batch, now)
            grown = now != description
        has_gaps = any(end is not None for _, end in plan.values())
        return not is_outdated() and not has_gaps

    def _forget_rowless(self, held: TopicRanges) -> None:
        # Another run may have taken them along; adding them again would make every commit of this one stale.
        if self._rowless is not None:
            self._rowless = replace(self._rowless, ranges=self._rowless.ranges - held)

    def _publish(self, table: Table, batch: StagedBatch, description: SourceDescription) -> None:
        if self._rowless is not None:
            batch = self._rowless.joined(batch)
        # Filtered messages may be all there is, for ever: unless they are committed, every run reads them again.
        if not (batch.row_count or batch.changes or batch.bad.count or batch.filtered_count):
            self._rowless = batch
            return
        source, spec = self._systems.source, self._spec
        stops = {log: b.stop for log, b in source.read_bounds(spec.table, description.logs).items()}
        with undo_unless_landed(lambda: delete_staged(table.io, [file.location for file in batch.files])):
            delivery = build_delivery(spec, table, description, batch)
            delivery = replace(delivery, properties=refuse_other_tables(spec, table, self._met | batch.tables))
            if spec.event_time is not None:
                ledger = self._ledger.with_rows(batch.ranges, batch.last_row, batch.newest_ms)
                newest_ms, missing = batch.event_times.newest_ms, ledger.missing(stops)
                move = build_move(spec, table, ledger, newest_ms, stops, missing, self._now_ms())
                delivery = replace(delivery, watermark=move)
            if batch.bad.count or self._unsettled & batch.ranges:
                read_again = batch.good_offsets | batch.bad.offsets
                settle(self._systems, spec, self._ledger, batch.ranges, batch.bad, read_again)
            if spec.mode == "append":
                landed, merged = publish(self._systems.catalog, spec.table, delivery), None
            else:
                merged = self._merge(batch, delivery, has_several_logs=len(description.logs) > 1)
                landed = merged.landed
        self._rowless = None
        self._met |= batch.tables
        self._ledger = landed.ledger
        self.commits += 1
        self._rows += batch.row_count
        report = build_report(spec, batch, landed, stops, merged)
        self._on_commit(replace(report, pace=self._pacer.pace))
        self._pacer.look(landed.metadata, lambda: require_table(self._systems.catalog, spec.table))

    def _merge(self, batch: StagedBatch, delivery: Delivery, *, has_several_logs: bool) -> Merged:
        spec = self._spec
        head = require_table(self._systems.catalog, spec.table)
        changes = collapse_all(spec, batch.changes)
        merge = ChangeMerge(
            self._systems,
            spec,
            self._ledger,
            changes,
            self._cache,
            lambda head: refuse_gap(head, delivery.ranges),
            has_several_logs,
        )
        return merge.publish(head, delivery)


def build_delivery(spec: TableSpec, table: Table, description: SourceDescription, batch: StagedBatch) -> Delivery:
    """The rows of a batch on their way into `table`. The topics were described after they were read."""
    return Delivery(
        topic_ids=description.topic_ids,
        ranges=batch.ranges,
        files=build_data_files(table, batch.files),
        last_row=batch.last_row,
        newest_ms=batch.newest_ms,
        base=Base.of(table),
        arrivals=count_arrivals(spec, batch.event_times),
    )


def build_report(
    spec: TableSpec,
    batch: StagedBatch,
    landed: Landed,
    stops: Mapping[TopicPartition, int],
    merged: Merged | None = None,
) -> CommitReport:
    """Put a landed commit into numbers. `stops`: ends of the logs, just before the commit. `merged`: of an upsert table."""
    bad = batch.bad if merged is None else batch.bad.joined(merged.set_aside)
    totals = read_totals(landed.metadata.snapshot_by_id(landed.snapshot_id))
    return CommitReport(
        table=spec.table,
        location=landed.metadata.location,
        says_topic=position_columns(landed.metadata.schema()).topic is not None,
        snapshot_id=landed.snapshot_id,
        ranges=batch.ranges,
        slice_rows=batch.slice_rows,
        row_count=batch.row_count,
        read_count=batch.read_count,
        skipped_count=batch.skipped_count,
        filtered_count=batch.filtered_count,
        bad_codes=bad.codes,
        bytes_written=sum(file.size_bytes for file in batch.files) if merged is None else merged.bytes_written,
        data_file_count=len(batch.files) if merged is None else merged.file_count,
        total_rows=totals.live_rows,
        lag_before=landed.before.lag(stops),
        lag_after=landed.ledger.lag(stops),
        commit_seconds=landed.seconds,
        commit_attempts=landed.attempts,
        unknown=batch.unknown,
        schema_change=find_schema_change(landed.metadata, landed.snapshot_id),
        column_source=spec.column_source,
        derived_columns=spec.columns if spec.column_source is not None else (),
        merge=merged.figures if merged is not None else None,
        delete_file_count=totals.delete_files,
        dead_rows=totals.dead_rows,
        watermark_ms=landed.ledger.watermark_ms,
        late_rows=batch.event_times.late(landed.before.watermark_ms),
        event_times=batch.event_times,
    )
