"""Puts changes of rows into a table: new rows in, those that they replace out, in one snapshot.

`RowMerge` prepares the files for one snapshot of the table, which nobody sees until a commit takes them, and is good for that
very snapshot only: what others committed since is looked at anew, so a row that they deleted, moved or wrote again neither
comes back nor stands twice.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakehouse_assets.model.errors import CommitConflictError
from lakehouse_assets.model.merge_plan import SMALL_FILE_BYTES, Fate, FileState, MergePlan, Place, plan_merge
from lakehouse_assets.systems.catalog import catalog_errors
from lakehouse_assets.systems.changes import Changes, Mask
from lakehouse_assets.systems.datafiles import build_data_files
from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets.systems.file_rows import read_rows
from lakehouse_assets.systems.key_lookup import Hits, KeyLookup
from lakehouse_assets.systems.live_files import LiveFile, list_files_with_deletes
from lakehouse_assets.systems.parquet import StagingWriter, build_writer, conform, delete_staged
from lakehouse_assets.systems.partitioning import Partitioner
from lakehouse_assets.systems.position_deletes import (
    Positions,
    is_of_one_file,
    join_positions,
    leave_out,
    new_location,
    read_deleted,
    write_deletes,
)
from lakehouse_assets.systems.row_order import find_stale
from lakehouse_assets.systems.schema import build_file_schema
from lakehouse_assets.systems.snapshots import Change, table_name
from lakehouse_assets.systems.tombstones import TOMBSTONES_KEY, Tombstones
from lakehouse_assets.systems.truncating import find_truncated, spares_newer
from lakehouse_assets.systems.unavailable import Filling

_UNPREPARED = 0  # the id of no snapshot
_WRITING_THREADS = 4  # delete files are small: on an object store their writing is waiting


@dataclass(frozen=True, slots=True)
class MergeFigures:
    """What became of the changes; but for `truncated`, the rows that a truncation took, the sum is the number of changes.

    `absent`: deletes of keys that had no row; `stale`: lost to a newer row of the table.
    """

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    absent: int = 0
    stale: int = 0
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class _Taken:
    """Live rows of a data file that go; `deleted_rows` were gone before."""

    file: LiveFile
    positions: Positions
    deleted_rows: int

    def joined(self, other: "_Taken | None") -> "_Taken":
        return self if other is None else replace(self, positions=join_positions(self.positions, other.positions))


class RowMerge:
    """The merge of some changes into one table.

    `prepare` looks at the table's head and writes what must be; `swap` is asked again at each commit attempt and answers only
    for that head. Whoever prepares deletes `written_locations` if no commit took them.
    """

    def __init__(
        self,
        changes: Changes,
        key: Sequence[str],
        *,
        copy_on_write: bool,
        buffer_bytes: int,
        has_several_logs: bool = False,
        small_file_bytes: int = SMALL_FILE_BYTES,
        cache: FileCache | None = None,
    ) -> None:
        """`changes` hold each key once. `cache` may outlive the merge: the files of a table never change.

        Files of up to `small_file_bytes` may be written again with new rows of their partition.
        """
        self._changes, self._key = changes, tuple(key)
        self._copy_on_write, self._buffer_bytes = copy_on_write, buffer_bytes
        self._has_several_logs, self._small_file_bytes = has_several_logs, small_file_bytes
        self._cache = cache if cache is not None else FileCache()
        self._head: int | None = _UNPREPARED
        self._change = Change(())
        self.figures = MergeFigures()
        self.plan: MergePlan | None = None
        self.unresolved = np.empty(0, np.int64)  # changes that lack a value which the table does not have either
        self.written_locations: list[str] = []

    @property
    def is_untouched(self) -> bool:
        """The table stays as it is."""
        return self._change == Change(())

    def prepare(self, table: Table) -> None:
        """Find what the changes replace in the table as it is now, and write what comes in.

        Raises:
            StorageError: files could not be read or written; or what stands in the table can't be read here.
        """
        self._head, self._change, self.written_locations = _UNPREPARED, Change(()), []
        writer = build_writer(table, self._buffer_bytes)
        try:
            with catalog_errors(table.catalog.name, f"merge changes into {table_name(table)}"):
                self._prepare(table, writer)
        except BaseException:
            delete_staged(table.io, self.written_locations)
            self.written_locations = []
            raise
        finally:
            writer.abandon()

    def swap(self, table: Table) -> Change:
        """What to take out and put in, if the head still is what was prepared for.

        Raises:
            CommitConflictError: others committed since `prepare`.
        """
        if _head_of(table) != self._head:
            raise CommitConflictError(table_name(table), "another snapshot came since changes were merged with its rows")
        return self._change

    def _prepare(self, table: Table, writer: StagingWriter) -> None:
        files = list_files_with_deletes(table, table.metadata.current_snapshot())
        gone, files, truncated = self._truncate(table, files)
        rows = conform(self._changes.rows, build_file_schema(table.schema()))
        hits = list(KeyLookup(table, rows.select(self._key), self._cache).find(files))
        tombstones = Tombstones(table, self._key, self._cache) if self._has_several_logs else None
        stale = np.zeros(rows.num_rows, np.bool_)
        if tombstones is not None:
            stale = find_stale(table, rows, hits, self._cache) | tombstones.find_stale(rows)
            hits = [found.only(~stale) for found in hits]
        rows = self._complete(table, rows, hits, stale)
        if len(self.unresolved):
            return
        self.figures = _count(self._changes.deletes, stale, hits)
        taken = _join([*truncated, *(_Taken(found.file, found.positions, found.deleted_rows) for found in hits)])
        self.figures = replace(self.figures, truncated=sum(map(_count_live, gone)) + sum(len(t.positions) for t in truncated))
        new_rows = _only(rows, ~self._changes.deletes & ~stale)
        self.plan = plan_merge(
            [*map(_emptied_state, gone), *(_state(file, taken.get(file.path)) for file in files)],
            _count_by_place(table, new_rows),
            copy_on_write=self._copy_on_write,
            small_file_bytes=self._small_file_bytes,
        )
        if new_rows.num_rows:
            writer.add(new_rows)
        notes = self._remember(tombstones, _only(rows, ~stale), self._changes.deletes[~stale]) if tombstones is not None else {}
        change = self._carry_out(table, writer, {file.path: file for file in [*gone, *files]}, taken)
        self._head, self._change = _head_of(table), replace(change, notes=notes)

    def _remember(self, tombstones: Tombstones, rows: pa.Table, deletes: Mask) -> dict[str, str]:
        """Name the deletions that are remembered from this snapshot on."""
        self.written_locations.append(tombstones.next_location)
        location = tombstones.write(rows, deletes)
        if location != tombstones.next_location:
            self.written_locations.remove(tombstones.next_location)
        return {TOMBSTONES_KEY: location or ""} if location is not None or tombstones.location is not None else {}

    def _truncate(self, table: Table, files: list[LiveFile]) -> tuple[list[LiveFile], list[LiveFile], list[_Taken]]:
        """Files that a truncation empties, the others, and rows that it takes out of those."""
        truncated = self._changes.truncated
        if truncated is None:
            return [], files, []
        if not spares_newer(table, truncated, has_several_logs=self._has_several_logs):
            return files, [], []
        return [], files, [_Taken(*found) for found in find_truncated(table, files, truncated, self._cache)]

    def _complete(self, table: Table, rows: pa.Table, hits: list[Hits], stale: Mask) -> pa.Table:
        """The rows with the values that they leave out; what can't be had makes a change unresolved."""
        lacking = np.zeros(rows.num_rows, np.bool_)
        for mask in self._changes.unavailable.values():
            lacking |= mask & ~self._changes.deletes & ~stale
        if lacking.any():
            rows = (filling := Filling(table, self._changes, rows, lacking, self._cache)).fill(hits)
            lacking = filling.lacking
        self.unresolved = np.flatnonzero(lacking)
        return rows

    def _carry_out(self, table: Table, writer: StagingWriter, files: dict[str, LiveFile], taken: dict[str, _Taken]) -> Change:
        assert self.plan is not None  # noqa: S101 - it was just made
        removed: set[str] = set()
        for path in [*self.plan.paths(Fate.DROP), *self.plan.paths(Fate.REWRITE)]:
            removed |= {path, *_own_deletes(files[path])}
        with ThreadPoolExecutor(_WRITING_THREADS, thread_name_prefix="deletes") as threads:
            marking: list[Future[DataFile]] = []
            for path in self.plan.paths(Fate.MARK):
                removed |= set(_own_deletes(files[path]))
                self.written_locations.append(new_location(table))
                marking.append(threads.submit(_mark, table, taken[path], self.written_locations[-1], self._cache))
            for path in self.plan.paths(Fate.REWRITE):
                for batch in _read_left(table, files[path], taken.get(path), self._cache):
                    writer.add(batch)
            staged = writer.finish()
            self.written_locations += [file.location for file in staged]
            added = (*build_data_files(table, staged), *(future.result() for future in marking))
        return Change(added, frozenset(removed))


