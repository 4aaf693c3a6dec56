"""Rows of MySQL as those who read its log write them: an object of column names, beside it the old values of what changed."""

from collections.abc import Callable, Sequence
from typing import Any

from lakehouse_assets.decode.changes.gathering import RowChange
from lakehouse_assets.decode.columns import Column
from lakehouse_assets.decode.exact import Read, Repeating, Unreadable, describe, parse_value
from lakehouse_assets.decode.rules import Rejected
from lakehouse_assets.decode.unknown import Shape, UnknownCounter

Row = dict[str, Any]
Spell = Callable[[str, Any], Any]
"""A value of the named column as the readers of values expect it."""


def as_it_stands(_: str, found: Any) -> Any:
    """Nothing to change."""
    return found


def row_of(found: Any, label: str) -> Row:
    """An object as a row.

    Raises:
        Unreadable: it is none, or has a field twice.
    """
    if not isinstance(found, dict):
        raise Unreadable("wrong_type", f"field {label!r}: found {describe(found)}, expected an object of columns")
    if isinstance(found, Repeating):
        raise Unreadable("duplicate_key", f"field {label!r}: found {min(found.repeated)!r} twice, expected each column once")
    return found


def parse_key(key: bytes | None) -> Any:
    """What the key of a message without a value says, which alone names the row.

    Raises:
        Unreadable: there is none, or it is no JSON.
    """
    if key is None:
        raise Unreadable("missing_required", "the message has neither a value nor a key, so it names no row")
    return parse_value(key)


class RowReader:
    """Reads rows of one table."""

    def __init__(self, columns: Sequence[Column], key: Sequence[str], read_for: Callable[[Column], Read]) -> None:
        """`key`: names of columns. `read_for` gives what reads a value for a column."""
        self._columns = [(column.path[0], column.path[1:], read_for(column), column) for column in columns]
        self._fields = frozenset(column.path[0] for column in columns)
        places = {column.name: place for place, column in enumerate(columns)}
        self._key_places = [places[name] for name in key]
        self._key_fields = frozenset(columns[place].path[0] for place in self._key_places)
        self._shape = Shape.of(columns)

    def open_counter(self) -> UnknownCounter:
        """Counts the fields of rows that no column reads."""
        return UnknownCounter(self._shape)

    def read_insert(self, operation: str, row: Row, position: int | None, spell: Spell = as_it_stands) -> RowChange:
        """A row that is there now."""
        return RowChange(operation, self._read_row(row, spell), position)

    def read_delete(self, row: Row, position: int | None, spell: Spell = as_it_stands) -> RowChange:
        """A row that is gone. Nothing but its key is read, so that nothing else can keep it."""
        return self._delete(self._read_key(row, spell), position)

    def read_update(self, row: Row, old: Row, position: int | None, spell: Spell = as_it_stands) -> list[RowChange]:
        """A row as it is now; where its key was another, the old one is gone.

        A column that neither the row nor the old values name did not change.
        """
        absent: list[int] = []
        if not self._fields <= row.keys():
            named = {*row, *old, *self._key_fields}
            absent = [place for place, (name, *_) in enumerate(self._columns) if name not in named]
        values = self._read_row(row, spell, absent)
        if self._key_fields.isdisjoint(old):
            return [RowChange("update", values, position, absent)]
        key, old_key = [values[place] for place in self._key_places], self._read_key({**row, **old}, spell)
        if key == old_key:
            return [RowChange("update", values, position, absent)]
        return [self._delete(old_key, position), RowChange("update", values, position, absent, old_key)]

    def _delete(self, key: Sequence[Any], position: int | None) -> RowChange:
        values = [None] * len(self._columns)
        for place, value in zip(self._key_places, key, strict=True):
            values[place] = value
        return RowChange("delete", values, position)

    def _read_row(self, row: Row, spell: Spell, absent: Sequence[int] = ()) -> list[Any]:
        return [
            None if place in absent else _read_value(row, *column, spell=spell) for place, column in enumerate(self._columns)
        ]

    def _read_key(self, row: Row, spell: Spell) -> list[Any]:
        return [_read_value(row, *self._columns[place], spell=spell) for place in self._key_places]


def _read_value(row: Row, first: str, further: Sequence[str], read: Read, column: Column, *, spell: Spell) -> Any:
    found = row.get(first)
    if found is not None:
        try:
            if spell is not as_it_stands:
                found = spell(first, found)
            for name in further:
                if not isinstance(found, dict):
                    raise Rejected("wrong_type", f"an object around {name!r}")
                found = found.get(name)
                if found is None:
                    break
            else:
                return read(found)
        except Rejected as error:
            shown = f"{len(found)} bytes" if isinstance(found, bytes) else describe(found)
            reason = f"field {'.'.join(column.path)!r} of the row: found {shown}, expected {error.expected}"
            raise Unreadable(error.code, reason) from None
    if column.required:
        reason = f"field {'.'.join(column.path)!r} of the row is missing or null, expected {column.type}"
        raise Unreadable("missing_required", reason)
    return None
