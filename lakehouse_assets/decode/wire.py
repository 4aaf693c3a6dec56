"""How declared columns look to Arrow's JSON reader, and how what it read becomes the declared types.

The reader checks kinds, integer ranges and duplicates of declared keys. What it is lenient about
(infinite floats, decimals that outgrow their precision) is checked here, and what it can't read (times,
uuid, base64) is read as text and converted here, a whole array at a time. A conversion either proves
every row but the named suspects, or raises `Unproven`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_assets.decode.columns import Column, arrow_type
from lakehouse_assets.decode.nested import with_items, with_members
from lakehouse_assets.decode.rules import (
    DATE_PATTERN,
    MAX_MICROS,
    MICROS_PER_EPOCH_UNIT,
    MIN_MICROS,
    MIN_TIME_LENGTH,
    MIN_TIMESTAMP_LENGTH,
    TIME_PATTERN,
    TIMESTAMP_PATTERN,
    TIMESTAMPTZ_PATTERN,
    Rejected,
    bytes_of_base64,
)
from lakehouse_assets.model.types import DataType, ListType, MapType, Primitive, StructType

_MIN_DAYS = -719_162  # 0001-01-01
_UUID_TEXT_LENGTH = 36
_NIL_UUID = "00000000-0000-0000-0000-000000000000"
_HYPHENS = [8, 13, 18, 23]
_DIGITS = [place for place in range(_UUID_TEXT_LENGTH) if place not in _HYPHENS]
_NO_DIGIT = 255
_DIGIT_VALUES = np.full(256, _NO_DIGIT, np.uint8)
_DIGIT_VALUES[np.frombuffer(b"0123456789abcdefABCDEF", np.uint8)] = [*range(16), *range(10, 16)]


class Unproven(Exception):
    """Some row of the array breaks a rule, and which one is not known."""


@dataclass(slots=True)
class Suspects:
    """Rows that only the exact decoder may judge."""

    rows: npt.NDArray[np.bool_]

    def add(self, mask: pa.Array) -> None:
        """Adds the rows where `mask` is true; null counts as false."""
        self.rows |= pc.fill_null(mask, False).to_numpy(zero_copy_only=False)


def plan_wire_schema(columns: Sequence[Column]) -> pa.Schema | None:
    """The schema for Arrow's JSON reader, or None where it can't: maps, a column inside another."""
    root: dict[str, object] = {}
    for column in columns:
        wire = _wire_type(column.type, column.epoch)
        node = root
        for key in column.path[:-1]:
            child = node.setdefault(key, {})
            if not isinstance(child, dict):
                return None
            node = child
        if wire is None or node.setdefault(column.path[-1], wire) != wire:
            return None
    return pa.schema(_fields_of(root)) if root else None


def _fields_of(node: dict[str, object]) -> list[pa.Field]:
    return [
        pa.field(key, pa.struct(_fields_of(child)) if isinstance(child, dict) else child)
        for key, child in node.items()
    ]


def _wire_type(declared: DataType, epoch: str | None = None) -> pa.DataType | None:
    match declared:
        case MapType() | StructType(()):
            return None
        case ListType(element):
            item = _wire_type(element)
            return None if item is None else pa.list_(item)
        case StructType(fields):
            members = [(field.name, _wire_type(field.type)) for field in fields]
            return None if any(wire is None for _, wire in members) else pa.struct(members)
        case Primitive("boolean" | "int" | "long" | "float" | "double" | "decimal" | "string"):
            return arrow_type(declared)
        case _:
            return pa.string() if epoch is None else pa.int64()


def convert_column(table: pa.Table, column: Column, suspects: Suspects) -> pa.Array:
    """The column's array from the table as read; rows not proved are added to `suspects`.

    Raises `Unproven`.
    """
    found = table.column(column.path[0])
    array = found.chunk(0) if found.num_chunks == 1 else found.combine_chunks()
    if len(column.path) > 1:
        array = pc.struct_field(array, list(column.path[1:]))
    converted = (
        _convert_epoch(array, column, suspects) if column.epoch else _convert(array, column.type, suspects)
    )
    if column.required and array.null_count:
        suspects.add(array.is_null())
    return converted


def convert_texts(texts: pa.Array, declared: Primitive, suspects: Suspects) -> pa.Array:
    """Text of dates, times and uuids as the declared type; rows not proved are added to `suspects`.

    Raises `Unproven`.
    """
    return _convert_primitive(texts, declared.name, declared.parameters, suspects)


def _convert_epoch(array: pa.Array, column: Column, suspects: Suspects) -> pa.Array:
    factor = MICROS_PER_EPOCH_UNIT[column.epoch or ""]
    array = within(array, -(-MIN_MICROS // factor), MAX_MICROS // factor, suspects)
    micros = array if factor == 1 else pc.multiply(array, factor)
    return micros.cast(arrow_type(column.type))


def within(array: pa.Array, low: object, high: object, suspects: Suspects) -> pa.Array:
    """The array with values outside of low to high nulled and suspected."""
    bounds = pc.min_max(array).as_py()
    if bounds["min"] is None or (bounds["min"] >= low and bounds["max"] <= high):
        return array
    low_scalar, high_scalar = pa.scalar(low, array.type), pa.scalar(high, array.type)
    outside = pc.or_(pc.less(array, low_scalar), pc.greater(array, high_scalar))
    suspects.add(outside)
    return pc.if_else(outside, pa.scalar(None, array.type), array)


def _convert(array: pa.Array, declared: DataType, suspects: Suspects) -> pa.Array:
    match declared:
        case ListType(element):
            items = _convert_inside(array.values, element)
            return array if items is array.values else with_items(array, items, arrow_type(declared))
        case StructType(fields):
            members = [_convert_inside(array.field(place), field.type) for place, field in enumerate(fields)]
            return with_members(array, members, arrow_type(declared))
        case Primitive(name, parameters):
            return _convert_primitive(array, name, parameters, suspects)
        case MapType():
            raise Unproven


def _convert_inside(array: pa.Array, declared: DataType) -> pa.Array:
    suspects = Suspects(np.zeros(len(array), np.bool_))
    converted = _convert(array, declared, suspects)
    if suspects.rows.any():
        raise Unproven
    return converted


def _convert_primitive(
    array: pa.Array, name: str, parameters: tuple[int, ...], suspects: Suspects
) -> pa.Array:
    match name:
        case "boolean" | "int" | "long" | "string":
            return array
        case "float" | "double":
            return _finite(array, suspects)
        case "decimal":
            precision, scale = parameters
            largest = Decimal(10**precision - 1).scaleb(-scale)
            return within(array, -largest, largest, suspects)
        case "date":
            return _dates(array, suspects)
        case "time":
            return _times(array, suspects)
        case "timestamp" | "timestamptz":
            return _timestamps(array, name, suspects)
        case "uuid":
            return _uuids(array, suspects)
        case _:
            return _base64(array, parameters[0] if parameters else None, suspects)


def _finite(array: pa.Array, suspects: Suspects) -> pa.Array:
    finite = pc.is_finite(array)
    if finite.false_count:
        suspects.add(pc.invert(finite))
    return array


def _dates(texts: pa.Array, suspects: Suspects) -> pa.Array:
    days = _cast_text(texts, DATE_PATTERN, pa.date32(), suspects)
    return within(days.cast(pa.int32()), _MIN_DAYS, 2**31 - 1, suspects).cast(pa.date32())


def _times(texts: pa.Array, suspects: Suspects) -> pa.Array:
    texts = _long_enough(texts, MIN_TIME_LENGTH, suspects)
    stamps = pc.binary_join_element_wise("1970-01-01T", texts, "")
    micros = _cast_text(stamps, f"1970-01-01T{TIME_PATTERN}", pa.timestamp("us"), suspects).cast(pa.int64())
    return micros.cast(pa.time64("us"))


def _timestamps(texts: pa.Array, name: str, suspects: Suspects) -> pa.Array:
    texts = _long_enough(texts, MIN_TIMESTAMP_LENGTH, suspects)
    pattern = TIMESTAMPTZ_PATTERN if name == "timestamptz" else TIMESTAMP_PATTERN
    to = arrow_type(Primitive(name))
    micros = _cast_text(texts, pattern, to, suspects).cast(pa.int64())
    return within(micros, MIN_MICROS, MAX_MICROS, suspects).cast(to)


def _long_enough(texts: pa.Array, length: int, suspects: Suspects) -> pa.Array:
    """Arrow reads `2026-11-01T14` and a bare date as times too; those are no texts of ours."""
    return keep_where(pc.greater_equal(pc.binary_length(texts), length), texts, suspects)


def keep_where(mask: pa.Array, array: pa.Array, suspects: Suspects) -> pa.Array:
    """The array with the values where `mask` is false nulled and suspected."""
    if not mask.false_count:
        return array
    suspects.add(pc.invert(mask))
    return pc.if_else(mask, array, pa.scalar(None, array.type))


def _cast_text(texts: pa.Array, pattern: str, to: pa.DataType, suspects: Suspects) -> pa.Array:
    try:
        return texts.cast(to)
    except pa.ArrowInvalid:
        pass
    matching = keep_where(pc.match_substring_regex(texts, f"^(?:{pattern})$"), texts, suspects)
    cut = pc.replace_substring_regex(matching, r"(\.[0-9]{6})[0-9]+", r"\1")
    try:
        return cut.cast(to)
    except pa.ArrowInvalid as error:
        raise Unproven from error


def _uuids(texts: pa.Array, suspects: Suspects) -> pa.Array:
    nulls = texts.is_null() if texts.null_count else None
    filled = keep_where(pc.equal(pc.binary_length(texts), _UUID_TEXT_LENGTH), texts, suspects)
    filled = pc.fill_null(filled, _NIL_UUID) if filled.null_count else filled
    start = np.frombuffer(filled.buffers()[1], np.int32)[filled.offset] if len(filled) else 0
    size = len(filled) * _UUID_TEXT_LENGTH
    characters = np.frombuffer(filled.buffers()[2] or b"", np.uint8)[start : start + size].reshape(
        -1, _UUID_TEXT_LENGTH
    )
    digits = _DIGIT_VALUES[characters[:, _DIGITS]]
    suspects.rows |= (digits == _NO_DIGIT).any(axis=1) | (characters[:, _HYPHENS] != ord("-")).any(axis=1)
    octets = (digits[:, ::2] << 4) | digits[:, 1::2]
    storage = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(filled), [None, pa.py_buffer(octets.tobytes())]
    )
    if nulls is not None:
        storage = pc.if_else(nulls, pa.scalar(None, pa.binary(16)), storage)
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


def _base64(texts: pa.Array, length: int | None, suspects: Suspects) -> pa.Array:
    decoded: list[bytes | None] = []
    for row, text in enumerate(texts.to_pylist()):
        try:
            decoded.append(None if text is None else bytes_of_base64(text, length))
        except Rejected:
            decoded.append(None)
            suspects.rows[row] = True
    return pa.array(decoded, pa.binary() if length is None else pa.binary(length))
