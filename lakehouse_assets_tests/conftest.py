"""A real Kafka for the tests that need one: started once, stopped at the end."""

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.local.registry import LocalRegistry
from lakehouse_assets_tests import faults, ports
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import make_systems
from lakehouse_assets_tests.faults import FAULTY, FaultyCatalog
from lakehouse_assets_tests.registry import Registry
from lakehouse_assets_tests.spark import Spark

_TOPIC_LENGTH = 60
_HOUR_SECONDS, _LONG_TEST_SECONDS = 3600, 20

# Six processes share the processors: how long one example takes says nothing.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

TopicFactory = Callable[..., str]


@pytest.fixture(scope="session", autouse=True)
def _no_inherited_settings() -> None:
    # The tests run the same in a shell that is set up for a cluster of its own.
    for name in list(os.environ):
        if name.startswith(("KAFKA_", "LAKEHOUSE_", "PYICEBERG_", "DAGSTER_", "SCHEMA_REGISTRY_")):
            del os.environ[name]


@pytest.fixture(autouse=True)
def _hour_does_not_turn() -> None:
    """What a test sends now and what it says of "this hour" mean the same hour."""
    left = _HOUR_SECONDS - time.time() % _HOUR_SECONDS
    if left < _LONG_TEST_SECONDS:
        time.sleep(left)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[FaultyCatalog]:
    """A catalog of its own for each test, with faults that wait to be caused."""
    faults.EFFECTS.arm(None)
    opened = make_systems(tmp_path, **FAULTY).catalog
    assert isinstance(opened, FaultyCatalog)
    yield opened
    faults.EFFECTS.arm(None)
    opened.close()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """The broker of the session. A test that stops or kills it starts it again before it ends."""
    with LocalKafka(tmp_path_factory.mktemp("kafka"), port=ports.port_of(ports.SESSION)) as broker:
        yield broker


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """The schema registry of the session. A test that stops it starts it again before it ends."""
    with LocalRegistry(tmp_path_factory.mktemp("registry"), port=ports.port_of(ports.REGISTRY)) as server:
        yield Registry(server)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spark]:
    """Apache Spark, for tests of the mark of that name."""
    with Spark(tmp_path_factory.mktemp("spark")) as engine:
        yield engine


@pytest.fixture
def broker(kafka: LocalKafka) -> Broker:
    """Creates topics and produces; see `Broker`."""
    return Broker(kafka.bootstrap_servers)


@pytest.fixture
def topic(broker: Broker, request: pytest.FixtureRequest, tmp_path: Path) -> TopicFactory:
    """`topic(partitions=1, settings=None)` creates a topic with a name that nobody else has, and returns that."""
    created = 0

    def create(partitions: int = 1, settings: dict[str, str] | None = None) -> str:
        nonlocal created
        created += 1
        # tmp_path numbers the tests whose names are equal in their first thirty characters.
        words = re.sub(r"[^a-zA-Z0-9]+", "_", request.node.name)[:_TOPIC_LENGTH].strip("_")
        return broker.create_topic(f"{words}_{tmp_path.name[-4:]}_{created}", partitions, settings)

    return create


@pytest.fixture
def produce(broker: Broker) -> Callable[..., list[int]]:
    """`produce(topic, values, partition=0, timestamp_ms=None, key=None)` returns the offsets."""
    return broker.produce
