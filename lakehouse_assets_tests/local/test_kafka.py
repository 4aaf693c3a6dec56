"""The broker on this machine comes up, comes back, and never comes twice."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from lakehouse_assets.local.errors import AlreadyRunningError
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets_tests import ports
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.waiting import is_alive, wait_until

pytestmark = pytest.mark.kafka

_OWNER = """
import sys, time
from pathlib import Path
from lakehouse_assets.local.kafka import LocalKafka
broker = LocalKafka(Path(sys.argv[1]), port=int(sys.argv[2]))
broker.start()
print(broker.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[LocalKafka]:
    # Apart from the session's broker, because these tests kill it and take its port away. It starts beside what a format that
    # was interrupted left.
    (tmp_path / "kafka" / "data.new").mkdir(parents=True)
    (tmp_path / "kafka" / "data.new" / "meta.properties").write_text("half")
    with LocalKafka(tmp_path / "kafka", port=ports.port_of(ports.LOCAL_KAFKA)) as broker:
        yield broker


def test_it_is_a_real_kafka_with_one_node(kafka: LocalKafka) -> None:
    metadata = AdminClient({"bootstrap.servers": kafka.bootstrap_servers}).list_topics(timeout=10)

    assert list(metadata.brokers) == [1]
    assert (kafka.folder / "bootstrap.servers").read_text() == f"{kafka.bootstrap_servers}\n"


def test_messages_go_to_the_partition_and_carry_the_timestamp_that_a_test_asks_for(
    kafka: LocalKafka, topic: Callable[..., str], produce: Callable[..., list[int]]
) -> None:
    name = topic(partitions=2)

    assert produce(name, ["a", "b"], partition=1, timestamp_ms=[1000, 2000]) == [0, 1]

    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "test"})
    consumer.assign([TopicPartition(name, 1, 0)])
    messages = consumer.consume(2, timeout=10)
    consumer.close()
    assert [(m.value(), m.timestamp()[1], m.partition()) for m in messages] == [
        (b"a", 1000, 1),
        (b"b", 2000, 1),
    ]


def test_transactions_leave_control_records_behind(broker: Broker, topic: Callable[..., str]) -> None:
    name = topic()

    assert broker.produce_in_transaction(name, ["a"]) == [0]
    assert broker.produce_in_transaction(name, ["b"], abort=True) == [2]
    assert broker.produce(name, ["c"]) == [4]


def test_a_topic_may_allow_timestamps_far_ahead(broker: Broker, topic: Callable[..., str]) -> None:
    name = topic(settings={"message.timestamp.after.max.ms": str(2**63 - 1)})

    assert broker.produce(name, ["later"], timestamp_ms=4_102_444_800_000) == [0]


def test_a_killed_broker_comes_back_on_its_port_with_its_messages_whatever_locks_the_dead_left(
    own: LocalKafka,
) -> None:
    address = own.bootstrap_servers
    before = Broker(address)
    before.create_topic("kept")
    before.produce("kept", ["a", "b"])

    own.kill()
    assert own.has_died
    own.stop()
    (own.folder / "data" / ".lock").touch()
    (own.folder / "owner.lock").write_text("process 1")
    own.start()

    assert own.bootstrap_servers == address
    assert Broker(address).produce("kept", ["c"]) == [2]


@pytest.mark.slow
def test_a_port_in_use_makes_it_take_the_next_one_and_say_so_to_its_clients(own: LocalKafka) -> None:
    Broker(own.bootstrap_servers).create_topic("kept")
    port = int(own.bootstrap_servers.rpartition(":")[2])
    own.stop()

    with socket.create_server(("127.0.0.1", port)), LocalKafka(own.folder) as successor:
        assert successor.bootstrap_servers != f"127.0.0.1:{port}"
        assert (own.folder / "bootstrap.servers").read_text() == f"{successor.bootstrap_servers}\n"
        assert Broker(successor.bootstrap_servers).produce("kept", ["a"]) == [0]


def test_a_second_broker_in_one_folder_is_refused_in_one_sentence(kafka: LocalKafka) -> None:
    with pytest.raises(
        AlreadyRunningError, match=rf"^Cannot start Kafka 4.1.0: process {os.getpid()} runs it already"
    ):
        LocalKafka(kafka.folder).start()

    assert kafka.pid


def test_java_ends_when_its_owner_is_killed_and_the_folder_is_free_at_once(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(tmp_path), str(ports.port_of(ports.LOCAL_KAFKA))], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout
    with owner.stdout:
        java_pid = int(owner.stdout.readline())

    owner.send_signal(signal.SIGKILL)
    owner.wait()

    with LocalKafka(tmp_path) as successor:
        assert successor.pid != java_pid
        wait_until(lambda: not is_alive(java_pid), 20)
