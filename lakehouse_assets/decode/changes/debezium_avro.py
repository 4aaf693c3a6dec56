"""Debezium's envelopes in Avro as changes of rows.

Keys of messages are read where something depends on them: deletions, tombstones, and updates whose `before` has another key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_assets.decode.changes.avro_envelopes import LETTERS, NO_ENVELOPE, AvroEnvelopes, Envelopes
from lakehouse_assets.decode.changes.avro_keys import AvroKeys, KeyColumn
from lakehouse_assets.decode.changes.decoded import ChangeMessages, DecodedChanges, Indices, Mask, Truncation
from lakehouse_assets.decode.changes.encodings import EncodedColumn
from lakehouse_assets.decode.changes.envelope import LOGICAL_MESSAGE, OPERATIONS, TRUNCATE, find_old_key
from lakehouse_assets.decode.changes.gaps import find_gaps
from lakehouse_assets.decode.changes.images import MessageKeys
from lakehouse_assets.decode.changes.joining import join_changes, select_changes
from lakehouse_assets.decode.changes.table_names import TableNames
from lakehouse_assets.decode.columns import arrow_schema
from lakehouse_assets.decode.decoded import BadValue, Decoded
from lakehouse_assets.decode.exact import Unreadable
from lakehouse_assets.decode.nested import build_array
from lakehouse_assets.model.schemas import SchemaOf

_UPDATE, _DELETE, _TRUNCATE, _LOGICAL = (LETTERS.index(letter) for letter in ("u", "d", TRUNCATE, LOGICAL_MESSAGE))
_WORDS = pa.array([OPERATIONS.get(letter, "") for letter in LETTERS])


@dataclass(frozen=True, slots=True)
class _Keyed:
    """Rows of the key's columns, and the number of the envelope (or message) that each belongs to."""

    table: pa.Table
    rows: Indices


class _Refusals(dict[int, BadValue]):
    """Bad messages; the first reason stays."""

    def add(self, message: int, code: str, reason: str) -> None:
        """One more, unless it is known."""
        self.setdefault(message, BadValue(message, code, reason))


