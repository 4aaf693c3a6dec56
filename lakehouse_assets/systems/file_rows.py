"""Reads rows of one data file in their order, so that each has its position.

Hides how columns are found: by field id, through the table's name mapping where a file has none, renamed and promoted ones too;
and which row groups need not be read. Deletes are not applied: who asks for positions applies them.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import _get_column_projection_values, _to_requested_schema, pyarrow_to_schema
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema, prune_columns
from pyiceberg.table import Table

from lakehouse_assets.systems.file_cache import FileCache

BATCH_ROWS = 64 * 1024

RowGroups = Callable[[pq.FileMetaData, Schema], Sequence[int]]


def all_row_groups(footer: pq.FileMetaData, schema: Schema) -> Sequence[int]:
    """Every one."""
    return range(footer.num_row_groups)


def read_rows(
    table: Table, file: DataFile, columns: Schema, cache: FileCache, choose: RowGroups = all_row_groups
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches of `columns`, a part of the table's schema, each with the position of its first row.

    `choose` answers which row groups are read; it is given the footer and the file's own schema.
    """
    metadata = table.metadata
    with table.io.new_input(file.file_path).open() as stream:
        footer = cache.load(
            ("footer", file.file_path), lambda: pq.read_metadata(stream), lambda footer: 4 * footer.serialized_size
        )
        parquet = pq.ParquetFile(stream, metadata=footer, pre_buffer=True)
        own = pyarrow_to_schema(parquet.schema_arrow, metadata.name_mapping(), downcast_ns_timestamp_to_us=True)
        wanted = prune_columns(own, columns.field_ids, select_full_types=False)
        absent = _get_column_projection_values(
            file, columns, metadata.schema(), metadata.specs().get(file.spec_id), own.field_ids
        )
        names = [field.name for field in wanted.fields]
        starts = np.cumsum([0, *(footer.row_group(group).num_rows for group in range(footer.num_row_groups))])
        for group in choose(footer, own):
            first = int(starts[group])
            for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=names):
                rows = _to_requested_schema(
                    columns,
                    wanted,
                    batch,
                    downcast_ns_timestamp_to_us=True,
                    projected_missing_fields=absent,
                    allow_timestamp_tz_mismatch=True,
                )
                yield first, rows
                first += batch.num_rows
