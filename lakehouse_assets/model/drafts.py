"""A declaration that nobody has looked at yet: columns guessed from messages or taken from a schema, and why."""

from collections.abc import Mapping
from dataclasses import dataclass

from lakehouse_assets.model.types import DataType


@dataclass(frozen=True, slots=True)
class ColumnDraft:
    """A column as it would be declared. `share` of messages have it (0 to 1; None: nobody counted), `example` is one value.

    `hint` is what to look at, `doc` what is known of its meaning. `event_time`: how much it looks like the time of a row's
    event, 0 not at all.
    """

    name: str
    path: tuple[str, ...]
    type: DataType
    required: bool
    share: float | None = None
    example: str = ""
    hint: str = ""
    doc: str = ""
    event_time: int = 0


@dataclass(frozen=True, slots=True)
class Draft:
    """Columns, fields that can't be one and why, and how many messages speak for that. `unreadable`: by error code.

    `subject`: the version of the registry that gave the columns, in words; None: the messages did.
    """

    columns: tuple[ColumnDraft, ...]
    left_out: Mapping[str, str]
    message_count: int
    unreadable: Mapping[str, int]
    format: str = "json"
    subject: str | None = None
