"""Plain messages as changes: a value is the row of its key, no value takes the row of the message's key out.

How a topic that Kafka compacts is meant. Rows are decoded as everywhere; only where the value is null does the message's key
say which row goes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
import pyarrow as pa

from lakehouse_assets.decode.beside import PlacedColumn
from lakehouse_assets.decode.changes.decoded import ChangeMessages, DecodedChanges
from lakehouse_assets.decode.decoded import BadValue, Decoded, Decoder, Messages
from lakehouse_assets.decode.json_decoder import JsonDecoder
from lakehouse_assets.model.types import DataType, Primitive

Item = TypeVar("Item")

_NUMBERS = ("int", "long", "boolean", "decimal")  # a bare key of these is a JSON value as it stands


class KeyDecoder(Protocol):
    """Decodes the keys of messages into the columns of the table's key."""

    def decode(self, keys: Sequence[bytes | None]) -> Decoded:
        """Every key becomes a row, without a null in it, or stands in `bad`; one that is None is bad."""


class PlainChangeDecoder:
    """Rows by `rows`, deletions by `keys`."""

    def __init__(self, rows: Decoder, keys: KeyDecoder) -> None:
        """`keys` gives columns that `rows` gives too."""
        self._rows, self._keys = rows, keys

    def decode(self, messages: ChangeMessages) -> DecodedChanges:
        """As every decoder of changes."""
        is_tombstone = np.fromiter((value is None for value in messages.values), np.bool_, len(messages))
        there, gone = np.flatnonzero(~is_tombstone), np.flatnonzero(is_tombstone)
        values = [value for value in messages.values if value is not None]
        decoded = self._rows.decode(Messages(values, _pick(messages.keys, there), _pick(messages.headers, there)))
        at, bad = there[decoded.rows(len(there))], [replace(one, index=int(there[one.index])) for one in decoded.bad]
        if not len(gone):
            return DecodedChanges(decoded.table, at, np.zeros(len(at), np.bool_), tuple(bad), unknown=decoded.unknown)
        found = self._keys.decode(_pick(messages.keys, gone))
        deleted = gone[found.rows(len(gone))]
        bad += [replace(one, index=int(gone[one.index])) for one in found.bad]
        order = np.argsort(np.concatenate([at, deleted]), kind="stable")
        return DecodedChanges(
            table=pa.concat_tables([decoded.table, _widened(found.table, decoded.table.schema)]).take(pa.array(order)),
            messages=np.concatenate([at, deleted])[order],
            deletes=(np.arange(len(order)) >= len(at))[order],
            bad=tuple(sorted(bad, key=lambda one: one.index)),
            unknown=decoded.unknown,
        )


@dataclass(frozen=True, slots=True)
class _KeyColumn:
    """A column of the key as the JSON decoder sees it."""

    name: str
    type: DataType
    path: tuple[str, ...]
    epoch: str | None
    required: bool = True


class JsonKeys:
    """Keys that are JSON objects with the fields of the columns, or the bare value of the only column.

    A bare key of a text column may be quoted as JSON has it, or be the text itself.
    """

    def __init__(self, columns: Sequence[PlacedColumn]) -> None:
        """`columns`: those of the table's key; where they are declared to be in the message's key, there."""
        self._columns = [_KeyColumn(one.name, one.type, one.from_key or one.path or (one.name,), one.epoch) for one in columns]
        self._is_raw = columns[0].from_key == ()
        self._values = JsonDecoder(self._columns)

    def decode(self, keys: Sequence[bytes | None]) -> Decoded:
        """Every key becomes a row or stands in `bad`."""
        decoded = self._values.decode([self._as_object(key) for key in keys])
        bad = tuple(replace(one, reason=_of_key(keys[one.index], one)) for one in decoded.bad)
        return Decoded(decoded.table, bad)

    def _as_object(self, key: bytes | None) -> bytes:
        if key is None:
            return b"{}"
        if len(self._columns) > 1 or (key.lstrip().startswith(b"{") and not self._is_raw):
            return key
        (column,) = self._columns
        is_text = isinstance(column.type, Primitive) and column.type.name not in _NUMBERS and column.epoch is None
        if is_text and (self._is_raw or not key.startswith(b'"')):
            try:
                key = json.dumps(key.decode()).encode()
            except UnicodeDecodeError:
                return key  # the decoder says what is wrong with it
        for name in reversed(column.path):
            key = b"{%s:%s}" % (json.dumps(name).encode(), key)
        return key


def _of_key(key: bytes | None, bad: BadValue) -> str:
    if key is None:
        return "the message has neither a value nor a key, so it names no row"
    return f"the key of a message without a value: {bad.reason}"


def _pick(items: Sequence[Item], places: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Sequence[Item]:
    return items if len(places) == len(items) else [items[place] for place in places.tolist()]


def _widened(keys: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows of keys with every column, null where the key has none."""
    names = set(keys.column_names)
    arrays = [keys.column(f.name) if f.name in names else pa.nulls(keys.num_rows, f.type) for f in schema]
    return pa.Table.from_arrays(arrays, schema=schema)
