"""Finds rows by the value of their key, exactly, whatever its columns and types.

Hides how values are compared: as integers, decimals or bytes, the three forms in which all types that a key may have are equal
where their values are, and ordered as Iceberg's bounds are.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.conversions import from_bytes
from pyiceberg.types import PrimitiveType

Indices = npt.NDArray[np.int64]

_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)  # 2**64 divided by the golden ratio: neighbours come to lie far apart


def to_comparable(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The values of a column in the form in which they are compared."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = array.type
    if pa.types.is_date32(kind):
        return array.view(pa.int32()).cast(pa.int64())
    if pa.types.is_timestamp(kind) or pa.types.is_time64(kind):
        return array.view(pa.int64())
    if pa.types.is_floating(kind):
        return _bits(array)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return array.cast(pa.int64())
    return array if pa.types.is_decimal(kind) else array.cast(pa.binary())


def _bits(array: pa.Array) -> pa.Array:
    """Numbers with a fraction as integers that say which they are, and not their order; all that are none are one."""
    values = array.cast(pa.float64())
    return pc.if_else(pc.is_nan(values), pa.scalar(math.nan), values).view(pa.int64())


def from_comparable(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Back to the type of the column."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, values.cast(kind.storage_type))
    if pa.types.is_date32(kind):
        return values.cast(pa.int32()).cast(kind)
    return values.cast(kind)


def read_bound(kind: PrimitiveType, bound: bytes) -> Any:
    """A bound of a column, as a manifest has it, in the same form."""
    value: Any = from_bytes(kind, bound)
    if isinstance(value, str):
        return value.encode()
    return int(value) if isinstance(value, bool) else value


class _Sieve:
    """Tells of most integers that they are none of some, at a fifth of the cost of looking for them."""

    def __init__(self, values: pa.Array) -> None:
        self._shift = np.uint64(64 - min(max(int(len(values)).bit_length() + 5, 10), 24))
        self._is_taken = np.zeros(1 << (64 - int(self._shift)), np.bool_)
        self._is_taken[self._slots(values)] = True

    def candidates(self, column: pa.Array) -> Indices | None:
        """Where in a column any of them may stand; None: anywhere."""
        return None if column.null_count else np.flatnonzero(self._is_taken[self._slots(column)])

    def _slots(self, values: pa.Array) -> "npt.NDArray[np.uint64]":
        slots: npt.NDArray[np.uint64] = (values.to_numpy().view(np.uint64) * _SPREAD) >> self._shift
        return slots


@dataclass(frozen=True, slots=True)
class _Tables:
    """For each column its values and, but for the first, the pairs of what came before and them; which key each of those is."""

    steps: Sequence[tuple[pa.Array, Indices | None]]
    key_of: Indices
    sieve: _Sieve | None


class KeyIndex:
    """Some keys, each once, ordered by their first column."""

    def __init__(self, columns: Sequence[pa.Array], numbers: Indices) -> None:
        """`columns` in comparable form, without nulls; `numbers` are what the keys are called."""
        order = pc.sort_indices(columns[0])
        self._columns = [column.take(order) for column in columns]
        self._numbers = numbers[order.to_numpy()]
        self._tables: _Tables | None = None

    def __len__(self) -> int:
        return len(self._numbers)

    def between(self, bounds: Sequence[tuple[Any, Any] | None]) -> "KeyIndex":
        """Those keys that may stand where each column is within bounds; None: nothing is known of that column."""
        if all(bound is None for bound in bounds):
            return self
        first, stop = 0, len(self)
        if bounds[0] is not None:
            low, high = bounds[0]
            first = bisect_left(range(stop), low, key=self._first_value)
            stop = bisect_right(range(stop), high, key=self._first_value)
        chosen = self if stop - first == len(self) else self._part(slice(first, max(first, stop)))
        for column, bound in zip(chosen._columns[1:], bounds[1:], strict=True):
            if len(chosen) and bound is not None and not _meets(column, *bound):
                return self._part(slice(0, 0))
        return chosen

    def find(self, columns: Sequence[pa.Array]) -> tuple[Indices, Indices]:
        """Where in `columns` (comparable too) keys stand, ascending, and which each is."""
        tables = self._tables or self._prepare()
        rows = tables.sieve.candidates(columns[0]) if tables.sieve is not None else None
        codes: Indices = np.empty(0, np.int64)
        for column, (values, pairs) in zip(columns, tables.steps, strict=True):
            found = pc.index_in(column if rows is None else column.take(pa.array(rows)), value_set=values)
            hits = pc.indices_nonzero(found.is_valid()).to_numpy().astype(np.int64)
            mine = found.drop_null().to_numpy().astype(np.int64)
            rows = hits if rows is None else rows[hits]
            if pairs is None:
                codes = mine
                continue
            wanted = codes[hits] * len(values) + mine
            at = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
            is_there = pairs[at] == wanted
            rows, codes = rows[is_there], at[is_there]
        assert rows is not None  # noqa: S101 - a key has a column
        return rows, tables.key_of[codes]

    def _prepare(self) -> "_Tables":
        """Number the values of each column, then the pairs of what came before and the next column: exact, without hashes."""
        steps: list[tuple[pa.Array, Indices | None]] = []
        codes: Indices | None = None
        for column in self._columns:
            encoded = column.dictionary_encode()
            mine, pairs = encoded.indices.to_numpy().astype(np.int64), None
            if codes is None:
                codes = mine
            else:
                pairs, codes = np.unique(codes * len(encoded.dictionary) + mine, return_inverse=True)
            steps.append((encoded.dictionary, pairs))
        assert codes is not None  # noqa: S101 - a key has a column
        key_of = np.empty(len(self), np.int64)
        key_of[codes] = self._numbers
        sieve = _Sieve(steps[0][0]) if pa.types.is_integer(steps[0][0].type) else None
        self._tables = _Tables(steps, key_of, sieve)
        return self._tables

    def _first_value(self, at: int) -> Any:
        return self._columns[0][at].as_py()

    def _part(self, part: slice) -> "KeyIndex":
        chosen = KeyIndex.__new__(KeyIndex)
        chosen._columns = [column[part] for column in self._columns]
        chosen._numbers = self._numbers[part]
        chosen._tables = None
        return chosen


def _meets(column: pa.Array, low: Any, high: Any) -> bool:
    extremes = pc.min_max(column)
    return bool(extremes["min"].as_py() <= high and extremes["max"].as_py() >= low)
