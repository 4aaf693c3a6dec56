"""Words for a change of a table's columns, as people are shown it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

OnSchemaChange = Literal["evolve", "quarantine", "fail"]


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """One column (or member of one, as `a.b`) before and after; None where it does not exist.

    `is_doc`: nothing but its description changes.
    """

    column: str
    before: str | None
    after: str | None
    is_doc: bool = False

    def __str__(self) -> str:
        return f"{self.column}: {self.before or 'no such column'} -> {self.after or 'no such column'}"


def join_changes(changes: Iterable[ColumnChange]) -> str:
    """All of them in a sentence."""
    return "; ".join(map(str, changes))
