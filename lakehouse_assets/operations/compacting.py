"""Writes the small files of a table again as fewer large ones, without the rows that were deleted.

A run plans for one snapshot, writes group by group, oldest first, and commits some groups at a time, so that little is lost if
it ends early. Ingestion is never in its way, nor it in ingestion's: see `systems.rewriting`.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pyiceberg.table import Table
from pyiceberg.transforms import UnknownTransform

from lakehouse_assets.model.compaction_plan import CompactionPlan, FileDebt, FileGroup, plan_compaction
from lakehouse_assets.model.errors import CommitConflictError, CommitOutcomeUnknownError, LakehouseError
from lakehouse_assets.model.maintenance import KeptBack, MaintenanceReport, PlannedWork
from lakehouse_assets.operations.compacting_in_spark import run_compact_in_spark
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.operations.tidying_deletes import tidy_deletes
from lakehouse_assets.systems.catalog import catalog_errors, require_table
from lakehouse_assets.systems.commit import Delivery, Landed, publish
from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets.systems.live_files import LiveFile, list_live
from lakehouse_assets.systems.parquet import WriteSettings
from lakehouse_assets.systems.partitioning import name_partition
from lakehouse_assets.systems.position_deletes import is_of_one_file
from lakehouse_assets.systems.rewriting import Rewriting, StagedGroup, StopRewritingError
from lakehouse_assets.systems.schema import FORMAT_VERSION
from lakehouse_assets.systems.snapshots import table_name
from lakehouse_assets.systems.spark_session import find_session

COMPACT: Final = "compact"
_COMMITS = 10  # of a run
_COMMIT_BYTES = 256 * 1024 * 1024  # at least, of files replaced; less is not worth a snapshot
_PLANS = 3  # of a run: others may make all that was written useless
_BUFFER_BYTES = 64 * 1024 * 1024
_CACHE_BYTES = 16 * 1024 * 1024


def run_compact(task: MaintenanceTask) -> MaintenanceReport:
    """Bring delete files into order, then write data files again where it is worth it.

    Raises:
        TableMissingError: there is no such table.
        ConfigurationError, SparkError: the policy hands it to Spark, which does not reach it, or failed.
        RowsDifferError: what was written is not what was read; nothing of that commit landed.
        LakehouseError: of the tree; what was committed before stays.
    """
    if task.policy.engine == "spark":
        return run_compact_in_spark(task, find_session())
    began = time.monotonic()
    if hindrance := _find_hindrance(require_table(task.catalog, task.table)):
        return task.report(COMPACT, CompactionPlan(()).work, kept_back=[KeptBack("the table", hindrance)], began=began)
    tidied = tidy_deletes(task)
    run = _Compaction(task, began, list(tidied.kept_back), list(tidied.snapshot_ids))
    table = require_table(task.catalog, task.table)
    plan = run.plan(table)
    if not task.is_dry_run:
        run.carry_out(table, plan)
    return run.report(_join(tidied.planned, plan.work), {} if task.is_dry_run else tidied.figures)


@dataclass(slots=True)
class _Compaction:
    """One run. `_landed` are the groups that it replaced."""

    task: MaintenanceTask
    began: float
    kept_back: list[KeptBack]
    snapshot_ids: list[int]
    _landed: list[StagedGroup] = field(default_factory=list)
    _files: dict[str, LiveFile] = field(default_factory=dict)
    _cache: FileCache = field(default_factory=lambda: FileCache(_CACHE_BYTES))

    def plan(self, table: Table) -> CompactionPlan:
        """What is worth it in the table as it is now, as much as the run may still do."""
        with catalog_errors(table.catalog.name, f"read the manifests of {self.task.table}"):
            live = list_live(table, table.metadata.current_snapshot())
        # Equality deletes reach only what is older than they are. Those that are here by now came while others were turned
        # into position deletes; a dry run turned none.
        self._files = {file.path: file for file in live.data if self.task.is_dry_run or not file.has_equality_deletes}
        policy = self.task.policy
        partitions = {file.place: file for file in self._files.values()}
        names = {place: name_partition(table, file.data) for place, file in partitions.items()}
        return plan_compaction(
            (_owed(file, names[file.place]) for file in self._files.values()),
            target_bytes=WriteSettings.of(table.properties, _BUFFER_BYTES).target_file_bytes,
            small_files=policy.small_files,
            max_bytes=policy.max_bytes_per_run - _size_bytes(self._landed),
        )

    def carry_out(self, table: Table, plan: CompactionPlan) -> None:
        """Do it; what others made useless is planned again."""
        sort_by = _find_sort_columns(table, self.task.policy.sort_by)
        for name in self.task.policy.sort_by:
            if name not in sort_by:
                self.kept_back.append(KeptBack(f"sorting by {name}", "the table has no such column whose values have an order"))
        for attempt in range(1, _PLANS + 1):
            try:
                self._carry_out(table, plan)
                break
            except CommitConflictError as conflict:
                if attempt == _PLANS:
                    self.kept_back.append(KeptBack("the rest", str(conflict)))
                    break
                self.task.on_progress(f"planned again: {conflict}")
                table = require_table(self.task.catalog, self.task.table)
                plan = self.plan(table)
        if plan.postponed:
            reason = f"a run rewrites at most {self.task.policy.max_bytes_per_run:,} bytes; the next one goes on"
            self.kept_back.append(KeptBack(f"{len(plan.postponed)} groups", reason))

    def report(self, planned: PlannedWork, figures: Mapping[str, int | float]) -> MaintenanceReport:
        """What became of it; `figures` are those of the delete files."""
        groups = self._landed
        sources = [file for group in groups for file in group.sources]
        outputs = [file for group in groups for file in group.files]
        rewritten = {
            "files_before": len(sources),
            "files_after": len(outputs),
            "size_bytes_before": _size_bytes(groups),
            "size_bytes_after": sum(file.file_size_in_bytes for file in outputs),
            "delete_files_deleted": len({d.file_path for file in sources for d in file.deletes if is_of_one_file(d)}),
            "rows": sum(group.checksum.rows for group in groups),
        }
        done = {} if self.task.is_dry_run else {**rewritten, **figures}
        return self.task.report(COMPACT, planned, done, tuple(self.kept_back), tuple(self.snapshot_ids), began=self.began)

    def _carry_out(self, table: Table, plan: CompactionPlan) -> None:
        share = max(plan.size_bytes / _COMMITS, _COMMIT_BYTES)
        waiting = list(plan.groups)
        while waiting:
            batch = _Batch(self.task, table, self._cache)
            with batch:
                while waiting and batch.size_bytes < share and not self._find_end():
                    number = len(plan.groups) - len(waiting) + 1
                    self.task.on_progress(f"{self.task.table}: group {number} of {len(plan.groups)}, {waiting[0]}")
                    if not batch.stage(waiting[0], [self._files[file.path] for file in waiting[0].files]):
                        break
                    waiting.pop(0)
                landed = batch.publish() if batch.rewriting.groups else None
            if landed is not None:
                self._note(batch, landed, plan, len(waiting))
            if waiting and (ending := self._find_end()):
                self.kept_back.append(KeptBack(f"{len(waiting)} groups", ending))
                return

    def _find_end(self) -> str:
        """Why the run is to end now; nothing while it may go on."""
        if self.task.stop():
            return "the run was stopped"
        limit = self.task.policy.max_time_per_run
        if time.monotonic() - self.began >= limit.total_seconds():
            return f"a run rewrites for at most {limit}; the next one goes on"
        return ""

    def _note(self, batch: "_Batch", landed: Landed, plan: CompactionPlan, left: int) -> None:
        self.snapshot_ids.append(landed.snapshot_id)
        self._landed += batch.rewriting.replaced
        for number, reason in batch.rewriting.given_up.items():
            self.kept_back.append(KeptBack(str(batch.planned[number]), f"{reason}; the next run plans it again"))
        done = len(plan.groups) - left
        self.task.on_progress(
            f"{self.task.table}: {done} of {len(plan.groups)} groups written again, {_size_bytes(self._landed):,} bytes"
        )


@dataclass(slots=True)
class _Batch:
    """The groups of one commit. A context manager: leaving deletes what no snapshot names, unless nobody knows that.

    Whoever is interrupted while it is published does not know it.
    """

    task: MaintenanceTask
    table: Table
    cache: FileCache
    planned: list[FileGroup] = field(default_factory=list)
    rewriting: Rewriting = field(init=False)
    _named: frozenset[str] = frozenset()
    _is_certain: bool = True

    def __post_init__(self) -> None:
        self.rewriting = Rewriting(
            self.table,
            buffer_bytes=_BUFFER_BYTES,
            cache=self.cache,
            stop=self.task.stop,
            sort_by=_find_sort_columns(self.table, self.task.policy.sort_by),
            along_curve=self.task.policy.sort_order == "zorder",
        )

    def __enter__(self) -> "_Batch":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._is_certain:
            self.rewriting.clean(self._named)

    @property
    def size_bytes(self) -> int:
        return sum(group.size_bytes for group in self.planned)

    def stage(self, group: FileGroup, files: Sequence[LiveFile]) -> bool:
        """Whether it was written; not, where somebody asked to stop."""
        try:
            self.rewriting.stage(files)
        except StopRewritingError:
            return False
        self.planned.append(group)
        return True

    def publish(self) -> Landed:
        delivery = Delivery.maintaining(self.table, COMPACT, self.rewriting.swap)
        self._is_certain = False
        try:
            landed = publish(self.task.catalog, table_name(self.table), delivery)
            self._named, self._is_certain = landed.added_paths, True
        except LakehouseError as error:
            self._is_certain = not isinstance(error, CommitOutcomeUnknownError)
            raise
        return landed


def _find_hindrance(table: Table) -> str:
    """Why files of a table, which may be somebody else's, can't be written here; nothing where they can."""
    metadata = table.metadata
    if metadata.format_version != FORMAT_VERSION:
        return f"it is of format version {metadata.format_version}, and only {FORMAT_VERSION} is written"
    columns = {column.field_id for column in table.schema().fields}
    for one in table.spec().fields:
        if one.source_id not in columns or isinstance(one.transform, UnknownTransform):
            return f"its rows can't be divided by the partition field {one.name}, {one.transform} of field {one.source_id}"
    return ""


def _find_sort_columns(table: Table, names: Sequence[str]) -> list[str]:
    """Those of the columns that the table has and that can be sorted."""
    sortable = {column.name for column in table.schema().fields if column.field_type.is_primitive}
    return [name for name in names if name in sortable]


def _join(tidying: PlannedWork, rewriting: PlannedWork) -> PlannedWork:
    """Both as one table. The steps of tidying are of the table, not of a partition."""
    steps = [(step, "all", files, size_bytes, deletes, 0) for step, deletes, files, size_bytes in tidying.rows]
    return PlannedWork(rewriting.titles, [*steps, *rewriting.rows], rewriting.figures)


def _owed(file: LiveFile, partition: str) -> FileDebt:
    own = [deletes for deletes in file.deletes if is_of_one_file(deletes)]
    return FileDebt(
        file.path,
        file.place,
        file.data.record_count,
        file.data.file_size_in_bytes,
        file.sequence_number,
        sum(deletes.record_count for deletes in own),
        len(own),
        partition,
    )


def _size_bytes(groups: Sequence[StagedGroup]) -> int:
    return sum(file.data.file_size_in_bytes for group in groups for file in group.sources)
