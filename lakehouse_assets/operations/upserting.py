"""Changes of keys are put into an upsert table, in one snapshot with the ledger that says up to where.

The merge is good for one head of the table only, so it is made again wherever somebody else was first. A change that lacks a
value which the table does not have either is a bad message: it is read again from Kafka, for the quarantine.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from pyiceberg.table import Table

from lakehouse_assets.model.columns import DELETED, KAFKA_OFFSET, KAFKA_PARTITION, KAFKA_TOPIC
from lakehouse_assets.model.errors import BadRecordError, CommitConflictError, SeveralTablesError
from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.offsets import NO_OFFSETS, TopicPartition, TopicRanges
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.collapsing import ChangeBuffer
from lakehouse_assets.operations.quarantine import BadMessage, Quarantined, quarantine_stager, settle
from lakehouse_assets.operations.rereading import read_again
from lakehouse_assets.operations.swapping import publish_prepared
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.systems.changes import Changes
from lakehouse_assets.systems.commit import Delivery, Landed
from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets.systems.merging import MergeFigures, RowMerge
from lakehouse_assets.systems.parquet import delete_staged
from lakehouse_assets.systems.snapshots import Change, table_name

SOURCE_TABLE_KEY = "lakehouse.source-table"  # property: the source's table that all changes so far were of
UNAVAILABLE_CODE = "unavailable_value"
_REASON = (
    "the message leaves the value of {names} out because it did not change, and the table has no row of the key to take it "
    "from; a new snapshot of the source brings it, or a source that sends every value (in PostgreSQL: REPLICA IDENTITY FULL)"
)


@dataclass(frozen=True, slots=True)
class Merged:
    """Changes that landed. `set_aside`: messages that could not be completed, now in quarantine; not counted in `figures`."""

    landed: Landed
    figures: MergeFigures
    file_count: int
    bytes_written: int
    set_aside: Quarantined


@dataclass(slots=True)
class ChangeMerge:
    """One attempt to put changes into a table, over every head that it meets.

    Attributes:
        changes: One per key.
        ledger: As the table had it when the changes were planned.
        check: Looks at each head before anything is written for it; raises where the changes must not be put into it.
        cache: Of the table's files, kept from one commit to the next.
    """

    systems: Systems
    spec: TableSpec
    ledger: Ledger
    changes: Changes
    cache: FileCache
    check: Callable[[Table], None]
    has_several_logs: bool
    _merge: RowMerge | None = None
    _change: Change = Change(())
    _set_aside: Quarantined = Quarantined()

    def publish(self, table: Table, delivery: Delivery) -> Merged:
        """Put the changes in, with the ledger of `delivery`, which brings no files itself.

        Raises:
            BadRecordError: a change lacks a value, and the table stops at such.
            LakehouseError: of the tree; then nothing landed, or CommitOutcomeUnknownError.
        """
        delivery = replace(delivery, replaces=self._swap, by_key=True)
        prepare = partial(self._prepare, ranges=delivery.ranges)
        landed = publish_prepared(self.systems.catalog, table, delivery, prepare, self._undo)
        assert landed is not None  # noqa: S101 - it is always published, for its offsets
        assert self._merge is not None  # noqa: S101
        added = self._change.added
        size_bytes = sum(file.file_size_in_bytes for file in added)
        return Merged(landed, self._merge.figures, len(added), size_bytes, self._set_aside)

    def _prepare(self, head: Table, ranges: TopicRanges) -> bool:
        self.check(head)
        while True:
            self._merge = RowMerge(
                self.changes,
                self.spec.key,
                copy_on_write=self.spec.copy_on_write,
                buffer_bytes=self.spec.buffer_size,
                has_several_logs=self.has_several_logs,
                cache=self.cache,
            )
            self._merge.prepare(head)
            if not len(self._merge.unresolved):
                return True
            self._undo(head)
            self._leave_out(self._merge.unresolved, ranges)

    def _swap(self, head: Table) -> Change:
        assert self._merge is not None  # noqa: S101 - prepared before it is published
        self._change = self._merge.swap(head)
        return self._change

    def _undo(self, head: Table) -> None:
        assert self._merge is not None  # noqa: S101
        delete_staged(head.io, self._merge.written_locations)

    def _leave_out(self, rows: "np.ndarray[tuple[int], np.dtype[np.int64]]", ranges: TopicRanges) -> None:
        """Take changes out that can't be completed. Their messages are bad, but for deletions of what the table has not."""
        incomplete = self.changes.take(rows)
        if DELETED in incomplete.rows.column_names:
            incomplete = incomplete.only(~incomplete.rows.column(DELETED).to_numpy().astype(np.bool_))
        if len(incomplete):
            found = self._quarantine(incomplete)
            settle(self.systems, self.spec, self.ledger, ranges, found, found.offsets)
            self._set_aside = self._set_aside.joined(found)
        rest = np.ones(len(self.changes), np.bool_)
        rest[rows] = False
        self.changes = self.changes.only(rest)

    def _quarantine(self, incomplete: Changes) -> Quarantined:
        """The messages of these changes, read again, as files of the quarantine."""
        lacking = {at: _list_lacking(incomplete, row) for row, at in enumerate(_positions(incomplete, self.ledger.first_topic))}
        if self.spec.on_bad_record == "fail":
            (log, offset), names = next(iter(sorted(lacking.items())))
            raise BadRecordError(self.spec.table, log, offset, _REASON.format(names=names))
        stager = quarantine_stager(self.systems, self.spec, self.ledger)
        try:
            wanted = NO_OFFSETS
            for log, offset in lacking:
                wanted |= TopicRanges.of({log: [(offset, offset + 1)]})
            for batch, is_wanted in read_again(self.systems.source, self.spec.table, wanted):
                places = np.flatnonzero(is_wanted).tolist()
                reasons = [_REASON.format(names=lacking[batch.position(at)]) for at in places]
                if places:
                    stager.add(batch, [BadMessage(at, UNAVAILABLE_CODE, why) for at, why in zip(places, reasons, strict=True)])
            return stager.finish()
        finally:
            stager.abandon()


