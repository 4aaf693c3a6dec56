"""The slices of event time of which a table has all rows, as an external asset beside it.

Its partition is materialized when the watermark has passed its end. That is in Dagster's event log for good, it is what the UI
shows, and what comes after the table depends on it.
"""

from collections.abc import Sequence

import dagster as dg

from lakehouse_assets.model.slices import SliceClock
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.orchestration.names import complete_key, table_key
from lakehouse_assets.orchestration.partitions import build_partitions


def build_complete_assets(specs: Sequence[TableSpec]) -> list[dg.AssetSpec]:
    """The external assets of the complete slices, of those tables that have event times."""
    return [_build_complete_asset(spec, clock) for spec in specs if (clock := spec.event_slices) is not None]


def _build_complete_asset(spec: TableSpec, clock: SliceClock) -> dg.AssetSpec:
    return dg.AssetSpec(
        key=complete_key(spec.table),
        deps=[table_key(spec)],
        partitions_def=build_partitions(clock),
        group_name=spec.namespace,
        owners=list(spec.owners),
        kinds={"iceberg"},
        description=f"The {clock.every}s (UTC) of event time of which `{spec.table}` has all rows. One is materialized when "
        "the watermark has passed its end, and again when late rows came after that. What comes after the table depends on "
        "this, with `hour_is_complete()`.",
    )
