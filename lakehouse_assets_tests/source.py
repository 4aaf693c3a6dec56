"""A database whose changes a real Debezium sends to the real Kafka, and what the database itself says that a table should hold."""

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from lakehouse_assets.local.connect import LocalConnect
from lakehouse_assets.local.debezium import follow_postgres
from lakehouse_assets.local.ports import HOST
from lakehouse_assets.local.postgres import SUPERUSER
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.operations.lake import Lake
from lakehouse_assets_tests.postgres import PostgresServer
from lakehouse_assets_tests.waiting import wait_until

_SECONDS = 60.0
_LATE_SECONDS = 5.0
Row = tuple[Any, ...]

_PUBLICATION = "CREATE PUBLICATION {name} FOR ALL TABLES WITH (publish_via_partition_root = true)"
# Nobody has to wait for what only a rush of failures needs.
_IMPATIENT = {"poll.interval.ms": "20", "retriable.restart.connector.wait.ms": "500", "errors.retry.delay.initial.ms": "100"}


class Source:
    """One database and one connector, both called `name`; the topic of a table is `name.public.table`."""

    def __init__(self, server: PostgresServer, connect: LocalConnect, servers: str, name: str) -> None:
        self.server, self.connect, self.name = server, connect, name
        self._servers = servers
        self._settings: dict[str, str] = {}
        server.create_database(name)
        self.execute(_PUBLICATION.format(name=name))
        self.execute("CREATE TABLE marks (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)")

    def execute(self, statement: str, values: Sequence[Any] | None = None) -> list[Row]:
        """One statement, or several in one transaction; the rows of the last."""
        return self.server.execute(statement, self.name, values)

    def follow(self, **settings: str) -> None:
        """Send what there is and what changes; names of settings have an underscore for each dot."""
        found = follow_postgres(
            self.name, host=HOST, port=self.server.port, database=self.name, user=SUPERUSER,
            password=self.server.password, tables=[r"public\..*"],
        )  # fmt: skip
        given = {name.replace("_", "."): value for name, value in settings.items()}
        self._settings = {**found, **_IMPATIENT, **given}
        self.connect.put_connector(self.name, self._settings)

    def follow_again(self) -> None:
        """With the same settings, after the worker was started anew."""
        self.connect.put_connector(self.name, self._settings)

    def topic(self, table: str) -> str:
        return f"{self.name}.public.{table}"

    def settle(self) -> None:
        """Return when a change of now has come to Kafka, behind all that were committed before."""
        mark = self.execute("INSERT INTO marks DEFAULT VALUES RETURNING id")[0][0]
        consumer = Consumer({"bootstrap.servers": self._servers, "group.id": "marks", "log_level": "2"})
        consumer.assign([TopicPartition(self.topic("marks"), 0, OFFSET_BEGINNING)])
        try:
            wait_until(lambda: _reads_mark(consumer, mark), _SECONDS)
        finally:
            consumer.close()

    def await_position(self) -> None:
        """Until Connect has noted how far it has read; killed before that, it would take a new snapshot."""
        positions = self.connect.folder / "positions"
        wait_until(lambda: positions.is_file() and f'"server":"{self.name}"'.encode() in positions.read_bytes(), _SECONDS)

    def remove(self) -> None:
        """Connector, slot and database."""
        if self._settings:
            self.connect.remove_connector(self.name)
        wait_until(lambda: not self.server.execute("SELECT FROM pg_replication_slots WHERE active AND slot_name = %s", values=[self.name]))
        self.server.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", values=[self.name])
        self.server.execute(f'DROP DATABASE "{self.name}" WITH (FORCE)')


def _reads_mark(consumer: Consumer, mark: int) -> bool:
    message = consumer.poll(0.1)
    value = message.value() if message is not None and not message.error() else None
    return value is not None and f'"after":{{"id":{mark}}}' in value.decode()


def assert_same(lake: Lake, source: Source, table: str, columns: str, found: str | None = None) -> None:
    """After a run the lake's table has the rows that the database's has.

    `columns` are asked of PostgreSQL, and of DuckDB too unless `found` says how to ask there. `table` may end with a WHERE.
    """
    source.settle()
    expected = _sorted(source.execute(f"SELECT {columns} FROM {table}"))
    _, where, condition = table.partition(" WHERE ")

    def read() -> list[Row]:
        lake.ingest()
        return _sorted(judge.query(lake.table, f"SELECT {found or columns} FROM {{table}}{where}{condition}"))

    # What went to another topic partition than the mark may come a moment later.
    deadline = time.monotonic() + _LATE_SECONDS
    while (rows := read()) != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    differing = [("too much", row) for row in rows if row not in expected] + [("missing", row) for row in expected if row not in rows]
    assert rows == expected, "\n".join(f"{which}: {_short(row)}" for which, row in differing)


def _short(row: Row) -> str:
    return ", ".join(repr(value)[:60] for value in row)


def _sorted(rows: Iterable[Row]) -> list[Row]:
    return sorted((tuple(map(_plain, row)) for row in rows), key=repr)


def _plain(value: Any) -> Any:
    """The same in what either client makes of it."""
    match value:
        case memoryview():
            return bytes(value)
        case UUID():
            return str(value)
        case datetime(tzinfo=tz) if tz is not None:
            return value.astimezone(UTC)
        case list():
            return [_plain(item) for item in value]
        case float():
            return repr(value)  # so that NaN is like NaN
    return value
