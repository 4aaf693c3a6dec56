"""How MySQL's values become declared types, as those who read its log write them: most as text, some as JSON.

What only Canal does to values (numbers for symbols, bytes as characters) it undoes itself before; here a value is text, a JSON
value, or bytes where it is known to be bytes.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Final

from lakehouse_assets.decode.columns import Column
from lakehouse_assets.decode.exact import Read, Unreadable, parse_value, reader_of
from lakehouse_assets.decode.kinds import Fraction, Integer
from lakehouse_assets.decode.rules import Rejected, bytes_of_base64, bytes_of_uuid, micros_of_timestamp
from lakehouse_assets.model.types import ListType, MapType, Primitive, StructType

_INTEGER = re.compile("-?[0-9]+")
_FRACTION = re.compile(r"-?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")
_BOOLEANS: Final = {"0": False, "1": True, "false": False, "true": True}
_UUID_BYTES = 16
_UUID_CHARACTERS = 36

ReadBytes = Callable[[str], bytes]
"""The bytes that a text stands for, or `Rejected`."""


def read_base64(text: str) -> bytes:
    """Bytes as base64 text."""
    return bytes_of_base64(text, None)


def refuse_text(text: str) -> bytes:
    """Of those who say which columns hold bytes: this one does not."""
    raise Rejected("wrong_type", "a value of a binary or blob column")


def mysql_reader(column: Column, read_bytes: ReadBytes, *, is_utc: bool) -> Read:
    """Reads a value of MySQL's for the column. Raises `Rejected`.

    Args:
        column: What is to come of it.
        read_bytes: What text means where the column takes bytes.
        is_utc: Whether a date and time without an offset is UTC, where the column is a `timestamptz`. Where that is not known,
            such a value is refused.
    """
    read = reader_of(column)
    if column.epoch is not None:
        return lambda found: read(_as_number(found))
    match column.type:
        case ListType() | MapType() | StructType():
            return lambda found: read(_as_json(found))
        case Primitive("boolean", _):
            return _boolean
        case Primitive("int" | "long" | "float" | "double", _):
            return lambda found: read(_as_number(found))
        case Primitive("string", _):
            return _string
        case Primitive("binary", _):
            return lambda found: _bytes(found, read_bytes, None)
        case Primitive("fixed", (length,)):
            return lambda found: _bytes(found, read_bytes, length)
        case Primitive("uuid", _):
            return lambda found: _uuid(found, read_bytes)
        case Primitive("timestamptz", _):
            return lambda found: _instant(found, read, is_utc=is_utc)
        case _:
            return read


def _as_number(found: Any) -> Any:
    """Text of a number as the JSON number that it would be."""
    if type(found) is str:
        if found.isdecimal() and found.isascii():
            return Integer(found)
        if _INTEGER.fullmatch(found):
            return Integer(found)
        if _FRACTION.fullmatch(found):
            return Fraction(found)
    return found


def _as_json(found: Any) -> Any:
    """Text of a JSON column as what it says; the members of a set as they are."""
    if not isinstance(found, str):
        return found
    try:
        return parse_value(found.encode())
    except Unreadable as error:
        raise Rejected("invalid_text", f"JSON text ({error.reason})") from None


def _boolean(found: Any) -> bool:
    """MySQL's booleans are numbers."""
    known = found if isinstance(found, bool) else _BOOLEANS.get(found) if isinstance(found, str) else None
    if known is None:
        raise Rejected("wrong_type", "0 or 1, true or false")
    return known


def _string(found: Any) -> str:
    if isinstance(found, bytes):
        try:
            return found.decode()
        except UnicodeDecodeError as error:
            raise Rejected("invalid_utf8", "UTF-8 text") from error
    return str(found) if isinstance(found, str) else json_text(found)


def json_text(found: Any) -> str:
    """A parsed JSON value as text again, its numbers as they were written."""
    match found:
        case Integer() | Fraction():
            return str(found)
        case dict():
            members = (f"{json.dumps(key, ensure_ascii=False)}:{json_text(item)}" for key, item in found.items())
            return f"{{{','.join(members)}}}"
        case list():
            return f"[{','.join(map(json_text, found))}]"
        case _:
            return json.dumps(found, ensure_ascii=False)


def _bytes(found: Any, read_bytes: ReadBytes, length: int | None) -> bytes:
    octets = found if isinstance(found, bytes) else read_bytes(_text(found))
    if length is not None and len(octets) != length:
        raise Rejected("out_of_range", f"exactly {length} bytes")
    return octets


def _uuid(found: Any, read_bytes: ReadBytes) -> bytes:
    """Text, as char(36), or its bytes, as binary(16)."""
    if isinstance(found, str) and len(found) == _UUID_CHARACTERS:
        return bytes_of_uuid(found)
    return _bytes(found, read_bytes, _UUID_BYTES)


def _instant(found: Any, read: Read, *, is_utc: bool) -> Any:
    if is_utc:
        try:
            return micros_of_timestamp(_text(found), with_zone=False)
        except Rejected as error:
            if error.code != "invalid_text":
                raise
    return read(found)


def _text(found: Any) -> str:
    if type(found) is not str:
        raise Rejected("wrong_type", "text")
    return found
