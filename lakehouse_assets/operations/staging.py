"""Messages become rows in data files that nobody sees yet.

One stager reads its topic partitions, decodes, and writes; at each commit boundary it hands over what it has. It knows no
snapshot. Memory is bounded by the chunk it reads and by the writer's buffer, whatever the backlog.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from pyiceberg.table import Table

from lakehouse_assets.decode.json_decoder import JsonDecoder
from lakehouse_assets.model.columns import KAFKA_OFFSET, KAFKA_PARTITION, KAFKA_TIMESTAMP
from lakehouse_assets.model.errors import BadRecordError
from lakehouse_assets.model.offsets import NO_OFFSETS, TopicRanges
from lakehouse_assets.model.slices import MAX_AHEAD_MS, SliceClock
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.systems.kafka import MessageBatch, RangeReader
from lakehouse_assets.systems.parquet import StagedFile, StagingWriter, WriteSettings
from lakehouse_assets.systems.partitioning import Partitioner
from lakehouse_assets.systems.schema import build_file_schema
from lakehouse_assets.systems.slice_files import list_runs

_READ_SECONDS = 0.5
_LATEST_TIMESTAMP_MS = 253_402_300_799_999  # year 9999, the last that every engine can show


@dataclass(frozen=True, slots=True)
class StagedBatch:
    """Rows of one commit, or of one worker's share of it, as files; plain values, so that it can cross processes.

    `ranges` are the offsets read, gaps included; there may be no row in them. `row_offsets` are those that became rows.
    `slice_rows` counts rows by the beginning of their slice (ms since 1970).
    `read_count` = rows + `tombstone_count` (null values, skipped by rule).
    """

    ranges: TopicRanges
    row_offsets: TopicRanges
    files: tuple[StagedFile, ...]
    last_row: Mapping[int, int]
    newest_ms: Mapping[int, int]
    slice_rows: Mapping[int, int]
    read_count: int
    read_bytes: int
    tombstone_count: int

    @property
    def row_count(self) -> int:
        """Rows in the files."""
        return sum(self.slice_rows.values())

    @classmethod
    def empty(cls) -> "StagedBatch":
        """Nothing was read."""
        return cls(NO_OFFSETS, NO_OFFSETS, (), {}, {}, {}, 0, 0, 0)

    def joined(self, other: "StagedBatch") -> "StagedBatch":
        """Both in one commit. Their ranges are disjoint."""
        return StagedBatch(
            ranges=self.ranges | other.ranges,
            row_offsets=self.row_offsets | other.row_offsets,
            files=self.files + other.files,
            last_row={**self.last_row, **other.last_row},
            newest_ms={**self.newest_ms, **other.newest_ms},
            slice_rows=Counter(self.slice_rows) + Counter(other.slice_rows),
            read_count=self.read_count + other.read_count,
            read_bytes=self.read_bytes + other.read_bytes,
            tombstone_count=self.tombstone_count + other.tombstone_count,
        )


@dataclass(slots=True)
class _Tally:
    """What was read since the last hand-over."""

    starts: dict[int, int]
    began: float | None = None
    last_row: dict[int, int] = field(default_factory=dict)
    row_runs: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    slice_rows: Counter[int] = field(default_factory=Counter)
    read_count: int = 0
    read_bytes: int = 0
    tombstone_count: int = 0


class Stager:
    """Stages one topic's messages for one table. Not shared between threads."""

    def __init__(
        self, spec: TableSpec, table: Table, newest_ms: Mapping[int, int], buffer_bytes: int, now_ms: Callable[[], int]
    ) -> None:
        self._spec, self._now_ms = spec, now_ms
        self._clock = SliceClock(spec.partitions.every, spec.partitions.start)
        self._decoder = JsonDecoder(spec.columns)
        self._newest_ms = dict(newest_ms)
        self._handed_over = float("-inf")
        self._writer = build_writer(table, buffer_bytes)

    def stage(
        self,
        reader: RangeReader,
        stop: Callable[[], bool],
        *,
        ends_when_quiet: Callable[[], bool] = lambda: True,
        whole: bool = False,
    ) -> Iterator[StagedBatch]:
        """Yield a batch at each commit boundary; end when the ranges are read, the log is quiet, or `stop()`.

        The log is quiet when nothing came for a commit interval; then `ends_when_quiet()` is asked, again and again.
        With `whole`, boundaries are ignored: one batch of everything, and none if `stop()` came first.

        Raises:
            BadRecordError: a record can't become a row; what came before it has been yielded (not with `whole`).
        """
        interval = self._spec.commit_interval.total_seconds()
        tally = _Tally(dict(reader.next_offsets))
        quiet_since = time.monotonic()
        try:
            while not reader.is_finished and not stop():
                before = dict(reader.next_offsets)
                batch = reader.read(_READ_SECONDS)
                if len(batch):
                    quiet_since = time.monotonic()
                    good = self._add(batch, tally)
                    if len(good) < len(batch):
                        if tally.read_count and not whole:
                            yield self._hand_over(tally, before | good.stops())
                        raise self._bad_record(batch, len(good))
                if not whole and self._is_due(tally, reader.is_caught_up):
                    yield self._hand_over(tally, reader.next_offsets)
                    tally = _Tally(dict(reader.next_offsets))
                    continue  # the commit took its time: look again before calling the log quiet
                is_quiet = not tally.read_count and reader.is_caught_up and time.monotonic() - quiet_since >= interval
                if is_quiet and ends_when_quiet():
                    break
            if reader.next_offsets != tally.starts and (not whole or reader.is_finished):
                yield self._hand_over(tally, reader.next_offsets)
        finally:
            self._writer.abandon()

    def _is_due(self, tally: _Tally, caught_up: bool) -> bool:
        if tally.began is None:
            return False
        interval = self._spec.commit_interval.total_seconds()
        # Rows that follow a pause don't wait for more; a backlog does, so that its commits are large.
        waited_since = self._handed_over if caught_up else tally.began
        return time.monotonic() - waited_since >= interval or tally.read_bytes >= self._spec.commit_size

    def _add(self, batch: MessageBatch, tally: _Tally) -> MessageBatch:
        """Stage the messages before the first that can't become a row; return them."""
        present = [i for i, value in enumerate(batch.values) if value is not None] if None in batch.values else None
        values = batch.values if present is None else [batch.values[i] for i in present]
        decoded = self._decoder.decode(values)  # type: ignore[arg-type]  # no None is left
        if decoded.bad:
            first = min(bad.index for bad in decoded.bad)
            return self._add(batch.first(first if present is None else present[first]), tally)
        if not len(batch):
            return batch
        begins = self._slice_begins(batch)
        rows = _with_positions(decoded.table, batch, present)
        self._writer.add(rows)
        if tally.began is None:
            tally.began = time.monotonic()
        kept = slice(None) if present is None else np.array(present, dtype=np.int64)
        found, counts = np.unique(begins[kept], return_counts=True)
        tally.slice_rows.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        for p in np.unique(batch.partitions[kept]).tolist():
            offsets = batch.offsets[kept][batch.partitions[kept] == p]
            tally.last_row[p] = int(offsets[-1])
            tally.row_runs.setdefault(p, []).extend(list_runs(offsets))
        tally.read_count += len(batch)
        tally.read_bytes += sum(map(len, values))  # type: ignore[arg-type]  # no None is left
        tally.tombstone_count += len(batch) - len(values)
        return batch

    def _bad_record(self, batch: MessageBatch, at: int) -> BadRecordError:
        (bad,) = self._decoder.decode([batch.values[at] or b""]).bad
        return BadRecordError(
            self._spec.table, self._spec.source.topic, int(batch.partitions[at]), int(batch.offsets[at]), bad.reason
        )

    def _slice_begins(self, batch: MessageBatch) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        """Beginning of the slice of each message: that of the newest plausible stamp up to and including it."""
        latest = self._now_ms() + MAX_AHEAD_MS
        begins = np.empty(len(batch), np.int64)
        for p in np.unique(batch.partitions).tolist():
            mine = batch.partitions == p
            stamps = batch.timestamps_ms[mine]
            newest = np.maximum.accumulate(np.where(stamps <= latest, stamps, -1))
            newest = np.maximum(newest, self._newest_ms.get(p, -1))
            self._newest_ms[p] = int(newest[-1])
            begins[mine] = slice_begins_ms(self._clock, newest)
        return begins

    def _hand_over(self, tally: _Tally, stops: Mapping[int, int]) -> StagedBatch:
        self._handed_over = time.monotonic()
        return StagedBatch(
            ranges=TopicRanges.of({p: [(start, stops[p])] for p, start in tally.starts.items()}),
            row_offsets=TopicRanges.of(tally.row_runs),
            files=tuple(self._writer.finish()),
            last_row=tally.last_row,
            newest_ms={p: ms for p, ms in self._newest_ms.items() if p in tally.starts and stops[p] > tally.starts[p]},
            slice_rows=dict(tally.slice_rows),
            read_count=tally.read_count,
            read_bytes=tally.read_bytes,
            tombstone_count=tally.tombstone_count,
        )


