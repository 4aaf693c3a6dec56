"""Materialising an hour or a day again: the rows of exactly that slice are replaced in one snapshot.

Plan: the slice's offsets, from Kafka's clock. Stage: its messages as new files, and what remains of files that it only partly
fills. Publish: both at once. Safe to repeat, beside live ingestion and beside itself. Refused, before anything is written,
where Kafka holds only a part of what the table has.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from pyiceberg.table import Table

from lakehouse_assets.model.columns import KAFKA_TIMESTAMP
from lakehouse_assets.model.errors import (
    LakehouseError,
    SliceIncompleteError,
)
from lakehouse_assets.model.ledger import Ledger, larger_of_both
from lakehouse_assets.model.offsets import Bounds, TopicPartition, TopicRanges
from lakehouse_assets.model.slices import MAX_AHEAD_MS, Boundaries, SliceClock, boundary_times, slice_offsets
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.watermark import Arrivals
from lakehouse_assets.operations.bad_share import BadShare
from lakehouse_assets.operations.decoding import resolve_columns
from lakehouse_assets.operations.event_times import count_arrivals, read_held_hours
from lakehouse_assets.operations.ingest import CommitReport, build_delivery, build_report, open_table
from lakehouse_assets.operations.intake import open_intake
from lakehouse_assets.operations.quarantine import Quarantined, load_quarantine, quarantine_stager, settle
from lakehouse_assets.operations.retrying import retry_transient
from lakehouse_assets.operations.staging import StagedBatch, Stager, slice_begins_ms
from lakehouse_assets.operations.status import describe_source, refuse_other_log
from lakehouse_assets.operations.swapping import swap_rows, undo_unless_landed
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.systems.parquet import delete_staged
from lakehouse_assets.systems.positions import outside, read_offsets, split_by_log
from lakehouse_assets.systems.schema import position_columns
from lakehouse_assets.systems.slice_files import SliceFiles


@dataclass(frozen=True, slots=True)
class ReplacePlan:
    """One slice: its key and, per topic partition, the offsets to replace and where they start, also where there are none."""

    key: str
    ranges: TopicRanges
    starts: Mapping[TopicPartition, int]
    stops: Mapping[TopicPartition, int]
    newest_ms: Mapping[TopicPartition, int]


def plan_replace(
    clock: SliceClock, key: str, ledger: Ledger, bounds: Bounds, boundaries: Boundaries
) -> ReplacePlan:
    """The slice's offsets, as far as Kafka still holds them. Pure.

    What Kafka no longer holds is left out here, so that it stays missing in the ledger; rows that the table has of it make
    `run_replace` refuse.
    """
    offsets = slice_offsets(clock, key, boundaries, {log: ledger.start_of(log) for log in bounds})
    starts = {log: max(start, bounds[log].low) for log, (start, _) in offsets.items()}
    ranges = TopicRanges.of({log: [(starts[log], stop)] for log, (_, stop) in offsets.items()})
    begin, _ = clock.window_ms(key)
    return ReplacePlan(
        key=key,
        ranges=ranges,
        starts=starts,
        stops={log: b.stop for log, b in bounds.items()},
        newest_ms=dict.fromkeys(bounds, begin),
    )


def run_replace(
    systems: Systems,
    spec: TableSpec,
    keys: Sequence[str],
    *,
    stop: Callable[[], bool],
    on_slice: Callable[[str, CommitReport | None], None],
    on_retry: Callable[[LakehouseError, float], None],
    now_ms: Callable[[], int],
) -> list[str]:
    """Replace the slices of `keys`, one snapshot each, oldest first; return the keys done, all unless `stop()`.

    `on_slice` hears of each slice at once; its report is None where Kafka and table both have no row of it.

    Raises:
        SliceIncompleteError: of any of the keys; then none is touched.
        LakehouseError: of the tree.
        ValueError: the table upserts; its hours are folded again, by `refolding.run_refold`.
    """
    if spec.is_upsert:
        raise ValueError(f"{spec.table} upserts: an hour of it has no rows that could be replaced")
    keys = sorted(keys)
    done: list[str] = []
    plans = retry_transient(lambda: _plan_all(systems, spec, keys, now_ms), stop, on_retry)
    for plan in plans:
        if stop():
            break
        report = retry_transient(partial(_replace_one, systems, spec, plan, stop, now_ms), stop, on_retry)
        if report is _STOPPED:
            break
        on_slice(plan.key, report if isinstance(report, CommitReport) else None)
        done.append(plan.key)
    return done


_STOPPED = object()


def _plan_all(systems: Systems, spec: TableSpec, keys: Sequence[str], now_ms: Callable[[], int]) -> list[ReplacePlan]:
    spec = resolve_columns(systems, spec)
    table, ledger = open_table(systems, spec, now_ms)
    return plan_slices(systems, spec, table, ledger, keys, now_ms)


def plan_slices(
    systems: Systems, spec: TableSpec, table: Table, ledger: Ledger, keys: Sequence[str], now_ms: Callable[[], int]
) -> list[ReplacePlan]:
    """What each slice would replace, in the order of `keys`. Reads no message, changes nothing.

    Raises:
        SliceIncompleteError: of any of the keys.
        SourceError
    """
    source = systems.source
    clock = SliceClock(spec.partitions.every, spec.partitions.start)
    description = describe_source(source, spec)
    bounds = source.read_bounds(spec.table, description.logs)
    refuse_other_log(source, spec, ledger, description, bounds)
    boundaries = source.find_boundaries(spec.table, bounds, boundary_times(clock, keys), now_ms())
    plans = [plan_replace(clock, key, ledger, bounds, boundaries) for key in keys]
    _refuse_what_kafka_lost(table, ledger.first_topic, spec, clock, plans, now_ms())
    return plans


def _refuse_what_kafka_lost(
    table: Table, first_topic: str, spec: TableSpec, clock: SliceClock, plans: Sequence[ReplacePlan], now_ms: int
) -> None:
    """Raise if the table has rows of a slice that lie before the first message that Kafka still has of it.

    A slice begins at the first message stamped at or after its start. A row that is stamped so and lies before it came from a
    message that Kafka dropped since: expired, deleted, or compacted.
    """
    windows = {plan.key: clock.window_ms(plan.key) for plan in plans}
    begin = min((begin for begin, _ in windows.values()), default=0)
    first_rows = _first_rows(
        table,
        first_topic,
        clock,
        (0 if begin <= clock.start_ms else begin, max((end for _, end in windows.values()), default=0)),
        max((start for plan in plans for start in plan.starts.values()), default=0),
        now_ms,
    )
    for plan in plans:
        at, _ = windows[plan.key]
        missing = {
            log: (first[at], plan.starts[log])
            for log, first in first_rows.items()
            if log in plan.starts and at in first and first[at] < min(plan.starts[log], _next_begin(first, at))
        }
        if missing:
            raise SliceIncompleteError(spec.table, plan.key, missing)


def _next_begin(first: Mapping[int, int], begin_ms: int) -> int:
    """Smallest offset of any later slice's rows: behind it, rows of this slice belong to the later one."""
    return min((offset for later, offset in first.items() if later > begin_ms), default=2**63 - 1)


