"""Compares the rows of a table with its ledger: nothing missing, nothing twice, no stamp from the future. Read-only.

Looks at the newest offsets of each topic partition, in bounded memory; older ones were looked at when they were new.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pyiceberg.table import Table

from lakehouse_assets.model.columns import KAFKA_TIMESTAMP
from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.offsets import (
    NO_OFFSETS,
    Bounds,
    RangeSet,
    TopicPartition,
    TopicRanges,
)
from lakehouse_assets.model.slices import MAX_AHEAD_MS
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.decoding import messages_at, open_decoder, resolve_columns
from lakehouse_assets.operations.rereading import read_again
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.systems.positions import (
    Offsets,
    contains,
    list_runs,
    read_offsets,
    rows_inside,
    split_by_log,
)
from lakehouse_assets.systems.schema import position_columns

WINDOW_OFFSETS = 4_000_000  # over all topic partitions; at 12 bytes each, the memory that an audit takes
FILTERED_WINDOW_OFFSETS = 200_000  # where `where` leaves messages out: what looks like a gap is read from Kafka again


@dataclass(frozen=True, slots=True)
class PositionAudit:
    """What the rows say. `gaps`: offsets that the ledger holds and no row has; a topic's own gaps are among them."""

    row_count: int
    duplicates: TopicRanges
    gaps: TopicRanges
    unledgered: TopicRanges
    holes: TopicRanges


def audit_positions(
    table: Table, ledger: Ledger, quarantine: Table | None = None, window: int = WINDOW_OFFSETS
) -> PositionAudit:
    """Compare the offsets of the newest rows with the ledger, per topic partition. `ledger` must hold something.

    A message in quarantine counts as there, so one that stands in both tables is a duplicate.

    `unledgered` are offsets that rows have and the ledger has not; `holes` as `find_holes` has them.
    """
    share = window // max(1, len(ledger.held.partitions))
    begins = {log: max(held.stop - share, 0) for log, held in ledger.held.partitions.items()}
    found = _read_offsets(table, ledger, begins)
    set_aside = _read_offsets(quarantine, ledger, begins) if quarantine is not None else {}
    row_count = 0
    duplicates, gaps, unledgered = {}, {}, {}
    for log, held in ledger.held.partitions.items():
        begin, offsets = begins[log], found[log]
        row_count += len(offsets)
        if log in set_aside:
            # Before the table's own commit the quarantine is ahead of the ledger.
            offsets = np.concatenate([offsets, set_aside[log][contains(held, set_aside[log])]])
        unique, counts = np.unique(offsets, return_counts=True)
        present = RangeSet.of(list_runs(unique))
        looked_at = RangeSet.of([(begin, max(held.stop, present.stop))])
        duplicates[log] = RangeSet.of(list_runs(unique[counts > 1]))
        gaps[log] = (held & looked_at) - present
        unledgered[log] = present - held
    return PositionAudit(
        row_count, TopicRanges.of(duplicates), TopicRanges.of(gaps), TopicRanges.of(unledgered), find_holes(ledger)
    )


def find_holes(ledger: Ledger) -> TopicRanges:
    """Offsets that the ledger lacks between the table's start and its newest offset."""
    held_logs = ledger.held.partitions.items()
    return TopicRanges.of({log: RangeSet.of([(ledger.start_of(log), held.stop)]) - held for log, held in held_logs})


@dataclass(frozen=True, slots=True)
class StampedOffsets:
    """Offsets, and the earliest and latest time at which their messages are stamped, ms since 1970; None without offsets."""

    offsets: TopicRanges
    stamps_ms: tuple[int, int] | None

    @classmethod
    def of(cls, offsets: TopicRanges, stamps_ms: Sequence[int]) -> "StampedOffsets":
        """From the stamps of any of their messages, the extreme ones among them."""
        known = [stamp for stamp in stamps_ms if stamp >= 0]
        return cls(offsets, (min(known), max(known)) if known else None)


