"""Finds the data files that hold rows of a slice of event time, and writes what remains of them.

Hides how such a slice is taken out of a table: files wholly inside it are dropped, with the deletes that are for them alone;
files partly inside are written again without its rows; rows without event time are never touched. Creates no snapshot.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.conversions import from_bytes
from pyiceberg.expressions import And, GreaterThanOrEqual, LessThan, Reference
from pyiceberg.expressions.literals import literal
from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.table import FileScanTask, Table
from pyiceberg.types import PrimitiveType

from lakehouse_assets.model.errors import CommitConflictError
from lakehouse_assets.model.slices import TimeSlice
from lakehouse_assets.systems.datafiles import build_data_files
from lakehouse_assets.systems.live_rows import read_live_rows, readable
from lakehouse_assets.systems.parquet import StagingWriter
from lakehouse_assets.systems.position_deletes import is_of_one_file
from lakehouse_assets.systems.snapshots import Change, list_live_files, table_name

Mask = npt.NDArray[np.bool_]


@dataclass(slots=True)
class TimeSliceFiles:
    """The data files of one table that hold rows of a slice; without `within`, all that it has.

    `prepare` looks at the table's head and writes what must remain; `swap` is asked again at each commit attempt and answers
    only if the head still has exactly those files and deletes.
    """

    column: str | None
    within: TimeSlice | None
    _paths: frozenset[str] = frozenset()
    _rewritten: list[DataFile] = field(default_factory=list)

    def prepare(self, table: Table, writer: StagingWriter) -> None:
        """Write the rows that must remain of files partly inside the slice.

        Raises:
            StorageError: files could not be read or written.
        """
        with readable(table):
            tasks = self._plan(table)
            for task in tasks:
                if not self._is_wholly_inside(table, task.file):
                    for batch in read_live_rows(table, task):
                        inside = mark_inside(batch.column(self._column), self._within)
                        writer.add(pa.Table.from_batches([batch.filter(pa.array(~inside))]))
            self._paths = self._list_paths(table, tasks)
        self._rewritten = build_data_files(table, writer.finish())

    @property
    def rewritten_locations(self) -> list[str]:
        """Files written by `prepare`, to be deleted if no commit took them."""
        return [file.file_path for file in self._rewritten]

    def swap(self, table: Table) -> Change:
        """What to take out and put in, if the head still is what was prepared for.

        Raises:
            CommitConflictError: rows of the slice came or went since `prepare`.
        """
        with readable(table):
            paths = self._list_paths(table, self._plan(table))
        if paths != self._paths:
            raise CommitConflictError(table_name(table), "files that hold the slice changed while it was being replaced")
        return Change(self._rewritten, self._paths)

    def list_paths(self, table: Table, snapshot_id: int | None) -> frozenset[str]:
        """The data files that hold rows of the slice at a snapshot, and the deletes that are for them alone; of none, none."""
        if snapshot_id is None:
            return frozenset()
        with readable(table):
            return self._list_paths(table, self._plan(table, snapshot_id))

    def _list_paths(self, table: Table, tasks: list[FileScanTask]) -> frozenset[str]:
        if self.within is None:
            every = (content for content in ManifestContent)
            return frozenset(entry.data_file.file_path for content in every for entry in list_live_files(table, content))
        own = {deletes.file_path for task in tasks for deletes in task.delete_files if is_of_one_file(deletes)}
        return frozenset(own | {task.file.file_path for task in tasks})

    def _plan(self, table: Table, snapshot_id: int | None = None) -> list[FileScanTask]:
        """Files that may hold rows of the slice, by their partition and bounds; none where all go, which is known without."""
        if self.within is None:
            return []
        column = Reference(self._column)
        start, stop = (literal(time_ms * 1000) for time_ms in (self.within.start_ms, self.within.stop_ms))
        happened = And(GreaterThanOrEqual(term=column, value=start), LessThan(term=column, value=stop))
        tasks = table.scan(happened, snapshot_id=snapshot_id).plan_files()
        return [task for task in tasks if self._is_wholly_inside(table, task.file) or self._has_any(table, task)]

    def _has_any(self, table: Table, task: FileScanTask) -> bool:
        return any(mark_inside(rows.column(0), self._within).any() for rows in read_live_rows(table, task, self._column))

    def _is_wholly_inside(self, table: Table, file: DataFile) -> bool:
        """As far as its bounds say."""
        time = table.schema().find_field(self._column)
        lower, upper = ((bounds or {}).get(time.field_id) for bounds in (file.lower_bounds, file.upper_bounds))
        if lower is None or upper is None or (file.null_value_counts or {}).get(time.field_id) != 0:
            return False
        assert isinstance(time.field_type, PrimitiveType)  # noqa: S101 - a timestamp
        first_us, last_us = int(from_bytes(time.field_type, lower)), int(from_bytes(time.field_type, upper))
        return self._within.start_ms * 1000 <= first_us and last_us < self._within.stop_ms * 1000

    @property
    def _within(self) -> TimeSlice:
        assert self.within is not None  # noqa: S101 - else no file is looked into
        return self.within

    @property
    def _column(self) -> str:
        assert self.column is not None  # noqa: S101 - a slice is one of a column
        return self.column


def mark_inside(times: pa.Array, within: TimeSlice) -> Mask:
    """Which of these timestamps lie in a slice; null does not."""
    times_us = times.cast(pa.timestamp("us", times.type.tz)).cast(pa.int64())
    inside = pc.and_(
        pc.greater_equal(times_us, within.start_ms * 1000), pc.less(times_us, within.stop_ms * 1000)
    )
    return np.asarray(pc.fill_null(inside, False), dtype=np.bool_)
