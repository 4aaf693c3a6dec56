"""The operations of maintenance, by the names that tests give them."""

from collections.abc import Callable, Mapping

from lakehouse_assets.model.maintenance import MaintenanceReport
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.operations.tidying_deletes import tidy_deletes

Operation = Callable[[MaintenanceTask], MaintenanceReport]

OPERATIONS: Mapping[str, Operation] = {"tidy_deletes": tidy_deletes}
