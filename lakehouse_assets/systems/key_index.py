"""Finds rows by the value of their key, exactly, whatever its columns and types.

Hides how values are compared: as integers, decimals or bytes, the three forms in which all types that a key may have are equal
where their values are, and ordered as Iceberg's bounds are.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.conversions import from_bytes
from pyiceberg.types import PrimitiveType

Indices = npt.NDArray[np.int64]


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
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return array.cast(pa.int64())
    return array if pa.types.is_decimal(kind) else array.cast(pa.binary())


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


class KeyIndex:
    """Some keys, each once, ordered by their first column."""

    def __init__(self, columns: Sequence[pa.Array], numbers: Indices) -> None:
        """`columns` in comparable form, without nulls; `numbers` are what the keys are called."""
        order = pc.sort_indices(columns[0])
        self._columns = [column.take(order) for column in columns]
        self._numbers = numbers[order.to_numpy()]
        self._steps: list[tuple[pa.Array, Indices | None]] | None = None
        self._key_of: Indices = np.empty(0, np.int64)

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
        self._prepare()
        assert self._steps is not None  # noqa: S101
        rows: Indices | None = None
        codes: Indices = np.empty(0, np.int64)
        for column, (values, pairs) in zip(columns, self._steps, strict=True):
            found = pc.index_in(column if rows is None else column.take(pa.array(rows)), value_set=values)
            hits = pc.indices_nonzero(found.is_valid()).to_numpy().astype(np.int64)
            mine = found.drop_null().to_numpy().astype(np.int64)
            if rows is None or pairs is None:
                rows, codes = hits, mine
                continue
            wanted = codes[hits] * len(values) + mine
            at = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
            is_there = pairs[at] == wanted
            rows, codes = rows[hits][is_there], at[is_there]
        assert rows is not None  # noqa: S101 - a key has a column
        return rows, self._key_of[codes]

    def _prepare(self) -> None:
        """Number the values of each column, then the pairs of what came before and the next column: exact, without hashes."""
        if self._steps is not None:
            return
        self._steps = []
        codes: Indices | None = None
        for column in self._columns:
            encoded = column.dictionary_encode()
            mine = encoded.indices.to_numpy().astype(np.int64)
            if codes is None:
                codes, pairs = mine, None
            else:
                pairs, codes = np.unique(codes * len(encoded.dictionary) + mine, return_inverse=True)
            self._steps.append((encoded.dictionary, pairs))
        assert codes is not None  # noqa: S101
        self._key_of = np.empty(len(self), np.int64)
        self._key_of[codes] = self._numbers

    def _first_value(self, at: int) -> Any:
        return self._columns[0][at].as_py()

    def _part(self, part: slice) -> "KeyIndex":
        chosen = KeyIndex.__new__(KeyIndex)
        chosen._columns = [column[part] for column in self._columns]
        chosen._numbers = self._numbers[part]
        chosen._steps, chosen._key_of = None, np.empty(0, np.int64)
        return chosen


def _meets(column: pa.Array, low: Any, high: Any) -> bool:
    extremes = pc.min_max(column)
    return bool(extremes["min"].as_py() <= high and extremes["max"].as_py() >= low)
