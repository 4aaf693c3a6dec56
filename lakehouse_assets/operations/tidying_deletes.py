"""Brings the delete files of a table into the form that all engines read, and read fast: one for each data file, for it alone.

Rows stay what they are, in snapshots of the kind that says so. Large tables are done in parts, each a snapshot of its own, so
that whoever stops it keeps what was done; whatever others commit meanwhile, the next part fits it or is planned again.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from pyiceberg.table import Table

from lakehouse_assets.model.delete_plan import DeletedFrom, DeleteKind, DeletePlan, DeleteState, plan_deletes
from lakehouse_assets.model.errors import CommitConflictError
from lakehouse_assets.model.maintenance import KeptBack, MaintenanceReport
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.operations.swapping import undo_unless_landed
from lakehouse_assets.systems.catalog import catalog_errors, require_table
from lakehouse_assets.systems.commit import Delivery, publish
from lakehouse_assets.systems.delete_rewriting import DeleteRewrite
from lakehouse_assets.systems.live_files import DeleteFile, LiveFile, LiveFiles, list_live
from lakehouse_assets.systems.position_deletes import is_of_one_file

OPERATION: Final = "rewrite_deletes"

_ROUNDS: Final = 3  # of planning again what others changed meanwhile
_PART_FILES, _PART_ROWS = 10_000, 8 * 1024 * 1024  # of the data files of a snapshot; of a row, a position is held


def tidy_deletes(task: MaintenanceTask) -> MaintenanceReport:
    """Give each data file one file of position deletes at most, and the table no other delete files.

    Raises:
        TableMissingError: there is no such table.
        StorageError: files could not be read or written, or can't be read here.
        LakehouseError: of the catalog and of commits; what was published by then stays.
    """
    return _Tidying(task).run()


@dataclass(slots=True)
class _Tidying:
    """One run over one table."""

    task: MaintenanceTask
    began: float = field(default_factory=time.monotonic)
    snapshot_ids: list[int] = field(default_factory=list)
    kept_back: list[KeptBack] = field(default_factory=list)

    def run(self) -> MaintenanceReport:
        table, live = self._read()
        plan = _plan(live)
        figures = _count(live, "before")
        if plan and not self.task.is_dry_run:
            self._carry_out(table, live, plan)
            figures |= _count(self._read()[1], "after")
        return self.task.report(OPERATION, plan.as_work(), figures, self.kept_back, self.snapshot_ids, began=self.began)

    def _read(self) -> tuple[Table, LiveFiles]:
        table = require_table(self.task.catalog, self.task.table)
        with catalog_errors(table.catalog.name, f"read the files of {self.task.table}"):
            return table, list_live(table, table.metadata.current_snapshot())

    def _carry_out(self, table: Table, live: LiveFiles, plan: DeletePlan) -> None:
        left_over: Sequence[str] = ()
        for _ in range(_ROUNDS):
            rewrite = DeleteRewrite(table, live)
            for number, part in enumerate(_split([file for file in live.data if file.path in plan.touched])):
                if reason := self._reason_to_stop():
                    self.kept_back.append(KeptBack(f"deletes of {len(plan.touched)} data files", reason))
                    return
                self.task.on_progress(f"{self.task.table}: deletes of {len(part)} data files, part {number + 1}")
                self._publish(table, rewrite, part)
            left_over = rewrite.left_over
            table, live = self._read()
            plan = _plan(live)
            if not left_over or not plan:
                return
        what = f"{len(left_over)} data and delete files, {left_over[0]} among them"
        self.kept_back.append(KeptBack(what, "others changed them meanwhile, each time; the next run tries again"))

    def _publish(self, table: Table, rewrite: DeleteRewrite, part: Sequence[LiveFile]) -> None:
        """One part in one snapshot; none where there is nothing to change."""
        rewrite.stage(part)
        named: frozenset[str] = frozenset()
        try:
            with undo_unless_landed(rewrite.give_up):
                change = rewrite.swap(require_table(self.task.catalog, self.task.table))
                if change.added or change.removed_paths:
                    landed = publish(self.task.catalog, self.task.table, Delivery.maintaining(table, OPERATION, rewrite.swap))
                    self.snapshot_ids.append(landed.snapshot_id)
                    named = landed.added_paths
        except CommitConflictError:
            return
        rewrite.settle(named)

    def _reason_to_stop(self) -> str | None:
        if self.task.stop():
            return "it was stopped"
        limit = self.task.policy.max_time_per_run
        if time.monotonic() - self.began > limit.total_seconds():
            return f"the run took longer than max_time_per_run ({limit}); the next run goes on"
        return None


def _plan(live: LiveFiles) -> DeletePlan:
    files = [
        DeletedFrom(file.path, tuple(str(deletes.file_path) for deletes in file.deletes), file.has_equality_deletes)
        for file in live.data
        if file.deletes or file.has_equality_deletes
    ]
    return plan_deletes([DeleteState(one.path, _kind(one), one.file.file_size_in_bytes) for one in live.deletes], files)


def _kind(deletes: DeleteFile) -> DeleteKind:
    if not deletes.applies_to:
        return DeleteKind.DANGLING
    if deletes.is_equality:
        return DeleteKind.EQUALITY
    return DeleteKind.OWN if is_of_one_file(deletes.file) else DeleteKind.SHARED


def _split(files: Sequence[LiveFile]) -> Iterator[list[LiveFile]]:
    """Parts that a snapshot takes; one of no data file where nothing but delete files go. Partitions stay together."""
    part: list[LiveFile] = []
    rows = 0
    for file in sorted(files, key=lambda file: str(file.place)):
        if part and (len(part) >= _PART_FILES or rows + file.data.record_count > _PART_ROWS):
            yield part
            part, rows = [], 0
        part.append(file)
        rows += file.data.record_count
    yield part


def _count(live: LiveFiles, when: str) -> dict[str, int | float]:
    return {
        f"delete_files_{when}": len(live.deletes),
        f"equality_delete_files_{when}": sum(one.is_equality for one in live.deletes),
        f"delete_bytes_{when}": sum(one.file.file_size_in_bytes for one in live.deletes),
    }