def _head_of(table: Table) -> int | None:
    head = table.metadata.current_snapshot()
    return head.snapshot_id if head is not None else None


def _only(rows: pa.Table, wanted: Mask) -> pa.Table:
    return rows if wanted.all() else rows.filter(pa.array(wanted))


def _count(deletes: Mask, stale: Mask, hits: Sequence[Hits]) -> MergeFigures:
    found = np.zeros(len(deletes), np.bool_)
    for mine in hits:
        found[mine.keys] = True
    puts, takes = ~deletes & ~stale, deletes & ~stale
    return MergeFigures(
        inserted=int((puts & ~found).sum()),
        updated=int((puts & found).sum()),
        deleted=int((takes & found).sum()),
        absent=int((takes & ~found).sum()),
        stale=int(stale.sum()),
    )


def _join(pieces: Iterable[_Taken]) -> dict[str, _Taken]:
    joined: dict[str, _Taken] = {}
    for piece in pieces:
        if len(piece.positions):
            joined[piece.file.path] = piece.joined(joined.get(piece.file.path))
    return joined


def _count_live(file: LiveFile) -> int:
    """Live rows of a file, as far as counts say: delete files of others may be for several files."""
    deleted = sum(deletes.record_count for deletes in file.deletes if is_of_one_file(deletes))
    return max(int(file.data.record_count) - deleted, 0)


