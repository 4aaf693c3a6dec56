"""Looks after many tables: which of them owe something, what is done for each, in which order, and what is left alone.

One table's failure does not keep the others from being looked after. What is left alone is said, with its reason.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pyiceberg.catalog import Catalog

from lakehouse_assets.model.debt import Debt
from lakehouse_assets.model.errors import LakehouseError, TableMissingError
from lakehouse_assets.model.maintenance import KeptBack, MaintenanceReport, PlannedWork
from lakehouse_assets.model.maintenance_spec import MaintenanceOperation, MaintenanceSpec
from lakehouse_assets.operations.compacting import run_compact
from lakehouse_assets.operations.dropping import purge_overdue
from lakehouse_assets.operations.expiring import run_expire
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.operations.removing_orphans import run_remove_orphans
from lakehouse_assets.operations.rewriting_manifests import run_rewrite_manifests
from lakehouse_assets.systems.catalog import load_table
from lakehouse_assets.systems.measuring import measure_debt

# In which order they help each other, as in `model.debt`.
RUNS: Final[Mapping[MaintenanceOperation, Callable[[MaintenanceTask], MaintenanceReport]]] = {
    "compact": run_compact,
    "rewrite_manifests": run_rewrite_manifests,
    "expire": run_expire,
    "remove_orphans": run_remove_orphans,
}
_IN_WINDOW: Final = {"compact", "rewrite_manifests", "remove_orphans"}  # expiry reads little, and reads no data
_MEASURING_THREADS: Final = 8  # catalogs are asked over the network

OnFailure = Callable[[str, LakehouseError], None]


@dataclass(frozen=True, slots=True)
class TableDebt:
    """What a table of the catalog owes."""

    table: str
    policy: MaintenanceSpec
    debt: Debt

    @property
    def due(self) -> tuple[MaintenanceOperation, ...]:
        """What should be done for it now."""
        return self.debt.due(self.policy)


def measure_debts(
    catalog: Catalog, policies: Mapping[str, MaintenanceSpec], now_ms: int, on_failure: OnFailure
) -> list[TableDebt]:
    """What each of these tables owes, the hottest first. One that is not there yet owes nothing. Read-only."""

    def measure(table: str, policy: MaintenanceSpec) -> TableDebt | LakehouseError | None:
        try:
            loaded = load_table(catalog, table)
            return TableDebt(table, policy, measure_debt(loaded, policy, now_ms)) if loaded is not None else None
        except LakehouseError as error:
            return error

    found: list[TableDebt] = []
    with ThreadPoolExecutor(_MEASURING_THREADS) as threads:
        for table, measured in zip(policies, threads.map(measure, policies.keys(), policies.values()), strict=True):
            if isinstance(measured, LakehouseError):
                on_failure(table, measured)
            elif measured is not None:
                found.append(measured)
    return sorted(found, key=lambda one: one.debt.heat(one.policy), reverse=True)


def find_reason_to_wait(operation: MaintenanceOperation, policy: MaintenanceSpec, now_ms: int) -> str | None:
    """Why the operation is not done for such a table now, if it is not."""
    if operation in policy.leave_out:
        return "the declaration leaves it out"
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    if policy.window is None or operation not in _IN_WINDOW or policy.window.contains(now):
        return None
    return f"its window is {policy.window} UTC, and it is {now:%H:%M}"


def run_maintenance(
    catalog: Catalog,
    policies: Mapping[str, MaintenanceSpec],
    *,
    now_ms: Callable[[], int],
    on_report: Callable[[MaintenanceReport], None],
    on_failure: OnFailure,
    operations: Iterable[MaintenanceOperation] | None = None,
    stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[str], None] = lambda _: None,
    is_dry_run: bool = False,
    is_confirmed: bool = False,
    purges_dropped: bool = False,
) -> list[str]:
    """Do `operations` for each table, or what its debt asks for, the hottest table first. Tables that are not there wait.

    `on_report` hears of everything that ended or was left alone, `on_failure` of each table that failed. With `is_confirmed`
    windows and `leave_out` don't count: a person asks. With `purges_dropped`, tables that were dropped go for good where nobody
    can have them back any more. After `stop()` the others stay as they are; their names are returned.

    Raises:
        CatalogUnavailableError, CatalogAccessError: which tables were dropped can't be listed.
        Exception: a defect, of one table; the others were looked after first.
    """
    named = None if operations is None else frozenset(operations)
    defects: list[Exception] = []
    hottest_first = measure_debts(catalog, policies, now_ms(), on_failure)
    for at, owing in enumerate(hottest_first):
        for operation in owing.due if named is None else [one for one in RUNS if one in named]:
            if stop():
                return [one.table for one in hottest_first[at:]]
            reason = None if is_confirmed else find_reason_to_wait(operation, owing.policy, now_ms())
            if reason is not None:
                on_report(_left_alone(owing.table, operation, reason, is_dry_run=is_dry_run))
                continue
            task = MaintenanceTask(
                catalog, owing.table, owing.policy, now_ms, stop, on_progress, is_dry_run=is_dry_run, is_confirmed=is_confirmed
            )
            try:
                on_report(RUNS[operation](task))
            except TableMissingError:
                break  # dropped meanwhile: nothing of it is left to look after
            except LakehouseError as error:
                on_failure(owing.table, error)
            except Exception as defect:  # noqa: BLE001 - raised again at the end
                on_progress(f"{operation} {owing.table} broke off, the others go on: {type(defect).__name__}: {defect}")
                defects.append(defect)
    if purges_dropped:
        for report in purge_overdue(catalog, now_ms, stop=stop, on_progress=on_progress, is_dry_run=is_dry_run):
            on_report(report)
    if defects:
        raise defects[0]
    return []


def _left_alone(table: str, operation: str, reason: str, *, is_dry_run: bool) -> MaintenanceReport:
    return MaintenanceReport(table, operation, is_dry_run, PlannedWork((), ()), kept_back=(KeptBack(operation, reason),))
