"""Fills topics of a real broker exactly: which partition, which timestamp, in a transaction or not."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka import Message as Delivered
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    OffsetSpec,
)
from confluent_kafka.cimpl import NewTopic

from lakehouse_assets_tests.change_streams import Message
from lakehouse_assets_tests.waiting import wait_until

_SECONDS = 30.0

Value = bytes | str | None
Record = tuple[Value, bytes | str | None, list[tuple[str, bytes]] | None]  # value, key, headers


class Broker:
    """What a test does to a broker; every call returns when it is done."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers

    def create_topic(self, name: str, partitions: int = 1, settings: Mapping[str, str] | None = None) -> str:
        """`settings` are the topic's own, such as `message.timestamp.after.max.ms`."""
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=dict(settings or {}))
        self._admin.create_topics([topic], operation_timeout=_SECONDS)[name].result()
        self.await_leaders(name, partitions)
        return name

    def await_leaders(self, topic: str, partitions: int) -> None:
        """Until every one of its topic partitions answers, as after a restart."""
        wait_until(lambda: self._has_leaders(topic, partitions), _SECONDS)

    def _has_leaders(self, name: str, partitions: int) -> bool:
        # The controller has answered, but for a moment the broker may not know that it leads. Of topic partitions that came
        # later, the client itself hears only when it is made to look.
        self._admin.list_topics(name, timeout=_SECONDS)
        wanted = {TopicPartition(name, p): OffsetSpec.latest() for p in range(partitions)}
        errors = [future.exception() for future in self._admin.list_offsets(wanted).values()]
        return not any(errors)

    def delete_topic(self, name: str) -> None:
        """With all its messages."""
        self._admin.delete_topics([name], operation_timeout=_SECONDS)[name].result()

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Drop each partition's messages before an offset, as retention does."""
        wanted = [TopicPartition(topic, partition, offset) for partition, offset in before.items()]
        for future in self._admin.delete_records(wanted).values():
            future.result()

    def configure(self, topic: str, name: str, value: str) -> None:
        """Change one setting of a topic."""
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        self._admin.incremental_alter_configs([resource])[resource].result()

    def produce(
        self,
        topic: str,
        values: Iterable[Value],
        *,
        partition: int = 0,
        timestamp_ms: int | Sequence[int] | None = None,
        key: bytes | str | None = None,
        headers: list[tuple[str, bytes]] | None = None,
        client: Mapping[str, str] | None = None,
    ) -> list[int]:
        """Produce in order and return the offsets; one timestamp for all, or one for each, or now.

        `client` are the producer's own settings, such as `compression.type`.
        """
        producer = self._producer if client is None else Producer({**self._settings, "linger.ms": "5", **client})
        return _send(producer, topic, ((value, key, headers) for value in values), partition, timestamp_ms)

    def send(self, topic: str, messages: Sequence[Message], partition: int, timestamp_ms: int) -> list[int]:
        """Produce messages that have keys and headers of their own, in order; their offsets."""
        records = [(one.value, one.key, list(one.headers) or None) for one in messages]
        return _send(self._producer, topic, records, partition, timestamp_ms)

    def produce_in_transaction(
        self, topic: str, values: Iterable[Value], *, partition: int = 0, abort: bool = False
    ) -> list[int]:
        """One transaction; a control record takes the offset behind it. Nobody sees what was aborted."""
        producer, offsets = self.begin_transaction(topic, values, partition=partition, name="closed")
        if abort:
            producer.abort_transaction(_SECONDS)
        else:
            producer.commit_transaction(_SECONDS)
        return offsets

    def begin_transaction(
        self, topic: str, values: Iterable[Value], *, partition: int = 0, name: str = "open"
    ) -> tuple[Producer, list[int]]:
        """A transaction that holds back what follows it until the producer ends it, or ten minutes are over."""
        identity = {"transactional.id": f"{topic}-{partition}-{name}", "transaction.timeout.ms": "600000"}
        producer = Producer({**self._settings, **identity})
        producer.init_transactions(_SECONDS)
        producer.begin_transaction()
        return producer, _send(producer, topic, ((value, None, None) for value in values), partition, None)

    def add_partitions(self, topic: str, count: int) -> None:
        """Until the topic has `count`."""
        self._admin.create_partitions([NewPartitions(topic, count)], operation_timeout=_SECONDS)[topic].result()
        self.await_leaders(topic, count)
        self.__dict__.pop("_producer", None)  # which would hear of them only after minutes

    @cached_property
    def _admin(self) -> AdminClient:
        return AdminClient(self._settings)

    @cached_property
    def _producer(self) -> Producer:
        return Producer({**self._settings, "enable.idempotence": "true", "linger.ms": "1"})

    @property
    def _settings(self) -> dict[str, str]:
        return {"bootstrap.servers": self.bootstrap_servers, "log_level": "2"}


def _send(
    producer: Producer,
    topic: str,
    records: Iterable[Record],
    partition: int,
    timestamp_ms: int | Sequence[int] | None,
) -> list[int]:
    offsets: list[int] = []

    def on_delivery(error: object, message: Delivered) -> None:
        if error:
            raise KafkaException(error)
        offset = message.offset()
        assert offset is not None
        offsets.append(offset)

    sent = 0
    for sent, (value, key, headers) in enumerate(records, start=1):
        stamped = timestamp_ms[sent - 1] if isinstance(timestamp_ms, Sequence) else timestamp_ms
        arguments = {} if stamped is None else {"timestamp": stamped}
        while True:
            try:
                producer.produce(
                    topic, value, key, partition, on_delivery=on_delivery, headers=headers, **arguments
                )
                break
            except BufferError:
                producer.poll(0.1)
    left = producer.flush(_SECONDS)
    assert left == 0, f"the broker did not take {left} of {sent} messages"
    assert len(offsets) == sent
    return offsets
