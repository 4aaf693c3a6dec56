"""SQL over the tables of a catalog: DuckDB thinks, PyIceberg reads. Nothing is written, whatever the statement says.

DuckDB's own parser says which tables a statement names; each becomes a view `namespace.name` over a stream of its rows. So
every catalog and storage that ingestion reaches can be queried. The engine itself reaches no file and no network.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from lakehouse_assets.model.as_of import AsOf
from lakehouse_assets.model.errors import QueryError
from lakehouse_assets.operations.engine import create_view, engine_errors, open_engine
from lakehouse_assets.systems.catalog import find_table
from lakehouse_assets.systems.pins import resolve_as_of
from lakehouse_assets.systems.scanning import TableDataset

_NOW: Mapping[str | None, AsOf] = {}
_BATCH_ROWS = 2048
_OWN_SCHEMAS = ("information_schema", "pg_catalog")
_IDENTIFIER = re.compile(r'"((?:[^"]|"")*)"|([^\s."]+)')


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a query, as a stream. Two columns may bear one name."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


@contextmanager
def answer_query(
    catalog: Catalog, sql: str, declared: Collection[str] = (), as_of: Mapping[str | None, AsOf] = _NOW
) -> Iterator[Answer]:
    """Run one statement that only reads; its rows are computed while they are read. `declared` tables may not be there yet.

    `as_of` says by name as of what a table is read; under None, all others.

    Raises, here or while rows are read:
        QueryError: it is no single query, or the engine does not accept it; or `as_of` names a table that it does not read.
        UnknownTableError: the catalog has no such table.
        SnapshotMissingError: `as_of` means no snapshot of the table.
        CatalogUnavailableError, CatalogAccessError, StorageError
    """
    datasets: list[TableDataset] = []
    with open_engine() as connection:
        with engine_errors(catalog, datasets):
            statement = _read_statement(connection, sql)
            named = sorted(_named_tables(connection, statement))
            _refuse_unread(as_of, {_join(*parts) for parts in named})
            for namespace, name in named:
                table = find_table(catalog, _join(namespace, name), declared)
                datasets.append(_open_dataset(table, as_of.get(_join(namespace, name), as_of.get(None))))
                create_view(connection, namespace, name, datasets[-1])
            connection.execute("SET lock_configuration = true")
            reader = connection.execute(statement).to_arrow_reader(_BATCH_ROWS)
        yield Answer(reader.schema, _read(catalog, datasets, reader))


def _read(catalog: Catalog, datasets: list[TableDataset], reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    with engine_errors(catalog, datasets):
        yield from reader


def _read_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise QueryError(f"found {len(statements) or 'no'} statements, expected one")
    (statement,) = statements
    if statement.type != duckdb.StatementType.SELECT:
        raise QueryError(f"found a statement of the kind {statement.type.name}, expected a query, which only reads")
    return statement.query


def _named_tables(connection: duckdb.DuckDBPyConnection, statement: str) -> set[tuple[str, str]]:
    """Namespace and name of each table; no namespace where a statement names none."""
    found = set()
    for text in connection.get_table_names(statement, qualified=True):
        parts = _split_name(text)
        namespace = ".".join(parts[:-1])
        if namespace not in _OWN_SCHEMAS:
            found.add((namespace, parts[-1]))
    return found


def _join(namespace: str, name: str) -> str:
    return f"{namespace}.{name}" if namespace else name


def _split_name(text: str) -> list[str]:
    """`"a b".c AS d` is `a b` and `c`: what follows the name says how it is used."""
    parts: list[str] = []
    at = 0
    while match := _IDENTIFIER.match(text, at):
        parts.append(match[2] if match[1] is None else match[1].replace('""', '"'))
        at = match.end()
        if not text.startswith(".", at):
            break
        at += 1
    return parts


def _open_dataset(table: Table, as_of: AsOf | None) -> TableDataset:
    return TableDataset(table, None if as_of is None else resolve_as_of(table, as_of))


def _refuse_unread(as_of: Mapping[str | None, AsOf], named: Collection[str]) -> None:
    for table in as_of.keys() - {None, *named}:
        expected = ", ".join(sorted(named)) or "none, for it names none"
        raise QueryError(f"found {table!r} as the table to read as of {as_of[table]!r}, expected one that it names: {expected}")
