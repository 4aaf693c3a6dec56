"""Reads rows of a table as PyIceberg does, with deletes applied, for what takes them out or counts them.

Hides what PyIceberg raises of files that can't be read, which is no single kind of error.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.table import FileScanTask, Table

from lakehouse_assets.model.errors import StorageError
from lakehouse_assets.systems.catalog import catalog_errors
from lakehouse_assets.systems.snapshots import table_name


def read_live_rows(table: Table, task: FileScanTask, *columns: str) -> Iterator[pa.RecordBatch]:
    """Rows of one file, in the table's current schema, within `readable`."""
    schema = table.schema().select(*columns) if columns else table.schema()
    return ArrowScan(table.metadata, table.io, schema, AlwaysTrue()).to_record_batches([task])


@contextmanager
def readable(table: Table) -> Iterator[None]:
    """Translate what is raised of files that can't be read.

    Raises:
        StorageError, CatalogAccessError, CatalogUnavailableError
    """
    action = f"read the slice of {table_name(table)}"
    with catalog_errors(table.catalog.name, action):
        try:
            yield
        except ValueError as error:  # PyIceberg's answer to equality deletes
            raise StorageError(f"{action} under", table.location(), str(error)) from error
