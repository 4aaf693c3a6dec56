"""Columns that stand beside the value of a message: in its key or its headers."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse_assets.decode.columns import Column, arrow_type
from lakehouse_assets.decode.decoded import BadValue, Decoded, Headers, Messages, ValueDecoder
from lakehouse_assets.decode.json_decoder import JsonDecoder
from lakehouse_assets.model.types import DataType, Primitive

_NUMBER = re.compile(rb"-?[0-9]{1,19}")
_BITS = {"int": 31, "long": 63}
_SHOWN_BYTES = 40


class PlacedColumn(Column, Protocol):
    """A declared column that may be in the key or a header."""

    @property
    def from_key(self) -> tuple[str, ...] | None:
        """Path into a key that is a JSON object; nothing in it: the whole key; None: not in the key."""

    @property
    def from_header(self) -> str | None:
        """Name of the header; None: in no header."""


@dataclass(frozen=True, slots=True)
class _KeyColumn:
    """A column of a JSON key as the JSON decoder sees it. Whether it has to be there is judged with the keys that are null."""

    name: str
    type: DataType
    path: tuple[str, ...]
    epoch: str | None
    required: bool = False


@dataclass(frozen=True, slots=True)
class _Read:
    """A column of all messages, and the bad ones; what stands there for them is of no account."""

    array: pa.Array
    bad: list[BadValue]


@dataclass(frozen=True, slots=True)
class _Beside:
    """One column: how it is read, and what a reader of reasons calls its place."""

    column: PlacedColumn
    place: str
    read: Callable[[Messages], _Read]


class MessageDecoder:
    """Decodes messages of one table: their values by another decoder, keys and headers here."""

    def __init__(self, columns: Sequence[PlacedColumn], values: ValueDecoder | None) -> None:
        """`values` gives the columns that are in values; None: none is, and a value may be anything."""
        self._names = [column.name for column in columns]
        self._values = values
        self._beside = [_open(column) for column in columns if column.from_key is not None or column.from_header is not None]

    def decode(self, messages: Messages) -> Decoded:
        """Every message becomes a row or stands in `bad`, never both.

        Raises:
            RegistryError: a schema can't be had; nothing is said of the messages.
        """
        decoded = Decoded(pa.table({}), ()) if self._values is None else self._values.decode(messages.values)
        if not self._beside:
            return decoded
        bad = {one.index: one for one in decoded.bad}
        readable = _all_but(len(messages), bad)
        arrays = {}
        for beside in self._beside:
            read = beside.read(messages)
            arrays[beside.column.name] = read.array
            for one in read.bad:
                bad.setdefault(one.index, one)
            if beside.column.required and read.array.null_count:
                for index in np.flatnonzero(read.array.is_null()).tolist():
                    reason = f"{beside.place} is missing or null, expected {beside.column.type}"
                    bad.setdefault(index, BadValue(index, "missing_required", reason))
        kept = _all_but(len(messages), bad)
        found = {name: array.filter(pa.array(kept)) for name, array in arrays.items()}
        if self._values is not None:
            rows = decoded.table.filter(pa.array(kept[readable]))
            found |= {name: rows.column(name) for name in rows.column_names}
        table = pa.table({name: found[name] for name in self._names})
        return Decoded(table, tuple(bad[index] for index in sorted(bad)), decoded.unknown)


def _all_but(count: int, indices: Iterable[int]) -> npt.NDArray[np.bool_]:
    mask = np.ones(count, np.bool_)
    mask[list(indices)] = False
    return mask


def _open(column: PlacedColumn) -> _Beside:
    if column.from_header is not None:
        name, place = column.from_header, f"the header {column.from_header!r}"
        return _Beside(column, place, lambda found: _read_whole([_last(of, name) for of in found.headers], column.type, place))
    if not column.from_key:
        return _Beside(column, "the key", lambda found: _read_whole(found.keys, column.type, "the key"))
    path = column.from_key
    decoder = JsonDecoder([_KeyColumn(column.name, column.type, path, column.epoch)])
    place = f"field {'.'.join(path)!r} of the key"
    return _Beside(column, place, lambda found: _read_json(decoder, found.keys, arrow_type(column.type)))


def _last(headers: Headers | None, name: str) -> bytes | None:
    return next((value for key, value in reversed(headers) if key == name), None) if headers else None


def _read_json(decoder: JsonDecoder, keys: Sequence[bytes | None], kind: pa.DataType) -> _Read:
    there = [index for index, key in enumerate(keys) if key is not None]
    decoded = decoder.decode([key for key in keys if key is not None])
    bad = [replace(one, index=there[one.index], reason=f"the key: {one.reason}") for one in decoded.bad]
    places = np.zeros(len(keys), np.int64)
    is_null = np.ones(len(keys), np.bool_)
    good = np.delete(np.array(there, np.int64), [one.index for one in decoded.bad])
    places[good], is_null[good] = np.arange(len(good)), False
    array = decoded.table.column(0).combine_chunks() if len(good) else pa.nulls(1, kind)
    return _Read(array.take(pa.array(places, mask=is_null)), bad)


def _read_whole(found: Sequence[bytes | None], kind: DataType, place: str) -> _Read:
    assert isinstance(kind, Primitive)
    if kind.name == "binary":
        return _Read(pa.array(found, pa.binary()), [])
    read = _text if kind.name == "string" else lambda value: _number(value, _BITS[kind.name])
    if kind.name == "string":
        try:
            return _Read(pa.array(found, pa.binary()).cast(pa.string()), [])
        except pa.ArrowInvalid:
            pass  # which one, is found out one by one
    values: list[Any] = []
    bad: list[BadValue] = []
    for index, value in enumerate(found):
        try:
            values.append(None if value is None else read(value))
        except ValueError as error:
            values.append(None)
            code, expected = error.args
            bad.append(BadValue(index, code, f"{place}: found {_show(value)}, expected {expected}"))
    return _Read(pa.array(values, arrow_type(kind)), bad)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValueError("invalid_utf8", "UTF-8 text") from None


def _number(value: bytes, bits: int) -> int:
    if not _NUMBER.fullmatch(value):
        raise ValueError("wrong_type", "text of an integer")
    number = int(value)
    if not -(2**bits) <= number < 2**bits:
        raise ValueError("out_of_range", f"an integer of {bits + 1} bits")
    return number


def _show(value: bytes | None) -> str:
    return repr(value if value is None or len(value) <= _SHOWN_BYTES else value[:_SHOWN_BYTES] + b"...")
