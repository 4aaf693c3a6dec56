"""Takes over what a Python asset returns: the rows of a slice of event time, or of a whole table, replaced in one snapshot."""

from collections.abc import Sequence
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import schema_to_pyarrow

from lakehouse_assets.model.derived_table import DerivedTable
from lakehouse_assets.model.slices import TimeSlice
from lakehouse_assets.operations.frames import fit_to, open_frame
from lakehouse_assets.operations.slice_writing import SliceReport, replace_slice
from lakehouse_assets.operations.table_views import TableView, find_complete_until
from lakehouse_assets.systems.catalog import load_table


def write_frame(
    catalog: Catalog,
    derived: DerivedTable,
    within: TimeSlice | None,
    value: Any,
    views: Sequence[TableView],
    run_id: str = "",
) -> SliceReport:
    """Put the rows of `value` in the place of those of a slice, or of the whole table. Safe to repeat.

    `views` is what they were computed from.

    Raises:
        HandOverError: the value holds no rows.
        RowsOutsideSliceError: rows that the next run would not replace; nothing is written.
        LakehouseError: of the tree.
    """
    rows = open_frame(derived.name, value)
    table = load_table(catalog, derived.name)
    if table is not None:
        rows = fit_to(rows, schema_to_pyarrow(table.schema(), include_field_ids=False))
    inputs = [view.state for view in views]
    return replace_slice(
        catalog, derived, within, rows, inputs, complete_until_ms=find_complete_until(views), run_id=run_id
    )
