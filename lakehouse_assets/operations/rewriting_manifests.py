"""Manifest rewriting: the entries that planning a scan reads, sorted by partition, so that a filter leaves few manifests.

No data file is touched, and no entry changes. What is written stays good while others commit, so that appends are no conflict;
where one of the old manifests has gone meanwhile, it is planned again on what is there.
"""

import time
from collections.abc import Sequence

from pyiceberg.table import Table

from lakehouse_assets.model.errors import CommitConflictError
from lakehouse_assets.model.maintenance import MaintenanceReport, PlannedWork
from lakehouse_assets.model.manifest_plan import ManifestGroup
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.operations.swapping import publish_prepared, undo_unless_landed
from lakehouse_assets.systems.catalog import catalog_errors, require_table
from lakehouse_assets.systems.commit import Delivery
from lakehouse_assets.systems.regrouping import Regrouping, list_manifests, plan_regrouping
from lakehouse_assets.systems.snapshots import Change, manifest_target_bytes
from lakehouse_assets.systems.storage import delete_files

_OPERATION = "rewrite_manifests"


def run_rewrite_manifests(task: MaintenanceTask) -> MaintenanceReport:
    """Write manifests again where that pays. Safe beside everything else, and to repeat.

    Raises:
        TableMissingError: there is no such table.
        CommitConflictError: others changed the same manifests on every attempt, or the table's schema or partition spec.
        LakehouseError: of the tree; then nothing landed, or CommitOutcomeUnknownError.
    """
    began = time.monotonic()
    table = require_table(task.catalog, task.table)
    rewriting = _Rewriting(task, table)
    groups, count = rewriting.plan(table)
    figures = {"manifests_before": count, "manifests_after": count}
    snapshot_ids: list[int] = []
    if groups and not task.is_dry_run and (landed := rewriting.run(table)) is not None:
        snapshot_ids.append(landed)
        figures = rewriting.figures
    planned = _describe(groups, manifest_target_bytes(table))
    return task.report(_OPERATION, planned, figures, snapshot_ids=snapshot_ids, began=began)


class _Rewriting:
    """One run over its attempts; `figures` are those of the attempt that landed."""

    def __init__(self, task: MaintenanceTask, table: Table) -> None:
        self._task = task
        self._staged = Regrouping(table)
        self.figures: dict[str, int] = {}

    def plan(self, head: Table) -> tuple[list[ManifestGroup], int]:
        """What pays, and how many manifests there are."""
        with catalog_errors(self._task.catalog.name, f"read the manifests of {self._task.table}"):
            return plan_regrouping(head), len(list_manifests(head))

    def run(self, table: Table) -> int | None:
        """The snapshot; None where it no longer pays."""
        delivery = Delivery.maintaining(table, _OPERATION, self._swap)
        with undo_unless_landed(lambda: self._undo(table)):
            landed = publish_prepared(self._task.catalog, table, delivery, self._prepare, self._undo)
        return landed.snapshot_id if landed is not None else None

    def _prepare(self, head: Table) -> bool:
        groups, count = self.plan(head)
        if not groups or self._task.stop():
            return False
        self._task.on_progress(f"writing the entries of {sum(len(group.manifests) for group in groups)} manifests, sorted")
        self._staged = Regrouping(head)
        with catalog_errors(self._task.catalog.name, f"write manifests of {self._task.table}"):
            self._staged.stage(groups)
        staged = self._staged
        self.figures = {
            "manifests_before": count,
            "manifests_after": count - len(staged.replaced) + len(staged.staged),
            "entries": staged.entry_count,
        }
        return True

    def _swap(self, head: Table) -> Change:
        if not self._staged.fits(head):
            raise CommitConflictError(self._task.table, "a manifest that is to be replaced has gone")
        return self._staged.change(head)

    def _undo(self, head: Table) -> None:
        # What can't be deleted is an orphan, which costs space and nothing else.
        delete_files(head.io, self._staged.locations)


def _describe(groups: Sequence[ManifestGroup], target_bytes: int) -> PlannedWork:
    rows = [
        (
            group.kind,
            group.spec_id,
            len(group.manifests),
            group.size_bytes,
            group.file_count,
            group.count_after(target_bytes),
            group.reason,
        )
        for group in groups
    ]
    return PlannedWork(
        titles=("content", "partition_spec", "manifests", "size_bytes", "entries", "manifests_after", "reason"),
        rows=rows,
        figures={
            "manifests": sum(len(group.manifests) for group in groups),
            "size_bytes": sum(group.size_bytes for group in groups),
        },
    )
