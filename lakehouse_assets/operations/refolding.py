"""Materialising hours of an upsert table: the log from their beginning on is folded again, and put in.

Plan: from where to where, from Kafka's clock. Up to the table's position the last change of each key takes the place of what
the table has, so no older one wins and no deleted row comes back, in whatever snapshot; the ledger stays. Then the table is
brought forward to the end of the hours, as a run of the sensor does. A change that the table lost comes back; a row that
somebody else deleted does too, if the log has a change of its key since the beginning of the hours.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pyiceberg.table import Table

from lakehouse_assets.model.errors import (
    CommitConflictError,
    LakehouseError,
    ReplayImpossibleError,
)
from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.offsets import Bounds, TopicPartition, TopicRanges
from lakehouse_assets.model.slices import Boundaries, SliceClock, boundary_times, slice_offsets
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.bad_share import BadShare
from lakehouse_assets.operations.decoding import resolve_columns
from lakehouse_assets.operations.ingest import (
    CACHE_SHARE,
    CommitReport,
    build_delivery,
    build_report,
    open_table,
    run_ingest,
)
from lakehouse_assets.operations.intake import BUFFER_SHARE, open_change_intake
from lakehouse_assets.operations.quarantine import Quarantined, load_quarantine, quarantine_stager, settle
from lakehouse_assets.operations.retrying import retry_transient
from lakehouse_assets.operations.spilling import SpilledChanges
from lakehouse_assets.operations.staging import StagedBatch, Stager
from lakehouse_assets.operations.status import describe_source, refuse_other_log
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.operations.upserting import ChangeMerge, Merged, refuse_other_tables
from lakehouse_assets.systems.catalog import require_table
from lakehouse_assets.systems.changes import Changes
from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets.systems.history import read_ledger

_TELL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class RefoldPlan:
    """What materialising some hours reads, per topic partition.

    Attributes:
        again: Offsets that the table holds, from the beginning of the first hour to its position.
        stops: The end of the last hour, as far as the log goes: where the table is brought to.
        begin_ms: Beginning of the first hour, ms since 1970.
    """

    keys: tuple[str, ...]
    again: TopicRanges
    stops: Mapping[TopicPartition, int]
    begin_ms: int


def plan_refold(
    table: str, clock: SliceClock, keys: Sequence[str], ledger: Ledger, bounds: Bounds, boundaries: Boundaries
) -> RefoldPlan:
    """From where to where the log is read for these hours. Pure.

    Raises:
        ReplayImpossibleError: Kafka dropped changes that may belong to the first of them.
    """
    first, last = min(keys), max(keys)
    starts = {log: ledger.start_of(log) for log in bounds}
    begins = {log: begin for log, (begin, _) in slice_offsets(clock, first, boundaries, starts).items()}
    positions = {log: max(ledger.held[log].stop, starts[log]) for log in bounds}
    lost = {
        log: (min(begins[log], bounds[log].low - 1), bounds[log].low)
        for log in bounds
        if begins[log] < positions[log] and begins[log] <= bounds[log].low and bounds[log].low > starts[log]
    }
    if lost:
        raise ReplayImpossibleError(table, first, lost)
    ends = {log: end for log, (_, end) in slice_offsets(clock, last, boundaries, starts).items()}
    return RefoldPlan(
        keys=tuple(sorted(keys)),
        again=TopicRanges.of({log: [(begins[log], max(begins[log], positions[log]))] for log in bounds}) & ledger.held,
        stops={log: min(end, bounds[log].stop) for log, end in ends.items()},
        begin_ms=clock.window_ms(first)[0],
    )


def run_refold(
    systems: Systems,
    spec: TableSpec,
    keys: Sequence[str],
    *,
    stop: Callable[[], bool],
    on_commit: Callable[[CommitReport], None],
    on_retry: Callable[[LakehouseError, float], None],
    now_ms: Callable[[], int],
    on_progress: Callable[[int, int], None] = lambda _read, _total: None,
) -> bool:
    """Fold the log again from the beginning of the first of these hours, and bring the table to the end of the last.

    Safe to repeat, and beside live ingestion. False: `stop()` ended it before; no snapshot shows an older state all the same.
    `on_progress` hears now and then how many of the offsets that the table holds have been read again, and of how many.

    Raises:
        ReplayImpossibleError: Kafka no longer has the first hour whole; then nothing was changed.
        LakehouseError: of the tree.
    """
    plan = retry_transient(lambda: read_plan(systems, spec, keys, now_ms), stop, on_retry)

    def fold() -> bool:
        return _Fold(systems, spec, now_ms, stop, on_commit, on_progress).run(plan)

    if plan.again and not retry_transient(fold, stop, on_retry):
        return False
    result = run_ingest(
        systems, spec, stop=stop, on_commit=on_commit, on_retry=on_retry, now_ms=now_ms, until=plan.stops
    )
    return result.ended != "stopped"


def read_plan(systems: Systems, spec: TableSpec, keys: Sequence[str], now_ms: Callable[[], int]) -> RefoldPlan:
    """What `run_refold` would read, as things are now. Reads no message.

    Raises:
        ReplayImpossibleError, SourceError, TableError, CatalogUnavailableError
    """
    spec = resolve_columns(systems, spec)
    _, ledger = open_table(systems, spec, now_ms)
    return plan_hours(systems, spec, ledger, keys, now_ms)


def plan_hours(
    systems: Systems, spec: TableSpec, ledger: Ledger, keys: Sequence[str], now_ms: Callable[[], int]
) -> RefoldPlan:
    """The same, of a table whose ledger is known; creates nothing."""
    clock = SliceClock(spec.partitions.every, spec.partitions.start)
    description = describe_source(systems.source, spec)
    bounds = systems.source.read_bounds(spec.table, description.logs)
    refuse_other_log(systems.source, spec, ledger, description, bounds)
    boundaries = systems.source.find_boundaries(spec.table, bounds, boundary_times(clock, keys), now_ms())
    return plan_refold(spec.table, clock, keys, ledger, bounds, boundaries)


class _MovedOnError(Exception):
    """Live ingestion brought newer changes meanwhile."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        super().__init__()