def read_lost(systems: Systems, spec: TableSpec, gaps: TopicRanges, bounds: Bounds) -> StampedOffsets:
    """Of the gaps, the offsets at which Kafka does have a message with a value: rows that the table lost.

    Control records, aborted messages, tombstones and compacted offsets are gaps of the topic; so are messages that `where`
    leaves out, which are decoded again. Only what Kafka still holds can be told.
    """
    decoder = open_decoder(systems, resolve_columns(systems, spec)) if spec.where is not None else None
    still_there = gaps & TopicRanges.of({log: [(b.low, b.stop)] for log, b in bounds.items()})
    lost, stamps_ms = NO_OFFSETS, list[int]()
    for batch, is_wanted in read_again(systems.source, spec.table, still_there):
        is_lost = is_wanted & np.fromiter((value is not None for value in batch.values), bool, len(batch))
        if decoder is not None:
            at = np.flatnonzero(is_lost)
            is_lost[at[decoder.decode(messages_at(batch, at)).filtered]] = False
        for log, mine in batch.by_log():
            lost |= TopicRanges.of({log: list_runs(batch.offsets[is_lost & mine])})
        stamps_ms += _extremes(batch.timestamps_ms[is_lost])
    return StampedOffsets.of(lost, stamps_ms)


def stamp_duplicates(table: Table, ledger: Ledger, duplicates: TopicRanges) -> StampedOffsets:
    """When the messages that stand twice in the table are stamped."""
    stamps_ms: list[int] = []
    columns = position_columns(table.schema())
    first = min((held.ranges[0].start for held in duplicates.partitions.values()), default=2**63 - 1)
    scan = table.scan(f"{columns.offset} >= {first}", selected_fields=(*columns.names, KAFKA_TIMESTAMP))
    for batch in scan.to_arrow_batch_reader():
        stamps = batch.column(KAFKA_TIMESTAMP).cast("int64").fill_null(-1000).to_numpy(zero_copy_only=False) // 1000
        stamps_ms += _extremes(stamps[rows_inside(batch, columns, ledger.first_topic, duplicates)])
    return StampedOffsets.of(duplicates, stamps_ms)


def count_ahead(table: Table, now_ms: int) -> tuple[int, int | None]:
    """Rows stamped more than an hour ahead of now, and the newest such stamp (ms since 1970)."""
    latest = np.datetime64(now_ms + MAX_AHEAD_MS, "ms").item().isoformat() + "+00:00"
    scan = table.scan(row_filter=f"{KAFKA_TIMESTAMP} > '{latest}'", selected_fields=(KAFKA_TIMESTAMP,))
    count, newest = 0, None
    for batch in scan.to_arrow_batch_reader():
        stamps = batch.column(KAFKA_TIMESTAMP).cast("int64").to_numpy(zero_copy_only=False)
        if len(stamps):
            count += len(stamps)
            newest = max(int(stamps.max()) // 1000, newest or 0)
    return count, newest


def _extremes(stamps_ms: Offsets) -> list[int]:
    return [int(stamps_ms.min()), int(stamps_ms.max())] if len(stamps_ms) else []


def _read_offsets(table: Table, ledger: Ledger, begins: Mapping[TopicPartition, int]) -> dict[TopicPartition, Offsets]:
    """Offsets of the rows at or after `begins`, per topic partition, in one pass over the files that can have them."""
    columns = position_columns(table.schema())
    condition = f"{columns.offset} >= {min(begins.values())}"
    pieces: dict[TopicPartition, list[Offsets]] = {log: [np.empty(0, np.int64)] for log in begins}
    for batch in table.scan(row_filter=condition, selected_fields=columns.names).to_arrow_batch_reader():
        offsets = read_offsets(batch, columns)
        for log, mine in split_by_log(batch, columns, ledger.first_topic):
            if log in begins:
                pieces[log].append(offsets[mine & (offsets >= begins[log])])
    return {log: np.concatenate(parts) for log, parts in pieces.items()}
