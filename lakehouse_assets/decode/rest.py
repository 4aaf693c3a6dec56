"""What of a message no column reads, as one JSON text: its outermost fields that the declaration does not name.

The text of each value is cut out of the message, so that numbers, escapes and the order of fields stay as they were written.
"""

import re
from collections.abc import Iterable, Sequence
from json.decoder import JSONDecoder, scanstring  # type: ignore[attr-defined]  # known to no stub

import pyarrow as pa

from lakehouse_assets.decode.columns import Column
from lakehouse_assets.model.columns import REST_COLUMN

_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*"'
# A field of an object that is valid JSON, behind a comma or not; its value unless that is an object or a list.
_FIELD = re.compile(rf"[\s,]*({_STRING})\s*:\s*({_STRING}|[^\s{{\[,}}]+)?", re.DOTALL)
# Finds the end of any value; converts no number.
_scan = JSONDecoder(parse_int=str, parse_float=str).scan_once  # type: ignore[attr-defined]


class RestReader:
    """Adds the column `_rest` to rows of good messages."""

    def __init__(self, columns: Iterable[Column]) -> None:
        """`columns`: those that read fields."""
        self._read = frozenset(column.path[0] for column in columns)

    def add(self, rows: pa.Table, values: Sequence[bytes], indices: Sequence[int], *, has_none: bool = False) -> pa.Table:
        """The rows, which `values[index]` of the ascending `indices` became, with the column; `has_none`: it is null in all."""
        texts = [None] * len(indices) if has_none else [self._text(values[index]) for index in indices]
        array = pa.array(texts, pa.string())
        return rows.append_column(REST_COLUMN, array) if rows.num_columns else pa.table({REST_COLUMN: array})

    def _text(self, value: bytes) -> str | None:
        """The fields of an object that is valid JSON; None where there are none."""
        text = value.decode()
        at = text.index("{") + 1
        fields = []
        while (match := _FIELD.match(text, at)) is not None:
            key, found = match.groups()
            at = match.end()
            if found is None:
                _, end = _scan(text, at)
                found, at = text[at:end], end
            if (scanstring(key, 1)[0] if "\\" in key else key[1:-1]) not in self._read:
                fields.append(f"{key}:{found}")
        return f"{{{','.join(fields)}}}" if fields else None
