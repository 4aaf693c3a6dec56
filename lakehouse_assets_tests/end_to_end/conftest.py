"""Servers of catalogs and storages: each started once in a test process, and a proxy before it that disturbs what is said."""

from collections.abc import Iterator

import pytest

from lakehouse_assets_tests import judge, ports
from lakehouse_assets_tests.object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from lakehouse_assets_tests.postgres import PostgresServer
from lakehouse_assets_tests.proxy import FaultyProxy
from lakehouse_assets_tests.rest_catalog import RestCatalogServer


@pytest.fixture(scope="session")
def rest_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestCatalogServer]:
    with RestCatalogServer(tmp_path_factory.mktemp("rest"), ports.free_port_of(ports.REST_CATALOG)) as running:
        yield running


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path_factory.mktemp("postgres"), port=ports.port_of(ports.POSTGRES)) as running:
        yield running


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
