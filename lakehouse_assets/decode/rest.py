"""What of a message no column reads, as one JSON text: its outermost fields that the declaration does not name.

The text of each value is cut out of the message, so that numbers, escapes and the order of fields stay as they were written.
"""

import re
from collections.abc import Iterable, Sequence
from json.decoder import JSONDecoder, scanstring  # type: ignore[attr-defined]  # known to no stub

import pyarrow as pa

from lakehouse_assets.decode.columns import Column
from lakehouse_assets.model.columns import REST_COLUMN

_WHITESPACE = re.compile(r"[ \t\n\r]*")
# Finds the end of a value; converts no number.
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
        at = _skip(text, text.index("{") + 1)
        fields = []
        while text[at] != "}":
            key, colon = scanstring(text, at + 1)
            begin = _skip(text, _skip(text, colon) + 1)
            _, end = _scan(text, begin)
            if key not in self._read:
                fields.append(f"{text[at:colon]}:{text[begin:end]}")
            at = _skip(text, end)
            if text[at] == ",":
                at = _skip(text, at + 1)
        return f"{{{','.join(fields)}}}" if fields else None


def _skip(text: str, at: int) -> int:
    """The place of the next character that is no whitespace."""
    match = _WHITESPACE.match(text, at)
    return match.end() if match is not None else at
