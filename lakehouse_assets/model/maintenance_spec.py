"""What a declaration may say of a table's maintenance. Its defaults are for tables that nobody thought about.

How large files should be, how long snapshots live and what else Iceberg has a property for is said by these properties; here is
only what it has none for.
"""

from collections.abc import Collection
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from lakehouse_assets.model import fields
from lakehouse_assets.model.declared import Declared

MaintenanceOperation = Literal["compact", "expire", "rewrite_manifests", "remove_orphans"]

_MIB = 2**20
_DAY = timedelta(days=1)


class MaintenanceSpec(Declared):
    """How the table is looked after."""

    if TYPE_CHECKING:

        def __init__(self, **parts: Any) -> None: ...


    window: fields.DailyWindow | None = Field(
        default=None,
        description="When files are rewritten or searched for orphans, in UTC, as 22:00-05:00. Left out: at any time.",
    )
    leave_out: tuple[MaintenanceOperation, ...] = Field(
        default=(), description="Operations that somebody else does for this table, or nobody."
    )
    engine: Literal["python", "spark"] = Field(
        default="python",
        description="Who rewrites files: this platform, or Iceberg's own procedures in the Spark session that the process has.",
    )
    small_files: int = Field(
        default=6,
        strict=True,
        ge=2,
        description="From how many files of one partition on that are smaller than three quarters of the target size they are "
        "written again as fewer.",
    )
    sort_by: tuple[Annotated[str, Field(strict=True)], ...] = Field(
        default=(), description="Columns by which rows are sorted where files are written again."
    )
    sort_order: Literal["linear", "zorder"] = Field(
        default="linear",
        description="How sort_by is meant: one column after the other, or all alike, along a Z-order curve.",
    )
    max_bytes_per_run: Annotated[int, fields.size_of_at_least(_MIB)] = Field(
        default=16 * 1024 * _MIB,
        json_schema_extra={"default": "16GiB"},
        description="How much one run rewrites at most, as 16GiB; what is left is the next run's.",
    )
    max_time_per_run: fields.Duration = Field(
        default=timedelta(minutes=10), description="How long one run rewrites at most, as 10m."
    )
    orphan_age: Annotated[timedelta, fields.duration_of_at_least(_DAY)] = Field(
        default=timedelta(days=3),
        description="How old a file must be that no snapshot knows before it is removed, as 3d; at least 1d.",
    )

    def for_columns(self, names: Collection[str]) -> "MaintenanceSpec":
        """What holds for a table beside the declared one: sorted by those of the columns that it has."""
        sort_by = tuple(name for name in self.sort_by if name in names)
        return self.model_copy(update={"sort_by": sort_by, "sort_order": self.sort_order if len(sort_by) > 1 else "linear"})
