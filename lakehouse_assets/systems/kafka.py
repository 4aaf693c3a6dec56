"""Reads exact offset ranges of a topic, and where its logs begin and end. No consumer group decides anything.

Hides the Kafka client: its configuration, its errors, its end-of-partition events. Control records and aborted messages never
appear; they only leave gaps. Messages are handed over in columns, because that is how they are decoded.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import compress

import numpy as np
from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from lakehouse_assets.model.errors import (
    ConfigurationError,
    OffsetsExpiredError,
    SourceAccessError,
    SourceError,
    SourceUnavailableError,
    TopicMissingError,
    TopicTruncatedError,
)
from lakehouse_assets.model.slices import MAX_AHEAD_MS, Boundaries

Settings = Mapping[str, str]

REQUEST_SECONDS = 10.0
STALL_SECONDS = 30.0  # no message and no end of log for so long: the broker is away
_POLL_MESSAGES = 500  # measured: 100 to 1,000 a call cost a third of 10,000 a call
_POLL_SECONDS = 0.2
_FIRST_GUESS_BYTES = 128 * 1024  # of a message, before any was seen
_READ_BYTES = 32 * 1024 * 1024  # a batch ends where it is reached, so that large messages are few
_ACCESS = {
    KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError._SSL,
}  # fmt: skip
# The client looks for the coordinator of its group, of which we want nothing: who may read the topic needs no right to a group.
_GROUP = {KafkaError.GROUP_AUTHORIZATION_FAILED}
_MISSING = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
_OUT_OF_RANGE = {KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET}

# Librdkafka's defaults would stall a fast consumer for up to a second per full queue, and let the queue grow to 64 MB per
# fetch. With these, memory is bounded whatever the number of topic partitions. A user's own settings win.
_CONSUMER_DEFAULTS = {
    "group.id": "lakehouse-assets",  # the client insists on one; nothing is ever committed to it
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "auto.offset.reset": "error",  # anything else would jump over lost messages silently
    "enable.partition.eof": "true",
    "isolation.level": "read_committed",
    "check.crcs": "true",
    "fetch.queue.backoff.ms": "1",
    "queued.min.messages": "50000",
    "queued.max.messages.kbytes": "32768",
    "fetch.max.bytes": "16777216",
}


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic as it is now: Kafka's own id and the numbers of its topic partitions."""

    name: str
    topic_id: str
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LogBounds:
    """Where the log of one topic partition begins (oldest offset held) and stops (first offset not readable yet)."""

    low: int
    stop: int


Headers = list[tuple[str, bytes | None]]  # in their order; a key may come again


@dataclass(frozen=True, slots=True)
class MessageBatch:
    """Messages as columns of equal length; `timestamps_ms` is -1 where a message has none."""

    keys: list[bytes | None]
    headers: list[Headers | None]
    values: list[bytes | None]
    partitions: "np.ndarray[tuple[int], np.dtype[np.int32]]"
    offsets: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    timestamps_ms: "np.ndarray[tuple[int], np.dtype[np.int64]]"

    def __len__(self) -> int:
        return len(self.values)

    def first(self, count: int) -> "MessageBatch":
        """The first `count` messages."""
        return MessageBatch(
            self.keys[:count],
            self.headers[:count],
            self.values[:count],
            self.partitions[:count],
            self.offsets[:count],
            self.timestamps_ms[:count],
        )

    def stops(self) -> dict[int, int]:
        """The offset after the last message of each topic partition that occurs."""
        return dict(zip(self.partitions.tolist(), (self.offsets + 1).tolist(), strict=True))


