"""Finds what was added to a table since a snapshot, if nothing else happened to its rows.

Hides how that is told: every snapshot in between appends, or keeps rows as they are in other files. Files that an append
brought are read as it brought them, also where compaction has put others in their place since.
"""

from collections.abc import Sequence

from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot

from lakehouse_assets.systems.catalog import catalog_errors
from lakehouse_assets.systems.manifests import read_entries
from lakehouse_assets.systems.snapshots import ancestors, table_name

_TOO_MANY = 10_000  # snapshots, after which computing anew is no worse


def find_added(table: Table, since: int) -> Sequence[DataFile] | str:
    """The data files that were added to a table, as it was loaded, since a snapshot; or why that can't be told.

    Raises:
        StorageError, CatalogUnavailableError
    """
    appends: list[Snapshot] = []
    for count, snapshot in enumerate(ancestors(table, table.metadata.current_snapshot())):
        if snapshot.snapshot_id == since:
            with catalog_errors(table.catalog.name, f"read the manifests of {table_name(table)}"):
                return [file for append in reversed(appends) for file in _list_added(table, append)]
        operation = snapshot.summary.operation if snapshot.summary is not None else None
        if operation == Operation.APPEND:
            appends.append(snapshot)
        elif operation != Operation.REPLACE:
            return f"{table_name(table)} had more than rows added (operation {operation.value if operation else 'unknown'})"
        if count >= _TOO_MANY:
            break
    return f"the snapshot of {table_name(table)} from which it was computed is no part of its history any more"


def _list_added(table: Table, snapshot: Snapshot) -> list[DataFile]:
    return [
        entry.data_file
        for manifest in snapshot.manifests(table.io)
        if manifest.content == ManifestContent.DATA and manifest.added_snapshot_id == snapshot.snapshot_id
        for entry in read_entries(table.io, manifest)
        if entry.status == ManifestEntryStatus.ADDED and entry.snapshot_id == snapshot.snapshot_id
    ]
