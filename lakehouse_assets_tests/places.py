"""Where tables can lie: each kind of catalog and storage that the platform is tested on, behind one face.

A place opens catalogs, goes away and comes back for real, and loses the answer to a commit that it took.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError

from lakehouse_assets_tests.faults import raising
from lakehouse_assets_tests.object_store import ObjectStore
from lakehouse_assets_tests.operations.lake import Lake
from lakehouse_assets_tests.postgres import PostgresServer
from lakehouse_assets_tests.proxy import FaultyProxy
from lakehouse_assets_tests.rest_catalog import RestCatalogServer

_numbers = count()  # servers outlive a test, and have what it left


class Place(ABC):
    """One kind. What differs between kinds is here, so that a test need not know which it runs on."""

    def __init__(self) -> None:
        self.number = next(_numbers)

    @property
    def table(self) -> str:
        """A name that no other test has."""
        return f"ods.clicks_{self.number}"

    @abstractmethod
    def catalog(self, folder: Path) -> Mapping[str, str]:
        """What PyIceberg is told, as in `make_settings`."""

    @abstractmethod
    def go_away(self) -> None:
        """From now on it does not answer."""

    @abstractmethod
    def come_back(self) -> None:
        """With everything that it had. Safe to repeat."""

    @abstractmethod
    def lose_answer(self, lake: Lake) -> None:
        """The next commit of `lake` lands, and nobody hears of it."""


class SqlitePlace(Place):
    """A file. It is away while somebody else holds its lock."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._uri = f"sqlite:///{folder}/catalog.db"
        self._lock: Connection | None = None

    def catalog(self, folder: Path) -> Mapping[str, str]:
        return {"type": "sql", "uri": f"{self._uri}?timeout=1", "warehouse": f"file://{folder}/warehouse"}

    def go_away(self) -> None:
        self._lock = create_engine(f"{self._uri}?timeout=30").connect()
        self._lock.execute(text("BEGIN EXCLUSIVE"))

    def come_back(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock.engine.dispose()
            self._lock = None

    def lose_answer(self, lake: Lake) -> None:
        # A file has no answers to lose; a disk that fails after it wrote comes close.
        lake.around_first_commit(after=raising(OperationalError("COMMIT", {}, Exception("disk I/O error"))))


class PostgresPlace(Place):
    """A database of a server. It is away while the server is dead, killed as with `kill -9`."""

    def __init__(self, server: PostgresServer, proxy: FaultyProxy) -> None:
        super().__init__()
        self._server, self._proxy, self._database = server, proxy, f"catalog_{self.number}"
        server.create_database(self._database)

    def catalog(self, folder: Path) -> Mapping[str, str]:
        uri = self._server.driver_uri(self._database, self._proxy.port)
        return {"type": "sql", "uri": uri, "warehouse": f"file://{folder}/warehouse"}

    def go_away(self) -> None:
        self._server.kill()

    def come_back(self) -> None:
        self._server.start()

    def lose_answer(self, lake: Lake) -> None:
        lake.around_first_commit(before=lambda: self._proxy.disturb(rb"(?s)Q....COMMIT", "lose"))


class RestPlace(Place):
    """Iceberg's own server. It is away while it is stopped."""

    def __init__(self, server: RestCatalogServer, proxy: FaultyProxy) -> None:
        super().__init__()
        self._server, self._proxy = server, proxy

    def catalog(self, folder: Path) -> Mapping[str, str]:
        return {"type": "rest", "uri": f"http://127.0.0.1:{self._proxy.port}"}

    def go_away(self) -> None:
        self._server.stop()

    def come_back(self) -> None:
        self._server.start()

    def lose_answer(self, lake: Lake) -> None:
        lake.around_first_commit(before=lambda: self._proxy.disturb(rb"POST \S+/tables/", "lose"))


class ObjectStorePlace(Place):
    """A bucket, with a catalog in a file. It is away while nobody gets through to the store, which has no disk."""

    def __init__(self, store: ObjectStore, proxy: FaultyProxy, folder: Path) -> None:
        super().__init__()
        self._store, self._proxy, self._folder = store, proxy, folder
        self.bucket = store.create_bucket(f"warehouse-{self.number}")

    def catalog(self, folder: Path) -> Mapping[str, str]:
        endpoint = {"s3.endpoint": f"http://127.0.0.1:{self._proxy.port}"}
        uri = f"sqlite:///{self._folder}/catalog.db?timeout=30"
        return {"type": "sql", "uri": uri, "warehouse": self.bucket, **self._store.properties, **endpoint}

    def go_away(self) -> None:
        self._proxy.go_away()

    def come_back(self) -> None:
        self._proxy.come_back()

    def lose_answer(self, lake: Lake) -> None:
        lake.around_first_commit(before=lambda: self._proxy.disturb(rb"PUT \S+\.metadata\.json", "lose"))

