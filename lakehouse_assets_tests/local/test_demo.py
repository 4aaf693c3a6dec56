"""The demo producer keeps a pace, and stops and starts without losing or repeating a flight."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from lakehouse_assets.local.demo import BURST_MESSAGES, Pace, ensure_topic, read_produced
from lakehouse_assets.local.flights import PARTITION_COUNT, find_flights, read_flights
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets_tests.waiting import wait_until

pytestmark = pytest.mark.kafka

_PRODUCER = """
import sys, threading
from lakehouse_assets.local import demo
demo.BURST_MESSAGES = 3000
stop = threading.Event()
demo.produce_flights(sys.argv[1], stop, sys.argv[2])
"""


@pytest.fixture
def start(kafka: LocalKafka) -> Iterator[Callable[[str], "subprocess.Popen[bytes]"]]:
    started: list[subprocess.Popen[bytes]] = []

    def start_producer(topic: str) -> "subprocess.Popen[bytes]":
        started.append(subprocess.Popen([sys.executable, "-c", _PRODUCER, kafka.bootstrap_servers, topic]))
        return started[-1]

    yield start_producer
    for process in started:
        process.kill()
        process.wait()


def _produced(kafka: LocalKafka, topic: str) -> int:
    return sum(read_produced(kafka.bootstrap_servers, topic).values())


def _read(kafka: LocalKafka, topic: str) -> dict[int, list[bytes]]:
    bounds = read_produced(kafka.bootstrap_servers, topic)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "test"})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in bounds])
    found: dict[int, list[bytes]] = {partition: [] for partition in bounds}
    wanted = sum(bounds.values())
    while sum(map(len, found.values())) < wanted:
        for message in consumer.consume(500, timeout=10):
            found[message.partition()].append(message.value())
    consumer.close()
    return found


def test_a_burst_comes_first_and_then_an_even_stream() -> None:
    pace = Pace(burst=2000, per_second=20)

    assert [pace.due(seconds) for seconds in (0, 0.5, 1, 60)] == [2000, 2010, 2020, 3200]


def test_the_burst_gives_a_person_something_to_look_at() -> None:
    assert BURST_MESSAGES == 2000


def test_the_topic_is_created_once(kafka: LocalKafka) -> None:
    ensure_topic(kafka.bootstrap_servers, "created-once")
    ensure_topic(kafka.bootstrap_servers, "created-once")

    assert read_produced(kafka.bootstrap_servers, "created-once") == dict.fromkeys(range(PARTITION_COUNT), 0)


def test_a_producer_that_is_killed_again_and_again_leaves_a_topic_of_exactly_the_flights(
    kafka: LocalKafka, start: Callable[[str], "subprocess.Popen[bytes]"]
) -> None:
    topic = "killed-producer"
    ensure_topic(kafka.bootstrap_servers, topic)

    for wanted in (1, 1500, 3020):
        producer = start(topic)
        wait_until(lambda wanted=wanted: _produced(kafka, topic) >= wanted, 30)
        os.kill(producer.pid, signal.SIGKILL)
        producer.wait()

    found = _read(kafka, topic)
    flights = list(islice(read_flights(find_flights(), {}), 20_000))
    for partition, values in found.items():
        expected = [flight.value for flight in flights if flight.partition == partition]
        assert values == expected[: len(values)]


def test_a_termination_signal_ends_it_in_order(kafka: LocalKafka, tmp_path: Path) -> None:
    ensure_topic(kafka.bootstrap_servers)
    variables = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
    producer = subprocess.Popen([sys.executable, "-m", "lakehouse_assets.local.demo"], env=variables)
    wait_until(lambda: _produced(kafka, "flights") >= BURST_MESSAGES, 30)

    producer.terminate()

    assert producer.wait(20) == 0
