"""Which snapshot of a table is meant by a tag, a snapshot id or a time.

A tag (or a branch) is looked for first, then an id, then a time, which means the snapshot that was current at it. Where expiry
took that one away, another snapshot of the time before would be read in its place in silence: that is an error.
"""

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from lakehouse_assets.model import written
from lakehouse_assets.model.errors import SnapshotMissingError
from lakehouse_assets.model.mistakes import Mistake, describe, nearest
from lakehouse_assets.model.slices import to_ms

AsOf = str | int | datetime
_PIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")  # neither a number nor a time, so that it can only be a name


@dataclass(frozen=True, slots=True)
class KnownSnapshot:
    """A snapshot that a table still has. `sequence_number` counts the commits of the table."""

    parent_id: int | None
    sequence_number: int


@dataclass(frozen=True, slots=True)
class History:
    """What a table's metadata says of its past.

    Attributes:
        refs: The snapshot of each branch and tag.
        snapshots: Each that is still there, by its id.
        last_sequence_number: The number of its last commit.
        log: Since when (ms since 1970, rising) which snapshot was the current one, as far as those are still there.
    """

    table: str
    refs: Mapping[str, int]
    snapshots: Mapping[int, KnownSnapshot]
    last_sequence_number: int
    log: Sequence[tuple[int, int]]


def read_pin_name(value: str) -> str:
    """A name for a tag that is read as nothing else.

    Raises:
        ValueError: with the mistake.
    """
    if not _PIN.fullmatch(value):
        allowed = "a name that begins with a letter, of letters, digits, and . _ -, as training_2026_11"
        raise ValueError(Mistake(describe(value), allowed))
    return value


def find_snapshot(history: History, as_of: AsOf) -> int:
    """The id of the snapshot that is meant.

    Raises:
        SnapshotMissingError: the table has none that is meant by it, or has it no longer.
    """
    if not history.snapshots:
        raise _missing(history, as_of, "it has no snapshot yet")
    if isinstance(as_of, str) and as_of in history.refs:
        return history.refs[as_of]
    if isinstance(as_of, int) or (isinstance(as_of, str) and as_of.isdecimal()):
        if int(as_of) not in history.snapshots:
            raise _missing(history, as_of, f"none of its {len(history.snapshots):,} snapshots has this id")
        return int(as_of)
    try:
        moment = written.read_moment(as_of)
    except ValueError:
        raise _missing(history, as_of, "it is no tag of the table, no snapshot id, and no time") from None
    return _find_current(history, as_of, to_ms(moment))


def _find_current(history: History, as_of: AsOf, time_ms: int) -> int:
    at = bisect_right(history.log, time_ms, key=lambda entry: entry[0]) - 1
    if at < 0:
        raise _missing(history, as_of, f"the oldest state that it still has is of {_iso(history.log[0][0])}")
    (since_ms, found), later = history.log[at], history.log[at + 1 :]
    if time_ms > since_ms and later and not _follow(history, found, later):
        until = _iso(later[0][0])
        raise _missing(history, as_of, f"what was current then has expired; the next snapshot that it still has is of {until}")
    return found


def _follow(history: History, found: int, later: Sequence[tuple[int, int]]) -> bool:
    """Whether the next entry of the log was made when `found` was the current snapshot: no commit in between is gone."""
    known = history.snapshots
    if known[later[0][1]].parent_id == found:
        return True
    begin = known[found].sequence_number
    after = (known[snapshot_id].sequence_number for _, snapshot_id in later)
    end = next((number for number in after if number > begin), history.last_sequence_number)  # the former: after a rollback
    is_counted = begin > 0  # tables of Iceberg's format 1 do not count
    return is_counted and {one.sequence_number for one in known.values()}.issuperset(range(begin, end + 1))


def _missing(history: History, as_of: AsOf, reason: str) -> SnapshotMissingError:
    text = written.format_moment(as_of) if isinstance(as_of, datetime) else str(as_of)
    return SnapshotMissingError(history.table, text, reason, sorted(history.refs), nearest(text, history.refs))


def _iso(time_ms: int) -> str:
    return written.format_moment(datetime.fromtimestamp(time_ms / 1000, UTC))
