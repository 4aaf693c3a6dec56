"""Reads exact ranges of offsets with one consumer, and knows at any moment where each topic partition stands.

Hides the end-of-partition events, control records and aborted messages, which only leave gaps. Memory is bounded by the number
and the size of the messages of a batch.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import Protocol

import numpy as np
from confluent_kafka import Consumer, KafkaError, Message
from confluent_kafka import TopicPartition as Assignment

from lakehouse_assets.model.errors import OffsetsExpiredError, SourceError, TopicTruncatedError
from lakehouse_assets.model.offsets import LogBounds, TopicPartition
from lakehouse_assets.systems.kafka_codes import ACCESS, GROUP, MISSING, OUT_OF_RANGE
from lakehouse_assets.systems.messages import Headers, MessageBatch, Ranges

STALL_SECONDS = 30.0  # no message and no end of log for so long: the broker is away
_POLL_MESSAGES = 500  # measured: 100 to 1,000 a call cost a third of 10,000 a call
_POLL_SECONDS = 0.2
_TOPICS_SHOWN = 3
_FIRST_GUESS_BYTES = 128 * 1024  # of a message, before any was seen
_READ_BYTES = 32 * 1024 * 1024  # a batch ends where it is reached, so that large messages are few


class Cluster(Protocol):
    """What a reader asks of the cluster that it reads."""

    def read_bounds(self, table: str, logs: Sequence[TopicPartition]) -> Mapping[TopicPartition, LogBounds]:
        """Oldest offset held and first offset not yet readable, per topic partition."""

    def translate(self, error: KafkaError, action: str, table: str, topic: str) -> SourceError:
        """The platform's error for the client's one."""


class RangeReader:
    """Reads assigned ranges. `next_offsets` says where each topic partition stands, gaps included."""

    def __init__(self, cluster: Cluster, consumer: Consumer, table: str, ranges: Ranges) -> None:
        self._cluster, self._consumer, self._table = cluster, consumer, table
        self._topics = topics_text(ranges)
        self._stops = {log: stop for log, (_, stop) in ranges.items() if stop is not None}
        self.next_offsets = {log: start for log, (start, _) in ranges.items()}
        self._logs = tuple(ranges)
        self._places = {log: place for place, log in enumerate(self._logs)}
        one_topic = len({log.topic for log in ranges}) == 1
        self._places_in_topic = {log.partition: place for log, place in self._places.items()} if one_topic else None
        self._typical_bytes = _FIRST_GUESS_BYTES
        self._at_end: set[TopicPartition] = set()
        self._finished = {log for log, (start, stop) in ranges.items() if stop is not None and start >= stop}
        self._last_sign = time.monotonic()
        if self._finished:
            self._pause(self._finished)

    @property
    def is_finished(self) -> bool:
        """Every range has a stop, and is read."""
        return len(self._finished) == len(self.next_offsets)

    @property
    def is_caught_up(self) -> bool:
        """Every topic partition stands at the end of its log, or of its range."""
        return len(self._finished | self._at_end) == len(self.next_offsets)

    def read(self, seconds: float, limit: int = 20_000) -> MessageBatch:
        """Messages until `limit` or _READ_BYTES is reached, the log ends, or `seconds` have passed; perhaps none."""
        deadline = time.monotonic() + seconds
        left = _READ_BYTES
        # Not the messages: twenty thousand objects that the garbage collector walks cost a third of the speed.
        keys: list[bytes | None] = []
        headers: list[Headers | None] = []
        values: list[bytes | None] = []
        places: list[int] = []
        offsets: list[int] = []
        stamps: list[int] = []
        while len(values) < limit and left > 0 and not self.is_finished:
            # The client gives what is asked for, whatever its size: of large messages no more than there is room for.
            wanted = min(_POLL_MESSAGES, left // self._typical_bytes + 1)
            messages = self._consumer.consume(wanted, max(0.0, min(_POLL_SECONDS, deadline - time.monotonic())))
            good = [m for m in messages if m.error() is None]
            keys += [m.key() for m in good]
            headers += [m.headers() for m in good]
            came = [m.value() for m in good]
            values += came
            if good:
                size = sum(map(len, filter(None, came)))
                left -= size
                self._typical_bytes = size // len(good) + 1
            came_from = self._places_of(good)
            places += came_from
            if self._at_end:
                self._at_end.difference_update(self._logs[place] for place in set(came_from))
            if len(good) < len(messages):
                self._take_events(messages)
            offsets += [m.offset() for m in good]
            stamps += [m.timestamp()[1] for m in good]
            if time.monotonic() >= deadline or (not good and self.is_caught_up):
                break
        self._watch(bool(values))
        return self._cut(
            MessageBatch(
                self._logs,
                keys,
                headers,
                values,
                np.array(places, np.int32),
                np.array(offsets, np.int64),
                np.array(stamps, np.int64),
            )
        )

    def _places_of(self, messages: list[Message]) -> list[int]:
        if self._places_in_topic is not None:  # one topic, the usual case: a twentieth of the time of a message
            places = self._places_in_topic
            return [places[m.partition()] for m in messages]
        return [self._places[_log_of(m)] for m in messages]

    def _take_events(self, messages: list[Message]) -> None:
        """What the client says between the messages: ends of logs, errors."""
        for i, event in enumerate(messages):
            error = event.error()
            if error is None or error.code() in GROUP:
                continue
            if error.code() == KafkaError._PARTITION_EOF:
                log = _log_of(event)
                if all(_log_of(later) != log for later in messages[i + 1 :]):
                    self._reach_end(log, event.offset())
            elif error.code() in OUT_OF_RANGE:
                raise self._out_of_range(_log_of(event))
            elif not error.retriable() or error.code() in MISSING | ACCESS:
                raise self._cluster.translate(error, f"read {self._topics}", self._table, event.topic() or self._topics)

    def _reach_end(self, log: TopicPartition, end: int) -> None:
        self._at_end.add(log)
        self._last_sign = time.monotonic()
        # Control records before the end are no messages; this is where the position passes them.
        stop = self._stops.get(log)
        self.next_offsets[log] = max(self.next_offsets[log], end if stop is None else min(end, stop))
        if stop is not None and end >= stop:
            self._finish({log})

    def _cut(self, batch: MessageBatch) -> MessageBatch:
        """Move the positions; without the messages behind the end of a range."""
        over: set[TopicPartition] = set()
        for log, reached in batch.stops().items():
            stop = self._stops.get(log)
            if stop is not None and reached >= stop:
                over.add(log)
            reached = max(reached, self.next_offsets[log])
            self.next_offsets[log] = reached if stop is None else min(reached, stop)
        if over - self._finished:
            self._finish(over - self._finished)
        return self._without_surplus(batch) if over else batch

    def _without_surplus(self, batch: MessageBatch) -> MessageBatch:
        stops = np.array([self._stops.get(log, np.iinfo(np.int64).max) for log in self._logs])
        keep = batch.offsets < stops[batch.places]
        if keep.all():
            return batch
        keys, values = (list(compress(column, keep)) for column in (batch.keys, batch.values))
        headers = list(compress(batch.headers, keep))
        return MessageBatch(
            batch.logs, keys, headers, values, batch.places[keep], batch.offsets[keep], batch.timestamps_ms[keep]
        )

    def _finish(self, logs: set[TopicPartition]) -> None:
        for log in logs:
            self.next_offsets[log] = self._stops[log]
        self._finished |= logs
        self._pause(logs)

    def _pause(self, logs: set[TopicPartition]) -> None:
        self._consumer.pause([Assignment(*log) for log in logs])

    def _out_of_range(self, log: TopicPartition) -> SourceError:
        bounds = self._cluster.read_bounds(self._table, [log])[log]
        position = self.next_offsets[log]
        if position < bounds.low:
            return OffsetsExpiredError(self._table, {log: (position, bounds.low)})
        return TopicTruncatedError(self._table, {log: (bounds.stop, position)})

    def _watch(self, alive: bool) -> None:
        if alive or self.is_finished:
            self._last_sign = time.monotonic()
        elif not self.is_caught_up and time.monotonic() - self._last_sign > STALL_SECONDS:
            silence = KafkaError(KafkaError._TIMED_OUT, f"no message for {STALL_SECONDS:.0f} s")
            raise self._cluster.translate(silence, f"read {self._topics} for {self._table}", self._table, self._topics)


def _log_of(message: Message) -> TopicPartition:
    return TopicPartition(message.topic(), message.partition())


def topics_text(logs: Iterable[TopicPartition]) -> str:
    """The topics of some topic partitions, for messages to people."""
    names = list(dict.fromkeys(log.topic for log in logs))
    shown = ", ".join(map(repr, names[:_TOPICS_SHOWN]))
    more = f" and {len(names) - _TOPICS_SHOWN} more" if len(names) > _TOPICS_SHOWN else ""
    return f"topic{'s' if len(names) > 1 else ''} {shown}{more}"
