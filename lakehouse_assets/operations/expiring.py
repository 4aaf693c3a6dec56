"""Expires snapshots by Iceberg's own properties, and deletes the files that nothing reaches any more.

First the snapshots leave the table, some at a time and oldest first, each time judged anew where somebody else was first. Only
once a table without them was read again are files looked for, and only those go that no snapshot of it reaches. Whatever ends
it in between leaves orphans, which the removal of orphans finds.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse_assets.model.errors import CommitConflictError, TableReplacedError
from lakehouse_assets.model.maintenance import KeptBack, MaintenanceReport, PlannedWork
from lakehouse_assets.model.retention import Retention
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.systems.catalog import catalog_errors, require_table
from lakehouse_assets.systems.expiry import is_collected, judge_retention, remove_snapshots
from lakehouse_assets.systems.old_metadata import list_old_metadata
from lakehouse_assets.systems.reachability import Reachable, notes_of, reached_only_by
from lakehouse_assets.systems.storage import delete_files

EXPIRE: Final = "expire"
_ATTEMPTS: Final = 10  # in a row that others may win
_MOST, _LEAST = 10_000, 50  # snapshots of one commit: writing it must be quicker than others commit
_FILES_AT_ONCE: Final = 10_000  # between two looks at whether to stop
_READINGS: Final = 3
_LONGEST_WAIT_SECONDS: Final = 1.0
_TITLES: Final = ("what", "name", "committed_at", "operation")


def run_expire(task: MaintenanceTask) -> MaintenanceReport:
    """Expire what may go now, and delete what only that reached.

    Raises:
        TableMissingError, TableReplacedError: there is no such table, or another one since.
        ConfigurationError: a property of the table is no number.
        CommitConflictError: others committed first each time; nothing was expired.
        CommitOutcomeUnknownError, RefLostError: some may have been expired; no file was deleted.
        LakehouseError: of the tree.
    """
    began = time.monotonic()
    run = _Expiry(task, require_table(task.catalog, task.table), task.now_ms())
    if not is_collected(run.table):
        run.kept_back.append(KeptBack("everything", "the table says gc.enabled=false: its files may be used by others"))
        return run.report(PlannedWork(_TITLES, ()), {}, began)
    retention = judge_retention(run.table, run.now_ms)
    if retention.held:
        carried = ", ".join(sorted(frozenset[str]().union(*retention.held.values())))
        reason = f"they lead from what stays, the head, a branch or a tag, to {carried}; our next commit there frees them"
        run.kept_back.append(KeptBack(f"{len(retention.held):,} snapshots", reason))
    if task.is_dry_run:
        return run.report(run.describe(retention, run.foresee(retention)), {}, began)
    planned = run.describe(retention, None)
    before = len(run.table.metadata.snapshots)
    run.remove(retention)
    figures = {"snapshots_before": before, "snapshots_after": len(run.table.metadata.snapshots)}
    return run.report(planned, figures | run.delete(), began)


@dataclass(slots=True)
class _Expiry:
    """One run. `table` is the newest state that was read; `gone` were taken out of it, `notes` are files that speak of them."""

    task: MaintenanceTask
    table: Table
    now_ms: int
    gone: list[Snapshot] = field(default_factory=list)
    gone_refs: int = 0
    notes: set[str] = field(default_factory=set)
    kept_back: list[KeptBack] = field(default_factory=list)

    def remove(self, retention: Retention) -> None:
        """Take out what may go, as long as there is any and nobody stops it."""
        most, lost = _MOST, 0
        while (retention.expired or retention.expired_refs) and not self.task.stop():
            ids = frozenset(retention.expired[:most])
            after = remove_snapshots(self.task.catalog, self.table, ids, retention.expired_refs)
            if after is not None:
                self._note(ids, retention.expired_refs)
                self.table, lost = after, 0
                self.task.on_progress(f"expired {len(self.gone):,} snapshots, {len(retention.expired) - len(ids):,} to go")
            else:
                most, lost = max(_LEAST, most // 2), lost + 1
                if lost == _ATTEMPTS:
                    reason = f"other commits were first in {_ATTEMPTS} attempts to expire snapshots"
                    if not self.gone:
                        raise CommitConflictError(self.task.table, reason)
                    self.kept_back.append(KeptBack(f"{len(retention.expired):,} snapshots", reason))
                    return
                time.sleep(random.uniform(0, min(_LONGEST_WAIT_SECONDS, 0.05 * 2**lost)))  # noqa: S311 - jitter
                self._read_again()
            retention = judge_retention(self.table, self.now_ms)

    def delete(self) -> dict[str, int]:
        """Delete what nothing reaches any more; how many files of each kind."""
        with catalog_errors(self.task.catalog.name, f"find what expired snapshots of {self.task.table} left"):
            left, old = self._find_left(), list_old_metadata(self.table)
        kinds = {
            "files_deleted": left.data,
            "delete_files_deleted": left.deletes,
            "manifests_deleted": left.manifests | left.lists,
            "metadata_files_deleted": {*left.others, *old},
        }
        figures = {"snapshots_deleted": len(self.gone), "refs_deleted": self.gone_refs}
        for kind, locations in kinds.items():
            kept = self._delete(sorted(locations))
            figures[kind] = len(locations) - len(kept)
            if kept:
                reason = f"could not be deleted, as {kept[0]}; the removal of orphans tries again"
                self.kept_back.append(KeptBack(f"{len(kept):,} files", reason))
        return figures

    def foresee(self, retention: Retention) -> Reachable:
        """The files that would go."""
        expired = frozenset(retention.expired)
        metadata = self.table.metadata
        gone = [one for one in metadata.snapshots if one.snapshot_id in expired]
        left = metadata.model_copy(update={"snapshots": [one for one in metadata.snapshots if one.snapshot_id not in expired]})
        with catalog_errors(self.task.catalog.name, f"find what snapshots of {self.task.table} reach"):
            return reached_only_by(gone, notes_of(metadata, gone), left, self.table.io)

    def describe(self, retention: Retention, files: Reachable | None) -> PlannedWork:
        """What would go, in a row each."""
        by_id = {one.snapshot_id: one for one in self.table.metadata.snapshots}
        rows = [("ref", name, "", "") for name in retention.expired_refs]
        for snapshot in (by_id[snapshot_id] for snapshot_id in retention.expired):
            operation = snapshot.summary.operation.value if snapshot.summary is not None else ""
            rows.append(("snapshot", str(snapshot.snapshot_id), _to_text(snapshot.timestamp_ms), operation))
        figures = {"snapshots": len(retention.expired), "refs": len(retention.expired_refs)}
        if files is not None:
            figures |= {"files": len(files.data), "delete_files": len(files.deletes)}
            figures |= {"manifests": len(files.manifests | files.lists), "metadata_files": len(files.others)}
        return PlannedWork(_TITLES, rows, figures)

    def report(self, planned: PlannedWork, figures: dict[str, int], began: float) -> MaintenanceReport:
        """What became of it."""
        return self.task.report(EXPIRE, planned, figures, tuple(self.kept_back), began=began)

    def _note(self, ids: frozenset[int], refs: Sequence[str]) -> None:
        """Remember what was taken out of the state that is about to be forgotten."""
        gone = [one for one in self.table.metadata.snapshots if one.snapshot_id in ids]
        self.notes |= notes_of(self.table.metadata, gone)
        self.gone += gone
        self.gone_refs += len(refs)

    def _read_again(self) -> None:
        uuid, self.table = self.table.metadata.table_uuid, require_table(self.task.catalog, self.task.table)
        if self.table.metadata.table_uuid != uuid:
            raise TableReplacedError(self.task.table, str(uuid), str(self.table.metadata.table_uuid))

    def _find_left(self) -> Reachable:
        """What only the expired snapshots reach. Others who expire meanwhile delete under it; then the table is read again."""
        if not self.gone:
            return Reachable()
        for _ in range(_READINGS - 1):
            try:
                return reached_only_by(self.gone, self.notes, self.table.metadata, self.table.io)
            except FileNotFoundError:
                self._read_again()
        return reached_only_by(self.gone, self.notes, self.table.metadata, self.table.io)

    def _delete(self, locations: Sequence[str]) -> list[str]:
        kept: list[str] = []
        for first in range(0, len(locations), _FILES_AT_ONCE):
            some = locations[first : first + _FILES_AT_ONCE]
            kept += some if self.task.stop() else delete_files(self.table.io, some)
        return kept


def _to_text(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