def _first_rows(
    table: Table, first_topic: str, clock: SliceClock, window_ms: tuple[int, int], below_offset: int, now_ms: int
) -> dict[TopicPartition, dict[int, int]]:
    """Smallest offset per topic partition and slice beginning, among plausibly stamped rows of a window below an offset."""
    begin, end = map(_iso, window_ms)
    columns = position_columns(table.schema())
    scan = table.scan(
        row_filter=f"{KAFKA_TIMESTAMP} >= '{begin}' and {KAFKA_TIMESTAMP} < '{end}' and {columns.offset} < {below_offset}",
        selected_fields=(*columns.names, KAFKA_TIMESTAMP),
    )
    first: dict[TopicPartition, dict[int, int]] = {}
    for batch in scan.to_arrow_batch_reader():
        offsets = read_offsets(batch, columns)
        stamps_ms = batch.column(KAFKA_TIMESTAMP).cast("int64").to_numpy(zero_copy_only=False) // 1000
        begins = slice_begins_ms(clock, stamps_ms)
        plausible = stamps_ms <= now_ms + MAX_AHEAD_MS
        for log, of_log in split_by_log(batch, columns, first_topic):
            mine = plausible & of_log
            for at in np.unique(begins[mine]).tolist():
                smallest = int(offsets[mine & (begins == at)].min())
                known = first.setdefault(log, {})
                known[at] = min(smallest, known.get(at, smallest))
    return first


