"""Reads from a batch when its rows happened, for the event-time watermark."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table

from lakehouse_assets.model.columns import KAFKA_TIMESTAMP
from lakehouse_assets.model.completeness import HOUR_MS, DayTags
from lakehouse_assets.model.event_time_spec import EventTimeSpec
from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.offsets import TopicPartition, TopicRanges
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.watermark import Arrivals, EventTimes, WatermarkMove
from lakehouse_assets.operations.intake import Reading
from lakehouse_assets.systems.live_rows import readable
from lakehouse_assets.systems.messages import MessageBatch
from lakehouse_assets.systems.positions import rows_inside
from lakehouse_assets.systems.schema import position_columns

_MS = timedelta(milliseconds=1)
Times = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def read_event_times(spec: EventTimeSpec, batch: MessageBatch, reading: Reading) -> EventTimes:
    """What the rows of a batch say. A time that is too far ahead of its message's stamp is counted, and nothing else."""
    times, event_ms, told = _read_times(spec, reading.rows, batch.timestamps_ms[reading.places])
    return replace(times, newest_ms=_newest(batch, reading, event_ms, told))


def read_hours(spec: EventTimeSpec, rows: pa.Table, stamps_ms: Times) -> EventTimes:
    """What rows say that are read again, which move no watermark: everything but the newest of a topic partition."""
    return _read_times(spec, rows, stamps_ms)[0]


def read_held_hours(spec: EventTimeSpec, table: Table, first_topic: str, ranges: TopicRanges) -> EventTimes:
    """The same of the rows that a table has of these offsets, which may be about to leave the hours in which they happened.

    Raises:
        StorageError: files could not be read.
    """
    offsets = [held for log in ranges.partitions.values() for held in log]
    times, columns = EventTimes(), position_columns(table.schema())
    if not offsets:
        return times
    scan = table.scan(
        row_filter=f"{columns.offset} >= {min(r.start for r in offsets)} and {columns.offset} < {max(r.stop for r in offsets)}",
        selected_fields=(*columns.names, KAFKA_TIMESTAMP, spec.column),
    )
    with readable(table):
        for batch in scan.to_arrow_batch_reader():
            rows = pa.Table.from_batches([batch.filter(pa.array(rows_inside(batch, columns, first_topic, ranges)))])
            stamps_ms = pc.fill_null(rows.column(KAFKA_TIMESTAMP).cast(pa.int64()), 0).to_numpy() // 1000
            times = times.joined(read_hours(spec, rows, stamps_ms))
    return times


def count_arrivals(spec: TableSpec, times: EventTimes) -> Arrivals | None:
    """What makes late rows of a commit heard of; None for a table without event time."""
    if spec.event_time is None or spec.event_slices is None:
        return None
    return Arrivals(times, spec.event_slices.length_ms, spec.event_time.late_horizon // _MS)


def _read_times(spec: EventTimeSpec, rows: pa.Table, stamps_ms: Times) -> tuple[EventTimes, Times, Mask]:
    """With the event time of each row, ms since 1970, and which rows have one that is to be believed."""
    times = rows.column(spec.column)
    happened = pc.is_valid(times).to_numpy()
    event_ms = pc.fill_null(times.cast(pa.timestamp("us", times.type.tz)).cast(pa.int64()), 0).to_numpy() // 1000
    ahead = happened & (event_ms > stamps_ms + spec.max_ahead // _MS)
    told = happened & ~ahead
    hours, counts = np.unique(event_ms[happened] // HOUR_MS, return_counts=True)
    by_hour = {int(hour) * HOUR_MS: int(count) for hour, count in zip(hours, counts, strict=True)}
    return EventTimes({}, by_hour, int(ahead.sum()), int((~happened).sum())), event_ms, told


def build_move(
    spec: TableSpec,
    table: Table,
    ledger: Ledger,
    newest_ms: Mapping[TopicPartition, int],
    logs: Collection[TopicPartition],
    missing: TopicRanges,
    now_ms: int,
) -> WatermarkMove:
    """What a commit does to the watermark of a table with event time.

    `newest_ms` are the largest event times that it brings. `ledger` has its offsets already; `missing` is what the table lacks
    of all `logs` that there are.
    """
    declared = spec.event_time
    assert declared is not None  # noqa: S101 - there is nothing to move otherwise
    began_ms = ledger.began_ms
    if began_ms is None:
        known_ms = (snapshot.timestamp_ms for snapshot in table.metadata.snapshots)
        began_ms = min(known_ms, default=table.metadata.last_updated_ms)
    quiet_since_ms = now_ms - declared.idle_after // _MS if declared.idle_after is not None else None
    last_ms = {log: ledger.newest_ms.get(log, began_ms) for log in logs if not missing[log]}
    return WatermarkMove(
        newest_ms=newest_ms,
        logs=frozenset(logs),
        idle=frozenset(log for log, at in last_ms.items() if quiet_since_ms is not None and at <= quiet_since_ms),
        disorder_ms=declared.max_disorder // _MS,
        clock_ms=quiet_since_ms if declared.follow_clock else None,
        began_ms=began_ms,
        tags=_build_tags(spec),
    )


def _build_tags(spec: TableSpec) -> DayTags | None:
    if spec.event_time is None or spec.event_slices is None or spec.event_time.complete_for is None:
        return None
    return DayTags(spec.event_slices.start_ms, spec.event_time.keep_tags // _MS)


def _newest(batch: MessageBatch, reading: Reading, event_ms: Times, told: Mask) -> Mapping[TopicPartition, int]:
    newest: dict[TopicPartition, int] = {}
    for log, its in batch.by_log():
        mine = told & its[reading.places]
        if mine.any():
            newest[log] = int(event_ms[mine].max())
    return newest
