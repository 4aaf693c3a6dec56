"""Servers of catalogs and storages: each started once in a test process, and a proxy before it that disturbs what is said."""

from collections.abc import Iterator
from itertools import count

import pytest

from lakehouse_assets.local.connect import LocalConnect
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets_tests import judge, ports
from lakehouse_assets_tests.object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from lakehouse_assets_tests.postgres import PostgresServer
from lakehouse_assets_tests.proxy import FaultyProxy
from lakehouse_assets_tests.rest_catalog import RestCatalogServer
from lakehouse_assets_tests.source import Source

_numbers = count(1)


@pytest.fixture(scope="session")
def rest_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestCatalogServer]:
    with RestCatalogServer(tmp_path_factory.mktemp("rest"), ports.free_port_of(ports.REST_CATALOG)) as running:
        yield running


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path_factory.mktemp("postgres"), port=ports.port_of(ports.POSTGRES)) as running:
        yield running


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """Whose changes `connect` follows."""
    with PostgresServer(tmp_path_factory.mktemp("database"), port=ports.port_of(ports.SOURCE)) as running:
        yield running


@pytest.fixture(scope="session")
def connect(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalConnect]:
    """Killed, it sends again what it has sent in the last seconds. A test that kills it starts it again."""
    folder, seldom = tmp_path_factory.mktemp("connect"), {"offset.flush.interval.ms": "3000"}
    with LocalConnect(
        folder, bootstrap_servers=kafka.bootstrap_servers, port=ports.port_of(ports.CONNECT), settings=seldom
    ) as running:
        yield running


@pytest.fixture
def source(database: PostgresServer, connect: LocalConnect, kafka: LocalKafka) -> Iterator[Source]:
    """A database of its own for a test, followed from when it says `follow`."""
    opened = Source(database, connect, kafka.bootstrap_servers, f"source_{next(_numbers)}")
    yield opened
    opened.remove()


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with ObjectStore(tmp_path_factory.mktemp("store"), ports.free_port_of(ports.OBJECT_STORE)) as running:
        judge.reach_object_store(running.address, ACCESS_KEY, SECRET_KEY)
        yield running


@pytest.fixture
def rest_proxy(rest_server: RestCatalogServer) -> Iterator[FaultyProxy]:
    with FaultyProxy(rest_server.port) as proxy:
        yield proxy


@pytest.fixture
def postgres_proxy(postgres_server: PostgresServer) -> Iterator[FaultyProxy]:
    with FaultyProxy(postgres_server.port) as proxy:
        yield proxy


@pytest.fixture
def store_proxy(object_store: ObjectStore) -> Iterator[FaultyProxy]:
    with FaultyProxy(object_store.port) as proxy:
        yield proxy
