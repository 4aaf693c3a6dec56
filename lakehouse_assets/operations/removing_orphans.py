"""Removes files from a table's place that no snapshot knows: what crashed runs left, and what expiry could not delete.

Nothing young goes, for it may be of a commit on its way, and nothing at all where another table has files too, where the
listing can't be right, or where so much would go that somebody should look first. The table is read again before each batch.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

from pyiceberg.table import Table

from lakehouse_assets.model.errors import TableReplacedError, TooManyOrphansError
from lakehouse_assets.model.maintenance import KeptBack, MaintenanceReport, PlannedWork
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.systems.catalog import catalog_errors, require_table
from lakehouse_assets.systems.expiry import is_collected
from lakehouse_assets.systems.neighbours import refuse_shared_location
from lakehouse_assets.systems.orphans import Listing, Orphans, list_place
from lakehouse_assets.systems.storage import StoredFile, delete_files

REMOVE_ORPHANS: Final = "remove_orphans"
MAX_SHARE: Final = 0.2  # of the files in a table's place
_AT_ONCE: Final = 1000
_READINGS: Final = 3
_TITLES: Final = ("location", "size_bytes", "modified_at")


def run_remove_orphans(task: MaintenanceTask) -> MaintenanceReport:
    """Find them and delete them. Safe beside everything else, and to repeat.

    Raises:
        TableMissingError, TableReplacedError: there is no such table, or another one since.
        SharedLocationError: another table's files lie in the same place.
        ListingIncompleteError: files that the table needs are not in its place.
        TooManyOrphansError: more than a fifth of the files would go, and nobody said that they may.
        LakehouseError: of the tree.
    """
    began = time.monotonic()
    table = require_table(task.catalog, task.table)
    run = _Removal(task, table)
    if not is_collected(table):
        run.kept_back.append(KeptBack("everything", "the table says gc.enabled=false: its files may be used by others"))
        return run.report(PlannedWork(_TITLES, ()), {}, began)
    refuse_shared_location(task.catalog, table, "remove orphans of")
    age_ms = task.policy.orphan_age // timedelta(milliseconds=1)
    listing = list_place(table, task.now_ms() - age_ms)
    task.on_progress(f"listed {listing.count:,} files")
    orphans = run.find(listing)
    run.explain(listing, orphans)
    planned = _describe(listing, orphans)
    if task.is_dry_run:
        return run.report(planned, {}, began)
    share = len(orphans.files) / max(1, listing.count)
    if share > MAX_SHARE and not task.is_confirmed:
        raise TooManyOrphansError(task.table, len(orphans.files), listing.count, MAX_SHARE, str(planned.rows[0][0]))
    return run.report(planned, {"files_listed": listing.count, **run.delete(orphans)}, began)


@dataclass(slots=True)
class _Removal:
    """One run. `table` is the newest state that was looked at."""

    task: MaintenanceTask
    table: Table
    kept_back: list[KeptBack] = field(default_factory=list)

    def find(self, listing: Listing) -> Orphans:
        """Look up what the table reaches; others who expire snapshots may delete under it, then it is read again."""
        with catalog_errors(self.task.catalog.name, f"find what {self.task.table} reaches"):
            for _ in range(_READINGS - 1):
                try:
                    return Orphans.find(listing, self._read_again())
                except FileNotFoundError:
                    continue
            return Orphans.find(listing, self._read_again())

    def explain(self, listing: Listing, orphans: Orphans) -> None:
        """Say what stays though the table knows nothing of it."""
        if orphans.young_count:
            age = self.task.policy.orphan_age
            self.kept_back.append(KeptBack(f"{orphans.young_count:,} files", f"younger than {age}: a commit may be on its way"))
        if listing.hidden:
            reason = f"their names begin with _ or ., which is what other programs call their own, as {min(listing.hidden)}"
            self.kept_back.append(KeptBack(f"{len(listing.hidden):,} files", reason))

    def delete(self, orphans: Orphans) -> dict[str, int]:
        """Batch by batch, each time without what the table has come to know; how much went."""
        deleted, size_bytes, kept = 0, 0, []
        while orphans.files and not self.task.stop():
            with catalog_errors(self.task.catalog.name, f"find what {self.task.table} reaches"):
                orphans.forget_known(self._read_again())
            if not (batch := dict(islice(orphans.files.items(), _AT_ONCE))):
                break
            failed = set(delete_files(self.table.io, [file.location for file in batch.values()]))
            kept += sorted(failed)
            for location, file in batch.items():
                del orphans.files[location]
                deleted += file.location not in failed
                size_bytes += file.size_bytes if file.location not in failed else 0
            self.task.on_progress(f"deleted {deleted:,} files, {len(orphans.files):,} to go")
        if orphans.files:
            self.kept_back.append(KeptBack(f"{len(orphans.files):,} files", "the run was stopped"))
        if kept:
            self.kept_back.append(KeptBack(f"{len(kept):,} files", f"could not be deleted, as {kept[0]}"))
        return {"files_deleted": deleted, "size_bytes_deleted": size_bytes}

    def report(self, planned: PlannedWork, figures: Mapping[str, int], began: float) -> MaintenanceReport:
        """What became of it."""
        return self.task.report(REMOVE_ORPHANS, planned, figures, tuple(self.kept_back), began=began)

    def _read_again(self) -> Table:
        uuid, self.table = self.table.metadata.table_uuid, require_table(self.task.catalog, self.task.table)
        if self.table.metadata.table_uuid != uuid:
            raise TableReplacedError(self.task.table, str(uuid), str(self.table.metadata.table_uuid))
        return self.table


def _describe(listing: Listing, orphans: Orphans) -> PlannedWork:
    files: Sequence[StoredFile] = list(orphans.files.values())
    figures = {
        "files": len(files),
        "size_bytes": sum(file.size_bytes for file in files),
        "files_listed": listing.count,
        "share": round(len(files) / max(1, listing.count), 4),
    }
    return PlannedWork(_TITLES, [(file.location, file.size_bytes, _to_text(file.modified_ms)) for file in files], figures)


def _to_text(at_ms: int | None) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds") if at_ms is not None else ""
