"""Writes the deletes of data files as one file of position deletes each, and takes out the delete files that are in it then.

Hides when that is right for a table on which others commit meanwhile: what was written counts where the data file and all the
delete files that were read for it are still there; a delete file for several data files goes when all of those have what it
says of them; deletes that came since stay. So no row comes back, and none goes.
"""

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakehouse_assets.model.errors import CommitConflictError, StorageError
from lakehouse_assets.model.merge_plan import Place
from lakehouse_assets.systems.catalog import catalog_errors
from lakehouse_assets.systems.equality_deletes import EqualityDeletes
from lakehouse_assets.systems.live_files import EVERYWHERE, LiveFile, LiveFiles, list_live
from lakehouse_assets.systems.parquet import delete_staged
from lakehouse_assets.systems.position_deletes import (
    NO_POSITIONS,
    Positions,
    count_inside,
    is_of_one_file,
    join_positions,
    new_location,
    read_deleted_of,
    write_deletes,
)
from lakehouse_assets.systems.snapshots import Change, ancestors, table_name

_WRITING_THREADS = 4  # delete files are small: on an object store their writing is waiting


@dataclass(frozen=True, slots=True)
class _Staged:
    """A data file, and the delete file that says all that is deleted from it; None: what it has says it, or it is nothing."""

    file: LiveFile
    added: DataFile | None

    @property
    def replaced(self) -> list[str]:
        """Delete files of this data file alone that are not needed any more."""
        if self.added is None and _says_all(self.file):
            return []
        return [str(deletes.file_path) for deletes in self.file.deletes if is_of_one_file(deletes)]


@dataclass(frozen=True, slots=True)
class _Judgement:
    """What fits a snapshot. `fit`: data files of the part that fitted each attempt; `removed`: what each attempt removes."""

    snapshot_id: int
    change: Change
    fit: set[str]
    removed: set[str]


