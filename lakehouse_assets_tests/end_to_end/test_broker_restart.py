"""A broker that is killed and started again in the middle of a run."""

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.operations.lake import Lake
from lakehouse_assets_tests.waiting import wait_until

pytestmark = pytest.mark.kafka

TopicFactory = Callable[..., str]


@pytest.fixture
def table(tmp_path: Path, broker: Broker, topic: TopicFactory) -> Iterator[Lake]:
    opened = Lake.open(tmp_path, broker, topic(2))
    yield opened
    opened.systems.catalog.close()


@pytest.mark.slow
def test_a_run_goes_on_when_the_broker_was_killed_and_came_back(table: Lake, kafka: LocalKafka) -> None:
    table.produce(50, partition=0)
    table.produce(50, partition=1)
    restarts: list[Thread] = []

    def kill_broker(_: object) -> None:
        if not restarts:
            table.produce(30, partition=0)
            kafka.kill()
            restarts.append(Thread(target=kafka.start))
            restarts[0].start()

    try:
        table.ingest(on_commit=kill_broker)
    finally:
        restarts[0].join()
    wait_until(kafka_answers(table))
    table.reopened().ingest()

    table.assert_holds({0: list(range(80)), 1: list(range(50))})


def kafka_answers(table: Lake) -> Callable[[], bool]:
    """Whether new messages are taken again."""
    return lambda: bool(table.systems.source.describe(table.spec.table, [table.topic]).logs)
