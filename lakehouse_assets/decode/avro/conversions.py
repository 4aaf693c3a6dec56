"""How one Avro value, or many, become a declared primitive: promotion, logical types, text.

Each conversion stands here twice, for one value (which says why it is refused) and for many (which only doubts some), side by
side. What is raw: integers, floats and booleans as such; string, bytes and fixed as bytes; an enum as the number of its symbol.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_assets.decode.avro.decimals import decimals, digits
from lakehouse_assets.decode.avro.schema import Enum, Node, Scalar
from lakehouse_assets.decode.avro.values import Conversion, Doubt, Integers, Spans, convert_each
from lakehouse_assets.decode.columns import arrow_type
from lakehouse_assets.decode.rules import (
    MAX_MICROS,
    MICROS_PER_EPOCH_UNIT,
    MIN_MICROS,
    Rejected,
    bytes_of_uuid,
    days_of_date,
    decimal_of_text,
    micros_of_time,
    micros_of_timestamp,
)
from lakehouse_assets.decode.wire import Suspects, Unproven, convert_texts
from lakehouse_assets.model.types import DataType, Primitive

MIN_DAYS, MAX_DAYS = -719_162, 2_932_896  # 0001-01-01, 9999-12-31
_DAY_MICROS = 86_400_000_000
_INFINITE_NANOS = 2**63 - 1000 * _DAY_MICROS  # from here on, Debezium's nanoseconds stand for an infinite time
_ZONE_SUFFIX = "Z"


@dataclass(frozen=True, slots=True)
class Target:
    """What is to come of a value. `reader` is its type in the schema that the columns come from, where they do."""

    type: DataType
    epoch: str | None = None
    reader: Node | None = None


def find_conversion(node: Scalar | Enum, target: Target) -> Conversion | None:
    """How `node` becomes the target; None: it never does."""
    if not isinstance(target.type, Primitive):
        return None
    if isinstance(node, Enum):
        return _enum(node, target.reader) if target.type.name == "string" else None
    node = _as_read(node, target.reader)
    match node.kind:
        case "null":
            to = arrow_type(target.type)
            return Conversion(lambda raw, _: pa.nulls(len(raw), to), lambda _: None)
        case "boolean":
            return _PLAIN if target.type.name == "boolean" else None
        case "int" | "long" if target.type.name == "boolean":
            return _BOOLEANS
        case "int" | "long":
            return _from_integer(node, target)
        case "float" | "double":
            return _from_float(node, target.type)
        case "string":
            return _from_text(node, target) or _from_bytes(node, target.type)
        case _:
            return _from_bytes(node, target.type)


def _as_read(node: Scalar, reader: Node | None) -> Scalar:
    """The type with the reader's meaning, where the writer gave it none."""
    if node.logical or not isinstance(reader, Scalar) or not reader.logical:
        return node
    grows = (node.kind, reader.kind) in (("int", "long"), ("string", "bytes"), ("bytes", "string"))
    same = node.kind == reader.kind and node.size == reader.size
    return reader if grows or same else node


_PLAIN = Conversion(lambda raw, _: pa.array(raw), lambda raw: raw)


def _many_booleans(raw: Integers, doubt: Doubt) -> pa.Array:
    outside = (raw < 0) | (raw > 1)
    if outside.any():
        doubt(outside)
    return pa.array(raw == 1)


def _one_boolean(raw: int) -> bool:
    if raw not in (0, 1):
        raise Rejected("out_of_range", "true or false, or 1 or 0")
    return raw == 1


_BOOLEANS = Conversion(_many_booleans, _one_boolean)  # MySQL's are numbers


def _enum(node: Enum, reader: Node | None) -> Conversion:
    known: list[str | None] = list(node.symbols)
    if isinstance(reader, Enum):
        known = [symbol if symbol in reader.symbols else reader.default for symbol in node.symbols]
    texts = pa.array(known, pa.string())
    is_unknown = np.array([symbol is None for symbol in known])

    def many(raw: Integers, doubt: Doubt) -> pa.Array:
        if is_unknown.any():
            doubt(is_unknown[raw])
        return texts.take(pa.array(raw))

    def one(raw: int) -> str:
        symbol = known[raw]
        if symbol is None:
            raise Rejected("out_of_range", "a symbol that the newest schema knows")
        return symbol

    return Conversion(many, one)


