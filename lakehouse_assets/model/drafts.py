"""A declaration that nobody has looked at yet: columns guessed from messages or taken from a schema, and why."""

from collections.abc import Mapping
from dataclasses import dataclass

from lakehouse_assets.model.types import DataType

_BUCKET_BYTES = 512 * 2**20  # with powers of two, buckets come out at a half of it or more
_MOST_BUCKETS = 256


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
class RowDraft:
    """The rows that a topic's changes are of. `key`: the columns that name one; none where no message says it.

    `count` and `size_bytes` are estimates, rather too large: of the rows, and of all of them in files.
    `spread`: the column of the key that has the most values. `says_types`: whether the messages say what type a field has.
    `table`: of the source's tables the one whose rows they are; None: no other one shares the topic, as far as was looked.
    """

    key: tuple[str, ...]
    count: int
    size_bytes: int
    spread: str | None
    says_types: bool
    table: str | None = None

    @property
    def buckets(self) -> int:
        """Into how many buckets the rows should go; 1: into none, because few files hold them."""
        wanted = -(-self.size_bytes // _BUCKET_BYTES)
        return 1 if wanted <= 1 else min(1 << (wanted - 1).bit_length(), _MOST_BUCKETS)


@dataclass(frozen=True, slots=True)
class Draft:
    """Columns, fields that can't be one and why, and how many messages speak for that. `unreadable`: by error code.

    `subject`: the version of the registry that gave the columns, in words; None: the messages did.
    `changes`: what is known of the rows, where the messages are changes of them; None: each message is a row.
    """

    columns: tuple[ColumnDraft, ...]
    left_out: Mapping[str, str]
    message_count: int
    unreadable: Mapping[str, int]
    format: str = "json"
    subject: str | None = None
    changes: "RowDraft | None" = None
