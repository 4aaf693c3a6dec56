"""How a value of a result is written: exactly, as text that neither a terminal nor a JSON reader takes for something else."""

import base64
import json
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa


def read_rows(batch: pa.RecordBatch) -> list[tuple[Any, ...]]:
    """Rows of values that JSON has: see `plain`."""
    columns = [[plain(value, column.type) for value in column.to_pylist()] for column in batch.columns]
    return list(zip(*columns, strict=True)) if columns else []


def plain(value: Any, kind: pa.DataType) -> Any:
    """A value as JSON has it, nothing lost: decimals with a fraction, times and what JSON has no number for are text.

    Bytes are base64. A map is an object if its keys are text, else a list of pairs.
    """
    if value is None:
        return None
    if pa.types.is_struct(kind):
        return {field.name: plain(value[field.name], field.type) for field in kind}
    if pa.types.is_map(kind):
        pairs = [(plain(key, kind.key_type), plain(item, kind.item_type)) for key, item in value]
        return dict(pairs) if all(isinstance(key, str) for key, _ in pairs) else [list(pair) for pair in pairs]
    if isinstance(value, list):
        return [plain(item, kind.value_type) for item in value]
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> Any:
    match value:
        case bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value).replace("inf", "Infinity").replace("nan", "NaN")
        case Decimal():
            return int(value) if value.as_tuple().exponent == 0 else f"{value:f}"
        case bytes():
            return base64.b64encode(value).decode()
        case _ if hasattr(value, "isoformat"):
            return value.isoformat().replace("+00:00", "Z")
        case _:
            return str(value)


def as_text(value: Any) -> str:
    """A plain value in one line of text. Control characters are escaped: a message must not steer a terminal."""
    if value is None:
        return "NULL"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
