"""Keys of many messages in one call of Arrow's reader."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lakehouse_assets.decode.changes.choosing import ImageForms, find_column, no_suspects
from lakehouse_assets.decode.changes.connect import Wrappers
from lakehouse_assets.decode.changes.decoded import Mask
from lakehouse_assets.decode.changes.encodings import EncodedColumn
from lakehouse_assets.decode.changes.placeholders import find_unavailable
from lakehouse_assets.decode.exact import Unreadable, parse_object
from lakehouse_assets.decode.lines import Doubt, is_strict, join_lines, read_lines
from lakehouse_assets.decode.wire import Unproven

_LESSON_KEYS = 10


@dataclass(frozen=True, slots=True)
class FastKeysRead:
    """An array for each column of the key. Where `proved` is false, nothing is said."""

    arrays: Sequence[pa.Array]
    proved: Mask


class FastKeys:
    """Decodes keys of messages, as far as it can prove them."""

    def __init__(self, columns: Sequence[EncodedColumn], types: Sequence[pa.DataType]) -> None:
        """`columns`: those of the table's key, with their Arrow types."""
        self._wrappers = Wrappers(lambda source: ImageForms(columns, source))
        self._types = types

    def decode(self, keys: Sequence[bytes]) -> FastKeysRead:
        """All keys, at least one."""
        opened = [self._wrappers.open(key) for key in keys]
        forms = opened[0][0]
        if not forms.can_be_read or any(one is not forms for one, _ in opened):
            return self._nothing(len(keys))
        payloads = [payload for _, payload in opened]
        if not forms.is_learnt:
            _learn(forms, payloads)
        found = _read(forms, payloads)
        if found is None and _learn(forms, payloads):
            found = _read(forms, payloads)
        return found or self._nothing(len(keys))

    def _nothing(self, count: int) -> FastKeysRead:
        return FastKeysRead([pa.nulls(count, kind) for kind in self._types], np.zeros(count, np.bool_))


def _learn(forms: ImageForms, keys: Sequence[bytes]) -> bool:
    images = []
    for key in keys[:_LESSON_KEYS]:
        try:
            images.append(parse_object(key))
        except Unreadable:
            continue
    return forms.learn(images)


def _read(forms: ImageForms, keys: Sequence[bytes]) -> FastKeysRead | None:
    joined = join_lines(keys)
    if isinstance(joined, Doubt):
        return None
    block, longest = joined
    try:
        read = read_lines(block, pa.schema(list(forms.plan())), "ignore")
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    if read.num_rows != len(keys) or not is_strict(block, longest, keys):
        return None
    members = {name: read.column(name).combine_chunks() for name in read.column_names}
    suspects = no_suspects(len(keys))
    arrays = []
    try:
        for column, form in forms:
            array = find_column(members, column.path, suspects)
            suspects.rows |= find_unavailable(array, suspects)
            suspects.add(array.is_null())
            if form.takes_text:
                return None
            arrays.append(form.convert(array, suspects))
    except Unproven:
        return None
    return FastKeysRead(arrays, ~suspects.rows)