class KafkaSource:
    """One cluster. Clients are opened when first needed and kept; safe to use from several threads for metadata."""

    def __init__(self, settings: Settings) -> None:
        self._settings = dict(settings)
        self._admin: AdminClient | None = None
        self._complaint: KafkaError | None = None

    @property
    def servers(self) -> str:
        """The bootstrap servers, for messages to people."""
        return self._settings.get("bootstrap.servers", "nowhere")

    def describe(self, table: str, topic: str) -> TopicDescription:
        """Id and topic partitions.

        Raises:
            TopicMissingError, SourceUnavailableError, SourceAccessError
            ConfigurationError: the client can't be opened with these settings.
        """
        with self._errors(f"describe topic {topic!r} for {table}", table, topic):
            found = self._admin_client().describe_topics(TopicCollection([topic]), request_timeout=REQUEST_SECONDS)
            description = found[topic].result()
        return TopicDescription(topic, str(description.topic_id), tuple(sorted(p.id for p in description.partitions)))

    def read_bounds(self, table: str, topic: str, partitions: Sequence[int]) -> dict[int, LogBounds]:
        """Oldest offset held and first offset not yet readable, per topic partition. Reads no message."""
        lows = self._list_offsets(table, topic, {p: OffsetSpec.earliest() for p in partitions})
        stops = self._list_offsets(table, topic, {p: OffsetSpec.latest() for p in partitions})
        return {p: LogBounds(lows[p][0], stops[p][0]) for p in partitions}

    def find_boundaries(
        self, table: str, topic: str, bounds: Mapping[int, LogBounds], times_ms: Sequence[int], now_ms: int
    ) -> Boundaries:
        """First offset per topic partition and time whose message is stamped at or after the time, and plausibly.

        A message stamped more than an hour ahead of `now_ms` is no boundary. The broker's time index would give it for every
        later time, so behind such a message the log itself is read, once for all times.
        """
        found: dict[int, dict[int, int]] = {p: {} for p in bounds}
        open_times: dict[int, list[int]] = {}
        resume: dict[int, int] = {}
        for time_ms in sorted(set(times_ms)):
            answers = self._list_offsets(table, topic, {p: OffsetSpec.for_timestamp(time_ms) for p in bounds})
            for p, (offset, stamped_ms) in answers.items():
                if offset < 0 or offset >= bounds[p].stop:
                    found[p][time_ms] = bounds[p].stop
                elif stamped_ms <= now_ms + MAX_AHEAD_MS:
                    found[p][time_ms] = offset
                else:
                    open_times.setdefault(p, []).append(time_ms)
                    resume.setdefault(p, offset + 1)
        for p, times in open_times.items():
            found[p].update(self._scan_boundaries(table, topic, p, resume[p], bounds[p].stop, times, now_ms))
        return found

    def _scan_boundaries(
        self, table: str, topic: str, partition: int, start: int, stop: int, times_ms: list[int], now_ms: int
    ) -> dict[int, int]:
        rest, found = list(times_ms), {}
        if start < stop:
            with self.reader(table, topic, {partition: (start, stop)}) as reader:
                while rest and not reader.is_finished:
                    batch = reader.read(1.0)
                    stamps = np.where(batch.timestamps_ms <= now_ms + MAX_AHEAD_MS, batch.timestamps_ms, -1)
                    while rest and (hits := np.flatnonzero(stamps >= rest[0])).size:
                        found[rest.pop(0)] = int(batch.offsets[hits[0]])
        return {**found, **dict.fromkeys(rest, stop)}

    @contextmanager
    def reader(
        self, table: str, topic: str, ranges: Mapping[int, tuple[int, int | None]]
    ) -> "Iterator[RangeReader]":
        """Read one range `(start, stop)` of each topic partition named; stop None: on and on.

        Raises, here or while reading:
            OffsetsExpiredError, TopicTruncatedError: `start` is not in the log any more, or not again.
            SourceUnavailableError: no answer for STALL_SECONDS.
            TopicMissingError, SourceAccessError
        """
        with _configuration_errors():
            consumer = Consumer(
                {**_CONSUMER_DEFAULTS, **self._settings, "error_cb": self._complain}, logger=_quiet_logger()
            )
        try:
            with self._errors(f"read topic {topic!r} for {table}", table, topic):
                consumer.assign([TopicPartition(topic, p, start) for p, (start, _) in ranges.items()])
            yield RangeReader(self, consumer, table, topic, ranges)
        finally:
            consumer.close()

    def _list_offsets(
        self, table: str, topic: str, specs: Mapping[int, OffsetSpec]
    ) -> dict[int, tuple[int, int]]:
        if not specs:
            return {}
        wanted = {TopicPartition(topic, p): spec for p, spec in specs.items()}
        with self._errors(f"look up offsets of topic {topic!r} for {table}", table, topic):
            futures = self._admin_client().list_offsets(
                wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=REQUEST_SECONDS
            )
            return {tp.partition: _offset_and_timestamp(future) for tp, future in futures.items()}

    def _admin_client(self) -> AdminClient:
        if self._admin is None:
            with _configuration_errors():
                self._admin = AdminClient({**self._settings, "error_cb": self._complain}, logger=_quiet_logger())
        return self._admin

    def _complain(self, error: KafkaError) -> None:
        # The client reports why it can't connect only here; the call itself merely times out.
        if self._complaint is None or _weight(error) >= _weight(self._complaint):
            self._complaint = error

    def _listen(self) -> None:
        # Nobody else asks the metadata client for what it has to say.
        if self._admin is not None:
            self._admin.poll(0)

    def forget_complaints(self) -> None:
        """Kafka answered, so whatever was said before is over."""
        self._listen()
        self._complaint = None

    @contextmanager
    def _errors(self, action: str, table: str, topic: str) -> Iterator[None]:
        try:
            yield
        except KafkaException as error:
            raise self.translate(error.args[0], action, table, topic) from error
        self.forget_complaints()

    def translate(self, error: KafkaError, action: str, table: str, topic: str) -> SourceError:
        """The platform's error for the client's one."""
        self._listen()
        # The client says a thing once in half a minute, so it stays true until Kafka answers.
        cause = self._complaint or error
        for candidate in (error, cause):
            if candidate.code() in _ACCESS:
                return SourceAccessError(self.servers, action, candidate.str())
        if error.code() in _MISSING:
            return TopicMissingError(table, topic, self.servers)
        return SourceUnavailableError(self.servers, action, cause.str())


