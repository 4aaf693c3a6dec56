"""A Kafka cluster: its topics, where their logs begin and end, and readers of exact ranges. No consumer group decides anything.

Hides the Kafka client: its configuration, and what it complains about.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
)
from confluent_kafka import TopicPartition as Assignment
from confluent_kafka.admin import AdminClient, OffsetSpec

from lakehouse_assets.model.errors import (
    ConfigurationError,
    SourceAccessError,
    SourceError,
    SourceUnavailableError,
    TopicMissingError,
)
from lakehouse_assets.model.mistakes import nearest
from lakehouse_assets.model.offsets import Bounds, LogBounds, TopicPartition
from lakehouse_assets.model.slices import MAX_AHEAD_MS, Boundaries
from lakehouse_assets.systems.kafka_codes import ACCESS, MISSING
from lakehouse_assets.systems.kafka_reader import RangeReader, topics_text
from lakehouse_assets.systems.messages import Ranges

Settings = Mapping[str, str]

REQUEST_SECONDS = 10.0
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
        found = self._list_topics(table)
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
            try:
                with self._errors(f"describe topic {topic!r} for {table}", table, topic):
                    found[topic] = futures[topic].result()
            except TopicMissingError as error:
                others = self._list_topics(table)
                raise TopicMissingError(table, topic, self.servers, suggestion=nearest(topic, others)) from error
        return SourceDescription(
            {topic: str(description.topic_id) for topic, description in found.items()},
            tuple(sorted(TopicPartition(topic, p.id) for topic, d in found.items() for p in d.partitions)),
        )

    def _list_topics(self, table: str) -> list[str]:
        with self._errors(f"list the topics for {table}", table, ""):
            return list(self._admin_client().list_topics(timeout=REQUEST_SECONDS).topics)

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
            with self._errors(f"read {topics_text(ranges)} for {table}", table, topics_text(ranges)):
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
        topics = topics_text(specs)
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
            if candidate.code() in ACCESS:
                return SourceAccessError(self.servers, action, candidate.str())
        if error.code() in MISSING:
            return TopicMissingError(table, topic, self.servers)
        return SourceUnavailableError(self.servers, action, cause.str())


def _offset_and_timestamp(future: "Future[object]") -> tuple[int, int]:
    found = future.result(REQUEST_SECONDS + 1)
    return found.offset, found.timestamp  # type: ignore[attr-defined]  # ListOffsetsResultInfo, untyped upstream


def _weight(complaint: KafkaError) -> int:
    """How much it explains: that all brokers are down merely follows from why each of them could not be reached."""
    if complaint.code() in ACCESS:
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
