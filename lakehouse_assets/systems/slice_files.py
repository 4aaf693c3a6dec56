"""Finds the data files that hold rows of given offsets, and writes what remains of them.

Hides how a slice is taken out of a table: files wholly inside it are dropped, files partly inside are written again without
its rows, rows without a Kafka position are never touched. Creates no snapshot.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.table import FileScanTask, Table
from pyiceberg.types import IntegerType, LongType

from lakehouse_assets.model.errors import CommitConflictError
from lakehouse_assets.model.offsets import TopicPartition, TopicRanges
from lakehouse_assets.systems.datafiles import build_data_files
from lakehouse_assets.systems.live_rows import read_live_rows, readable
from lakehouse_assets.systems.parquet import StagingWriter
from lakehouse_assets.systems.positions import Offsets, contains, read_offsets, rows_inside, split_by_log
from lakehouse_assets.systems.schema import position_columns
from lakehouse_assets.systems.snapshots import Change, list_live_files, table_name

Positions = Mapping[TopicPartition, Offsets]


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What a manifest says of the Kafka positions in a file; None where it says nothing."""

    partitions: tuple[int, int] | None
    offsets: tuple[int, int] | None
    has_none: bool


@dataclass(slots=True)
class SliceFiles:
    """The data files of one table that hold rows of `ranges`.

    `prepare` looks at the table's head and writes what must remain; `swap` is asked again at each commit attempt and answers
    only if the head still has exactly those files and delete files. `first_topic`: the ledger's, of rows that name none.
    """

    ranges: TopicRanges
    first_topic: str
    _seen: dict[str, Positions] = field(default_factory=dict)  # over every attempt: data files never change
    _paths: frozenset[str] = frozenset()
    _deletes: frozenset[str] = frozenset()
    _rewritten: list[DataFile] = field(default_factory=list)

    def read_offsets(self, table: Table) -> dict[TopicPartition, Offsets]:
        """Offsets that the table holds inside the ranges, per topic partition, ascending."""
        found: dict[TopicPartition, list[Offsets]] = {}
        with readable(table):
            for task in self._affected(table):
                for log, offsets in self._positions(table, task).items():
                    found.setdefault(log, []).append(offsets[contains(self.ranges[log], offsets)])
        return {log: np.unique(np.concatenate(pieces)) for log, pieces in found.items()}

    def prepare(self, table: Table, writer: StagingWriter) -> None:
        """Write the rows that must remain of files partly inside the ranges."""
        with readable(table):
            tasks = list(self._affected(table))
            for task in tasks:
                if self._is_partly_inside(table, task):
                    for batch in read_live_rows(table, task):
                        writer.add(pa.Table.from_batches([self._remaining(table, batch)]))
            self._deletes = _delete_paths(table)
        self._rewritten = build_data_files(table, writer.finish())
        self._paths = frozenset(task.file.file_path for task in tasks)

    @property
    def is_untouched(self) -> bool:
        """No row of the ranges stands in the table."""
        return not self._paths

    @property
    def rewritten_locations(self) -> list[str]:
        """Files written by `prepare`, to be deleted if no commit took them."""
        return [file.file_path for file in self._rewritten]

    def swap(self, table: Table) -> Change:
        """What to take out and put in, if the head still is what was prepared for.

        Raises:
            CommitConflictError: other rows of the ranges came or went, or rows were deleted, since `prepare`.
        """
        with readable(table):
            paths = frozenset(task.file.file_path for task in self._affected(table))
            deletes = _delete_paths(table)
        if paths != self._paths or deletes != self._deletes:
            raise CommitConflictError(table_name(table), "files that hold the slice changed while it was being replaced")
        return Change(self._rewritten, self._paths)

    def _affected(self, table: Table) -> Iterator[FileScanTask]:
        """Scan tasks (with their delete files) of the data files that hold at least one row of the ranges."""
        schema = table.schema()
        position = position_columns(schema)
        partition_id = schema.find_field(position.partition).field_id
        offset_id = schema.find_field(position.offset).field_id
        candidates = {
            entry.data_file.file_path
            for entry in list_live_files(table)
            if _may_overlap(_bounds(entry.data_file, partition_id, offset_id), self.ranges)
        }
        if not candidates:
            return
        for task in table.scan().plan_files():
            if task.file.file_path in candidates and self._count_inside(table, task):
                yield task

    def _positions(self, table: Table, task: FileScanTask) -> Positions:
        """Kafka positions of the rows of one file, read once."""
        path = task.file.file_path
        if path not in self._seen:
            columns = position_columns(table.schema())
            pieces: dict[TopicPartition, list[Offsets]] = {}
            for batch in read_live_rows(table, task, *columns.names):
                offsets = read_offsets(batch, columns)
                for log, mine in split_by_log(batch, columns, self.first_topic):
                    pieces.setdefault(log, []).append(offsets[mine])
            self._seen[path] = {log: np.concatenate(parts) for log, parts in pieces.items()}
        return self._seen[path]

    def _count_inside(self, table: Table, task: FileScanTask) -> int:
        return sum(int(contains(self.ranges[log], offsets).sum()) for log, offsets in self._positions(table, task).items())

    def _is_partly_inside(self, table: Table, task: FileScanTask) -> bool:
        return self._count_inside(table, task) < task.file.record_count

    def _remaining(self, table: Table, rows: pa.RecordBatch) -> pa.RecordBatch:
        return rows.filter(pa.array(~rows_inside(rows, position_columns(table.schema()), self.first_topic, self.ranges)))


def _delete_paths(table: Table) -> frozenset[str]:
    return frozenset(entry.data_file.file_path for entry in list_live_files(table, ManifestContent.DELETES))


def _bounds(file: DataFile, partition_id: int, offset_id: int) -> _Bounds:
    nulls = file.null_value_counts or {}
    has_none = nulls.get(offset_id) == file.record_count or nulls.get(partition_id) == file.record_count
    return _Bounds(_pair(file, partition_id, IntegerType()), _pair(file, offset_id, LongType()), has_none)


def _pair(file: DataFile, field_id: int, kind: IntegerType | LongType) -> tuple[int, int] | None:
    lower, upper = (file.lower_bounds or {}).get(field_id), (file.upper_bounds or {}).get(field_id)
    if lower is None or upper is None:
        return None
    return int(from_bytes(kind, lower)), int(from_bytes(kind, upper))


def _may_overlap(bounds: _Bounds, ranges: TopicRanges) -> bool:
    if bounds.has_none:
        return False
    if bounds.partitions is None or bounds.offsets is None:
        return True  # nothing is known of this file, so its rows are looked at
    (low, high), (first, last) = bounds.partitions, bounds.offsets
    return any(low <= log.partition <= high and held.meets(first, last) for log, held in ranges.partitions.items())
