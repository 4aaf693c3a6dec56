"""Finds the placeholders of unavailable values in arrays as Arrow's JSON reader gives them."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_assets.decode.changes.decoded import Mask
from lakehouse_assets.decode.changes.encodings import PLACEHOLDER, PLACEHOLDER_ITEMS, PLACEHOLDER_TEXTS
from lakehouse_assets.decode.wire import Suspects

_TEXTS, _ITEMS = pa.array(sorted(PLACEHOLDER_TEXTS)), pa.array(sorted(PLACEHOLDER_ITEMS))
_LONGER = max(map(len, PLACEHOLDER_TEXTS)) + 1
_IS_LENGTH = np.zeros(_LONGER + 1, np.bool_)
_IS_LENGTH[[len(text) for text in PLACEHOLDER_TEXTS]] = True
_NUMBERS = len(PLACEHOLDER)  # as many as the placeholder has bytes


def find_unavailable(array: pa.Array, suspects: Suspects) -> Mask:
    """Where the array holds the placeholder. Rows that may, and can't be told, are suspected."""
    found = np.zeros(len(array), np.bool_)
    if pa.types.is_string(array.type):
        candidates = np.flatnonzero(_IS_LENGTH[np.minimum(_lengths(array), _LONGER)])
        if len(candidates):
            found[candidates] = _is_in(array, candidates, _TEXTS)
    elif pa.types.is_list(array.type):
        lengths, starts = _lengths(array), np.frombuffer(array.buffers()[1], np.int32)[array.offset :]
        if pa.types.is_string(array.type.value_type):
            single = np.flatnonzero(lengths == 1)
            found[single] = _is_in(array.values, starts[single], _ITEMS)
        elif pa.types.is_integer(array.type.value_type):
            suspects.rows |= lengths == _NUMBERS
    return found


def _lengths(array: pa.Array) -> npt.NDArray[np.int32]:
    offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
    return np.diff(offsets)


def _is_in(array: pa.Array, places: npt.NDArray[np.integer[Any]], values: pa.Array) -> Mask:
    if not len(places):
        return np.zeros(0, np.bool_)
    mask: Mask = pc.is_in(array.take(pa.array(places)), values).to_numpy(zero_copy_only=False)
    return mask