class DebeziumAvroDecoder:
    """Decodes the messages of one table. Remembers the schemas that it met, so threads can't share it."""

    def __init__(
        self, columns: Sequence[EncodedColumn], key: Sequence[str], schemas: SchemaOf, tables: TableNames
    ) -> None:
        """`key`: names of columns, in the order of the key. `tables`: those that are meant."""
        self._columns, self._key, self._schema = columns, key, arrow_schema(columns)
        key_columns = [next(column for column in columns if column.name == name) for name in key]
        self._key_schema = arrow_schema(key_columns)
        self._envelopes = AvroEnvelopes(columns, key_columns, schemas, tables)
        in_keys = [KeyColumn(one.name, one.type, one.path, one.epoch) for one in key_columns]
        self._keys = AvroKeys(in_keys, schemas, _PlainKeys(MessageKeys(key_columns), self._key_schema))

    def decode(self, messages: ChangeMessages) -> DecodedChanges:
        """As every decoder of changes."""
        is_tombstone = np.fromiter((value is None for value in messages.values), np.bool_, len(messages))
        there, gone = np.flatnonzero(~is_tombstone), np.flatnonzero(is_tombstone)
        found, bad_values, others = self._envelopes.decode([value for value in messages.values if value is not None])
        at, bad = there[found.places], _Refusals()
        for one in bad_values:
            bad.add(int(there[one.index]), one.code, one.reason)
        tombstones, refused = self._decode_keys(messages.keys, gone)
        for one in refused:
            bad.add(one.index, one.code, one.reason)
        upserts = self._read_upserts(found, at, messages, bad)
        deletions = self._read_deletions(found, at, messages, bad)
        without_values = self._delete(tombstones.table, tombstones.rows, pa.nulls(len(tombstones.rows), pa.int64()))
        parts = [upserts, deletions, without_values]
        joined = join_changes([part for part in parts if len(part)] or parts[:1])
        silent = at[(found.operations == NO_ENVELOPE) | (found.operations == _LOGICAL)]
        return replace(
            joined,
            bad=tuple(bad[message] for message in sorted(bad)),
            skipped=np.union1d(silent, there[others]),
            tables=found.tables.among(np.isin(at, joined.messages) | (found.operations == _TRUNCATE)),
            truncations=tuple(
                Truncation(int(at[row]), found.positions[row].as_py()) for row in np.flatnonzero(found.operations == _TRUNCATE)
            ),
        )

    def _read_deletions(self, found: Envelopes, at: Indices, messages: ChangeMessages, bad: _Refusals) -> DecodedChanges:
        """The message's key says which row; where that has other columns, `before`, which holds whole rows then."""
        rows = np.flatnonzero(found.operations == _DELETE)
        named, refused = self._decode_keys(messages.keys, at[rows])
        keys, left = [_Keyed(named.table, rows[np.searchsorted(at[rows], named.rows)])], []
        for one in refused:
            left.append(int(np.searchsorted(at, one.index)))
        if left:
            before = self._keys_before(found, np.array(left))
            keys.append(before)
            missing = {one.index: one for one in refused}
            for message in missing.keys() - set(at[before.rows].tolist()):
                bad.add(message, missing[message].code, missing[message].reason)
        parts = [self._delete(one.table, at[one.rows], found.positions.take(pa.array(one.rows))) for one in keys]
        return join_changes(parts)

    def _read_upserts(self, found: Envelopes, at: Indices, messages: ChangeMessages, bad: _Refusals) -> DecodedChanges:
        """The rows as they are now, and before them the deletions of keys that they had."""
        is_row = (found.operations < len(OPERATIONS)) & (found.operations != _DELETE)
        arrays, gaps = self._read_images(found, is_row, at, bad)
        rows = np.flatnonzero(is_row & ~np.isin(at, list(bad)) if bad else is_row)
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        upserts = DecodedChanges(
            table=table if len(rows) == len(table) else table.take(pa.array(rows)),
            messages=at[rows],
            deletes=np.zeros(len(rows), np.bool_),
            positions=found.positions.take(pa.array(rows)),
            operations=_WORDS.take(pa.array(found.operations[rows])),
            unavailable={name: gap[rows] for name, gap in gaps.items() if gap[rows].any()},
        )
        moved = self._find_moved(found, table, rows, at, messages)
        upserts = self._with_old_keys(upserts, messages, _Keyed(moved.table, at[moved.rows]), bad)
        if not len(moved.rows):
            return upserts
        deletions = self._delete(moved.table, at[moved.rows], found.positions.take(pa.array(moved.rows)))
        is_whole = np.isin(deletions.messages, upserts.messages)
        return join_changes([select_changes(deletions, np.flatnonzero(is_whole)), upserts])

    def _read_images(
        self, found: Envelopes, is_row: Mask, at: Indices, bad: _Refusals
    ) -> tuple[list[pa.Array], Mapping[str, Mask]]:
        """The columns, null where they are unavailable, and where that is. Rows that lack what they must have are bad."""
        arrays: list[pa.Array] = []
        gaps: dict[str, Mask] = {}
        for column in self._columns:
            array, is_key = found.after[column.name], column.name in self._key
            gap = find_gaps(array)
            if gap is not None:
                array = array.take(pa.array(np.arange(len(array)), mask=gap))
                if not is_key:
                    gaps[column.name] = gap
            if (column.required or is_key) and array.null_count:
                missing = is_row & _mask(array.is_null())
                if gap is not None and not is_key:
                    missing &= ~gap
                reason = f"field {'.'.join(('after', *column.path))!r} is missing, null or unavailable, expected {column.type}"
                for row in np.flatnonzero(missing).tolist():
                    bad.add(int(at[row]), "missing_required", reason)
            arrays.append(array)
        return arrays, gaps

    def _find_moved(
        self, found: Envelopes, table: pa.Table, rows: Indices, at: Indices, messages: ChangeMessages
    ) -> _Keyed:
        """The keys in `before` that are not those in `after`.

        Where messages are keyed by the table's key, Debezium makes two messages of a change of key, and `before` may hold
        made-up values; so it counts only where the message's key has other columns.
        """
        updates = rows[found.operations[rows] == _UPDATE]
        before = self._keys_before(found, updates)
        if not len(before.rows):
            return before
        differs = np.zeros(len(before.rows), np.bool_)
        for name in self._key:
            now = table.column(name).combine_chunks().take(pa.array(before.rows))
            differs |= _differ(before.table.column(name).combine_chunks(), now)
        if not differs.any():
            return _Keyed(before.table.slice(0, 0), before.rows[:0])
        _, refused = self._decode_keys(messages.keys, at[before.rows[differs]])
        is_moved = differs & np.isin(at[before.rows], [one.index for one in refused])
        return _Keyed(before.table.filter(pa.array(is_moved)), before.rows[is_moved])

    def _keys_before(self, found: Envelopes, rows: Indices) -> _Keyed:
        """The keys in `before` of these envelopes, as far as they have one."""
        arrays = [found.before[name].take(pa.array(rows)) for name in self._key]
        is_whole = np.ones(len(rows), np.bool_)
        for array in arrays:
            is_whole &= _mask(array.is_valid())
        table = pa.Table.from_arrays(arrays, schema=self._key_schema)
        return _Keyed(table.filter(pa.array(is_whole)), rows[is_whole])

    def _with_old_keys(
        self, upserts: DecodedChanges, messages: ChangeMessages, moved: _Keyed, bad: _Refusals
    ) -> DecodedChanges:
        """What is unavailable stands under the key that the row had before, which a header says, or `before`."""
        lacks = np.zeros(len(upserts), np.bool_)
        for mask in upserts.unavailable.values():
            lacks |= mask
        headers = {row: find_old_key(messages.headers[upserts.messages[row]]) for row in np.flatnonzero(lacks).tolist()}
        named = {row: header for row, header in headers.items() if header is not None}
        if not named and not len(moved.rows):
            return upserts
        decoded = self._keys.decode(list(named.values()))
        owners = np.array(list(named), np.int64)
        for one in decoded.bad:
            bad.add(int(upserts.messages[owners[one.index]]), one.code, one.reason)
        places = np.full(len(upserts), -1, np.int64)
        places[np.searchsorted(upserts.messages, moved.rows)] = np.arange(len(moved.rows)) + len(decoded.table)
        places[owners[decoded.rows(len(owners))]] = np.arange(len(decoded.table))
        keys = pa.concat_tables([decoded.table.select(list(self._key)), moved.table])
        old_keys = keys.take(pa.array(places, mask=places < 0)) if len(keys) else None
        upserts = replace(upserts, old_keys=old_keys)
        if not decoded.bad:
            return upserts
        return select_changes(upserts, np.delete(np.arange(len(upserts)), owners[[one.index for one in decoded.bad]]))

    def _decode_keys(self, keys: Sequence[bytes | None], places: Indices) -> tuple[_Keyed, list[BadValue]]:
        """Keys of the messages at these places."""
        decoded = self._keys.decode([keys[place] for place in places.tolist()])
        bad = [replace(one, index=int(places[one.index])) for one in decoded.bad]
        return _Keyed(decoded.table, places[decoded.rows(len(places))]), bad

    def _delete(self, keys: pa.Table, at: Indices, positions: pa.Array) -> DecodedChanges:
        """Deletions of the rows of keys, which messages `at` are."""
        names = set(self._key)
        arrays = [keys.column(one.name) if one.name in names else pa.nulls(len(at), one.type) for one in self._schema]
        words = pa.array(["delete"] * len(at), pa.string())
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        return DecodedChanges(table, at, np.ones(len(at), np.bool_), positions=positions, operations=words)


