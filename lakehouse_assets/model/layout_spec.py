"""What a declaration may say of partitions: those of the table's files, and those of the asset."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from lakehouse_assets.model import fields, transforms
from lakehouse_assets.model.declared import Declared
from lakehouse_assets.model.mistakes import Mistake
from lakehouse_assets.model.slices import Every
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

    every: Every = Field(default="hour", description="Length of a partition.")
    start: fields.Moment = Field(
        default=EARLIEST_PARTITION,
        description="Start of the first partition, in UTC, on a full hour or day. Older messages belong to "
        "the first partition.",
    )

    @field_validator("start")
    @classmethod
    def _start_is_a_boundary(cls, start: datetime, info: ValidationInfo) -> datetime:
        return require_boundary(start, info.data.get("every"))


def require_boundary(start: datetime, every: Every | None) -> datetime:
    """`start`, which must be a full hour or day; with None it may be anything.

    Raises:
        ValueError: it is none.
    """
    boundary = start if every is None else begin_of(start, every)
    if start != boundary:
        raise ValueError(Mistake(format_moment(start), f"a full {every} in UTC", format_moment(boundary)))
    return start


def begin_of(moment: datetime, every: Every) -> datetime:
    """The full hour or day in which a moment lies."""
    return moment.replace(hour=0 if every == "day" else moment.hour, minute=0, second=0, microsecond=0)
