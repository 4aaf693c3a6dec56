"""What a declaration may say of event time: when things happened, as opposed to when they were written."""

from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from lakehouse_assets.model import fields
from lakehouse_assets.model.declared import Declared
from lakehouse_assets.model.layout_spec import require_boundary
from lakehouse_assets.model.mistakes import Mistake
from lakehouse_assets.model.slices import Every


class EventTimeSpec(Declared):
    """The column that says when a row happened, and how far to trust the order in which rows come."""

    column: Annotated[str, Field(strict=True)] = Field(
        description="The timestamp or timestamptz column that says when a row happened."
    )
    max_disorder: Annotated[timedelta, fields.duration_of_at_least(timedelta(0))] = Field(
        default=timedelta(minutes=5),
        description="How much older than those before it a row of one topic partition may be, as 5m.",
    )
    idle_after: fields.Duration | None = Field(
        default=None,
        description="How long a topic partition without new messages holds the watermark back, as 10m. Left out: until one "
        "comes.",
    )
    max_ahead: fields.Duration = Field(
        default=timedelta(hours=1),
        description="How much later than its Kafka timestamp a row may have happened; one that is further ahead does not move "
        "the watermark.",
    )
    follow_clock: Annotated[bool, Field(strict=True)] = Field(
        default=False,
        description="Whether the watermark follows the clock, idle_after and max_disorder behind it, while no topic partition "
        "has messages.",
    )
    every: Every = Field(
        default="hour", description="Length of the slices of event time that are told to be complete, in UTC."
    )
    start: fields.Moment | None = Field(
        default=None,
        description="Start of the first slice, in UTC, on a full hour or day. Left out: that of partitions.",
    )
    late_horizon: fields.Duration = Field(
        default=timedelta(days=1),
        description="How long after the end of a slice its late rows are counted, as 1d.",
    )
    complete_for: Literal["day"] | None = Field(
        default=None, description="With day, each day that is complete gets a tag complete-2026-11-01, which readers can name."
    )
    keep_tags: fields.Duration = Field(
        default=timedelta(days=30), description="How long such a tag, and what it names, is kept, as 30d."
    )

    @field_validator("start")
    @classmethod
    def _start_is_a_boundary(cls, start: datetime | None, info: ValidationInfo) -> datetime | None:
        return start if start is None else require_boundary(start, info.data.get("every"))

    @model_validator(mode="after")
    def _nothing_is_without_effect(self) -> Self:
        if self.follow_clock and self.idle_after is None:
            raise ValueError(Mistake("follow_clock without idle_after", "idle_after: from when on no message means no row"))
        if "keep_tags" in self.model_fields_set and self.complete_for is None:
            raise ValueError(Mistake("keep_tags without complete_for", "complete_for: day, which makes the tags"))
        return self