def _state(file: LiveFile, taken: _Taken | None) -> FileState:
    rows, size_bytes = file.data.record_count, file.data.file_size_in_bytes
    if taken is None:
        return FileState(file.path, file.place, rows, _count_live(file), size_bytes)
    return FileState(file.path, file.place, rows, rows - taken.deleted_rows, size_bytes, len(taken.positions))


def _emptied_state(file: LiveFile) -> FileState:
    rows = file.data.record_count
    return FileState(file.path, file.place, rows, rows, file.data.file_size_in_bytes, rows)


def _count_by_place(table: Table, rows: pa.Table) -> dict[Place, int]:
    spec = table.spec()
    columns = rows.select([table.schema().find_field(field.source_id).name for field in spec.fields])
    parts = Partitioner(spec, table.schema()).split(columns) if spec.fields else [((), rows)] if rows.num_rows else []
    return {(spec.spec_id, *values): part.num_rows for values, part in parts}


def _own_deletes(file: LiveFile) -> list[str]:
    """Delete files that apply to this data file only, and so go or are replaced with it."""
    return [str(deletes.file_path) for deletes in file.deletes if is_of_one_file(deletes)]


def _mark(table: Table, taken: _Taken, location: str, cache: FileCache) -> DataFile:
    """A delete file for the rows of a data file that go now, and those that delete files for it alone held before."""
    own = tuple(deletes for deletes in taken.file.deletes if is_of_one_file(deletes))
    before = read_deleted(table, replace(taken.file, deletes=own), cache)
    return write_deletes(table, taken.file.data, join_positions(before, taken.positions), location)


def _read_left(table: Table, file: LiveFile, taken: _Taken | None, cache: FileCache) -> Iterator[pa.Table]:
    """The rows of a data file that stay, in the table's current schema."""
    gone = read_deleted(table, file, cache)
    if taken is not None:
        gone = join_positions(gone, taken.positions)
    for first, batch in read_rows(table, file.data, table.schema(), cache):
        yield leave_out(pa.Table.from_batches([batch]), first, gone)
