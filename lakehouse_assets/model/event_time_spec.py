"""What a declaration may say of event time: when things happened, as opposed to when they were written."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from lakehouse_assets.model import fields
from lakehouse_assets.model.declared import Declared


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
