"""Drop, undo, purge: a table is unlisted at once, can be had back for a day, and its files go after that.

Dropping renames the table in the catalog, whatever its size. Purging first gives it a name that nobody can undo. Then go its
files outside of its place, data before what names them, so that none is forgotten; then those in its place, the name, and the
metadata file. A crash anywhere leaves a name under which the next purge finds what is left; once the name has gone, that is the
metadata file at most. The table of bad messages goes along with its table.
"""

import time
from collections.abc import Callable, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import TableAlreadyExistsError
from pyiceberg.io import FileIO, load_file_io

from lakehouse_assets.model.columns import CHANGE_LOG_SUFFIX, QUARANTINE_SUFFIX
from lakehouse_assets.model.dropped import DROPPED_NAMESPACE, DroppedTable
from lakehouse_assets.model.errors import (
    DropImpossibleError,
    LakehouseError,
    PurgeRefusedError,
    StorageError,
    TableMissingError,
    UndoImpossibleError,
)
from lakehouse_assets.model.maintenance import KeptBack, MaintenanceReport, PlannedWork
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.systems.dropped import forget, is_listed, list_dropped, rename, unlist
from lakehouse_assets.systems.expiry import is_collected
from lakehouse_assets.systems.neighbours import Neighbours, Place, locate
from lakehouse_assets.systems.reachability import reach
from lakehouse_assets.systems.storage import delete_files, delete_prefix, is_inside, list_files, normalize

_PURGE_TITLES = ("table", "location", "files", "size_bytes", "files_elsewhere")


def run_drop(task: MaintenanceTask) -> MaintenanceReport:
    """Unlist a table and that of its bad messages. The log of its changes is a table of its own, and stays.

    Called again after a crash it takes the table of bad messages along, where that stayed.

    Raises:
        TableMissingError: there is no such table.
        DropImpossibleError: the catalog can't rename it.
        CatalogUnavailableError, CatalogAccessError
    """
    began = time.monotonic()
    tables = _drop_plan(task)
    if not task.is_dry_run:
        for dropped in tables:
            unlist(task.catalog, dropped.original, dropped)
    changes = f"{task.table}{CHANGE_LOG_SUFFIX}"
    stays = [KeptBack(changes, "a table of its own; drop it too if nobody needs it")]
    planned = PlannedWork(
        titles=("table", "kept_as", "undo_until_ms"),
        rows=[(dropped.original, dropped.full_name, dropped.undo_until_ms) for dropped in tables],
    )
    figures = {} if task.is_dry_run else {"tables_dropped": len(tables), "undo_until_ms": tables[0].undo_until_ms}
    return task.report("drop", planned, figures, stays if is_listed(task.catalog, changes) else (), began=began)


def _drop_plan(task: MaintenanceTask) -> list[DroppedTable]:
    listed = _listed(task.catalog, task.table)
    earlier = list_dropped(task.catalog, task.table)
    if task.table not in listed:
        if not listed or not earlier:
            raise TableMissingError(task.table)
        return [DroppedTable(listed[0], earlier[0].dropped_ms)]
    now_ms = _free_second(task, listed)
    return [DroppedTable(name, now_ms) for name in listed]


def _free_second(task: MaintenanceTask, names: list[str]) -> int:
    """Now, or soon after, so that no dropped table has the name that another gets."""
    taken = {one.dropped_ms for name in names for one in list_dropped(task.catalog, name)}
    now_ms = task.now_ms() // 1000 * 1000
    while now_ms in taken:
        now_ms += 1000
    return now_ms


def _listed(catalog: Catalog, table: str) -> list[str]:
    """Itself, and that of its bad messages, as far as they are there. A table that was dropped is none."""
    if table.startswith(f"{DROPPED_NAMESPACE}."):
        return []
    return [name for name in (table, f"{table}{QUARANTINE_SUFFIX}") if is_listed(catalog, name)]


def run_undo_drop(task: MaintenanceTask) -> MaintenanceReport:
    """Have the table back that was dropped last under this name, with that of its bad messages. Safe to repeat after a crash.

    Raises:
        UndoImpossibleError: there is none, its files are being deleted, or its name is taken.
        CatalogUnavailableError, CatalogAccessError
    """
    began = time.monotonic()
    tables = _undo_plan(task.catalog, task.table)
    if not task.is_dry_run:
        for dropped in tables:
            try:
                rename(task.catalog, dropped.full_name, dropped.original)
            except (TableMissingError, TableAlreadyExistsError) as error:
                reason = "somebody else purged it, had it back, or took its name just now"
                raise UndoImpossibleError(task.table, reason, "Look again") from error
    planned = PlannedWork(titles=("table", "kept_as"), rows=[(one.original, one.full_name) for one in tables])
    return task.report("undo_drop", planned, {} if task.is_dry_run else {"tables_restored": len(tables)}, began=began)


