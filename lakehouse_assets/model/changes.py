"""Words for a change of a table's columns, as people are shown it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

OnSchemaChange = Literal["evolve", "quarantine", "fail"]

NO_COLUMN = "no such column"


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
        return f"{self.column}: {self.before or NO_COLUMN} -> {self.after or NO_COLUMN}"


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a table as people are shown it."""

    name: str
    type: str
    required: bool
    doc: str


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """What became of a table's columns between two commits of ours, whoever changed them, and all of them after it."""

    changes: tuple[ColumnChange, ...]
    columns: tuple[TableColumn, ...]


def join_changes(changes: Iterable[ColumnChange]) -> str:
    """All of them in a sentence."""
    return "; ".join(map(str, changes))
