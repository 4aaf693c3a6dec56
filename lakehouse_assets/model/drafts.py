"""A declaration that nobody has looked at yet: columns guessed from messages or taken from a schema, and why."""

from collections.abc import Mapping
from dataclasses import dataclass

from lakehouse_assets.model.types import DataType


@dataclass(frozen=True, slots=True)
class ColumnDraft:
    """A column as it would be declared. `share` of messages have it (0 to 1), `example` is one value, `hint` what to look at.

    `event_time`: how much it looks like the time at which a row's event was, 0 not at all.
    """

    name: str
    path: tuple[str, ...]
    type: DataType
    required: bool
    share: float
    example: str
    hint: str = ""
    event_time: int = 0


@dataclass(frozen=True, slots=True)
class Draft:
    """Columns, fields that can't be one and why, and how many messages speak for that. `unreadable`: by error code."""

    columns: tuple[ColumnDraft, ...]
    left_out: Mapping[str, str]
    message_count: int
    unreadable: Mapping[str, int]