def _iso(time_ms: int) -> str:
    return np.datetime64(time_ms, "ms").item().isoformat() + "+00:00"


def _replace_one(
    systems: Systems, spec: TableSpec, plan: ReplacePlan, stop: Callable[[], bool], now_ms: Callable[[], int]
) -> object:
    """Stage the slice once, then publish; where the table moved under it, only the rest of old files is written again."""
    spec = resolve_columns(systems, spec)
    table, ledger = open_table(systems, spec, now_ms, judged_before=spec.column_source is None)
    batch = _stage_slice(systems, spec, table, ledger, plan, stop, now_ms)
    if batch is None:
        return _STOPPED
    return _publish_slice(systems, spec, table, ledger, plan, batch)


def _stage_slice(
    systems: Systems,
    spec: TableSpec,
    table: Table,
    ledger: Ledger,
    plan: ReplacePlan,
    stop: Callable[[], bool],
    now_ms: Callable[[], int],
) -> StagedBatch | None:
    if not plan.ranges:
        return StagedBatch.empty()
    intake, quarantine = open_intake(systems, spec, table, spec.buffer_size), quarantine_stager(systems, spec, ledger)
    stager = Stager(spec, plan.newest_ms, now_ms, intake, quarantine, share=BadShare(spec))
    ranges = {log: (held.ranges[0].start, held.stop) for log, held in plan.ranges.partitions.items()}
    with systems.source.reader(spec.table, ranges) as reader:
        return next(stager.stage(reader, stop, whole=True), None)


def _publish_slice(
    systems: Systems, spec: TableSpec, table: Table, ledger: Ledger, plan: ReplacePlan, batch: StagedBatch
) -> CommitReport | None:
    description = describe_source(systems.source, spec)  # after reading, so it proves what was read
    taken = SliceFiles(plan.ranges, ledger.first_topic)
    # What became bad enters the quarantine before its row leaves the table, and what became good leaves it after its row came:
    # a crash in between leaves a message in both, which the next attempt mends, and never in neither.
    check = partial(_refuse_if_kafka_has_less, spec=spec, plan=plan, taken=taken, batch=batch)
    with undo_unless_landed(lambda: delete_staged(table.io, [file.location for file in batch.files])):
        delivery = replace(build_delivery(spec, table, description, batch), ranges=plan.ranges, replaces=taken.swap, again=True)
        delivery = replace(delivery, arrivals=_count_changed(spec, table, ledger, plan, batch))
        if batch.bad.count:
            settle(systems, spec, ledger, plan.ranges, batch.bad, batch.bad.offsets)
        landed = swap_rows(systems.catalog, table, taken, delivery, spec.buffer_size, check, may_be_empty=batch.bad.count > 0)
    if batch.good_offsets and load_quarantine(systems, spec) is not None:
        settle(systems, spec, ledger, plan.ranges, Quarantined(), batch.good_offsets)
    return build_report(spec, batch, landed, plan.stops) if landed is not None else None


def _count_changed(
    spec: TableSpec, table: Table, ledger: Ledger, plan: ReplacePlan, batch: StagedBatch
) -> Arrivals | None:
    """Rows by hour that are put in, or taken out of an hour that gets fewer: who has read it before has to hear of either."""
    if spec.event_time is None:
        return None
    held = read_held_hours(spec.event_time, table, ledger.first_topic, plan.ranges)
    hours = larger_of_both(dict(batch.event_times.hours), dict(held.hours))
    return count_arrivals(spec, replace(batch.event_times, hours=hours))


def _refuse_if_kafka_has_less(
    table: Table, *, spec: TableSpec, plan: ReplacePlan, taken: SliceFiles, batch: StagedBatch
) -> None:
    """Raise if the table holds an offset of the slice that Kafka did not give again (log compaction, deleted records)."""
    missing: dict[TopicPartition, tuple[int, int]] = {}
    for log, offsets in taken.read_offsets(table).items():
        lost = outside(offsets, batch.good_offsets[log] | batch.bad.offsets[log])
        if len(lost):
            missing[log] = (int(lost[0]), int(lost[-1]) + 1)
    if missing:
        raise SliceIncompleteError(spec.table, plan.key, missing)