def slice_begins_ms(
    clock: SliceClock, times_ms: "np.ndarray[tuple[int], np.dtype[np.int64]]"
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """`SliceClock.begin_ms` of every time at once."""
    steps = np.maximum(0, (times_ms - clock.start_ms) // clock.length_ms)
    return clock.start_ms + steps * clock.length_ms


def build_writer(table: Table, buffer_bytes: int) -> StagingWriter:
    """A writer of data files for the table as it is now."""
    return StagingWriter(
        table.io,
        table.location_provider(),
        build_file_schema(table.schema()),
        Partitioner(table.spec(), table.schema()),
        WriteSettings.of(table.properties, buffer_bytes),
    )


def _with_positions(rows: pa.Table, batch: MessageBatch, present: list[int] | None) -> pa.Table:
    """Add which message each row is."""
    kept = slice(None) if present is None else np.array(present, dtype=np.int64)
    stamps_ms = batch.timestamps_ms[kept]
    stamps_us = np.clip(stamps_ms, 0, _LATEST_TIMESTAMP_MS) * 1000
    timestamps = pa.array(stamps_us, pa.timestamp("us", tz="UTC"), mask=stamps_ms < 0)
    return (
        rows.append_column(KAFKA_PARTITION, pa.array(batch.partitions[kept]))
        .append_column(KAFKA_OFFSET, pa.array(batch.offsets[kept]))
        .append_column(KAFKA_TIMESTAMP, timestamps)
    )
