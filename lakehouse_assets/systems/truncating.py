"""Which rows go when a source says that it emptied its table: those that were there before it said so."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.conversions import from_bytes
from pyiceberg.table import Table
from pyiceberg.types import LongType

from lakehouse_assets.model.columns import SOURCE_POSITION
from lakehouse_assets.systems.changes import Truncated
from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets.systems.file_rows import read_rows
from lakehouse_assets.systems.live_files import LiveFile
from lakehouse_assets.systems.position_deletes import (
    NO_POSITIONS,
    Positions,
    count_inside,
    read_deleted,
    without,
)


def spares_newer(table: Table, truncated: Truncated, *, has_several_logs: bool) -> bool:
    """Whether rows may be newer than the truncation: only of another log, and only where the source's positions are known."""
    return has_several_logs and truncated.position is not None and SOURCE_POSITION in table.schema().column_names


def find_truncated(
    table: Table, files: Sequence[LiveFile], truncated: Truncated, cache: FileCache
) -> Iterator[tuple[LiveFile, Positions, int]]:
    """Files that have live rows which are not newer: these rows' positions, and how many of the file were deleted before."""
    assert truncated.position is not None  # noqa: S101 - without one, all rows go
    field = table.schema().find_field(SOURCE_POSITION)
    schema = table.schema().select(SOURCE_POSITION)
    for file in files:
        lower = (file.data.lower_bounds or {}).get(field.field_id)
        nulls = (file.data.null_value_counts or {}).get(field.field_id)
        if nulls == 0 and lower is not None and int(from_bytes(LongType(), lower)) > truncated.position:
            continue
        pieces = [NO_POSITIONS]
        for first, rows in read_rows(table, file.data, schema, cache):
            pieces.append(first + np.flatnonzero(~_is_newer(rows, truncated.position)))
        positions = np.concatenate(pieces)
        deleted = read_deleted(table, file, cache)
        lives = without(positions, deleted)
        if lives.any():
            yield file, positions[lives], count_inside(deleted, file.data)


def _is_newer(rows: pa.RecordBatch, position: int) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    newer = pc.fill_null(pc.greater(rows.column(SOURCE_POSITION), position), False)
    found: np.ndarray[tuple[int], np.dtype[np.bool_]] = newer.to_numpy(zero_copy_only=False).astype(np.bool_)
    return found