class _Fold:
    """Folds again what a table holds already, in one snapshot or, where memory asks for it, in one for each share of the keys.

    While it lasts, what live ingestion adds to the ledger is read too: then a snapshot of this fold shows it as well.
    """

    def __init__(
        self,
        systems: Systems,
        spec: TableSpec,
        now_ms: Callable[[], int],
        stop: Callable[[], bool],
        on_commit: Callable[[CommitReport], None],
        on_progress: Callable[[int, int], None],
    ) -> None:
        self._on_progress = on_progress
        self._systems, self._spec = systems, resolve_columns(systems, spec)
        self._now_ms, self._stop, self._on_commit = now_ms, stop, on_commit
        self._table, self._ledger = open_table(systems, self._spec, now_ms)
        self._cache = FileCache(spec.buffer_size // CACHE_SHARE)
        self._batch = StagedBatch.empty()
        self._set_aside = Quarantined()

    def run(self, plan: RefoldPlan) -> bool:
        """Whether it was done; not, if `stop()` came first."""
        systems, spec = self._systems, self._spec
        with SpilledChanges(self._table.schema(), spec.key, spec.buffer_size // BUFFER_SHARE) as spilled:
            if not self._read(plan.again & self._ledger.held, plan.begin_ms, spilled):
                return False
            for share in spilled.shares():
                if self._stop() or not self._put(share, plan.begin_ms, spilled):
                    return False
        good = self._batch.good_offsets - self._set_aside.offsets
        if good and load_quarantine(systems, spec) is not None:
            settle(systems, spec, self._ledger, self._batch.ranges, Quarantined(), good)
        return True

    def _read(self, ranges: TopicRanges, begin_ms: int, spilled: SpilledChanges) -> bool:
        """Read offsets that the table holds; what is bad of them is in quarantine then. False: `stop()` came first."""
        systems, spec = self._systems, self._spec
        intake = open_change_intake(systems, spec, self._table, spec.buffer_size, spilled.add)
        quarantine = quarantine_stager(systems, spec, self._ledger)
        newest_ms, bad_share = dict.fromkeys(ranges.partitions, begin_ms), BadShare(spec)
        stager = Stager(spec, newest_ms, self._now_ms, intake, quarantine, share=bad_share)
        bounds = {log: (held.ranges[0].start, held.stop) for log, held in ranges.partitions.items()}
        told_at = time.monotonic()

        def stop() -> bool:
            nonlocal told_at
            if time.monotonic() - told_at >= _TELL_SECONDS:
                read = sum(at - bounds[log][0] for log, at in reader.next_offsets.items())
                self._on_progress(read, ranges.span)
                told_at = time.monotonic()
            return self._stop()

        with systems.source.reader(spec.table, bounds) as reader:
            batch = next(stager.stage(reader, stop, whole=True), None)
        if batch is None:
            return False
        refuse_other_tables(spec, self._table, self._batch.tables | batch.tables)
        for changes in batch.changes:
            spilled.add(changes)
        if batch.bad.count:
            settle(systems, spec, self._ledger, batch.ranges, batch.bad, batch.bad.offsets)
        self._batch = self._batch.joined(replace(batch, changes=()))
        return True

    def _put(self, share: Sequence[int], begin_ms: int, spilled: SpilledChanges) -> bool:
        """One snapshot with the last changes of a share of the keys. False: `stop()` came first."""
        while True:
            try:
                merged = self._publish(spilled.collapse(share))
            except _MovedOnError as moved:
                added, self._ledger = moved.ledger.held - self._ledger.held, moved.ledger
                if not self._read(added, begin_ms, spilled):
                    return False
                continue
            self._set_aside = self._set_aside.joined(merged.set_aside)
            stops = {log: held.stop for log, held in merged.landed.ledger.held.partitions.items()}
            self._on_commit(build_report(self._spec, self._batch, merged.landed, stops, merged))
            # Counted once; the other shares are of the same messages.
            done = self._batch
            self._batch = replace(
                StagedBatch.empty(),
                ranges=done.ranges,
                good_offsets=done.good_offsets,
                tables=done.tables,
                event_times=done.event_times,  # which share has a late row is not known, so each says that they came
            )
            return True

    def _publish(self, changes: Changes) -> Merged:
        systems, spec = self._systems, self._spec
        description = describe_source(systems.source, spec)  # after reading, so it proves what was read
        head = require_table(systems.catalog, spec.table)
        # The table has the rows of the keys already, and what was truncated is gone from it. Values that no change since the
        # beginning holds are those of its own row, not of the key before: under that there may be another row by now.
        changes = replace(changes, truncated=None, old_keys=None)
        several = len(description.logs) > 1
        merge = ChangeMerge(systems, spec, self._ledger, changes, self._cache, self._refuse_moved, several)
        batch = replace(StagedBatch.empty(), ranges=self._batch.ranges, event_times=self._batch.event_times)
        return merge.publish(head, replace(build_delivery(spec, self._table, description, batch), again=True))

    def _refuse_moved(self, head: Table) -> None:
        """Raise unless the table holds exactly what was read up to."""
        ledger = read_ledger(head) or Ledger({})
        if ledger.held == self._ledger.held:
            return
        if self._ledger.held - ledger.held:
            raise CommitConflictError(self._spec.table, "it was taken back to before the changes that were folded again")
        raise _MovedOnError(ledger)
