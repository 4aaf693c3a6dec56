"""What a declaration may say of partitions: those of the table's files, and those of the asset."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from lakehouse_assets.model import fields, transforms
from lakehouse_assets.model.declared import Declared
from lakehouse_assets.model.mistakes import Mistake
from lakehouse_assets.model.written import format_moment

EARLIEST_PARTITION = datetime(2026, 1, 1, tzinfo=UTC)  # older messages belong to the first partition


@dataclass(frozen=True, slots=True)
class PartitionFieldSpec:
    """One way in which the table is partitioned; `parameter` is the number of buckets, or truncate's width.

    Raises:
        ValueError: no such transform, or a parameter that it does not take.
    """

    column: str
    transform: str = "identity"
    parameter: int | None = None

    def __post_init__(self) -> None:
        transforms.parse_partition_field(self._call)

    @classmethod
    def read(cls, value: object) -> "PartitionFieldSpec":
        """Read `day(event_time)`, `bucket(16, user_id)` or a bare column."""
        return value if isinstance(value, cls) else cls(*transforms.parse_partition_field(value))

    @property
    def field_name(self) -> str:
        """Name of the partition field in the table, as `event_time_day`."""
        return transforms.name_partition_field(self.column, self.transform, self.parameter)

    @property
    def _call(self) -> str:
        argument = self.column if self.parameter is None else f"{self.parameter}, {self.column}"
        return f"{self.transform}({argument})"

    def __str__(self) -> str:
        return self.column if self.transform == "identity" else self._call


_PARTITION_FIELD_SCHEMA = {
    "type": "string",
    "pattern": transforms.PARTITION_FIELD_PATTERN,
    "examples": ["day(event_time)", "bucket(16, user_id)", "truncate(4, url)", "country"],
}
PartitionField = Annotated[
    PartitionFieldSpec, fields.Written(PartitionFieldSpec.read, _PARTITION_FIELD_SCHEMA)
]


class PartitionsSpec(Declared):
    """The asset's time partitions, in UTC: what one click in the UI replaces."""

    every: Literal["hour", "day"] = Field(default="hour", description="Length of a partition.")
    start: fields.Moment = Field(
        default=EARLIEST_PARTITION,
        description="Start of the first partition, in UTC, on a full hour or day. Older messages belong to "
        "the first partition.",
    )

    @field_validator("start")
    @classmethod
    def _start_is_a_boundary(cls, start: datetime, info: ValidationInfo) -> datetime:
        every = info.data.get("every")
        hour = 0 if every == "day" else start.hour
        boundary = start.replace(hour=hour, minute=0, second=0, microsecond=0)
        if every is not None and start != boundary:
            raise ValueError(Mistake(format_moment(start), f"a full {every} in UTC", format_moment(boundary)))
        return start
