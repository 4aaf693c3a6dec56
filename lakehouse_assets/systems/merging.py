"""Puts changes of rows into a table: new rows in, those that they replace out, in one snapshot.

`RowMerge` prepares the files for one snapshot of the table, which nobody sees until a commit takes them, and is good for that
very snapshot only: what others committed since is looked at anew, so a row that they deleted, moved or wrote again neither
comes back nor stands twice.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyiceberg.exceptions import ResolveError
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakehouse_assets.model.errors import CommitConflictError, StorageError
from lakehouse_assets.model.merge_plan import Fate, FileState, MergePlan, Place, plan_merge
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
    read_deleted,
    write_deletes,
)
from lakehouse_assets.systems.schema import build_file_schema
from lakehouse_assets.systems.snapshots import Change, table_name


@dataclass(frozen=True, slots=True)
class MergeFigures:
    """What became of the changes. Their sum is the number of changes.

    `absent`: deletes of keys that had no row; `stale`: lost to a newer row of the table.
    """

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    absent: int = 0
    stale: int = 0


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
        cache: FileCache | None = None,
    ) -> None:
        """`changes` hold each key once. `cache` may outlive the merge: the files of a table never change."""
        self._changes, self._key = changes, tuple(key)
        self._copy_on_write, self._buffer_bytes = copy_on_write, buffer_bytes
        self._has_several_logs = has_several_logs
        self._cache = cache if cache is not None else FileCache()
        self._head: int | None = None
        self._change = Change(())
        self.figures = MergeFigures()
        self.plan: MergePlan | None = None
        self.unresolved = np.empty(0, np.int64)  # changes that lack a value which the table does not have either
        self.written_locations: list[str] = []

    @property
    def is_untouched(self) -> bool:
        """The table stays as it is."""
        return not self._change.added and not self._change.removed_paths

    def prepare(self, table: Table) -> None:
        """Find what the changes replace in the table as it is now, and write what comes in.

        Raises:
            StorageError: files could not be read or written; or what stands in the table can't be read here.
        """
        self._change, self.written_locations = Change(()), []
        writer = build_writer(table, self._buffer_bytes)
        try:
            with _readable(table):
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
        self._head = _head_of(table)
        files = list_files_with_deletes(table, table.metadata.current_snapshot())
        rows = conform(self._changes.rows, build_file_schema(table.schema()))
        lookup = KeyLookup(table, rows.select(self._key), self._cache)
        hits = {found.file.path: found for found in lookup.find(files)}
        deletes = self._changes.deletes
        self.figures = _count(deletes, hits)
        new_rows = rows.filter(pa.array(~deletes)) if deletes.any() else rows
        self.plan = plan_merge(
            [_state(file, hits.get(file.path)) for file in files],
            _count_by_place(table, new_rows),
            copy_on_write=self._copy_on_write,
        )
        if new_rows.num_rows:
            writer.add(new_rows)
        self._carry_out(table, writer, {file.path: file for file in files}, hits)

    def _carry_out(self, table: Table, writer: StagingWriter, files: dict[str, LiveFile], hits: dict[str, Hits]) -> None:
        assert self.plan is not None  # noqa: S101
        removed: set[str] = set()
        added: list[DataFile] = []
        for path in [*self.plan.paths(Fate.DROP), *self.plan.paths(Fate.REWRITE)]:
            removed |= {path, *_own_deletes(files[path])}
        for path in self.plan.paths(Fate.REWRITE):
            file = files[path]
            gone = read_deleted(table, file, self._cache)
            if path in hits:
                gone = join_positions(gone, hits[path].positions)
            for batch in _read_left(table, file.data, gone, self._cache):
                writer.add(batch)
        for path in self.plan.paths(Fate.MARK):
            added.append(self._mark(table, hits[path]))
            removed |= set(_own_deletes(files[path]))
        staged = writer.finish()
        self.written_locations += [file.location for file in staged]
        self._change = Change([*build_data_files(table, staged), *added], frozenset(removed))

    def _mark(self, table: Table, hits: Hits) -> DataFile:
        """A delete file for the rows of a data file that go now, and those that one file of ours held before."""
        own = _own_deletes(hits.file)
        before = LiveFile(hits.file.data, tuple(file for file in hits.file.deletes if file.file_path in own))
        positions = join_positions(read_deleted(table, before, self._cache), hits.positions)
        written = write_deletes(table, hits.file.data, positions)
        self.written_locations.append(written.file_path)
        return written


def _head_of(table: Table) -> int | None:
    head = table.metadata.current_snapshot()
    return head.snapshot_id if head is not None else None


def _count(deletes: Mask, hits: dict[str, Hits]) -> MergeFigures:
    found = np.zeros(len(deletes), np.bool_)
    for mine in hits.values():
        found[mine.keys] = True
    return MergeFigures(
        inserted=int((~deletes & ~found).sum()),
        updated=int((~deletes & found).sum()),
        deleted=int((deletes & found).sum()),
        absent=int((deletes & ~found).sum()),
    )


def _state(file: LiveFile, hits: Hits | None) -> FileState:
    """A file for the plan. Without hits, its live rows are what the counts of delete files leave, if they are for it alone."""
    rows = file.data.record_count
    deleted = sum(d.record_count for d in file.deletes if is_of_one_file(d)) if hits is None else hits.deleted_rows
    taken = 0 if hits is None else len(hits.positions)
    return FileState(file.path, file.place, rows, max(rows - deleted, 0), file.data.file_size_in_bytes, taken)


def _count_by_place(table: Table, rows: pa.Table) -> dict[Place, int]:
    spec = table.spec()
    columns = rows.select([table.schema().find_field(field.source_id).name for field in spec.fields])
    parts = Partitioner(spec, table.schema()).split(columns) if spec.fields else [((), rows)] if rows.num_rows else []
    return {(spec.spec_id, *values): part.num_rows for values, part in parts}


def _own_deletes(file: LiveFile) -> list[str]:
    """Delete files that apply to this data file only, and so go or are replaced with it."""
    return [str(deletes.file_path) for deletes in file.deletes if is_of_one_file(deletes)]


def _read_left(table: Table, file: DataFile, gone: Positions, cache: FileCache) -> Iterator[pa.Table]:
    """Rows of a data file, in the table's current schema, without those at these positions."""
    for first, batch in read_rows(table, file, table.schema(), cache):
        yield leave_out(pa.Table.from_batches([batch]), first, gone)


@contextmanager
def _readable(table: Table) -> Iterator[None]:
    """Translate what PyIceberg raises of files that can't be read."""
    action = f"merge changes into {table_name(table)}"
    with catalog_errors(table.catalog.name, action):
        try:
            yield
        except (ResolveError, pa.ArrowInvalid) as error:
            raise StorageError(f"{action} under", table.location(), str(error)) from error