def _undo_plan(catalog: Catalog, table: str) -> list[DroppedTable]:
    known = [one for one in list_dropped(catalog, table) if not one.is_purging]
    if not known:
        others = ", ".join(sorted({one.original for one in list_dropped(catalog) if not one.is_purging})) or "none"
        reason = "found no dropped table of this name that still has its files"
        raise UndoImpossibleError(table, f"{reason}; dropped are: {others}", "A day after a drop maintenance deletes the files")
    bad = [one for one in list_dropped(catalog, f"{table}{QUARANTINE_SUFFIX}") if one.dropped_ms == known[0].dropped_ms]
    # The table comes last: as long as it is not there, somebody will ask again.
    tables = [*(one for one in bad if not one.is_purging), known[0]]
    for dropped in tables:
        if is_listed(catalog, dropped.original):
            taken = f"Drop that first (lakehouse drop {dropped.original}), or rename it"
            raise UndoImpossibleError(table, f"a table of the name {dropped.original} is there again", taken)
    return tables


@dataclass(frozen=True, slots=True)
class _Purge:
    """A table whose files are to go.

    Attributes:
        name: As the catalog knows it now.
        dropped: As it is called while its files are being deleted.
        place: Where it lies.
        elsewhere: Its files outside of that place, in groups; one is deleted when those before it are.
        size_bytes: Of the `file_count` files in it.
    """

    name: str
    dropped: DroppedTable
    place: Place
    io: FileIO
    elsewhere: tuple[tuple[str, ...], ...]
    file_count: int
    size_bytes: int

    @property
    def row(self) -> tuple[str, str, int, int, int]:
        """Of the plan."""
        return self.name, self.place.location or "unknown", self.file_count, self.size_bytes, sum(map(len, self.elsewhere))


def run_purge(task: MaintenanceTask) -> MaintenanceReport:
    """Drop a table for good, and delete its files now; where it is not there, those of what was dropped under its name.

    Raises:
        TableMissingError: there is nothing of this name.
        PurgeRefusedError: its files may be somebody else's too.
        CatalogUnavailableError, CatalogAccessError, StorageError
    """
    catalog, listed = task.catalog, _listed(task.catalog, task.table)
    now_ms = task.now_ms()
    targets = {name: DroppedTable(name, now_ms, is_purging=True) for name in listed}
    if task.table not in targets:
        for name in (task.table, f"{task.table}{QUARANTINE_SUFFIX}"):
            targets |= {one.full_name: replace(one, is_purging=True) for one in list_dropped(catalog, name)}
    if not targets:
        raise TableMissingError(task.table)
    return _purge(task, targets, Neighbours.of(catalog))


def purge_overdue(
    catalog: Catalog,
    now_ms: Callable[[], int],
    *,
    stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[str], None] = lambda _: None,
    is_dry_run: bool = False,
) -> list[MaintenanceReport]:
    """Delete the files of every table that can't be had back any more. What is refused is kept back, and stays dropped.

    Raises:
        CatalogUnavailableError, CatalogAccessError: which tables were dropped can't be listed.
    """
    overdue = [one for one in list_dropped(catalog) if one.is_overdue(now_ms())]
    neighbours = Neighbours.of(catalog) if overdue else Neighbours()
    reports = []
    for dropped in overdue:
        if stop():
            break
        task = MaintenanceTask(catalog, dropped.original, MaintenanceSpec(), now_ms, stop, on_progress, is_dry_run)
        try:
            reports.append(_purge(task, {dropped.full_name: replace(dropped, is_purging=True)}, neighbours))
        except TableMissingError:
            continue  # another run of maintenance was first
        except LakehouseError as error:
            kept = (KeptBack(dropped.full_name, str(error)),)
            reports.append(MaintenanceReport(dropped.original, "purge", is_dry_run, PlannedWork(_PURGE_TITLES, ()), {}, kept))
    return reports


def _purge(task: MaintenanceTask, targets: dict[str, DroppedTable], neighbours: Neighbours) -> MaintenanceReport:
    began = time.monotonic()
    purges = [_inspect(task, name, dropped, targets.keys(), neighbours) for name, dropped in targets.items()]
    deleted, kept_back = 0, []
    if not task.is_dry_run:
        for purge in purges:
            task.on_progress(f"deleting the files of {purge.name}")
            gone, kept = _delete(task.catalog, purge)
            deleted += gone
            kept_back += kept
    planned = PlannedWork(_PURGE_TITLES, [purge.row for purge in purges])
    figures = {} if task.is_dry_run else {"tables_purged": len(purges), "files_deleted": deleted}
    return task.report("purge", planned, figures, kept_back, began=began)


