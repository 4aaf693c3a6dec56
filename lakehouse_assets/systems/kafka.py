"""Reads exact offset ranges of topics, and where their logs begin and end. No consumer group decides anything.

Hides the Kafka client: its configuration, its errors, its end-of-partition events. Control records and aborted messages never
appear; they only leave gaps. Messages are handed over in columns, because that is how they are decoded.
"""

import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
)
from confluent_kafka import TopicPartition as Assignment
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
from lakehouse_assets.model.offsets import TopicPartition
from lakehouse_assets.model.slices import MAX_AHEAD_MS, Boundaries

Settings = Mapping[str, str]

REQUEST_SECONDS = 10.0
STALL_SECONDS = 30.0  # no message and no end of log for so long: the broker is away
_POLL_MESSAGES = 500  # measured: 100 to 1,000 a call cost a third of 10,000 a call
_POLL_SECONDS = 0.2
_TOPICS_SHOWN = 3
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
class SourceDescription:
    """Topics as they are now: Kafka's own id of each, and all their topic partitions."""

    topic_ids: Mapping[str, str]
    logs: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class LogBounds:
    """Where the log of one topic partition begins (oldest offset held) and stops (first offset not readable yet)."""

    low: int
    stop: int


Bounds = Mapping[TopicPartition, LogBounds]
Ranges = Mapping[TopicPartition, tuple[int, int | None]]  # (start, stop); stop None: on and on
Headers = list[tuple[str, bytes | None]]  # in their order; a key may come again


