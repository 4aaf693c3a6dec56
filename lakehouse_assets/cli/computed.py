"""Tables that are computed by SQL, in the words that `lakehouse status` and `lakehouse plan` print."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse_assets.cli.printing import duration, iso

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

    from lakehouse_assets.model.slices import TimeSlice
    from lakehouse_assets.model.sql_table_spec import SqlTableSpec

TITLES = ["computed table", "from", "complete up to", "last commit", "rows", "debt"]
NUMBERS = {4}


@dataclass(frozen=True, slots=True)
class ComputedStanding:
    """A computed table at a moment; all but its inputs is None before it is computed for the first time."""

    table: str
    inputs: Sequence[str]
    watermark_ms: int | None = None
    committed_ms: int | None = None
    rows: int | None = None
    due: Sequence[str] = ()

    def overview(self, now_ms: int) -> list[str]:
        """A line of the overview."""
        age = "never" if self.committed_ms is None else f"{duration(max(0.0, (now_ms - self.committed_ms) / 1000))} ago"
        return [
            self.table,
            ", ".join(self.inputs),
            iso(self.watermark_ms) if self.watermark_ms is not None else "",
            age,
            f"{self.rows:,}" if self.rows is not None else "",
            ", ".join(self.due) or ("none" if self.rows is not None else ""),
        ]

    def document(self) -> dict[str, Any]:
        """Everything, for scripts."""
        return {
            "table": self.table,
            "inputs": list(self.inputs),
            "complete_until": iso(self.watermark_ms) if self.watermark_ms is not None else None,
            "committed_at": iso(self.committed_ms) if self.committed_ms is not None else None,
            "rows": self.rows,
            "due": list(self.due),
        }


def look_at(catalog: "Catalog", spec: "SqlTableSpec", now_ms: int) -> ComputedStanding:
    """Where it stands now.

    Raises:
        CatalogUnavailableError, CatalogAccessError, StorageError
    """
    from lakehouse_assets.statements import parse_statement
    from lakehouse_assets.systems.catalog import load_table
    from lakehouse_assets.systems.measuring import measure_debt
    from lakehouse_assets.systems.snapshots import read_totals
    from lakehouse_assets.systems.table_times import read_watermark

    inputs, table = list(parse_statement(spec.sql).tables), load_table(catalog, spec.table)
    if table is None:
        return ComputedStanding(spec.table, inputs)
    head, debt = table.metadata.current_snapshot(), measure_debt(table, spec.maintenance, now_ms)
    return ComputedStanding(
        spec.table,
        inputs,
        read_watermark(table),
        head.timestamp_ms if head is not None else None,
        read_totals(head).live_rows,
        list(debt.due(spec.maintenance)),
    )


def plan_run(catalog: "Catalog", spec: "SqlTableSpec", within: "TimeSlice | None") -> dict[str, Any]:
    """What computing a slice, or the whole table, would read and replace now. Read-only.

    Raises:
        UnknownTableError: an input is not there.
        LakehouseError: of the tree.
    """
    from lakehouse_assets.operations.deriving_slices import pin_inputs
    from lakehouse_assets.systems.catalog import load_table

    reads = [
        {
            "table": one.whole.state.table,
            "snapshot_id": str(one.whole.state.snapshot_id),
            "slice": one.is_sliced,
            "complete": (one.whole.complete_until_ms or 0) >= within.stop_ms if one.is_sliced and within is not None else None,
        }
        for one in pin_inputs(catalog, spec).values()
    ]
    return {
        "table": spec.table,
        "creates_table": load_table(catalog, spec.table) is None,
        "slice": str(within) if within is not None else None,
        "reads": reads,
    }


def print_plan(plan: dict[str, Any]) -> None:
    """It, for people."""
    if plan["creates_table"]:
        print(f"would create {plan['table']}")
    is_sliced = any(read["slice"] for read in plan["reads"])
    print(f"would replace {plan['slice'] or ('each hour or day that is computed' if is_sliced else 'all rows')}")
    for read in plan["reads"]:
        said = {None: "", True: ", which is complete", False: ", which is not complete yet"}[read["complete"]]
        what = "the slice" if read["slice"] else "all"
        print(f"would read {what} of {read['table']} at snapshot {read['snapshot_id']}{said}")