class DeleteRewrite:
    """The delete files of one snapshot of a table, written again a part of the data files at a time.

    `stage` writes what a part needs, `swap` answers for the head that it is given at each commit attempt, `settle` or `give_up`
    ends the part.
    """

    def __init__(self, table: Table, live: LiveFiles) -> None:
        """`live`: what the table's current snapshot reads."""
        self._table = table
        snapshot = table.metadata.current_snapshot()
        self._snapshot_id = snapshot.snapshot_id if snapshot is not None else None
        # Delete files for several data files, which are there still.
        self._shared = {one.path for one in live.deletes if not one.is_equality and not is_of_one_file(one.file)}
        self._equality = {one.path: one for one in live.deletes if one.is_equality}
        self._by_equality = EqualityDeletes(table, [one for one in self._equality.values() if one.applies_to])
        self._done: set[str] = set()  # data files for which it is settled
        self._left_out: set[str] = set()
        self._staged: list[_Staged] = []
        self._judged: _Judgement | None = None

    @property
    def left_over(self) -> list[str]:
        """What others changed too soon: data files, and delete files for several of them that are still there."""
        return sorted({*self._left_out, *self._shared, *self._equality})

    def stage(self, files: Sequence[LiveFile]) -> None:
        """Write the delete files that these data files need.

        Raises:
            StorageError: they could not be written, or what was read back is something else.
        """
        self._judged = None
        with catalog_errors(self._table.catalog.name, f"rewrite the deletes of {table_name(self._table)}"):
            before = read_deleted_of(self._table, files)
            by_equality = self._by_equality.find([file for file in files if file.has_equality_deletes])
            wanted = {}
            for file in files:
                deleted = join_positions(before[file.path], by_equality.get(file.path, NO_POSITIONS))
                wanted[file.path] = deleted[: count_inside(deleted, file.data)]
            written = {
                file.path: new_location(self._table)
                for file in files
                if len(wanted[file.path]) and not (_says_all(file) and len(wanted[file.path]) == len(before[file.path]))
            }
            try:
                self._write(files, wanted, written)
            except BaseException:
                delete_staged(self._table.io, written.values())
                raise

    def _write(self, files: Sequence[LiveFile], wanted: "dict[str, Positions]", locations: dict[str, str]) -> None:
        def write(file: LiveFile) -> _Staged:
            if file.path not in locations:
                return _Staged(file, None)
            return _Staged(file, write_deletes(self._table, file.data, wanted[file.path], locations[file.path]))

        with ThreadPoolExecutor(_WRITING_THREADS, thread_name_prefix="deletes") as threads:
            staged = list(threads.map(write, files))
        proofs = [replace(one.file, deletes=(one.added,)) for one in staged if one.added is not None]
        for path, found in read_deleted_of(self._table, proofs).items():
            if not np.array_equal(found, wanted[path]):
                reason = f"{len(wanted[path])} deleted rows of {path} were written, {len(found)} others were read back"
                raise StorageError("rewrite the deletes of", table_name(self._table), reason)
        self._staged = staged

    def swap(self, head: Table) -> Change:
        """What to take out of the head and put in; nothing of either where nothing is left to do.

        Raises:
            CommitConflictError: the table was rolled back since.
        """
        snapshot = head.metadata.current_snapshot()
        if self._judged is None or snapshot is None or self._judged.snapshot_id != snapshot.snapshot_id:
            self._judged = self._judge(head, self._judged)
        return self._judged.change

    def settle(self, named: Collection[str] = ()) -> None:
        """End the part, whose changes are in the table; staged files that are not `named` are deleted."""
        assert self._judged is not None  # noqa: S101 - something was asked for before it could land
        self._done |= self._judged.fit
        self._left_out |= {one.file.path for one in self._staged} - self._judged.fit
        self._shared -= self._judged.removed
        self._equality = {path: one for path, one in self._equality.items() if path not in self._judged.removed}
        self._delete_staged(named)

    def give_up(self) -> None:
        """End the part, of which certainly nothing landed."""
        self._left_out |= {one.file.path for one in self._staged}
        self._delete_staged(())

    def _delete_staged(self, named: Collection[str]) -> None:
        staged = [one.added.file_path for one in self._staged if one.added is not None]
        delete_staged(self._table.io, [location for location in staged if location not in named])
        self._staged = []

    def _judge(self, head: Table, before: "_Judgement | None") -> "_Judgement":
        snapshot = head.metadata.current_snapshot()
        if snapshot is None or all(one.snapshot_id != self._snapshot_id for one in ancestors(head, snapshot)):
            raise CommitConflictError(table_name(head), "it no longer stands on the snapshot whose deletes were read")
        with catalog_errors(head.catalog.name, f"read the files of {table_name(head)}"):
            live = list_live(head, snapshot)
        sequences = {file.path: file.sequence_number for file in live.data}
        there = {one.path for one in live.deletes}
        has_equality = all(path in there for path in self._equality)
        fit = [
            one
            for one in self._staged
            if sequences.get(one.file.path) == one.file.sequence_number
            and (has_equality or not one.file.has_equality_deletes)
            and all(deletes.file_path in there for deletes in one.file.deletes)
        ]
        paths = {one.file.path for one in fit}
        removed = {path for one in fit for path in one.replaced}
        removed |= {one.path for one in live.deletes if not one.applies_to}
        removed |= self._replaced_shared(live, self._done | paths)
        change = Change([one.added for one in fit if one.added is not None], frozenset(removed), keeps_rows=True)
        # An earlier attempt may be the one that landed: what counts is what each of them had.
        both = (paths & before.fit, removed & before.removed) if before is not None else (paths, removed)
        return _Judgement(snapshot.snapshot_id, change, *both)

    def _replaced_shared(self, live: LiveFiles, done: set[str]) -> set[str]:
        """Delete files for several data files of which each has what they say of it in another one now."""
        waiting = [file for file in live.data if file.path not in done]
        oldest: dict[Place, int] = {}
        for file in waiting if self._equality else ():
            for scope in (EVERYWHERE, file.scope):
                oldest[scope] = min(oldest.get(scope, file.sequence_number), file.sequence_number)
        needed = {str(deletes.file_path) for file in waiting for deletes in file.deletes}
        there = {one.path for one in live.deletes}
        return ((self._shared & there) - needed) | {
            one.path
            for one in self._equality.values()
            if one.path in there and oldest.get(one.scope, one.sequence_number) >= one.sequence_number
        }


def _says_all(file: LiveFile) -> bool:
    """Whether a data file has one delete file at most, for it alone."""
    return len(file.deletes) == 0 or (len(file.deletes) == 1 and is_of_one_file(file.deletes[0]))
