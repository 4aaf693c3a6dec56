"""What your own Dagster assets need of this package, to come after its tables.

@dg.asset(
deps=[complete_key("ods.flights")],
partitions_def=dg.HourlyPartitionsDefinition("2026-11-01-00:00"),
automation_condition=hour_is_complete(),
)
def departures(context): ...
"""

from lakehouse_assets.orchestration.conditions import hour_is_complete
from lakehouse_assets.orchestration.io_manager import LakehouseIOManager, complete_slices, whole_table
from lakehouse_assets.orchestration.names import complete_key
from lakehouse_assets.orchestration.resources import LakehouseResource

__all__ = [
    "LakehouseIOManager", "LakehouseResource", "complete_key", "complete_slices", "hour_is_complete", "whole_table",
]  # fmt: skip