def _mask(flags: pa.Array) -> Mask:
    mask: Mask = flags.to_numpy(zero_copy_only=False)
    return mask


def _differ(one: pa.Array, other: pa.Array) -> Mask:
    """Where two arrays without nulls differ."""
    if isinstance(one, pa.ExtensionArray):
        one, other = one.storage, other.storage
    return _mask(pc.not_equal(one, other))


class _PlainKeys:
    """Keys that are no Avro: JSON objects, as Debezium's JSON has them."""

    def __init__(self, keys: MessageKeys, schema: pa.Schema) -> None:
        self._keys, self._schema = keys, schema

    def decode(self, keys: Sequence[bytes | None]) -> Decoded:
        """Every key becomes a row or stands in `bad`."""
        rows: list[Sequence[Any]] = []
        bad: list[BadValue] = []
        for index, key in enumerate(keys):
            try:
                rows.append(self._keys.read(key))
            except Unreadable as error:
                bad.append(BadValue(index, error.code, error.reason))
        columns = zip(*rows, strict=True) if rows else ((),) * len(self._schema)
        arrays = [build_array(list(items), kind.type) for items, kind in zip(columns, self._schema, strict=True)]
        return Decoded(pa.Table.from_arrays(arrays, schema=self._schema), tuple(bad))
