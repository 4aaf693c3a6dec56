"""Reads from a batch when its rows happened, for the event-time watermark."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table

from lakehouse_assets.model.event_time_spec import EventTimeSpec
from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.offsets import TopicPartition
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.watermark import HOUR_MS, Arrivals, EventTimes, WatermarkMove
from lakehouse_assets.operations.intake import Reading
from lakehouse_assets.systems.messages import MessageBatch

Times = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def read_event_times(spec: EventTimeSpec, batch: MessageBatch, reading: Reading) -> EventTimes:
    """What the rows of a batch say. A time that is too far ahead of its message's stamp is counted, and nothing else."""
    times, event_ms, told = _read_times(spec, reading.rows, batch.timestamps_ms[reading.places])
    return replace(times, newest_ms=_newest(batch, reading, event_ms, told))


def read_hours(spec: EventTimeSpec, rows: pa.Table, stamps_ms: Times) -> EventTimes:
    """What rows say that are read again, which move no watermark: everything but the newest of a topic partition."""
    return _read_times(spec, rows, stamps_ms)[0]


def count_arrivals(spec: TableSpec, times: EventTimes) -> Arrivals | None:
    """What makes late rows of a commit heard of; None for a table without event time."""
    if spec.event_time is None or spec.event_slices is None:
        return None
    return Arrivals(times.hours, spec.event_slices.length_ms, spec.event_time.late_horizon // timedelta(milliseconds=1))


def _read_times(spec: EventTimeSpec, rows: pa.Table, stamps_ms: Times) -> tuple[EventTimes, Times, Mask]:
    """With the event time of each row, ms since 1970, and which rows have one that is to be believed."""
    times = rows.column(spec.column)
    happened = pc.is_valid(times).to_numpy()
    event_ms = pc.fill_null(times.cast(pa.timestamp("us", times.type.tz)).cast(pa.int64()), 0).to_numpy() // 1000
    ahead = happened & (event_ms > stamps_ms + spec.max_ahead // timedelta(milliseconds=1))
    told = happened & ~ahead
    hours, counts = np.unique(event_ms[happened] // HOUR_MS, return_counts=True)
    by_hour = {int(hour) * HOUR_MS: int(count) for hour, count in zip(hours, counts, strict=True)}
    return EventTimes({}, by_hour, int(ahead.sum()), int((~happened).sum())), event_ms, told


def build_move(
    spec: EventTimeSpec, table: Table, ledger: Ledger, times: EventTimes, stops: Mapping[TopicPartition, int], now_ms: int
) -> WatermarkMove:
    """What a commit does to the watermark. `ledger` has its offsets already; `stops` are the ends of all topic partitions."""
    idle = _find_idle(spec, table, ledger, stops, now_ms)
    return WatermarkMove(times.newest_ms, frozenset(stops), idle, spec.max_disorder // timedelta(milliseconds=1))


def _find_idle(
    spec: EventTimeSpec, table: Table, ledger: Ledger, stops: Mapping[TopicPartition, int], now_ms: int
) -> frozenset[TopicPartition]:
    """Topic partitions of which the table has everything up to `stops`, and which had no message for `idle_after`.

    One without any message is as old as the first commit of the table that is known.
    """
    if spec.idle_after is None:
        return frozenset()
    began_ms = min((snapshot.timestamp_ms for snapshot in table.metadata.snapshots), default=None)
    quiet_since = now_ms - spec.idle_after // timedelta(milliseconds=1)
    missing = ledger.missing(stops)
    last_ms = {log: ledger.newest_ms.get(log, began_ms) for log in stops}
    return frozenset(log for log, at in last_ms.items() if at is not None and at <= quiet_since and not missing[log])


def _newest(batch: MessageBatch, reading: Reading, event_ms: Times, told: Mask) -> Mapping[TopicPartition, int]:
    newest: dict[TopicPartition, int] = {}
    for log, its in batch.by_log():
        mine = told & its[reading.places]
        if mine.any():
            newest[log] = int(event_ms[mine].max())
    return newest
