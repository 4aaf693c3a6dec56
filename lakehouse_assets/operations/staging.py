"""Messages become what a commit takes: rows in data files that nobody sees yet, or changes of rows by key.

One stager reads its topic partitions and gives the messages to an intake; at each commit boundary it hands over what that has.
It knows no snapshot. Memory is bounded by the chunk it reads and by the intake's buffer, whatever the backlog.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np

from lakehouse_assets.model.errors import BadRecordError, UnaccountedRecordsError
from lakehouse_assets.model.offsets import NO_OFFSETS, TopicPartition, TopicRanges
from lakehouse_assets.model.slices import MAX_AHEAD_MS, SliceClock
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.unknown import UnknownFields
from lakehouse_assets.model.watermark import EventTimes
from lakehouse_assets.operations.bad_share import BadShare
from lakehouse_assets.operations.event_times import read_event_times
from lakehouse_assets.operations.intake import Intake, Reading
from lakehouse_assets.operations.quarantine import BadMessage, Quarantined, QuarantineStager
from lakehouse_assets.operations.read_ahead import ReadAhead
from lakehouse_assets.systems.changes import Changes
from lakehouse_assets.systems.kafka_reader import RangeReader
from lakehouse_assets.systems.messages import MessageBatch
from lakehouse_assets.systems.parquet import StagedFile
from lakehouse_assets.systems.positions import list_runs


@dataclass(frozen=True, slots=True)
class StagedBatch:
    """Rows of one commit, or of one worker's share of it, as files; plain values, so that it can cross processes.

    `ranges` are the offsets read, gaps included; there may be no row in them. `good_offsets` are those of messages that became
    rows or changes, or were filtered. `changes` are those of an upsert table, which stages no files; each worker has its own.
    `tables`: of the source, that these are of.
    `slice_rows` counts rows, or changes, by the beginning of their slice (ms since 1970).
    `read_count` = good messages + `bad.count` + `skipped_count`; of the good ones, `filtered_count` were left out by `where`.
    `example` says of one of the bad ones where it is, and why.
    """

    ranges: TopicRanges
    good_offsets: TopicRanges
    files: tuple[StagedFile, ...]
    last_row: Mapping[TopicPartition, int]
    newest_ms: Mapping[TopicPartition, int]
    slice_rows: Mapping[int, int]
    read_count: int
    read_bytes: int
    skipped_count: int
    filtered_count: int = 0
    bad: Quarantined = Quarantined()
    example: str | None = None
    unknown: UnknownFields = UnknownFields()
    changes: tuple[Changes, ...] = ()
    tables: frozenset[str] = frozenset()
    event_times: EventTimes = EventTimes()

    @property
    def row_count(self) -> int:
        """Rows in the files, or changes that were read."""
        return sum(self.slice_rows.values())

    @classmethod
    def empty(cls) -> "StagedBatch":
        """Nothing was read."""
        return cls(NO_OFFSETS, NO_OFFSETS, (), {}, {}, {}, 0, 0, 0)

    def joined(self, other: "StagedBatch") -> "StagedBatch":
        """Both in one commit. Their ranges are disjoint."""
        return StagedBatch(
            ranges=self.ranges | other.ranges,
            good_offsets=self.good_offsets | other.good_offsets,
            files=self.files + other.files,
            last_row={**self.last_row, **other.last_row},
            newest_ms={**self.newest_ms, **other.newest_ms},
            slice_rows=Counter(self.slice_rows) + Counter(other.slice_rows),
            read_count=self.read_count + other.read_count,
            read_bytes=self.read_bytes + other.read_bytes,
            skipped_count=self.skipped_count + other.skipped_count,
            filtered_count=self.filtered_count + other.filtered_count,
            bad=self.bad.joined(other.bad),
            example=self.example or other.example,
            unknown=self.unknown.joined(other.unknown),
            changes=self.changes + other.changes,
            tables=self.tables | other.tables,
            event_times=self.event_times.joined(other.event_times),
        )

    @property
    def wanted_count(self) -> int:
        """Messages that were to become rows."""
        return self.read_count - self.skipped_count - self.filtered_count

    @property
    def locations(self) -> list[str]:
        """Every file, to be deleted if no commit takes it."""
        return [file.location for file in (*self.files, *self.bad.files)]


@dataclass(slots=True)
class _Tally:
    """What was read since the last hand-over."""

    starts: dict[TopicPartition, int]
    began: float | None = None
    last_row: dict[TopicPartition, int] = field(default_factory=dict)
    good_runs: dict[TopicPartition, list[tuple[int, int]]] = field(default_factory=dict)
    slice_rows: Counter[int] = field(default_factory=Counter)
    read_count: int = 0
    read_bytes: int = 0
    good_count: int = 0
    skipped_count: int = 0
    filtered_count: int = 0
    example: str | None = None
    unknown: UnknownFields = UnknownFields()
    event_times: EventTimes = EventTimes()


class Stager:
    """Stages messages for one table. Not shared between threads.

    `slowdown`: see `operations.pacing`. `patience`: how long a log without new messages is not quiet yet; a commit interval
    unless it is given. `share` judges what is handed over; without it, who joins it with that of others does.
    """

    def __init__(
        self,
        spec: TableSpec,
        newest_ms: Mapping[TopicPartition, int],
        now_ms: Callable[[], int],
        intake: Intake,
        quarantine: QuarantineStager,
        slowdown: int = 1,
        patience: timedelta | None = None,
        *,
        share: BadShare | None,
    ) -> None:
        self._share = share
        self._spec, self._now_ms, self._intake, self._quarantine = spec, now_ms, intake, quarantine
        self._slowdown = slowdown
        self._follows = patience is not None
        self._patience_seconds = (patience or spec.commit_interval).total_seconds()
        self._clock = SliceClock(spec.partitions.every, spec.partitions.start)
        self._newest_ms = dict(newest_ms)
        self._handed_over = float("-inf")

    def stage(
        self,
        reader: RangeReader,
        stop: Callable[[], bool],
        *,
        ends_when_quiet: Callable[[], bool] = lambda: True,
        whole: bool = False,
    ) -> Iterator[StagedBatch]:
        """Yield a batch at each commit boundary; end when the ranges are read, the log is quiet, or `stop()`.

        The log is quiet when nothing came for the `patience`; then `ends_when_quiet()` is asked, again and again.
        With `whole`, boundaries are ignored: one batch of everything, and none if `stop()` came first.

        Raises:
            BadRecordError: a record can't become a row and the table stops at it; what came before it has been yielded (not
                with `whole`).
            TooManyBadRecordsError: most can't; nothing of the batch lands.
            RegistryError: a schema can't be had; nothing of the batch lands.
        """
        tally, offsets = _Tally(dict(reader.next_offsets)), dict(reader.next_offsets)
        quiet_since = time.monotonic()
        try:
            with ReadAhead(reader, self._intake) as ahead:
                for arrival in ahead.arrivals(stop):
                    if arrival.reading is not None:
                        quiet_since = time.monotonic()
                        stopper = self._add(ahead, arrival.batch, arrival.reading, tally)
                        if stopper is not None:
                            if tally.read_count and not whole:
                                yield self._hand_over(tally, {**arrival.before, **arrival.batch.first(stopper.at).stops()})
                            raise self._bad_record(arrival.batch, stopper)
                    offsets = dict(arrival.after)
                    if not whole and self._is_due(tally, arrival.is_last_there_is):
                        yield self._hand_over(tally, offsets)
                        tally = _Tally(offsets)
                        continue  # the commit took its time: look again before calling the log quiet
                    is_quiet = not tally.read_count and arrival.is_last_there_is
                    if is_quiet and time.monotonic() - quiet_since >= self._patience_seconds and ends_when_quiet():
                        break
            if offsets != tally.starts and (not whole or reader.is_finished):
                yield self._hand_over(tally, offsets)
        finally:
            self._intake.abandon()
            self._quarantine.abandon()

    def _is_due(self, tally: _Tally, caught_up: bool) -> bool:
        if tally.began is None:
            return False
        interval = self._spec.commit_interval.total_seconds() * self._slowdown
        # Rows that follow a pause don't wait for more; the first of a backlog do, unless freshness is what counts.
        is_large_first = self._handed_over == float("-inf") and not caught_up and not self._follows
        waited_since = tally.began if self._slowdown > 1 or is_large_first else self._handed_over
        is_large = self._intake.is_full or tally.read_bytes >= self._spec.commit_size
        return is_large or time.monotonic() - waited_since >= interval

    def _add(self, ahead: ReadAhead, batch: MessageBatch, reading: Reading, tally: _Tally) -> BadMessage | None:
        """Stage the messages. Where the table stops at bad ones: those before the first, which is returned."""
        if reading.bad and self._spec.on_bad_record == "fail":
            first = min(reading.bad, key=lambda one: one.at)
            good = batch.first(first.at)
            self._add(ahead, good, ahead.decode(good), tally)
            return first
        if reading.bad:
            self._quarantine.add(batch, reading.bad)
            tally.example = tally.example or self._bad_record(batch, reading.bad[0]).finding
        if len(batch):
            self._keep(batch, reading, tally)
        return None

    def _keep(self, batch: MessageBatch, reading: Reading, tally: _Tally) -> None:
        begins = self._slice_begins(batch)[reading.places]
        if tally.began is None:
            tally.began = time.monotonic()
        reading.keep()
        found, counts = np.unique(begins, return_counts=True)
        tally.slice_rows.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        for log, offsets in batch.offsets_by_log(reading.places):
            tally.last_row[log] = int(offsets[-1])
        for log, offsets in batch.offsets_by_log(reading.good):
            tally.good_runs.setdefault(log, []).extend(list_runs(offsets))
        tally.read_count += len(batch)
        tally.read_bytes += batch.size_bytes
        tally.good_count += len(reading.good)
        tally.skipped_count += reading.skipped_count
        tally.filtered_count += reading.filtered_count
        tally.unknown = tally.unknown.joined(reading.unknown)
        if self._spec.event_time is not None:
            tally.event_times = tally.event_times.joined(read_event_times(self._spec.event_time, batch, reading))

    def _bad_record(self, batch: MessageBatch, bad: BadMessage) -> BadRecordError:
        return BadRecordError(self._spec.table, *batch.position(bad.at), bad.reason)

    def _slice_begins(self, batch: MessageBatch) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        """Beginning of the slice of each message: that of the newest plausible stamp up to and including it."""
        latest = self._now_ms() + MAX_AHEAD_MS
        begins = np.empty(len(batch), np.int64)
        for log, mine in batch.by_log():
            stamps = batch.timestamps_ms[mine]
            newest = np.maximum.accumulate(np.where(stamps <= latest, stamps, -1))
            newest = np.maximum(newest, self._newest_ms.get(log, -1))
            self._newest_ms[log] = int(newest[-1])
            begins[mine] = slice_begins_ms(self._clock, newest)
        return begins

    def _hand_over(self, tally: _Tally, stops: Mapping[TopicPartition, int]) -> StagedBatch:
        if self._share is not None:
            wanted = tally.read_count - tally.skipped_count - tally.filtered_count
            self._share.judge(self._quarantine.count, wanted, tally.example)
        self._handed_over = time.monotonic()
        kept = self._intake.finish()
        batch = StagedBatch(
            ranges=TopicRanges.of({log: [(start, stops[log])] for log, start in tally.starts.items()}),
            good_offsets=TopicRanges.of(tally.good_runs),
            files=kept.files,
            last_row=tally.last_row,
            newest_ms={log: ms for log, ms in self._newest_ms.items() if stops.get(log, 0) > tally.starts.get(log, 0)},
            slice_rows=dict(tally.slice_rows),
            read_count=tally.read_count,
            read_bytes=tally.read_bytes,
            skipped_count=tally.skipped_count,
            filtered_count=tally.filtered_count,
            bad=self._quarantine.finish(),
            example=tally.example,
            unknown=tally.unknown,
            changes=(kept.changes,) if kept.changes is not None else (),
            tables=kept.tables,
            event_times=tally.event_times,
        )
        self._account_for(batch, tally.good_count, kept.row_count)
        return batch

    def _account_for(self, batch: StagedBatch, good_count: int, row_count: int) -> None:
        """Raise unless every message that was read became something: what was written is counted in the files."""
        set_aside = sum(file.row_count for file in batch.bad.files)
        skipped = batch.skipped_count + batch.filtered_count
        is_complete = good_count + set_aside + batch.skipped_count == batch.read_count and row_count == batch.row_count
        if self._spec.has_row_per_message:
            is_complete = is_complete and row_count + set_aside + skipped == batch.read_count
        if not is_complete:
            raise UnaccountedRecordsError(self._spec.table, batch.read_count, row_count + set_aside, skipped)


def slice_begins_ms(
    clock: SliceClock, times_ms: "np.ndarray[tuple[int], np.dtype[np.int64]]"
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """`SliceClock.begin_ms` of every time at once."""
    steps = np.maximum(0, (times_ms - clock.start_ms) // clock.length_ms)
    return clock.start_ms + steps * clock.length_ms
