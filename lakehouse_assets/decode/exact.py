"""The reference decoder: one message at a time, every rule spelled out.

Whatever the fast decoder accepts, this one accepts with the same values; it alone says why a value is bad.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lakehouse_assets.decode.columns import Column, arrow_schema
from lakehouse_assets.decode.decoded import BadValue
from lakehouse_assets.decode.kinds import Fraction, Integer
from lakehouse_assets.decode.nested import build_array
from lakehouse_assets.decode.rules import (
    MAX_DEPTH,
    MICROS_PER_EPOCH_UNIT,
    Rejected,
    bytes_of_base64,
    bytes_of_uuid,
    checked_micros,
    days_of_date,
    decimal_of_text,
    is_too_deep,
    micros_of_time,
    micros_of_timestamp,
)
from lakehouse_assets.decode.unknown import Shape, UnknownCounter
from lakehouse_assets.model.types import DataType, ListType, MapType, Primitive, StructType
from lakehouse_assets.model.unknown import UnknownFields

_SHOWN_CHARACTERS = 40
_MAX_INTEGER_CHARACTERS = len(str(-(2**63)))
_LONE_SURROGATE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F])|.)", re.DOTALL
)

Read = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of some values: a row for each index in `good`, a reason in `bad`, both ascending.

    `unknown`: the fields of the good ones that no column reads.
    """

    table: pa.Table
    good: tuple[int, ...]
    bad: tuple[BadValue, ...]
    unknown: UnknownFields


_NUMBERS = (Integer, Fraction)


