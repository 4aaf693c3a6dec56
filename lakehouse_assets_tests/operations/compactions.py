"""Tables with many small files, and the run that makes few of them."""

from collections.abc import Callable, Mapping
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.update import AddSnapshotUpdate, TableUpdate

from lakehouse_assets.model.ledger import OPERATION_KEY
from lakehouse_assets.model.maintenance import MaintenanceReport
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.operations.compacting import COMPACT, run_compact
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.systems.commit import publish
from lakehouse_assets.systems.snapshots import list_live_files
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import make_delivery, make_spec, make_table

NAME = "ods.clicks"
ROWS_PER_FILE = 10


def make_task(catalog: Catalog, table: str = NAME, policy: Mapping[str, Any] | None = None, **parts: Any) -> MaintenanceTask:
    """One operation on a table; `policy` is what its declaration says under `maintenance`."""
    return MaintenanceTask(catalog, table, MaintenanceSpec(**(policy or {})), **({"now_ms": lambda: 1_000} | parts))


def compact(catalog: Catalog, table: str = NAME, policy: Mapping[str, Any] | None = None, **parts: Any) -> MaintenanceReport:
    """One run."""
    return run_compact(make_task(catalog, table, policy, **parts))


def fill(catalog: Catalog, files: int = 8, first: int = 0, **parts: Any) -> Table:
    """A table of ours, and so many commits with a file each; the columns `id` and `_kafka_offset` count the rows."""
    if not catalog.table_exists(NAME):
        make_table(catalog, make_spec(**parts))
    for number in range(first, first + files):
        table = catalog.load_table(NAME)
        offsets = range(number * ROWS_PER_FILE, (number + 1) * ROWS_PER_FILE)
        publish(catalog, NAME, make_delivery(table, {0: offsets}))
    return catalog.load_table(NAME)


def count_files(table: Table) -> int:
    """Data files that the table reads now."""
    return len(list(list_live_files(table)))


def read_ids(table: Table) -> list[object]:
    """As DuckDB and PyIceberg read them, sorted; duplicates stay."""
    found = [one for (one,) in judge.query(table, "SELECT id FROM {table} ORDER BY ALL")]
    assert sorted(table.scan(selected_fields=("id",)).to_arrow()["id"].to_pylist()) == found
    return found


def during_commit(catalog: Any, *acts: Callable[[], object]) -> None:
    """Let others act just before the catalog takes the next commit of a compaction, once for each attempt."""
    commit = catalog.commit_table
    waiting = list(acts)

    def commit_table(table: Table, requirements: Any, updates: Any) -> Any:
        if waiting and any(_is_compaction(update) for update in updates):
            waiting.pop(0)()
        return commit(table, requirements, updates)

    catalog.commit_table = commit_table


def _is_compaction(update: TableUpdate) -> bool:
    if not isinstance(update, AddSnapshotUpdate) or update.snapshot.summary is None:
        return False
    return update.snapshot.summary.additional_properties.get(OPERATION_KEY) == COMPACT