def refuse_gap(head: Table, ranges: TopicRanges) -> None:
    """Raise unless these offsets follow what the table holds: changes are put in in their order, or not at all.

    Raises:
        CommitConflictError: somebody took the table back since they were planned.
        LedgerMissingError, LedgerLostError, TableReplacedError
    """
    table, ledger = table_name(head), read_ledger(head) or Ledger({})
    for log, added in ranges.partitions.items():
        position = max(ledger.held[log].stop, ledger.start_of(log))
        if added.ranges[0].start > position:
            found = f"changes of {log} from offset {added.ranges[0].start} on were read"
            raise CommitConflictError(table, f"{found}, but it holds them only up to {position}")


def refuse_other_tables(spec: TableSpec, table: Table, met: frozenset[str]) -> Mapping[str, str]:
    """Raise if changes of several tables of the source would become rows of one; the property that remembers whose they are.

    Where the declaration says which are meant, others were skipped already.

    Raises:
        SeveralTablesError
    """
    known = frozenset(filter(None, table.properties.get(SOURCE_TABLE_KEY, "").split(",")))
    if spec.source.tables or not met - known:
        return {}
    if len(known | met) > 1:
        raise SeveralTablesError(spec.table, sorted(known | met))
    return {SOURCE_TABLE_KEY: ",".join(met)}


def collapse_all(spec: TableSpec, pieces: Sequence[Changes]) -> Changes:
    """The changes of one commit, one per key. Each piece holds a key once; those of several workers may share some."""
    if len(pieces) == 1:
        return pieces[0]
    buffer = ChangeBuffer(spec.key, spec.buffer_size)
    for piece in pieces:
        buffer.add(piece)
    changes = buffer.take()
    return Changes.nothing() if changes is None else changes


def _positions(changes: Changes, first_topic: str) -> list[tuple[TopicPartition, int]]:
    rows = changes.rows
    topics = rows.column(KAFKA_TOPIC).to_pylist() if KAFKA_TOPIC in rows.column_names else [first_topic] * len(changes)
    partitions, offsets = (rows.column(name).to_pylist() for name in (KAFKA_PARTITION, KAFKA_OFFSET))
    return [(TopicPartition(t, p), offset) for t, p, offset in zip(topics, partitions, offsets, strict=True)]


def _list_lacking(changes: Changes, row: int) -> str:
    return ", ".join(sorted(name for name, mask in changes.unavailable.items() if mask[row]))