class Repeating(dict[str, Any]):
    """An object in which some keys stand more than once."""

    __slots__ = ("repeated",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__()
        self.repeated: set[str] = set()
        for key, value in pairs:
            if key in self:
                self.repeated.add(key)
            self[key] = value


class Unreadable(Exception):
    """A message that can't become a row: a stable code, and one clause of reason."""

    def __init__(self, code: str, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(code, reason)


class ExactDecoder:
    """Decodes JSON messages one by one."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = [(column, reader_of(column)) for column in columns]
        self._schema = arrow_schema(columns)
        self._shape = Shape.of(columns)

    def decode(self, values: Sequence[bytes], indices: Sequence[int]) -> Judged:
        """Judges `values[index]` for each of the ascending `indices`."""
        rows: list[list[Any]] = []
        good: list[int] = []
        bad: list[BadValue] = []
        unknown = UnknownCounter(self._shape)
        for index in indices:
            try:
                message = parse_object(values[index])
                rows.append([_value_of(message, column, read) for column, read in self._columns])
                good.append(index)
                unknown.add(message)
            except Unreadable as error:
                bad.append(BadValue(index, error.code, error.reason))
        items = zip(*rows, strict=True) if rows else ((),) * len(self._schema)
        arrays = [
            build_array(list(column), field.type) for column, field in zip(items, self._schema, strict=True)
        ]
        return Judged(pa.Table.from_arrays(arrays, schema=self._schema), tuple(good), tuple(bad), unknown.result())


def parse_object(value: bytes) -> dict[str, Any]:
    """The object that a message is; its numbers as `Integer` and `Fraction`, objects that repeat a key as `Repeating`.

    Raises:
        Unreadable: it is none, whatever the declaration says.
    """
    message = parse_value(value)
    if not isinstance(message, dict):
        raise Unreadable("not_an_object", f"the value is {describe(message)}, expected a JSON object")
    return message


def parse_value(value: bytes) -> Any:
    """What a JSON text says, as `parse_object` gives it.

    Raises:
        Unreadable: it is no JSON.
    """
    if not value:
        raise Unreadable("empty", "the value is empty, expected a JSON object")
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise Unreadable("invalid_utf8", f"byte {error.start} is no UTF-8 ({error.reason})") from None
    if is_too_deep(value):
        raise Unreadable("too_deep", f"the value nests deeper than {MAX_DEPTH} levels")
    try:
        found = _JSON.decode(text)
    except ValueError as error:
        raise Unreadable("invalid_json", f"the value is no JSON: {error}") from None
    if b"\\u" in value and any(match[1] for match in _LONE_SURROGATE.finditer(value)):
        raise Unreadable("invalid_json", "a string has half of a surrogate pair, expected Unicode text")
    return found


def _collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    collected = dict(pairs)
    return collected if len(collected) == len(pairs) else Repeating(pairs)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


_JSON = json.JSONDecoder(
    object_pairs_hook=_collect, parse_int=Integer, parse_float=Fraction, parse_constant=_refuse_constant
)


def _value_of(message: dict[str, Any], column: Column, read: Read) -> Any:
    found: Any = message
    try:
        for key in column.path:
            if found is None:
                break
            found = found.get(key) if type(found) is dict else member_of(found, key)
        if found is not None:
            return read(found)
    except Rejected as error:
        label = ".".join(column.path)
        reason = f"field {label!r}: found {describe(found)}, expected {error.expected}"
        raise Unreadable(error.code, reason) from None
    if column.required:
        label = ".".join(column.path)
        raise Unreadable("missing_required", f"field {label!r} is missing or null, expected {column.type}")
    return None


def member_of(parent: Any, key: str) -> Any:
    """The member of an object, None where it has none.

    Raises:
        Rejected: it is no object, or has the key more than once.
    """
    if not isinstance(parent, dict):
        raise Rejected("wrong_type", f"an object around {key!r}")
    if isinstance(parent, Repeating) and key in parent.repeated:
        raise Rejected("duplicate_key", f"{key!r} once")
    return parent.get(key)


def describe(found: Any) -> str:
    """What was found, for a reason."""
    match found:
        case None | True | False:
            return json.dumps(found)
        case Integer() | Fraction():
            return f"the number {_shorten(str(found))}"
        case str():
            return f"the string {_shorten(found)!r}"
        case dict():
            return "an object"
        case _:
            return "a list"


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def reader_of(column: Column) -> Read:
    """Reads what stands for the column in a parsed message; the value as an array stores it. Raises `Rejected`."""
    if column.epoch is None:
        return _reader(column.type)
    factor = MICROS_PER_EPOCH_UNIT[column.epoch]
    expected = f"an integer of {column.epoch} since 1970"
    return lambda found: checked_micros(integer_of(found, expected, 2**63) * factor)


def _reader(declared: DataType) -> Read:
    match declared:
        case ListType(element):
            return list_reader(_reader(element))
        case StructType(fields):
            return struct_reader([(field.name, _reader(field.type)) for field in fields])
        case MapType(_, value):  # keys are strings, as in JSON
            return map_reader(_reader(value))
        case Primitive("decimal", (precision, scale)):
            return lambda found: decimal_of_text(_number_or_text(found), precision, scale)
        case Primitive("fixed", (length,)):
            return lambda found: bytes_of_base64(text_of(found, "base64 text"), length)
        case Primitive(name, _):
            return PRIMITIVE_READERS[name]


def list_reader(read: Read) -> Read:
    """Reads lists of what `read` reads."""

    def read_list(found: Any) -> list[Any]:
        if not isinstance(found, list):
            raise Rejected("wrong_type", "a list")
        return [None if item is None else _inside(read, item, "its items") for item in found]

    return read_list


def struct_reader(members: list[tuple[str, Read]]) -> Read:
    """Reads objects with these members."""

    def read_struct(found: Any) -> dict[str, Any]:
        if not isinstance(found, dict):
            raise Rejected("wrong_type", "an object")
        row = {}
        for name, read in members:
            item = member_of(found, name)
            row[name] = None if item is None else _inside(read, item, f"member {name!r}")
        return row

    return read_struct


def map_reader(read: Read) -> Read:
    """Reads objects with any keys, each with what `read` reads."""

    def read_map(found: Any) -> list[tuple[str, Any]]:
        if not isinstance(found, dict):
            raise Rejected("wrong_type", "an object")
        if isinstance(found, Repeating):
            raise Rejected("duplicate_key", f"each key once, but {_shorten(min(found.repeated))!r} repeats")
        return [
            (key, None if item is None else _inside(read, item, f"key {_shorten(key)!r}"))
            for key, item in found.items()
        ]

    return read_map


def _inside(read: Read, item: Any, where: str) -> Any:
    try:
        return read(item)
    except Rejected as error:
        expected = f"{error.expected} in {where}, where {describe(item)} was found"
        raise Rejected(error.code, expected) from None


def text_of(found: Any, expected: str) -> str:
    """A value that must be a string. `expected`: the words for what was asked for."""
    if type(found) is not str:
        raise Rejected("wrong_type", expected)
    return found


def _number_or_text(found: Any) -> str:
    if not isinstance(found, str):
        raise Rejected("wrong_type", "a number, or text of one")
    return str(found)


def integer_of(found: Any, expected: str, limit: int) -> int:
    """A value that must be an integer of at least -`limit`, and below it."""
    if type(found) is not Integer:
        raise Rejected("wrong_type", expected)
    if len(found) > _MAX_INTEGER_CHARACTERS or not -limit <= (number := int(found)) < limit:
        raise Rejected("out_of_range", f"an integer of {limit.bit_length()} bits")
    return number


def float_of(found: Any, bits: int) -> float:
    """A value that must be a number, and finite as a float of so many bits."""
    if not isinstance(found, _NUMBERS):
        raise Rejected("wrong_type", "a number")
    # Arrow's own parser for 32 bits: rounding through Python's 64 would round twice.
    number: float = float(found) if bits == 64 else pa.scalar(str(found)).cast(pa.float32()).as_py()
    if not math.isfinite(number):
        raise Rejected("out_of_range", f"a number that fits a float of {bits} bits")
    return number


def boolean_of(found: Any) -> bool:
    """A value that must be true or false."""
    if not isinstance(found, bool):
        raise Rejected("wrong_type", "true or false")
    return found


PRIMITIVE_READERS: dict[str, Read] = {
    "boolean": boolean_of,
    "int": lambda found: integer_of(found, "an integer", 2**31),
    "long": lambda found: integer_of(found, "an integer", 2**63),
    "float": lambda found: float_of(found, 32),
    "double": lambda found: float_of(found, 64),
    "string": lambda found: text_of(found, "a string"),
    "date": lambda found: days_of_date(text_of(found, "text of a date")),
    "time": lambda found: micros_of_time(text_of(found, "text of a time")),
    "timestamp": lambda found: micros_of_timestamp(text_of(found, "text of a date and time"), with_zone=False),
    "timestamptz": lambda found: micros_of_timestamp(text_of(found, "text of a date and time"), with_zone=True),
    "uuid": lambda found: bytes_of_uuid(text_of(found, "text of a UUID")),
    "binary": lambda found: bytes_of_base64(text_of(found, "base64 text"), None),
}
