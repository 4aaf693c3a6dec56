"""DuckDB over tables of a catalog: it thinks, PyIceberg reads.

Each table is a view `namespace.name` over a stream of its rows, so every catalog and storage that ingestion reaches can be
queried. The engine itself reaches no file and no network, and what does not fit into its memory lies on the local disk.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa
from pyiceberg.catalog import Catalog

from lakehouse_assets.expressions import quote
from lakehouse_assets.model.errors import LakehouseError, QueryError
from lakehouse_assets.systems.catalog import catalog_errors
from lakehouse_assets.systems.scanning import TableDataset

_PICTURE = re.compile(r"\n+LINE \d+:")


@contextmanager
def open_engine(memory_bytes: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of its own. `memory_bytes` bounds what it holds; None: as it thinks right for the machine."""
    with TemporaryDirectory(prefix="lakehouse-query-") as spill:
        limit = {} if memory_bytes is None else {"memory_limit": f"{memory_bytes}B", "preserve_insertion_order": "false"}
        with duckdb.connect(
            config={
                "enable_external_access": "false",
                "python_enable_replacements": "false",  # else a name that no table bears is looked for among our variables
                "allow_persistent_secrets": "false",
                "temp_directory": spill,  # what a sort does not hold in memory
                **limit,
            }
        ) as connection:
            yield connection.execute("SET TimeZone = 'UTC'")


@contextmanager
def engine_errors(catalog: Catalog, datasets: Sequence[TableDataset]) -> Iterator[None]:
    """What a scan raised comes first: the engine only repeats it."""
    try:
        yield
    except duckdb.InterruptException as error:
        raise KeyboardInterrupt from error
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        failure = next((dataset.failure for dataset in datasets if dataset.failure is not None), None)
        if isinstance(failure, LakehouseError):
            raise failure from error
        if failure is not None:
            with catalog_errors(catalog.name, "read the files of a table"):
                raise failure from error
        raise QueryError(_one_sentence(error)) from error


def create_view(connection: duckdb.DuckDBPyConnection, namespace: str, name: str, dataset: TableDataset) -> None:
    """Show a table to SQL under its name."""
    source = f"scan of {namespace}.{name}"
    connection.register(source, dataset)
    columns = ", ".join(_select(field) for field in dataset.schema)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(namespace)}")
    connection.execute(f"CREATE VIEW {quote(namespace)}.{quote(name)} AS SELECT {columns} FROM {quote(source)}")


def _one_sentence(error: Exception) -> str:
    """Without the picture of the statement that the engine draws below its words."""
    return " ".join(_PICTURE.split(str(error))[0].split()).rstrip(".!")


def _select(field: pa.Field) -> str:
    name = quote(field.name)
    # Arrow finds no number below or above NaN, DuckDB finds all below it: such a condition must not be left to the scan, and
    # none on an expression is.
    return f"CASE WHEN {name} IS NULL THEN NULL ELSE {name} END AS {name}" if _has_floats(field.type) else name


def _has_floats(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or any(_has_floats(kind.field(i).type) for i in range(kind.num_fields))