@dataclass(frozen=True, slots=True)
class MessageBatch:
    """Messages as columns of equal length. `places` says in which of `logs` each stands.

    `timestamps_ms` is -1 where a message has none.
    """

    logs: tuple[TopicPartition, ...]
    keys: list[bytes | None]
    headers: list[Headers | None]
    values: list[bytes | None]
    places: "np.ndarray[tuple[int], np.dtype[np.int32]]"
    offsets: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    timestamps_ms: "np.ndarray[tuple[int], np.dtype[np.int64]]"

    def __len__(self) -> int:
        return len(self.values)

    @property
    def partitions(self) -> "np.ndarray[tuple[int], np.dtype[np.int32]]":
        """Number of each message's topic partition within its topic."""
        return np.array([log.partition for log in self.logs], np.int32)[self.places]

    def by_log(self) -> "Iterator[tuple[TopicPartition, np.ndarray[tuple[int], np.dtype[np.bool_]]]]":
        """Each topic partition that occurs, and which messages are its."""
        for place in np.unique(self.places).tolist():
            yield self.logs[place], self.places == place

    def position(self, at: int) -> tuple[TopicPartition, int]:
        """Topic partition and offset of one message."""
        return self.logs[self.places[at]], int(self.offsets[at])

    def first(self, count: int) -> "MessageBatch":
        """The first `count` messages."""
        return MessageBatch(
            self.logs,
            self.keys[:count],
            self.headers[:count],
            self.values[:count],
            self.places[:count],
            self.offsets[:count],
            self.timestamps_ms[:count],
        )

    def stops(self) -> dict[TopicPartition, int]:
        """The offset after the last message of each topic partition that occurs."""
        return {log: int(self.offsets[mine][-1]) + 1 for log, mine in self.by_log()}


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

    def find_topics(self, table: str, pattern: str) -> tuple[str, ...]:
        """Names of the topics that match a regular expression as a whole, Kafka's internal ones aside; sorted.

        Raises:
            TopicMissingError: none does.
        """
        with self._errors(f"list the topics for {table}", table, pattern):
            found = self._admin_client().list_topics(timeout=REQUEST_SECONDS).topics
        matching = sorted(name for name in found if re.fullmatch(pattern, name) and not name.startswith("__"))
        if not matching:
            raise TopicMissingError(table, pattern, self.servers, is_pattern=True)
        return tuple(matching)

    def describe(self, table: str, topics: Sequence[str]) -> SourceDescription:
        """Ids and topic partitions.

        Raises:
            TopicMissingError, SourceUnavailableError, SourceAccessError
            ConfigurationError: the client can't be opened with these settings.
        """
        with self._errors(f"describe the topics of {table}", table, ", ".join(topics)):
            futures = self._admin_client().describe_topics(TopicCollection(list(topics)), request_timeout=REQUEST_SECONDS)
        found = {}
        for topic in topics:
            with self._errors(f"describe topic {topic!r} for {table}", table, topic):
                found[topic] = futures[topic].result()
        return SourceDescription(
            {topic: str(description.topic_id) for topic, description in found.items()},
            tuple(sorted(TopicPartition(topic, p.id) for topic, d in found.items() for p in d.partitions)),
        )

    def read_bounds(self, table: str, logs: Sequence[TopicPartition]) -> dict[TopicPartition, LogBounds]:
        """Oldest offset held and first offset not yet readable, per topic partition. Reads no message."""
        lows = self._list_offsets(table, {log: OffsetSpec.earliest() for log in logs})
        stops = self._list_offsets(table, {log: OffsetSpec.latest() for log in logs})
        return {log: LogBounds(lows[log][0], stops[log][0]) for log in logs}

    def find_boundaries(self, table: str, bounds: Bounds, times_ms: Sequence[int], now_ms: int) -> Boundaries:
        """First offset per topic partition and time whose message is stamped at or after the time, and plausibly.

        A message stamped more than an hour ahead of `now_ms` is no boundary. The broker's time index would give it for every
        later time, so behind such a message the log itself is read, once for all times.
        """
        found: dict[TopicPartition, dict[int, int]] = {log: {} for log in bounds}
        open_times: dict[TopicPartition, list[int]] = {}
        resume: dict[TopicPartition, int] = {}
        for time_ms in sorted(set(times_ms)):
            answers = self._list_offsets(table, {log: OffsetSpec.for_timestamp(time_ms) for log in bounds})
            for log, (offset, stamped_ms) in answers.items():
                if offset < 0 or offset >= bounds[log].stop:
                    found[log][time_ms] = bounds[log].stop
                elif stamped_ms <= now_ms + MAX_AHEAD_MS:
                    found[log][time_ms] = offset
                else:
                    open_times.setdefault(log, []).append(time_ms)
                    resume.setdefault(log, offset + 1)
        for log, times in open_times.items():
            found[log].update(self._scan_boundaries(table, log, resume[log], bounds[log].stop, times, now_ms))
        return found

    def _scan_boundaries(
        self, table: str, log: TopicPartition, start: int, stop: int, times_ms: list[int], now_ms: int
    ) -> dict[int, int]:
        rest, found = list(times_ms), {}
        if start < stop:
            with self.reader(table, {log: (start, stop)}) as reader:
                while rest and not reader.is_finished:
                    batch = reader.read(1.0)
                    stamps = np.where(batch.timestamps_ms <= now_ms + MAX_AHEAD_MS, batch.timestamps_ms, -1)
                    while rest and (hits := np.flatnonzero(stamps >= rest[0])).size:
                        found[rest.pop(0)] = int(batch.offsets[hits[0]])
        return {**found, **dict.fromkeys(rest, stop)}

    @contextmanager
    def reader(self, table: str, ranges: Ranges) -> "Iterator[RangeReader]":
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
            with self._errors(f"read {_topics_text(ranges)} for {table}", table, _topics_text(ranges)):
                consumer.assign([Assignment(*log, start) for log, (start, _) in ranges.items()])
            yield RangeReader(self, consumer, table, ranges)
        finally:
            consumer.close()

    def _list_offsets(
        self, table: str, specs: Mapping[TopicPartition, OffsetSpec]
    ) -> dict[TopicPartition, tuple[int, int]]:
        if not specs:
            return {}
        wanted = {Assignment(*log): spec for log, spec in specs.items()}
        topics = _topics_text(specs)
        with self._errors(f"look up offsets of {topics} for {table}", table, topics):
            futures = self._admin_client().list_offsets(
                wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=REQUEST_SECONDS
            )
            return {TopicPartition(tp.topic, tp.partition): _offset_and_timestamp(future) for tp, future in futures.items()}

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

    def __init__(self, source: KafkaSource, consumer: Consumer, table: str, ranges: Ranges) -> None:
        self._source, self._consumer, self._table = source, consumer, table
        self._topics = _topics_text(ranges)
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
            if error is None or error.code() in _GROUP:
                continue
            if error.code() == KafkaError._PARTITION_EOF:
                log = _log_of(event)
                if all(_log_of(later) != log for later in messages[i + 1 :]):
                    self._reach_end(log, event.offset())
            elif error.code() in _OUT_OF_RANGE:
                raise self._out_of_range(_log_of(event))
            elif not error.retriable() or error.code() in _MISSING | _ACCESS:
                raise self._source.translate(error, f"read {self._topics}", self._table, event.topic() or self._topics)

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
        bounds = self._source.read_bounds(self._table, [log])[log]
        position = self.next_offsets[log]
        if position < bounds.low:
            return OffsetsExpiredError(self._table, {log: (position, bounds.low)})
        return TopicTruncatedError(self._table, {log: (bounds.stop, position)})

    def _watch(self, alive: bool) -> None:
        if alive or self.is_finished:
            self._last_sign = time.monotonic()
        elif not self.is_caught_up and time.monotonic() - self._last_sign > STALL_SECONDS:
            silence = KafkaError(KafkaError._TIMED_OUT, f"no message for {STALL_SECONDS:.0f} s")
            raise self._source.translate(silence, f"read {self._topics} for {self._table}", self._table, self._topics)


def _log_of(message: Message) -> TopicPartition:
    return TopicPartition(message.topic(), message.partition())


def _topics_text(logs: Iterable[TopicPartition]) -> str:
    """The topics of some topic partitions, for messages to people."""
    names = list(dict.fromkeys(log.topic for log in logs))
    shown = ", ".join(map(repr, names[:_TOPICS_SHOWN]))
    more = f" and {len(names) - _TOPICS_SHOWN} more" if len(names) > _TOPICS_SHOWN else ""
    return f"topic{'s' if len(names) > 1 else ''} {shown}{more}"


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
