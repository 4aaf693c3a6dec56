"""Finds Debezium's placeholders of unavailable values in decoded columns."""

from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_assets.decode.changes.decoded import Mask
from lakehouse_assets.decode.changes.encodings import PLACEHOLDER, PLACEHOLDER_ITEMS, PLACEHOLDER_TEXTS

_TEXTS = pa.array(sorted(PLACEHOLDER_TEXTS))
_UUID_CHARACTERS = 36
_UUIDS = (UUID(item) for item in PLACEHOLDER_ITEMS if len(item) == _UUID_CHARACTERS)
_ITEMS = {*PLACEHOLDER_ITEMS, PLACEHOLDER.encode(), *_UUIDS}
_NUMBERS = list(PLACEHOLDER.encode())


def find_gaps(array: pa.Array) -> Mask | None:
    """Where the column holds the placeholder, in the form that it takes for its type; None: nowhere."""
    kind = array.type
    if pa.types.is_string(kind):
        found = pc.is_in(array, _TEXTS)
    elif pa.types.is_binary(kind):
        found = pc.equal(array, pa.scalar(PLACEHOLDER.encode(), kind))
    elif pa.types.is_list(kind) or pa.types.is_map(kind):
        return _find_in_lists(array)
    else:
        return None
    mask: Mask = pc.fill_null(found, False).to_numpy(zero_copy_only=False)
    return mask if mask.any() else None


def _find_in_lists(array: pa.ListArray | pa.MapArray) -> Mask | None:
    """Lists of the placeholder alone, lists of numbers that are its bytes, maps from the placeholder to itself."""
    offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
    lengths = np.diff(offsets)
    mask = np.zeros(len(array), np.bool_)
    for row in np.flatnonzero((lengths == 1) | (lengths == len(_NUMBERS))).tolist():
        found = array[row].as_py()
        if found is None:
            continue
        if pa.types.is_map(array.type):
            mask[row] = found[0][0] == PLACEHOLDER
        else:
            mask[row] = found == _NUMBERS or (len(found) == 1 and found[0].__hash__ is not None and found[0] in _ITEMS)
    return mask if mask.any() else None
