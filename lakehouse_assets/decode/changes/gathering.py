"""Changes that were read one by one become columns: rows, deletions, and what became of the messages without any."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse_assets.decode.changes.decoded import DecodedChanges, Truncation
from lakehouse_assets.decode.columns import Column, arrow_schema
from lakehouse_assets.decode.decoded import BadValue
from lakehouse_assets.decode.exact import Unreadable
from lakehouse_assets.decode.nested import build_array
from lakehouse_assets.model.unknown import UnknownFields

_DELETE = "delete"


@dataclass(frozen=True, slots=True)
class RowChange:
    """One change. `values` are those of the table's columns, in order, as an array stores them.

    `absent`: places of the columns whose values it does not say. `old_key`: values of the key's columns, where they changed.
    """

    operation: str
    values: Sequence[Any]
    position: int | None = None
    absent: Sequence[int] = ()
    old_key: Sequence[Any] | None = None

    @property
    def is_delete(self) -> bool:
        """Whether the row of the key goes."""
        return self.operation == _DELETE


@dataclass(slots=True)
class ChangeList:
    """What became of messages, in their order."""

    columns: Sequence[Column]
    key: Sequence[str]
    _changes: list[RowChange] = field(default_factory=list)
    _messages: list[int] = field(default_factory=list)
    _skipped: list[int] = field(default_factory=list)
    _truncations: list[Truncation] = field(default_factory=list)
    _bad: list[BadValue] = field(default_factory=list)
    _tables: set[str] = field(default_factory=set)

    def add(self, message: int, changes: Sequence[RowChange], table: str | None) -> None:
        """The changes that a message holds, at least one. `table`: which of the source's they are of, if it says so."""
        self._note(table)
        self._changes += changes
        self._messages += [message] * len(changes)

    def skip(self, message: int) -> None:
        """A message that says nothing of rows."""
        self._skipped.append(message)

    def truncate(self, message: int, position: int | None, table: str | None) -> None:
        """A message by which every row goes."""
        self._note(table)
        self._truncations.append(Truncation(message, position))

    def refuse(self, message: int, error: Unreadable) -> None:
        """A message that can't be read."""
        self._bad.append(BadValue(message, error.code, error.reason))

    def to_decoded(self, unknown: UnknownFields, *, has_positions: bool) -> DecodedChanges:
        """All of it, as columns."""
        changes, schema = self._changes, arrow_schema(self.columns)
        values = zip(*(change.values for change in changes), strict=True) if changes else [()] * len(schema)
        arrays = [build_array(list(items), kind.type) for items, kind in zip(values, schema, strict=True)]
        positions = pa.array([change.position for change in changes], pa.int64()) if has_positions else None
        return DecodedChanges(
            table=pa.Table.from_arrays(arrays, schema=schema),
            messages=np.array(self._messages, np.int64),
            deletes=np.array([change.is_delete for change in changes], np.bool_),
            bad=tuple(self._bad),
            skipped=np.array(self._skipped, np.int64),
            truncations=tuple(self._truncations),
            positions=positions,
            operations=pa.array([change.operation for change in changes], pa.string()),
            unavailable=self._unavailable(),
            old_keys=self._old_keys(schema),
            unknown=unknown,
            tables=frozenset(self._tables),
        )

    def _note(self, table: str | None) -> None:
        if table is not None:
            self._tables.add(table)

    def _unavailable(self) -> dict[str, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        masks: dict[str, np.ndarray[tuple[int], np.dtype[np.bool_]]] = {}
        for row, change in enumerate(self._changes):
            for place in change.absent:
                mask = masks.setdefault(self.columns[place].name, np.zeros(len(self._changes), np.bool_))
                mask[row] = True
        return masks

    def _old_keys(self, schema: pa.Schema) -> pa.Table | None:
        if all(change.old_key is None for change in self._changes):
            return None
        nothing = [None] * len(self.key)
        rows = [nothing if change.old_key is None else change.old_key for change in self._changes]
        kinds = pa.schema([schema.field(name) for name in self.key])
        columns = zip(*rows, strict=True)
        return pa.Table.from_arrays(
            [build_array(list(items), kind.type) for items, kind in zip(columns, kinds, strict=True)], schema=kinds
        )
