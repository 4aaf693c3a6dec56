"""Writes groups of data files again as fewer, and puts them in the place of the old ones.

The rows stay what they are, which is proved by a checksum of what was read and of what the new files hold before anything is
published. What others do meanwhile stays as well: rows that come are not touched; rows that were deleted, or that are in other
files by now, are deleted in the new files by the same snapshot; equality deletes reach them, because they count as old as the
snapshot that was read. Only where many rows of a group went that way is it given up. Creates no snapshot.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakehouse_assets.model.compaction_plan import DEAD_SHARE
from lakehouse_assets.model.errors import CommitConflictError, RowsDifferError
from lakehouse_assets.systems.catalog import catalog_errors
from lakehouse_assets.systems.datafiles import build_data_files
from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets.systems.file_rows import read_rows
from lakehouse_assets.systems.live_files import LiveFile, list_live
from lakehouse_assets.systems.parquet import (
    ROW_GROUP_ROWS,
    StagingWriter,
    WriteSettings,
    build_writer,
    conform,
    delete_staged,
)
from lakehouse_assets.systems.partitioning import Partitioner, PartitionValues
from lakehouse_assets.systems.position_deletes import (
    NO_POSITIONS,
    Positions,
    is_of_one_file,
    join_positions,
    new_location,
    read_deleted,
    without,
    write_deletes,
)
from lakehouse_assets.systems.row_checksum import ChecksumThread, RowChecksum
from lakehouse_assets.systems.row_routes import RowRoutes
from lakehouse_assets.systems.row_sorting import RowSorter, ZOrder
from lakehouse_assets.systems.schema import build_file_schema
from lakehouse_assets.systems.snapshots import Change, ancestors, table_name
from lakehouse_assets.systems.source_rows import read_checksum, read_sources

_SORT_BYTES = 24 * 1024 * 1024
_SAMPLED_FILES, _SAMPLED_ROWS = 32, 64 * 1024
_ROW_GROUPS_PER_FILE = 8  # at least, so that a file is ended near its target size


@dataclass(frozen=True, slots=True)
class StagedGroup:
    """Data files, and those that hold the same rows now, which no snapshot names yet. Sorted rows have no routes."""

    sources: Sequence[LiveFile]
    outputs: Mapping[PartitionValues, Sequence[DataFile]]
    checksum: RowChecksum
    routes: RowRoutes | None
    gone: Mapping[str, Positions]  # by source: rows that were deleted when it was read

    @property
    def files(self) -> list[DataFile]:
        """The new ones."""
        return [file for files in self.outputs.values() for file in files]


class StopRewritingError(Exception):
    """Somebody asked to stop in the middle of a group."""


class Rewriting:
    """Groups of data files of one snapshot, written again.

    `swap` is asked at each commit attempt, and answers for the head that it is given. Whoever makes one calls `clean` in the
    end, unless nobody knows whether the commit landed.
    """

    def __init__(
        self,
        table: Table,
        *,
        buffer_bytes: int,
        cache: FileCache,
        stop: Callable[[], bool] = lambda: False,
        sort_by: Sequence[str] = (),
        along_curve: bool = False,
    ) -> None:
        """`sort_by`: columns by which the rows of a group are sorted, one after the other or `along_curve`."""
        self._table, self._buffer_bytes, self._cache, self._stop = table, buffer_bytes, cache, stop
        self._sort_by, self._along_curve = tuple(sort_by), along_curve
        self._partitioner = Partitioner(table.spec(), table.schema())
        self._written: list[str] = []
        self.groups: list[StagedGroup] = []
        self.given_up: dict[int, str] = {}  # by the number of a group, why the last answer of `swap` is without it

    @property
    def replaced(self) -> list[StagedGroup]:
        """The groups that the last answer of `swap` has."""
        return [group for number, group in enumerate(self.groups) if number not in self.given_up]

    def stage(self, files: Sequence[LiveFile]) -> None:
        """Write the rows of these files again, and prove that they are the same.

        Raises:
            StopRewritingError: before they all were; nothing of this group is left then.
            RowsDifferError: what was written is not what was read.
            StorageError: files could not be read or written.
        """
        with catalog_errors(self._table.catalog.name, f"rewrite files of {table_name(self._table)}"):
            rows = sum(file.data.record_count for file in files)
            size_bytes = sum(file.data.file_size_in_bytes for file in files)
            target = WriteSettings.of(self._table.properties, self._buffer_bytes).target_file_bytes
            group_rows = int(rows * target / (_ROW_GROUPS_PER_FILE * (size_bytes + 1))) + 1
            writer = build_writer(self._table, self._buffer_bytes, rows, min(group_rows, ROW_GROUP_ROWS))
            try:
                group = self._write(files, writer)
            finally:
                writer.abandon()
            self._prove(group)
        self.groups.append(group)

    def swap(self, head: Table) -> Change:
        """What to take out and put in.

        Raises:
            CommitConflictError: nothing can be put in any more, or the table was rolled back behind what was read.
        """
        planned = self._table.metadata.current_snapshot()
        assert planned is not None  # noqa: S101 - without a snapshot there are no files to rewrite
        if all(snapshot.snapshot_id != planned.snapshot_id for snapshot in ancestors(head, head.metadata.current_snapshot())):
            raise CommitConflictError(table_name(head), "the snapshot whose files were rewritten is no part of its history now")
        sources = {file.path for group in self.groups for file in group.sources}
        now = list_live(head, head.metadata.current_snapshot())
        live = {file.path: file for file in now.data if file.path in sources}
        has_new_keys = any(one.is_equality and one.sequence_number > (planned.sequence_number or 0) for one in now.deletes)
        self.given_up = {}
        removed: set[str] = set()
        added: list[DataFile] = []
        for number, group in enumerate(self.groups):
            if reason := self._find_obstacle(head, group, live, has_new_keys):
                self.given_up[number] = reason
                continue
            for file in _pick(group.sources, live):
                removed |= {file.path, *(deletes.file_path for deletes in file.deletes if is_of_one_file(deletes))}
            added += [*group.files, *self._delete_again(head, group, live)]
        if not removed:
            raise CommitConflictError(table_name(head), "; ".join(sorted(set(self.given_up.values()))))
        return Change(added, frozenset(removed), keeps_rows=True, data_sequence_number=planned.sequence_number)

    def clean(self, named: Collection[str] = ()) -> None:
        """Delete the files that were written but for those that a snapshot names."""
        delete_staged(self._table.io, [location for location in self._written if location not in named])

    def _write(self, files: Sequence[LiveFile], writer: StagingWriter) -> StagedGroup:
        routes, gone = None, dict[str, Positions]()
        with ChecksumThread() as thread:
            rows = self._read(files, gone, thread)
            if self._sort_by:
                self._put_sorted(files, rows, writer)
            else:
                routes = self._put(rows, writer)
            checksum = thread.finish()
        staged = writer.finish()
        self._written += [file.location for file in staged]
        outputs: dict[PartitionValues, list[DataFile]] = {}
        for file, described in zip(staged, build_data_files(self._table, staged), strict=True):
            outputs.setdefault(file.partition, []).append(described)
        return StagedGroup(files, outputs, checksum, routes, gone)

    def _read(
        self, files: Sequence[LiveFile], gone: dict[str, Positions], thread: ChecksumThread
    ) -> Iterator[tuple[LiveFile, pa.Table]]:
        """The live rows of each file; what is deleted is noted."""
        for source in read_sources(self._table, files, self._cache):
            if self._stop():
                raise StopRewritingError
            gone[source.file.path] = source.deleted
            for rows in source.pieces:
                thread.add(rows)
                yield source.file, rows

    def _put(self, rows: Iterable[tuple[LiveFile, pa.Table]], writer: StagingWriter) -> RowRoutes:
        routes = RowRoutes()
        for file, piece in rows:
            for partition, part in self._partitioner.split(piece):
                routes.add(file.path, partition, part.num_rows)
                writer.put(partition, part)
        return routes

    def _put_sorted(
        self, files: Sequence[LiveFile], rows: Iterable[tuple[LiveFile, pa.Table]], writer: StagingWriter
    ) -> None:
        curve = ZOrder(self._sample(files), self._sort_by) if self._along_curve else None
        with RowSorter(self._sort_by, _SORT_BYTES, curve) as sorter:
            for _, piece in rows:
                sorter.add(piece)
            for piece in sorter.read():
                for partition, part in self._partitioner.split(piece):
                    writer.put(partition, part)

    def _sample(self, files: Sequence[LiveFile]) -> pa.Table:
        """Some values of the columns by which is sorted, from all over the files."""
        some = files[:: max(len(files) // _SAMPLED_FILES, 1)]
        every = max(sum(file.data.record_count for file in some) // _SAMPLED_ROWS, 1)
        columns = self._table.schema().select(*self._sort_by)
        schema = build_file_schema(columns)
        pieces = [
            conform(pa.Table.from_batches([rows]), schema).take(pa.array(range(0, rows.num_rows, every)))
            for file in some
            for _, rows in read_rows(self._table, file.data, columns, self._cache)
        ]
        return pa.concat_tables(pieces)

    def _prove(self, group: StagedGroup) -> None:
        found = read_checksum(self._table, group.files, self._cache)
        if found != group.checksum:
            raise RowsDifferError(table_name(self._table), len(group.sources), str(group.checksum), str(found))

    def _find_deleted(self, head: Table, file: LiveFile, live: Mapping[str, LiveFile]) -> Positions:
        """Rows of a source that are deleted by now: all, if it is not there; whoever took it out put in what stays."""
        if file.path not in live:
            return np.arange(file.data.record_count)
        return read_deleted(head, live[file.path], self._cache)

    def _find_obstacle(self, head: Table, group: StagedGroup, live: Mapping[str, LiveFile], has_new_keys: bool) -> str:
        """Why a group can't be put in the place of its sources; nothing where it can."""
        dead_rows = 0
        for file in group.sources:
            before, now = group.gone[file.path], self._find_deleted(head, file, live)
            if file.path in live and without(before, now).any():
                return "rows that were deleted are back"
            dead_rows += int(without(now, before).sum())
        if dead_rows and group.routes is None:
            return "rows were deleted meanwhile, and where sorted rows went is not known"
        if dead_rows > DEAD_SHARE * group.checksum.rows:
            return "others deleted many of its rows meanwhile, or rewrote its files"
        spec_id = head.metadata.default_spec_id
        if has_new_keys and any(file.data.spec_id != spec_id for file in group.sources):
            return "equality deletes came, which are for rows by the partition spec under which they were written"
        return ""

    def _delete_again(self, head: Table, group: StagedGroup, live: Mapping[str, LiveFile]) -> list[DataFile]:
        """Delete files for rows of the new files that were deleted from the old ones since these were read."""
        marked: dict[str, tuple[DataFile, Positions]] = {}
        routes = group.routes
        if routes is None:
            return []
        for file in group.sources:
            now, gone = self._find_deleted(head, file, live), group.gone[file.path]
            for output, positions in routes.find(self._table, file, gone, now, group.outputs, self._cache):
                _, others = marked.get(output.file_path, (output, NO_POSITIONS))
                marked[output.file_path] = output, join_positions(others, positions)
        deletes = []
        for output, positions in marked.values():
            self._written.append(new_location(head))
            deletes.append(write_deletes(head, output, positions, self._written[-1]))
        return deletes


def _pick(sources: Sequence[LiveFile], live: Mapping[str, LiveFile]) -> list[LiveFile]:
    """Those of the sources that are there still, as they are now."""
    return [live[file.path] for file in sources if file.path in live]