def _from_integer(node: Scalar, target: Target) -> Conversion | None:
    assert isinstance(target.type, Primitive)
    name, logical = target.type.name, node.logical or ""
    is_local, unit = logical.startswith("local-"), logical.rpartition("-")[2]
    match name:
        case "date":
            return _integers(MIN_DAYS, MAX_DAYS, "a day in the years 1 to 9999", target.type) if logical == "date" else None
        case "time" if logical == "time-nanos":
            return _nanos(target.type, 0, 1000 * _DAY_MICROS - 1, "a time within a day")
        case "time" if logical.startswith("time-"):
            return _scaled(_FACTORS[unit], 0, _DAY_MICROS - 1, "a time within a day", target.type)
        case "timestamptz" | "timestamp" if logical == "timestamp-nanos" and node.is_local:
            return _nanos(target.type, 1 - _INFINITE_NANOS, _INFINITE_NANOS - 1, "a time that is not infinite")
        case "timestamptz" | "timestamp" if "timestamp" in logical and not (is_local and name == "timestamptz"):
            return _nanos(target.type) if unit == "nanos" else _instants(_FACTORS[unit], target.type)
        case "timestamptz" | "timestamp" if not logical and target.epoch:
            return _instants(MICROS_PER_EPOCH_UNIT[target.epoch], target.type)
        case "int" if node.kind == "int":
            return _integers(-(2**31), 2**31 - 1, "an integer of 32 bits", target.type)
        case "long":
            return _PLAIN
        case "float":
            return Conversion(lambda raw, _: pa.array(raw.astype(np.float32)), lambda raw: float(np.float32(np.int64(raw))))
        case "double":
            return Conversion(lambda raw, _: pa.array(raw.astype(np.float64)), float)
        case _:
            return None


_FACTORS = {"millis": 1_000, "micros": 1}


def _integers(low: int, high: int, expected: str, kind: Primitive) -> Conversion:
    return _scaled(1, low, high, expected, kind)


def _instants(factor: int, kind: Primitive) -> Conversion:
    return _scaled(factor, MIN_MICROS, MAX_MICROS, "a time in the years 1 to 9999", kind)


