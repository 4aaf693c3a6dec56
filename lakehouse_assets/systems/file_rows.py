"""Reads rows of one data file in their order, so that each has its position.

Hides how columns are found: by field id, through the table's name mapping where a file has none, renamed and promoted ones too;
and which row groups need not be read. Deletes are not applied: who asks for positions applies them.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.exceptions import ResolveError
from pyiceberg.io import InputStream
from pyiceberg.io.pyarrow import (
    _get_column_projection_values,
    _to_requested_schema,
    pyarrow_to_schema,
)
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema, index_by_id, prune_columns
from pyiceberg.table import Table
from pyiceberg.table.name_mapping import parse_mapping_from_json
from pyiceberg.types import ListType, MapType

from lakehouse_assets.model.errors import StorageError
from lakehouse_assets.systems.file_cache import FileCache

BATCH_ROWS = 64 * 1024
_NAME_MAPPING = "schema.name-mapping.default"  # Iceberg spec, "Column Projection"

RowGroups = Callable[[pq.FileMetaData, Schema], Sequence[int]]


def all_row_groups(footer: pq.FileMetaData, schema: Schema) -> Sequence[int]:
    """Every one."""
    return range(footer.num_row_groups)


def read_rows(
    table: Table,
    file: DataFile,
    columns: Schema,
    cache: FileCache,
    choose: RowGroups = all_row_groups,
    batch_rows: int = BATCH_ROWS,
    content: bytes | None = None,
    use_threads: bool = True,
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches of `columns`, a part of the table's schema, each with the position of its first row.

    `choose` answers which row groups are read; it is given the footer and the file's own schema. `content` is the whole file,
    where it was fetched. With `use_threads` columns are decoded beside each other, which only costs whoever reads several files
    at once.

    Raises:
        StorageError: what stands in the file is not what the table's schema says.
    """
    try:
        with table.io.new_input(file.file_path).open() if content is None else pa.BufferReader(content) as stream:
            parquet, own = _open(table, file, stream, cache)
            projection = own.project(columns)
            absent = _get_column_projection_values(
                file, columns, table.metadata.schema(), table.metadata.specs().get(file.spec_id), own.schema.field_ids
            )
            starts = row_group_starts(parquet.metadata)
            for group in choose(parquet.metadata, own.schema):
                first = int(starts[group])
                batches = parquet.iter_batches(batch_rows, [group], columns=projection.names, use_threads=use_threads)
                for batch in batches:
                    yield first, projection.apply(batch, absent)
                    first += batch.num_rows
    except (ResolveError, ValueError) as error:  # Arrow's and PyIceberg's answers
        raise StorageError("read the data file", file.file_path, str(error)) from error


def _open(table: Table, file: DataFile, stream: InputStream, cache: FileCache) -> tuple[pq.ParquetFile, "_FileSchema"]:
    """The file, and what its columns are in the table; both without reading its footer twice."""
    metadata = table.metadata

    def read_footer() -> tuple[pq.FileMetaData, _FileSchema]:
        footer = pq.read_metadata(stream)
        arrow = footer.schema.to_arrow_schema().serialize().to_pybytes()
        return footer, _read_schema(arrow, metadata.properties.get(_NAME_MAPPING))

    name = ("footer", file.file_path, str(metadata.current_schema_id))  # what a name mapping says may change with a schema
    footer, own = cache.load(name, read_footer, lambda read: 4 * read[0].serialized_size)
    return pq.ParquetFile(stream, metadata=footer, pre_buffer=True), own


class _Projection:
    """How batches of one kind of file become rows of `columns`.

    PyIceberg works that out anew for each batch, which takes as long as reading some thousand rows. Where a file has these very
    columns, it changes nothing, which is found out once.
    """

    def __init__(self, own: Schema, columns: Schema) -> None:
        self.columns = columns
        # Lists and maps come with what is in them, and can't be asked for by themselves.
        ids = {one for one in columns.field_ids if not isinstance(columns.find_type(one), (ListType, MapType))}
        self._wanted = prune_columns(own, ids, select_full_types=False)
        self.names = [field.name for field in self._wanted.fields]
        self._is_complete = list(index_by_id(self._wanted)) == list(index_by_id(columns))
        self._unchanged: tuple[pa.Schema, pa.Schema] | None = None  # of batches that stay as they are: before and after

    def apply(self, batch: pa.RecordBatch, absent: dict[int, Any]) -> pa.RecordBatch:
        """The rows; `absent` are values of columns that the file has not."""
        unchanged = self._unchanged
        if unchanged is not None and unchanged[0].equals(batch.schema, check_metadata=True):
            return pa.RecordBatch.from_arrays(batch.columns, schema=unchanged[1])
        rows = _to_requested_schema(
            self.columns,
            self._wanted,
            batch,
            downcast_ns_timestamp_to_us=True,
            projected_missing_fields=absent,
            allow_timestamp_tz_mismatch=True,
        )
        if self._is_complete and (rows.schema.names, rows.schema.types) == (batch.schema.names, batch.schema.types):
            self._unchanged = batch.schema, rows.schema
        return rows


class _FileSchema:
    """The schema of files of one kind, and what was made of it for the columns that were asked for last."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._last: _Projection | None = None

    def project(self, columns: Schema) -> _Projection:
        """How its batches become rows of these columns."""
        last = self._last
        if last is None or last.columns is not columns:
            last = self._last = _Projection(self.schema, columns)
        return last


@lru_cache(maxsize=64)
def _read_schema(arrow: bytes, name_mapping: str | None) -> _FileSchema:
    """Most files of a table have the same one, and making it costs more than the rest of opening one."""
    mapping = parse_mapping_from_json(name_mapping) if name_mapping else None
    return _FileSchema(pyarrow_to_schema(pa.ipc.read_schema(pa.py_buffer(arrow)), mapping, downcast_ns_timestamp_to_us=True))


def read_at(
    table: Table, file: DataFile, columns: Schema, positions: "npt.NDArray[np.int64]", cache: FileCache
) -> pa.Table:
    """The rows at these positions, of which there is one at least, ascending. Other row groups than theirs are not read."""

    def hold_some(footer: pq.FileMetaData, own: Schema) -> Sequence[int]:
        groups = np.searchsorted(row_group_starts(footer), positions, side="right") - 1
        return [int(group) for group in np.unique(groups)]

    pieces = []
    for first, rows in read_rows(table, file, columns, cache, hold_some):
        begin, stop = np.searchsorted(positions, [first, first + rows.num_rows])
        if begin < stop:
            pieces.append(pa.Table.from_batches([rows]).take(pa.array(positions[begin:stop] - first)))
    return pa.concat_tables(pieces)


def row_group_starts(footer: pq.FileMetaData) -> "npt.NDArray[np.int64]":
    """The position of the first row of each row group; and where the next one would begin."""
    counts = [0, *(footer.row_group(group).num_rows for group in range(footer.num_row_groups))]
    return np.cumsum(np.array(counts, np.int64))
