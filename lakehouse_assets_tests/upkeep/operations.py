"""The operations of maintenance, by the names that tests give them."""

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from pyiceberg.catalog import Catalog

from lakehouse_assets.model.maintenance import MaintenanceReport
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.operations.compacting import run_compact
from lakehouse_assets.operations.expiring import run_expire
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.operations.removing_orphans import run_remove_orphans
from lakehouse_assets.operations.rewriting_manifests import run_rewrite_manifests
from lakehouse_assets.operations.tidying_deletes import tidy_deletes

OPERATIONS: Mapping[str, Callable[[MaintenanceTask], MaintenanceReport]] = {
    "compact": run_compact,
    "tidy_deletes": tidy_deletes,
    "rewrite_manifests": run_rewrite_manifests,
    "expire": run_expire,
    "remove_orphans": run_remove_orphans,
}
# Properties of tables that are to lose snapshots soon, and whose manifests are always too large.
EAGER: Final = {"history.expire.min-snapshots-to-keep": "2", "commit.manifest.target-size-bytes": "1000"}

_POLICY = MaintenanceSpec(small_files=2)
_LATER_MS = int(timedelta(days=1).total_seconds() * 1000)


def maintain(operation: str, catalog: Catalog, table: str, **parts: Any) -> MaintenanceReport:
    """Run an operation on a table as if it were a day later, so that every snapshot is old enough to go."""
    later_ms = lambda: int(time.time() * 1000) + _LATER_MS  # noqa: E731
    task = {"policy": _POLICY, "now_ms": later_ms, "is_confirmed": True} | parts  # crashes leave many orphans
    return OPERATIONS[operation](MaintenanceTask(catalog, table, **task))
