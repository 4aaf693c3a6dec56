"""Produces the demo's flights into the local Kafka at a pace that a person can watch: `python -m lakehouse_assets.local.demo`.

Stopped or killed at any instruction, it goes on where the topic ends: no message is left out and none is sent twice.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice

from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from lakehouse_assets.environment import Environment
from lakehouse_assets.local.errors import LocalPlatformError
from lakehouse_assets.local.flights import PARTITION_COUNT, DemoMessage, find_flights, read_flights
from lakehouse_assets.model.errors import LakehouseError

TOPIC = "flights"
BURST_MESSAGES = 2000  # at once on an empty topic, so that there is something to look at
MESSAGES_PER_SECOND = 20
_TICK_SECONDS = 0.25
_REQUEST_SECONDS = 15.0
_FLUSH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How many messages are due a given time after the start; a burst, then an even stream."""

    burst: int
    per_second: int

    def due(self, elapsed_seconds: float) -> int:
        """Messages that should have been sent by then."""
        return self.burst + int(elapsed_seconds * self.per_second)


def ensure_topic(bootstrap_servers: str, topic: str = TOPIC) -> None:
    """Create the demo's topic; safe to repeat.

    Raises:
        LocalPlatformError: the broker refuses.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": "0"})
    new_topic = NewTopic(topic, num_partitions=PARTITION_COUNT, replication_factor=1)
    try:
        admin.create_topics([new_topic], request_timeout=_REQUEST_SECONDS)[topic].result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise LocalPlatformError(
                f"create topic {topic!r} at {bootstrap_servers}", str(error), "Look into the log of Kafka."
            ) from error


def read_produced(bootstrap_servers: str, topic: str) -> dict[int, int]:
    """How many messages each topic partition was ever given; retention takes none off. Read-only.

    Raises:
        LocalPlatformError: the broker does not say.
    """
    consumer = KafkaConsumer({"bootstrap.servers": bootstrap_servers, "group.id": "lakehouse-demo"})
    deadline = time.monotonic() + _REQUEST_SECONDS
    try:
        return {p: _read_end(consumer, TopicPartition(topic, p), deadline) for p in range(PARTITION_COUNT)}
    finally:
        consumer.close()


def _read_end(consumer: KafkaConsumer, partition: TopicPartition, deadline: float) -> int:
    while True:
        try:
            bounds: tuple[int, int] = consumer.get_watermark_offsets(partition, timeout=_REQUEST_SECONDS)
            return bounds[1]
        except KafkaException as error:
            # A topic or broker that is a moment old has no leaders yet, or leaders that don't know it.
            if time.monotonic() > deadline:
                raise LocalPlatformError(
                    f"read where topic {partition.topic!r} ends", str(error), "Look into the log of Kafka."
                ) from error
            time.sleep(_TICK_SECONDS)


def produce_flights(bootstrap_servers: str, stop: threading.Event, topic: str = TOPIC) -> None:
    """Produce until `stop` is set. Exactly what the topic lacks, in order.

    Raises:
        LocalPlatformError: the broker did not take a message.
    """
    pace = Pace(BURST_MESSAGES, MESSAGES_PER_SECOND)
    produce_what_lacks(bootstrap_servers, topic, pace, partial(read_flights, find_flights()), stop)


def produce_what_lacks(
    bootstrap_servers: str,
    topic: str,
    pace: Pace,
    read: Callable[[Mapping[int, int]], Iterator[DemoMessage]],
    stop: threading.Event,
) -> None:
    """Produce until `stop` is set what `read` gives behind the messages that each topic partition has; the burst once.

    Raises:
        LocalPlatformError: the broker did not take a message.
    """
    produced = read_produced(bootstrap_servers, topic)
    pace = Pace(max(0, pace.burst - sum(produced.values())), pace.per_second)
    _DemoProducer(bootstrap_servers, topic).follow(pace, read(produced), stop)


class _DemoProducer:
    """Stops at the first message that the broker did not take: what the topic holds stays a prefix of the flights."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        # Idempotence keeps the order of each topic partition, and no retry is stored twice.
        self._producer = Producer(
            {"bootstrap.servers": bootstrap_servers, "enable.idempotence": "true", "linger.ms": "20"}
        )
        self._topic = topic
        self._refusal: KafkaError | None = None

    def follow(self, pace: Pace, messages: Iterator[DemoMessage], stop: threading.Event) -> None:
        started = time.monotonic()
        sent = 0
        while not stop.is_set():
            due = pace.due(time.monotonic() - started)
            for message in islice(messages, due - sent):
                self._producer.produce(
                    self._topic, message.value, message.key, message.partition, on_delivery=self._on_delivery
                )
            sent = due
            self._producer.poll(0)
            self._raise_refusal()
            stop.wait(_TICK_SECONDS)
        self._producer.flush(_FLUSH_SECONDS)
        self._raise_refusal()

    def _on_delivery(self, error: KafkaError | None, _message: Message) -> None:
        self._refusal = self._refusal or error

    def _raise_refusal(self) -> None:
        if self._refusal:
            raise _refused(self._topic, self._refusal.str())


def _refused(topic: str, reason: str) -> LocalPlatformError:
    return LocalPlatformError(
        f"produce into the demo's topic {topic!r}",
        reason,
        "It goes on at the next start, where the topic ends.",
    )


def main() -> int:
    """Run until SIGTERM or Ctrl-C; 1 where Kafka refused."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        produce_flights(Environment.read().require_kafka()["bootstrap.servers"], stop)
    except LakehouseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
