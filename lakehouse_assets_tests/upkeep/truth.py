"""What must be true of a table whatever was done to it, found without a line of the code that did it.

DuckDB reads rows, PyIceberg's own classes read manifests, the file system says which files are there.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pyiceberg.manifest import DataFileContent, ManifestContent, ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot

from lakehouse_assets_tests import judge

Rows = list[tuple[object, ...]]

_DAY_SECONDS = 86_400


def read_rows(table: Table, columns: str, snapshot_id: int | None = None) -> Rows:
    """Every row, sorted; duplicates stay."""
    if table.metadata.current_snapshot() is None:
        return []
    return judge.query(table, f"SELECT {columns} FROM {{table}} ORDER BY ALL", snapshot_id)


def _path(location: str) -> str:
    return re.sub("^file:/+", "/", location)


def _walk_snapshot(table: Table, snapshot: Snapshot) -> Iterator[str]:
    yield _path(snapshot.manifest_list)
    for manifest in snapshot.manifests(table.io):
        yield _path(manifest.manifest_path)
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            yield _path(entry.data_file.file_path)
    summary = snapshot.summary.additional_properties if snapshot.summary else {}
    if tombstones := summary.get("lakehouse.tombstones"):
        yield _path(tombstones)


def reached_files(table: Table) -> set[str]:
    """Paths of all files that a reader of any snapshot of the metadata opens."""
    metadata = table.metadata
    found = {_path(table.metadata_location), *(_path(log.metadata_file) for log in metadata.metadata_log)}
    for snapshot in metadata.snapshots:
        found.update(_walk_snapshot(table, snapshot))
    found.update(_path(one.statistics_path) for one in (*metadata.statistics, *metadata.partition_statistics))
    return found


def stored_files(table: Table) -> set[str]:
    """Paths of all files below the table's location."""
    root = Path(_path(table.location()))
    return {str(path) for path in root.rglob("*") if path.is_file()}


def stray_files(table: Table, older_than_days: float) -> set[str]:
    """Paths of files of this age below the table's location that nothing reaches."""
    before = time.time() - older_than_days * _DAY_SECONDS
    strays = stored_files(table) - reached_files(table)
    return {path for path in strays if Path(path).stat().st_mtime < before}


def age_files(table: Table, days: float) -> None:
    """Let every file that is there now be older by so long, as if nothing had been young enough to be spared for that."""
    for path in stored_files(table):
        changed = Path(path).stat().st_mtime - days * _DAY_SECONDS
        os.utime(path, (changed, changed))


def assert_whole(table: Table) -> None:
    """No file that a kept snapshot needs is missing, and what metadata says of the table is what its files say."""
    missing = {path for path in reached_files(table) if not Path(path).exists()}
    assert not missing, f"{len(missing)} files are gone that snapshots need: {sorted(missing)[:5]}"
    current = table.metadata.current_snapshot()
    if current is not None:
        _assert_counted(table, current)


def _assert_counted(table: Table, snapshot: Snapshot) -> None:
    sums = dict.fromkeys(
        ("data-files", "delete-files", "records", "position-deletes", "equality-deletes", "files-size"), 0
    )
    seen = set[str]()
    for manifest in snapshot.manifests(table.io):
        live = 0
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False):
            file = entry.data_file
            assert (manifest.content == ManifestContent.DATA) == (file.content == DataFileContent.DATA)
            assert (entry.sequence_number or 0) <= snapshot.sequence_number
            if entry.status == ManifestEntryStatus.DELETED:
                continue
            live += 1
            assert file.file_path not in seen, (
                f"{file.file_path} stands twice in snapshot {snapshot.snapshot_id}"
            )
            seen.add(file.file_path)
            partition_types = table.specs()[manifest.partition_spec_id].partition_type(table.schema()).fields
            assert len(file.partition) == len(partition_types), (
                f"{file.file_path} is not of spec {manifest.partition_spec_id}"
            )
            sums["files-size"] += file.file_size_in_bytes
            if file.content == DataFileContent.DATA:
                sums["data-files"] += 1
                sums["records"] += file.record_count
            else:
                sums["delete-files"] += 1
                kind = "position" if file.content == DataFileContent.POSITION_DELETES else "equality"
                sums[f"{kind}-deletes"] += file.record_count
        assert live == (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)
    said = snapshot.summary.additional_properties if snapshot.summary else {}
    # A writer may leave totals out, and who does takes them from all who follow.
    wrong = {
        what: (said[f"total-{what}"], sum_)
        for what, sum_ in sums.items()
        if int(said.get(f"total-{what}", sum_)) != sum_
    }
    assert not wrong, f"totals of snapshot {snapshot.snapshot_id}, as said and as counted: {wrong}"


def assert_replaced_purely(table: Table, rows_of: Callable[[int], Rows | None]) -> None:
    """A snapshot that says that it only replaces files has the rows of its parent, as far as these are known."""
    for snapshot in table.metadata.snapshots:
        parent = snapshot.parent_snapshot_id
        if snapshot.summary is None or snapshot.summary.operation != Operation.REPLACE or parent is None:
            continue
        before = rows_of(parent)
        assert before is None or rows_of(snapshot.snapshot_id) == before, f"snapshot {snapshot.snapshot_id} changed rows"