def _inspect(
    task: MaintenanceTask, name: str, dropped: DroppedTable, own: Set[str], neighbours: Neighbours
) -> _Purge:
    """Look for a reason not to delete the files. Read-only."""
    anyway = f"If all of it may go: lakehouse drop {dropped.original} --purge --yes"
    place = locate(task.catalog, name)
    if place is None:
        raise TableMissingError(name)
    if place.table is None and not task.is_confirmed:
        raise PurgeRefusedError(name, f"what is in it can't be read ({place.problem})", anyway)
    if place.table is not None and not is_collected(place.table):
        raise PurgeRefusedError(name, "its property gc.enabled is false", "Set it to true if its files are nobody else's")
    if place.location is None:
        return _Purge(name, dropped, place, load_file_io(task.catalog.properties), (), 0, 0)
    location = place.location
    if not normalize(location).partition("://")[2].partition("/")[2]:
        raise PurgeRefusedError(name, f"it lies in {location}, which is no folder", "Delete its files by hand")
    if (other := neighbours.sharing(location, own)) is not None:
        raise PurgeRefusedError(name, f"it lies in {location}, where {other} may have files", f"Move or drop {other} first")
    if (unknown := neighbours.unknown.keys() - own) and not task.is_confirmed:
        reason = f"whether {min(unknown)} has files there can't be told ({neighbours.unknown[min(unknown)]})"
        raise PurgeRefusedError(name, reason, anyway)
    elsewhere = _list_elsewhere(task, name, dropped, place, anyway)
    for file in chain(*elsewhere):
        if (other := neighbours.owning(file, own)) is not None:
            raise PurgeRefusedError(name, f"its file {file} lies where {other} does", f"Move or drop {other} first")
    io = place.table.io if place.table is not None else load_file_io(task.catalog.properties, location)
    files = [file.size_bytes for file in list_files(io, location)]
    return _Purge(name, dropped, place, io, elsewhere, len(files), sum(files))


def _list_elsewhere(
    task: MaintenanceTask, name: str, dropped: DroppedTable, place: Place, anyway: str
) -> tuple[tuple[str, ...], ...]:
    """Files that the table reaches outside of its place; none, where what it reaches can't be read and a person said yes."""
    if place.table is None:
        return ()
    folder = normalize(place.table.location())
    try:
        found = reach(place.table, place.table.io)
    except (OSError, ValueError) as error:
        # A purge that was cut short deleted manifests only when the files that they name had gone.
        if task.is_confirmed or name == dropped.full_name:
            return ()
        raise PurgeRefusedError(name, f"which files it has elsewhere can't be read ({error})", anyway) from error
    groups = (found.data | found.deletes | found.others, found.manifests, found.lists | found.metadata)
    return tuple(tuple(sorted(file for file in group if not is_inside(normalize(file), folder))) for group in groups)


def _delete(catalog: Catalog, purge: _Purge) -> tuple[int, list[KeptBack]]:
    """Delete everything; how many files that were, and what is left. Whoever else does the same meanwhile does no harm."""
    name = _mark(catalog, purge)
    location, table = purge.place.location, purge.place.table
    last = table.metadata_location if table is not None and name is not None else None
    inside = (file.location for file in list_files(purge.io, location)) if location is not None else iter(())
    deleted = 0
    for group in (*purge.elsewhere, inside):
        doomed = [file for file in group if last is None or normalize(file) != normalize(last)]
        left = delete_files(purge.io, doomed)
        deleted += len(doomed) - len(left)
        if left:
            reason = f"could not be deleted, as {left[0]}; the next purge tries again"
            return deleted, [KeptBack(f"{len(left)} files of {purge.dropped.original}", reason)]
    if name is not None:
        forget(catalog, name)
    if last is not None:
        delete_files(purge.io, [last])
    if location is not None:
        # What is left are empty folders, and what a run wrote that did not know that its table was dropped.
        with suppress(StorageError):
            delete_prefix(purge.io, location)
    return deleted + (last is not None), []


def _mark(catalog: Catalog, purge: _Purge) -> str | None:
    """Give the table the name under which nobody can have it back; None where it had to be dropped without one."""
    if purge.name == purge.dropped.full_name:
        return purge.name
    try:
        return unlist(catalog, purge.name, purge.dropped).full_name
    except DropImpossibleError:
        # Its files become unreachable in one step all the same; after a crash they would be nobody's.
        forget(catalog, purge.name)
        return None