def _scaled(factor: int, low: int, high: int, expected: str, kind: Primitive) -> Conversion:
    """Integers times `factor`, from `low` to `high`."""
    least, most = -(-low // factor), high // factor
    to = arrow_type(kind)
    narrow = np.int32 if kind.name in ("int", "date") else np.int64

    def many(raw: Integers, doubt: Doubt) -> pa.Array:
        outside = (raw < least) | (raw > most)
        if outside.any():
            doubt(outside)
            raw = np.where(outside, 0, raw)
        return pa.array((raw * factor if factor != 1 else raw).astype(narrow, copy=False)).view(to)

    def one(raw: int) -> int:
        if not least <= raw <= most:
            raise Rejected("out_of_range", expected)
        return raw * factor

    return Conversion(many, one)


def _nanos(kind: Primitive, low: int = -(2**63), high: int = 2**63 - 1, expected: str = "") -> Conversion:
    """Digits past microseconds are cut, as everywhere; 64 bits of nanoseconds stay within the years 1677 to 2262."""
    to = arrow_type(kind)

    def many(raw: Integers, doubt: Doubt) -> pa.Array:
        outside = (raw < low) | (raw > high)
        if outside.any():
            doubt(outside)
            raw = np.where(outside, 0, raw)
        return pa.array(raw // 1000).view(to)

    def one(raw: int) -> int:
        if not low <= raw <= high:
            raise Rejected("out_of_range", expected)
        return raw // 1000

    return Conversion(many, one)


def _from_float(node: Scalar, kind: Primitive) -> Conversion | None:
    match kind.name:
        case "double":
            return Conversion(lambda raw, _: pa.array(raw.astype(np.float64)), float)
        case "float" if node.kind == "float":
            return _PLAIN
        case "decimal":
            return _decimals_of_floats(node, kind)
        case _:
            return None


def _decimals_of_floats(node: Scalar, kind: Primitive) -> Conversion:
    """The shortest decimal that is this float and no other, as JSON would have it; never rounded further."""
    narrow = np.float32 if node.kind == "float" else np.float64

    def one(raw: float) -> Any:
        return decimal_of_text(str(narrow(raw)), *kind.parameters)

    return Conversion(lambda raw, doubt: convert_each(raw.tolist(), one, arrow_type(kind), doubt), one)


def _from_text(node: Scalar, target: Target) -> Conversion | None:
    """Text of a value, by the rules for JSON's. Debezium ends text of a column without a zone in Z all the same."""
    assert isinstance(target.type, Primitive)
    kind = target.type
    reads: dict[str, Callable[[str], Any]] = {
        "uuid": bytes_of_uuid,
        "date": days_of_date,
        "time": micros_of_time,
        "timestamp": lambda text: micros_of_timestamp(text, with_zone=False),
        "timestamptz": lambda text: micros_of_timestamp(text, with_zone=True),
        "decimal": lambda text: decimal_of_text(text, *kind.parameters),
    }
    if kind.name not in reads or target.epoch:
        return None
    read, to = reads[kind.name], arrow_type(kind)
    has_suffix = node.logical in _SUFFIXED and kind.name != "timestamptz"

    def many(raw: Spans, doubt: Doubt) -> pa.Array:
        texts = _texts(raw, doubt)
        if has_suffix:
            texts = pc.replace_substring_regex(texts, f"{_ZONE_SUFFIX}$", "")
        if kind.name == "decimal":
            return convert_each(texts.to_pylist(), read, to, doubt)
        suspects = Suspects(np.zeros(len(texts), np.bool_))
        try:
            converted = convert_texts(texts, kind, suspects)
        except Unproven:
            suspects.rows[:] = True
            converted = pa.nulls(len(texts), to)
        if suspects.rows.any():
            doubt(suspects.rows)
        return converted

    return Conversion(many, lambda raw: read(_text(raw).removesuffix(_ZONE_SUFFIX) if has_suffix else _text(raw)))


_SUFFIXED = ("date-text", "time-text", "clock-text", "timestamp-text")


def _texts(raw: Spans, doubt: Doubt) -> pa.Array:
    octets = raw.to_array()
    try:
        return octets.cast(pa.string())
    except pa.ArrowInvalid:
        values = octets.to_pylist()
    wrong = np.array([not _is_text(value) for value in values])
    doubt(wrong)
    return pa.array([b"" if bad else value for value, bad in zip(values, wrong, strict=True)], pa.binary()).cast(pa.string())


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Rejected("invalid_utf8", "UTF-8 text") from error


def _from_bytes(node: Scalar, kind: Primitive) -> Conversion | None:
    size = node.size
    match kind.name:
        case "decimal" if node.logical == "decimal":
            return decimals(node, *kind.parameters)
        case "uuid" if node.kind == "fixed" and node.logical == "uuid":
            return Conversion(lambda raw, _: pa.ExtensionArray.from_storage(pa.uuid(), _fixed(raw, size)), bytes)
        case "fixed" if node.kind == "fixed" and kind.parameters == (size,):
            return Conversion(lambda raw, _: _fixed(raw, size), bytes)
        case "binary":
            return Conversion(lambda raw, _: raw.to_array(), bytes)
        case "string" if node.logical == "decimal":
            return digits(node.scale)
        case "string" if node.kind in ("string", "bytes"):
            return Conversion(_texts, _text)
        case _:
            return None


def _fixed(raw: Spans, size: int) -> pa.Array:
    octets = raw.to_matrix(size)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(octets), [None, pa.py_buffer(octets.tobytes())])
