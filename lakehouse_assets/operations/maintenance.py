"""What an operation of maintenance is given. One signature for all: `run_<operation>(task) -> MaintenanceReport`."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pyiceberg.catalog import Catalog

from lakehouse_assets.model.maintenance import KeptBack, MaintenanceReport, PlannedWork
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec


@dataclass(frozen=True, slots=True)
class MaintenanceTask:
    """One operation on one table.

    Attributes:
        catalog: Where the table is.
        table: namespace.name; it may be a table that no declaration has.
        policy: How it is looked after.
        now_ms: The time, ms since 1970.
        stop: Asked between steps; what is done by then stays done.
        on_progress: Hears a sentence now and then while it takes long.
        is_dry_run: Only plan; change nothing.
        is_confirmed: A person said that it is meant, where a guard would stop it.
    """

    catalog: Catalog
    table: str
    policy: MaintenanceSpec
    now_ms: Callable[[], int]
    stop: Callable[[], bool] = lambda: False
    on_progress: Callable[[str], None] = lambda _: None
    is_dry_run: bool = False
    is_confirmed: bool = False

    def report(
        self,
        operation: str,
        planned: PlannedWork,
        figures: Mapping[str, int | float] | None = None,
        kept_back: Sequence[KeptBack] = (),
        snapshot_ids: Sequence[int] = (),
        *,
        began: float,
    ) -> MaintenanceReport:
        """What became of it; `began` is when, by the monotonic clock."""
        return MaintenanceReport(
            table=self.table,
            operation=operation,
            is_dry_run=self.is_dry_run,
            planned=planned,
            figures=figures or {},
            kept_back=kept_back,
            snapshot_ids=snapshot_ids,
            seconds=time.monotonic() - began,
        )
