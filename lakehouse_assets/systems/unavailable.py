"""Gives changes the values that they leave out because they did not change: from the row that the table has.

That is the live row of the key; after a change of key, the row of the old one, which may be gone already: then the one of the
newest snapshot that still has it, unless the table's row of the new key is this very change.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot

from lakehouse_assets.model.columns import KAFKA_OFFSET, KAFKA_PARTITION, KAFKA_TOPIC
from lakehouse_assets.systems.changes import Changes
from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets.systems.file_rows import read_at
from lakehouse_assets.systems.key_lookup import Hits, KeyLookup
from lakehouse_assets.systems.live_files import list_files_with_deletes
from lakehouse_assets.systems.row_order import are_same_message
from lakehouse_assets.systems.snapshots import ancestors

Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

MOST_SNAPSHOTS: Final = 100  # older ones are not looked into: each is a lookup of its own
_NOWHERE: Final = -1


@dataclass(slots=True)
class Filling:
    """Rows that are to be filled, in the columns of the table; `lacking` are those that still lack a value."""

    table: Table
    changes: Changes
    rows: pa.Table
    lacking: Mask
    cache: FileCache
    _schema: Schema = field(init=False)
    _found: list[pa.Table] = field(default_factory=list)
    _place: Indices = field(init=False)

    def __post_init__(self) -> None:
        message = [name for name in (KAFKA_TOPIC, KAFKA_PARTITION, KAFKA_OFFSET) if name in self.rows.column_names]
        self._schema = self.table.schema().select(*self.changes.unavailable, *message)
        self._place = np.full(len(self.changes), _NOWHERE, np.int64)

    def fill(self, hits: Sequence[Hits]) -> pa.Table:
        """The rows with all values that could be found. `hits` are the live rows of the changes' keys."""
        moved = self._moved()
        self._take_from(hits, self.lacking & ~moved)
        if moved.any():
            self._take_from_old_keys(moved, hits)
        return self._filled()

    def _moved(self) -> Mask:
        """Which rows had another key, under which the table has their values."""
        old = self.changes.old_keys
        if old is None:
            return np.zeros(len(self.changes), np.bool_)
        held = np.logical_and.reduce([old.column(name).is_valid().to_numpy() for name in old.column_names])
        moved: Mask = self.lacking & held
        return moved

    def _take_from(self, hits: Iterable[Hits], wanted: Mask, rows_of: Sequence[Indices] | None = None) -> None:
        """Take the values of live rows for the wanted changes. `rows_of`: the changes of each key; None: they are the keys."""
        for found in hits:
            changes, places = found.keys, np.arange(len(found.keys))
            if rows_of is not None:
                changes = np.concatenate([rows_of[key] for key in found.keys])
                places = np.repeat(places, [len(rows_of[key]) for key in found.keys])
            mine = wanted[changes] & self.lacking[changes]
            if mine.any():
                self._take(found, places[mine], changes[mine])

    def _take(self, found: Hits, places: Indices, changes: Indices) -> None:
        needed, at = np.unique(places, return_inverse=True)
        values = read_at(self.table, found.file.data, self._schema, found.positions[needed], self.cache)
        self._place[changes] = sum(piece.num_rows for piece in self._found) + at
        self._found.append(values)
        self.lacking[changes] = False

    def _take_from_old_keys(self, moved: Mask, hits: Sequence[Hits]) -> None:
        old, rows_of = _unique(self.changes.old_keys, np.flatnonzero(moved))
        for number, snapshot in enumerate(self._snapshots()):
            files = list_files_with_deletes(self.table, snapshot)
            lookup = KeyLookup(self.table, old, self.cache)
            self._take_from(lookup.find(files), moved, rows_of)
            if number == 0:
                self._take_from(self._same_messages(hits), moved)
            if not (moved & self.lacking).any():
                return

    def _same_messages(self, hits: Sequence[Hits]) -> Iterator[Hits]:
        """Of the live rows of the changes' keys, those that are these very changes."""
        message = [name for name in (KAFKA_TOPIC, KAFKA_PARTITION, KAFKA_OFFSET) if name in self.rows.column_names]
        for found in hits:
            if self.lacking[found.keys].any():
                live = read_at(self.table, found.file.data, self.table.schema().select(*message), found.positions, self.cache)
                same = are_same_message(live, self.rows.select(message).take(pa.array(found.keys)))
                yield Hits(found.file, found.positions[same], found.keys[same], found.deleted_rows)

    def _snapshots(self) -> Iterator[Snapshot]:
        """The current one, and older ones before each that took rows away."""
        takes_rows = True
        for snapshot in islice(ancestors(self.table, self.table.metadata.current_snapshot()), MOST_SNAPSHOTS):
            if takes_rows:
                yield snapshot
            takes_rows = snapshot.summary is None or snapshot.summary.operation != Operation.APPEND

    def _filled(self) -> pa.Table:
        rows = self.rows
        if not self._found:
            return rows
        found = pa.concat_tables(self._found, promote_options="permissive")
        has_value = self._place != _NOWHERE
        for name, lacks in self.changes.unavailable.items():
            column = rows.column(name)
            both = pa.chunked_array([*column.chunks, *found.column(name).cast(column.type).chunks], column.type)
            order = np.where(lacks & has_value, rows.num_rows + self._place, np.arange(rows.num_rows))
            rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), both.take(pa.array(order)))
        return rows


def _unique(old_keys: pa.Table | None, changes: Indices) -> tuple[pa.Table, list[Indices]]:
    """Each old key of these changes once, and whose it is: a key can have moved on to several."""
    assert old_keys is not None  # noqa: S101 - the caller looked
    rows = old_keys.take(pa.array(changes))
    numbers: dict[tuple[object, ...], list[int]] = {}
    for at, key in enumerate(zip(*[column.to_pylist() for column in rows.columns], strict=True)):
        numbers.setdefault(key, []).append(at)
    first = rows.take(pa.array([places[0] for places in numbers.values()], pa.int64()))
    return first, [changes[places] for places in numbers.values()]
