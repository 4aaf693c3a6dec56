"""What a declaration of a table may say that is computed from other tables by SQL.

A `SqlTableSpec` is immutable, comparable, hashable and picklable, as a `TableSpec` is. What its SQL says is read elsewhere
(`statements.py`); its columns are those of the result.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from lakehouse_assets.model import fields
from lakehouse_assets.model.declared import Declared
from lakehouse_assets.model.declared_table import DeclaredTable
from lakehouse_assets.model.derived_table import DerivedTable
from lakehouse_assets.model.layout_spec import PartitionField, PartitionsSpec
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.model.mistakes import Mistake
from lakehouse_assets.model.slices import SliceClock

_MIB = 2**20
_TIME_ALLOWED = "event_time: which column of the result says when a row happened; without it the table is a whole"


class ResultTimeSpec(Declared):
    """The column of the result that says when a row happened."""

    column: Annotated[str, Field(strict=True)] = Field(
        description="The timestamp or timestamptz column of the result that says when a row happened."
    )
    late_horizon: fields.Duration = Field(
        default=timedelta(days=1),
        description="How long after the end of a slice it is remembered from which inputs it was computed, as 1d.",
    )


class InputSpec(Declared):
    """How one of the tables that the SQL names is read."""

    table: fields.TableName = Field(description="namespace.name, as the SQL names it.")
    whole: bool = Field(
        default=False,
        strict=True,
        description="Whether all of it is read, also where it says when its rows happened; else the slice is.",
    )
    as_of: str | int | None = Field(
        default=None,
        json_schema_extra={"examples": ["training_2026_11", "2026-11-01T00:00"]},
        description="The tag, the snapshot or the time as of which it is read. Left out: as it is when a run begins.",
    )


class SqlTableSpec(DeclaredTable):
    """An Iceberg table that is computed from other tables by SQL."""

    if TYPE_CHECKING:

        def __init__(self, **parts: Any) -> None: ...

    sql: fields.Statement = Field(
        description="One query in DuckDB's dialect over tables named namespace.name; its rows are the table's. $slice_start "
        "and $slice_end are the bounds of the hour or day that is computed."
    )
    event_time: ResultTimeSpec | None = Field(
        default=None,
        description="Which column of the result says when a row happened: then the table is computed an hour or a day at a "
        "time. Left out: as a whole.",
    )
    partitions: PartitionsSpec = Field(
        default=PartitionsSpec(), description="The hours or days of event time that are computed; for a table with event_time."
    )
    inputs: tuple[InputSpec, ...] = Field(
        default=(), description="How tables are read that the SQL names; those that are not declared here have to be named."
    )
    automation: Literal["hour_is_complete", "on_update", "manual"] | None = Field(
        default=None,
        description="When it is computed: hour_is_complete, a partition once, when all of its inputs are complete; on_update, "
        "the whole table when an input has changed, at most once a minute; manual, when somebody materializes it. Left out: "
        "hour_is_complete with event_time, else on_update.",
    )
    on_late: Literal["report", "rerun"] = Field(
        default="report",
        description="What becomes of late rows: report shows them at the input, rerun computes the partition again.",
    )
    incremental: bool = Field(
        default=False,
        strict=True,
        description="Whether a partition that is computed again reads only rows that were added since. For SQL that can be "
        "folded: columns and conditions of one table, or GROUP BY with count, sum, min and max.",
    )
    memory_limit: Annotated[int, fields.size_of_at_least(64 * _MIB)] = Field(
        default=1024 * _MIB,
        json_schema_extra={"default": "1GiB"},
        description="How much memory DuckDB may take, as 1GiB, at least 64MiB; what does not fit lies on disk meanwhile.",
    )
    partition_by: tuple[PartitionField, ...] | None = Field(
        default=None,
        description="How the table's files are laid out, as day(hour), carrier. Left out: by the hour or day of event time.",
    )
    maintenance: MaintenanceSpec = Field(default=MaintenanceSpec(), description="How the table is looked after.")
    properties: dict[str, fields.PropertyValue] = Field(
        default={}, description="Iceberg's table properties, under Iceberg's own names."
    )

    @model_validator(mode="after")
    def _nothing_is_without_effect(self) -> Self:
        if self.event_time is None:
            for key in ("partitions", "on_late", "incremental"):
                if key in self.model_fields_set:
                    raise ValueError(Mistake(f"{key} without event_time", _TIME_ALLOWED))
            if self.automation == "hour_is_complete":
                raise ValueError(Mistake("automation: hour_is_complete without event_time", _TIME_ALLOWED))
        elif self.automation == "on_update":
            raise ValueError(Mistake("automation: on_update with event_time", "hour_is_complete or manual"))
        names = [one.table for one in self.inputs]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(Mistake(f"the input {name!r} twice", "each input once"))
        return self

    @property
    def starts_by(self) -> Literal["hour_is_complete", "on_update", "manual"]:
        """What starts a run, where the declaration leaves it out too."""
        return self.automation or ("hour_is_complete" if self.event_time is not None else "on_update")

    @property
    def clock(self) -> SliceClock | None:
        """The slices of event time that are computed; None for a table that is computed as a whole."""
        return SliceClock(self.partitions.every, self.partitions.start) if self.event_time is not None else None

    @property
    def derived(self) -> DerivedTable:
        """The table, for those who write its rows."""
        time = self.event_time
        return DerivedTable(
            self.table,
            time.column if time is not None else None,
            self.clock,
            self.partition_by,
            self.description,
            self.properties,
            **({"late_horizon_ms": time.late_horizon // timedelta(milliseconds=1)} if time is not None else {}),
        )

    def input(self, table: str) -> InputSpec:
        """How a table is read that the SQL names."""
        return next((one for one in self.inputs if one.table == table), InputSpec(table=table))

    @property
    def maintained_tables(self) -> Mapping[str, MaintenanceSpec]:
        """How the table is looked after."""
        return {self.table: self.maintenance}

    def __hash__(self) -> int:
        return hash((self.table, self.sql))