class RangeReader:
    """Reads assigned ranges. `next_offsets` says where each topic partition stands, gaps included."""

    def __init__(
        self, source: KafkaSource, consumer: Consumer, table: str, topic: str, ranges: Mapping[int, tuple[int, int | None]]
    ) -> None:
        self._source, self._consumer, self._table, self._topic = source, consumer, table, topic
        self._stops = {p: stop for p, (_, stop) in ranges.items() if stop is not None}
        self.next_offsets = {p: start for p, (start, _) in ranges.items()}
        self._at_end: set[int] = set()
        self._typical_bytes = _FIRST_GUESS_BYTES
        self._finished = {p for p, (start, stop) in ranges.items() if stop is not None and start >= stop}
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
        partitions: list[int] = []
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
            came_from = [m.partition() for m in good]
            partitions += came_from
            if self._at_end:
                self._at_end.difference_update(came_from)
            if len(good) < len(messages):
                self._take_events(messages)
            offsets += [m.offset() for m in good]
            stamps += [m.timestamp()[1] for m in good]
            if time.monotonic() >= deadline or (not good and self.is_caught_up):
                break
        self._watch(bool(values))
        return self._batch(keys, headers, values, partitions, offsets, stamps)

    def _take_events(self, messages: list[Message]) -> None:
        """What the client says between the messages: ends of logs, errors."""
        for i, event in enumerate(messages):
            error = event.error()
            if error is None or error.code() in _GROUP:
                continue
            if error.code() == KafkaError._PARTITION_EOF:
                if all(later.partition() != event.partition() for later in messages[i + 1 :]):
                    self._reach_end(event.partition(), event.offset())
            elif error.code() in _OUT_OF_RANGE:
                raise self._out_of_range(event.partition())
            elif not error.retriable() or error.code() in _MISSING | _ACCESS:
                raise self._source.translate(error, f"read topic {self._topic!r}", self._table, self._topic)

    def _reach_end(self, partition: int, end: int) -> None:
        self._at_end.add(partition)
        self._last_sign = time.monotonic()
        # Control records before the end are no messages; this is where the position passes them.
        stop = self._stops.get(partition)
        self.next_offsets[partition] = max(self.next_offsets[partition], end if stop is None else min(end, stop))
        if stop is not None and end >= stop:
            self._finish({partition})

    def _batch(
        self,
        keys: list[bytes | None],
        headers: list[Headers | None],
        values: list[bytes | None],
        partitions: list[int],
        offsets: list[int],
        stamps: list[int],
    ) -> MessageBatch:
        batch = MessageBatch(
            keys, headers, values, np.array(partitions, np.int32), np.array(offsets, np.int64), np.array(stamps, np.int64)
        )
        if not values:
            return batch
        over: set[int] = set()
        for p in np.unique(batch.partitions).tolist():
            newest = int(batch.offsets[batch.partitions == p][-1])
            stop = self._stops.get(p)
            if stop is not None and newest >= stop - 1:
                over.add(p)
            reached = max(newest + 1, self.next_offsets[p])
            self.next_offsets[p] = reached if stop is None else min(reached, stop)
        if over - self._finished:
            self._finish(over - self._finished)
        return self._without_surplus(batch) if over else batch

    def _without_surplus(self, batch: MessageBatch) -> MessageBatch:
        stops = np.full(int(batch.partitions.max()) + 1, np.iinfo(np.int64).max)
        for p, stop in self._stops.items():
            if p < len(stops):
                stops[p] = stop
        keep = batch.offsets < stops[batch.partitions]
        if keep.all():
            return batch
        keys, values = (list(compress(column, keep)) for column in (batch.keys, batch.values))
        headers = list(compress(batch.headers, keep))
        return MessageBatch(keys, headers, values, batch.partitions[keep], batch.offsets[keep], batch.timestamps_ms[keep])

    def _finish(self, partitions: set[int]) -> None:
        for p in partitions:
            self.next_offsets[p] = self._stops[p]
        self._finished |= partitions
        self._pause(partitions)

    def _pause(self, partitions: set[int]) -> None:
        self._consumer.pause([TopicPartition(self._topic, p) for p in partitions])

    def _out_of_range(self, partition: int) -> SourceError:
        bounds = self._source.read_bounds(self._table, self._topic, [partition])[partition]
        position = self.next_offsets[partition]
        if position < bounds.low:
            return OffsetsExpiredError(self._table, self._topic, {partition: (position, bounds.low)})
        return TopicTruncatedError(self._table, self._topic, {partition: (bounds.stop, position)})

    def _watch(self, alive: bool) -> None:
        if alive or self.is_finished:
            self._last_sign = time.monotonic()
        elif not self.is_caught_up and time.monotonic() - self._last_sign > STALL_SECONDS:
            silence = KafkaError(KafkaError._TIMED_OUT, f"no message for {STALL_SECONDS:.0f} s")
            raise self._source.translate(silence, f"read topic {self._topic!r} for {self._table}", self._table, self._topic)


def _offset_and_timestamp(future: "Future[object]") -> tuple[int, int]:
    found = future.result(REQUEST_SECONDS + 1)
    return found.offset, found.timestamp  # type: ignore[attr-defined]  # ListOffsetsResultInfo, untyped upstream


def _weight(complaint: KafkaError) -> int:
    """How much it explains: that all brokers are down merely follows from why each of them could not be reached."""
    if complaint.code() in _ACCESS:
        return 2
    return 0 if complaint.code() == KafkaError._ALL_BROKERS_DOWN else 1


@contextmanager
def _configuration_errors() -> Iterator[None]:
    """Opening a client contacts nobody: what it refuses then is a setting."""
    try:
        yield
    except KafkaException as error:
        raise ConfigurationError(
            "for the Kafka client", error.args[0].str(), "what librdkafka's CONFIGURATION.md says of each setting"
        ) from error


def _quiet_logger() -> logging.Logger:
    """The client's own log lines say what our errors say, without the table, and again at every attempt to connect."""
    logger = logging.getLogger("lakehouse_assets.kafka_client")
    logger.setLevel(logging.CRITICAL)
    return logger
