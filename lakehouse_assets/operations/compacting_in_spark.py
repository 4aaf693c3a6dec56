"""Compacts a table in Spark, whose procedures choose and commit by themselves; rows and ledger are compared around it.

A limit by time there is none: Spark ends when it has done `max_bytes_per_run`, which it is told as a number of files.
"""

import time
from collections.abc import Iterator, Mapping

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot

from lakehouse_assets.model.compaction_plan import DEAD_SHARE, MANY_DELETE_FILES, SMALL_SHARE
from lakehouse_assets.model.errors import LedgerMissingError, SparkError
from lakehouse_assets.model.ledger import OPERATION_KEY, Ledger
from lakehouse_assets.model.maintenance import KeptBack, MaintenanceReport, PlannedWork
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.systems.catalog import require_table
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets.systems.parquet import WriteSettings
from lakehouse_assets.systems.snapshots import ancestors, read_totals, table_name
from lakehouse_assets.systems.spark_session import Session, SparkConflictError, SparkTable, sort_words

_COMMITS = 10  # groups land in so many, so that a conflict loses one of them


def run_compact_in_spark(task: MaintenanceTask, session: Session) -> MaintenanceReport:
    """Write small files and files of deleted rows again, by `rewrite_data_files` and `rewrite_position_delete_files`.

    Raises:
        ConfigurationError: the session does not reach this table.
        SparkError: Spark failed, or rows or ledger are not what they were.
        TableMissingError, TableError, CatalogUnavailableError
    """
    began = time.monotonic()
    table = require_table(task.catalog, task.table)
    before = _Standing(table)
    spark = SparkTable(session, table)
    planned = _plan(before)
    if task.is_dry_run or not planned:
        return task.report("compact", planned, began=began)
    kept_back = [*_rewrite_data(task, before, spark), *_rewrite_deletes(task, before, spark)]
    after = _Standing(require_table(task.catalog, task.table))
    snapshots = list(_snapshots_of_spark(before, after))
    for snapshot in snapshots:
        _require_same_rows(after.table, spark, snapshot)
    if not before.ledger_is_in(after):
        remedy = f"Roll back to snapshot {before.snapshot_id}, and report it with this message"
        raise SparkError(task.table, "the ledger lacks offsets that it held before", remedy)
    figures = {f"{what}_before": value for what, value in before.figures.items()}
    figures |= {f"{what}_after": value for what, value in after.figures.items()}
    return task.report("compact", planned, figures, kept_back, [s.snapshot_id for s in reversed(snapshots)], began=began)


class _Standing:
    """A table at a moment, by its metadata."""

    def __init__(self, table: Table) -> None:
        self.table = table
        snapshot = table.metadata.current_snapshot()
        self.snapshot_id = snapshot.snapshot_id if snapshot is not None else None
        words = snapshot.summary.additional_properties if snapshot is not None and snapshot.summary is not None else {}
        names = {"files": "data-files", "size_bytes": "files-size", "delete_files": "delete-files"}
        self.figures = {ours: int(words.get(f"total-{theirs}", "0")) for ours, theirs in names.items()}
        self._ledger = _read_ledger(table)

    def ledger_is_in(self, later: "_Standing") -> bool:
        """Whether a later one holds every offset of this one; runs beside may have added some."""
        mine, theirs = self._ledger, later._ledger
        return mine is None or (theirs is not None and not mine.held - theirs.held)


def _read_ledger(table: Table) -> Ledger | None:
    try:
        return read_ledger(table)
    except LedgerMissingError:
        return None  # somebody else's table


def _plan(before: _Standing) -> PlannedWork:
    files, size, deletes = before.figures["files"], before.figures["size_bytes"], before.figures["delete_files"]
    steps = [("rewrite_data_files", files, size)] if files else []
    steps += [("rewrite_position_delete_files", deletes, 0)] if deletes else []
    return PlannedWork(("procedure", "files_of_the_table", "size_bytes"), steps)


def _rewrite_data(task: MaintenanceTask, before: _Standing, spark: SparkTable) -> Iterator[KeptBack]:
    policy, target = task.policy, WriteSettings.of(before.table.properties, 0).target_file_bytes
    average = max(before.figures["size_bytes"] // max(before.figures["files"], 1), 1)
    options = {
        "target-file-size-bytes": target,
        "min-file-size-bytes": int(SMALL_SHARE * target),
        "min-input-files": policy.small_files,
        "max-files-to-rewrite": max(policy.max_bytes_per_run // average, policy.small_files),
        "delete-file-threshold": MANY_DELETE_FILES,
        "delete-ratio-threshold": DEAD_SHARE,
        "remove-dangling-deletes": "true",
        "partial-progress.enabled": "true",
        "partial-progress.max-commits": _COMMITS,
        "partial-progress.max-failed-commits": 0,  # what landed stays; without it nobody would hear of what did not
        "use-starting-sequence-number": "true",
    }
    arguments = {"strategy": "sort", "sort_order": sort_words(policy.sort_by, policy.sort_order)} if policy.sort_by else {}
    task.on_progress(f"Spark rewrites data files of {task.table}")
    yield from _call(spark, "rewrite_data_files", options, arguments)


def _rewrite_deletes(task: MaintenanceTask, before: _Standing, spark: SparkTable) -> Iterator[KeptBack]:
    if before.figures["delete_files"] and not task.stop():
        task.on_progress(f"Spark rewrites delete files of {task.table}")
        yield from _call(spark, "rewrite_position_delete_files", {"rewrite-all": "false"})


def _call(
    spark: SparkTable, procedure: str, options: Mapping[str, object], arguments: Mapping[str, str] | None = None
) -> Iterator[KeptBack]:
    try:
        answer = spark.call(procedure, options, arguments)
    except SparkConflictError as error:
        yield KeptBack(procedure, f"others changed these files meanwhile ({error}); the next run tries again")
        return
    if failed := answer.get("failed_data_files_count", 0):
        yield KeptBack(f"{failed} files", "Spark could not write them again; its log says why")


def _snapshots_of_spark(before: _Standing, after: _Standing) -> Iterator[Snapshot]:
    """What was committed since and is none of ours, but says that it keeps all rows: newest first."""
    for snapshot in ancestors(after.table, after.table.metadata.current_snapshot()):
        if snapshot.snapshot_id == before.snapshot_id:
            return
        summary = snapshot.summary
        if summary is None or summary.operation != Operation.REPLACE:
            continue
        if OPERATION_KEY not in summary.additional_properties:
            yield snapshot


def _require_same_rows(table: Table, spark: SparkTable, snapshot: Snapshot) -> None:
    """By the summaries where there are no deletes on either side; else Spark counts, because totals count dangling deletes."""
    parent = table.metadata.snapshot_by_id(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id is not None else None
    if parent is None:
        return  # expired meanwhile
    totals = [read_totals(one) for one in (parent, snapshot)]
    if not any(total.delete_files for total in totals):
        rows = [total.live_rows for total in totals]
    else:
        rows = [spark.count_rows(one.snapshot_id) for one in (parent, snapshot)]
    if rows[0] != rows[1]:
        reason = f"its snapshot {snapshot.snapshot_id} has {rows[1]:,} rows, the one before it {rows[0]:,}"
        remedy = f"Roll back to snapshot {parent.snapshot_id} before more is written, and set maintenance.engine: python"
        raise SparkError(table_name(table), reason, remedy)
