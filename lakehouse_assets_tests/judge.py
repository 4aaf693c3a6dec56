"""An independent judge of what a table holds: DuckDB reads the files, without a line of this package or of PyIceberg."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

import duckdb
from pyiceberg.table import Table

Position = tuple[int | None, int | None]

_lock = Lock()


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    for name in ("avro", "iceberg"):
        _load_extension(connection, name)
    return connection


def _load_extension(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    found = find_spec(f"duckdb_extension_{name}")
    assert found is not None
    assert found.submodule_search_locations is not None
    (binary,) = Path(next(iter(found.submodule_search_locations))).rglob("*.duckdb_extension")
    connection.execute(f"LOAD '{binary}'")


def reach_object_store(endpoint: str, access_key: str, secret_key: str) -> None:
    """Let it read `s3://` locations at this address (host:port) from now on."""
    with _lock:
        _load_extension(_connection(), "httpfs")
        _connection().execute(
            f"CREATE OR REPLACE SECRET (TYPE s3, KEY_ID '{access_key}', SECRET '{secret_key}', REGION 'us-east-1', "
            f"ENDPOINT '{endpoint}', URL_STYLE 'path', USE_SSL false)"
        )


def query(table: Table, sql: str, snapshot_id: int | None = None) -> list[tuple[object, ...]]:
    """Rows of a query in which `{table}` stands for the table, as it is now or was at a snapshot."""
    location = re.sub("^file:/+", "/", table.metadata_location)
    version = f", snapshot_from_id={snapshot_id}" if snapshot_id is not None else ""
    with _lock:
        try:
            return _connection().execute(sql.format(table=f"iceberg_scan('{location}'{version})")).fetchall()
        except duckdb.InternalException:
            _connection.cache_clear()  # it would refuse every question from now on
            raise


def read_positions(table: Table, snapshot_id: int | None = None) -> list[Position]:
    """Topic partition and offset of every row, sorted; duplicates stay. Rows of others have None for both."""
    if table.metadata.current_snapshot() is None:
        return []
    rows = query(table, "SELECT _kafka_partition, _kafka_offset FROM {table} ORDER BY ALL", snapshot_id)
    return [(partition, offset) for partition, offset in rows]  # type: ignore[misc]


def count_rows(table: Table, snapshot_id: int | None = None) -> int:
    """How many rows."""
    return len(read_positions(table, snapshot_id))


def read_every_snapshot(table: Table) -> list[int]:
    """Number of rows of every snapshot that the metadata names, oldest first; raises where one can't be read."""
    return [count_rows(table, snapshot.snapshot_id) for snapshot in table.metadata.snapshots]
