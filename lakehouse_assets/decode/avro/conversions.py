"""How one Avro value, or many, become a declared primitive: promotion, logical types, text.

Each conversion stands here twice, for one value (which says why it is refused) and for many (which only doubts some), side by
side. What is raw: integers, floats and booleans as such; string, bytes and fixed as bytes; an enum as the number of its symbol.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_assets.decode.avro.schema import Enum, Node, Scalar
from lakehouse_assets.decode.columns import arrow_type
from lakehouse_assets.decode.rules import (
    MAX_MICROS,
    MICROS_PER_EPOCH_UNIT,
    MIN_MICROS,
    Rejected,
    bytes_of_uuid,
    checked_micros,
    days_of_date,
    decimal_of_text,
    micros_of_time,
    micros_of_timestamp,
)
from lakehouse_assets.decode.wire import Suspects, Unproven, convert_texts
from lakehouse_assets.model.types import MAX_DECIMAL_PRECISION, DataType, Primitive

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Doubt = Callable[[Mask], None]
"""Called with what only the exact decoder may judge; what stands there in the array is of no account."""

MIN_DAYS, MAX_DAYS = -719_162, 2_932_896  # 0001-01-01, 9999-12-31
_DAY_MICROS = 86_400_000_000
_WORD_BYTES = 8
_WIDE = Context(prec=2 * MAX_DECIMAL_PRECISION)


@dataclass(frozen=True, slots=True)
class Target:
    """What is to come of a value. `reader` is its type in the schema that the columns come from, where they do."""

    type: DataType
    epoch: str | None = None
    reader: Node | None = None


@dataclass(frozen=True, slots=True)
class Spans:
    """Runs of bytes of one buffer, ascending and apart from each other."""

    data: pa.Buffer
    starts: Integers
    stops: Integers

    def to_array(self) -> pa.Array:
        """As binary."""
        count = len(self.starts)
        # Every run and every gap is a value; one `take` of Arrow's then copies the runs.
        bounds = np.empty(2 * count, np.int32)
        bounds[0::2], bounds[1::2] = self.starts, self.stops
        both = pa.BinaryArray.from_buffers(pa.binary(), max(0, 2 * count - 1), [None, pa.py_buffer(bounds), self.data])
        return both.take(pa.array(np.arange(0, 2 * count, 2)))

    def to_matrix(self, size: int) -> npt.NDArray[np.uint8]:
        """One line of `size` bytes each, from where each begins."""
        octets: npt.NDArray[np.uint8] = np.frombuffer(self.data, np.uint8)[self.starts[:, None] + np.arange(size)]
        return octets


@dataclass(frozen=True, slots=True)
class Conversion:
    """`many(raw, doubt)` gives an Arrow array; `one(raw)` what such an array stores, or raises `Rejected`."""

    many: Callable[[Any, Doubt], pa.Array]
    one: Callable[[Any], Any]


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
        case "int" | "long":
            return _from_integer(node, target)
        case "float" | "double":
            return _from_float(node, target.type.name)
        case "string":
            return _from_text(target) or _from_bytes(node, target.type)
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
        case "time" if logical.startswith("time-"):
            return _scaled(_FACTORS[unit], 0, _DAY_MICROS - 1, "a time within a day", target.type)
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


def _nanos(kind: Primitive) -> Conversion:
    """Digits past microseconds are cut, as everywhere; 64 bits of nanoseconds stay within the years 1677 to 2262."""
    to = arrow_type(kind)
    return Conversion(lambda raw, _: pa.array(raw // 1000).view(to), lambda raw: checked_micros(raw // 1000))


def _from_float(node: Scalar, name: str) -> Conversion | None:
    if name == "double":
        return Conversion(lambda raw, _: pa.array(raw.astype(np.float64)), float)
    return _PLAIN if name == "float" and node.kind == "float" else None


def _from_text(target: Target) -> Conversion | None:
    """Text of a value, by the rules for JSON's."""
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

    def many(raw: Spans, doubt: Doubt) -> pa.Array:
        texts = _texts(raw, doubt)
        if kind.name == "decimal":
            return _one_by_one(texts, read, to, doubt)
        suspects = Suspects(np.zeros(len(texts), np.bool_))
        try:
            converted = convert_texts(texts, kind, suspects)
        except Unproven:
            suspects.rows[:] = True
            converted = pa.nulls(len(texts), to)
        if suspects.rows.any():
            doubt(suspects.rows)
        return converted

    return Conversion(many, lambda raw: read(_text(raw)))


def _one_by_one(texts: pa.Array, read: Callable[[str], Any], to: pa.DataType, doubt: Doubt) -> pa.Array:
    values: list[Any] = []
    refused = np.zeros(len(texts), np.bool_)
    for place, text in enumerate(texts.to_pylist()):
        try:
            values.append(read(text))
        except Rejected:
            values.append(None)
            refused[place] = True
    if refused.any():
        doubt(refused)
    return pa.array(values, to)


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
            return _decimals(node, *kind.parameters)
        case "uuid" if node.kind == "fixed" and node.logical == "uuid":
            return Conversion(lambda raw, _: pa.ExtensionArray.from_storage(pa.uuid(), _fixed(raw, size)), bytes)
        case "fixed" if node.kind == "fixed" and kind.parameters == (size,):
            return Conversion(lambda raw, _: _fixed(raw, size), bytes)
        case "binary":
            return Conversion(lambda raw, _: raw.to_array(), bytes)
        case "string" if node.kind in ("string", "bytes") and node.logical != "decimal":
            return Conversion(_texts, _text)
        case _:
            return None


def _fixed(raw: Spans, size: int) -> pa.Array:
    octets = raw.to_matrix(size)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(octets), [None, pa.py_buffer(octets.tobytes())])


def _decimals(node: Scalar, precision: int, scale: int) -> Conversion:
    """Big-endian two's complement of the unscaled value; never rounded."""
    to = pa.decimal128(precision, scale)
    shift = scale - node.scale
    digits = min(precision - shift, MAX_DECIMAL_PRECISION)  # of the unscaled value, at most

    def many(raw: Spans, doubt: Doubt) -> pa.Array:
        if node.scale > MAX_DECIMAL_PRECISION:
            doubt(np.ones(len(raw.starts), np.bool_))
            return pa.nulls(len(raw.starts), to)
        length, words = raw.stops - raw.starts, _unscaled(raw)
        # A float tells all but those at the very limit.
        wrong = (length < 1) | (length > 2 * _WORD_BYTES) | (_size(words) >= 10.0**digits * (1 - 1e-12))
        words[wrong] = 0
        if shift < 0:
            values = _decimal_array(words, pa.decimal128(MAX_DECIMAL_PRECISION, node.scale))
            cut = values.cast(pa.decimal128(MAX_DECIMAL_PRECISION, scale), safe=False)
            inexact = pc.not_equal(cut.cast(values.type), values).to_numpy(zero_copy_only=False)
            words[inexact] = 0
            wrong |= inexact
        if wrong.any():
            doubt(wrong)
        if shift == 0:
            return _decimal_array(words, to)
        return _decimal_array(words, pa.decimal128(MAX_DECIMAL_PRECISION, node.scale)).cast(to)

    def one(raw: bytes) -> Decimal:
        if not raw:
            raise Rejected("out_of_range", "at least one byte of a decimal")
        unscaled = int.from_bytes(raw, "big", signed=True)
        if shift < 0 and unscaled % 10**-shift:
            raise Rejected("out_of_range", f"at most {scale} digits after the point")
        stored = unscaled * 10**shift if shift >= 0 else unscaled // 10**-shift
        if abs(stored) >= 10**precision:
            raise Rejected("out_of_range", f"at most {precision - scale} digits before the point")
        return Decimal(stored).scaleb(-scale, _WIDE)

    return Conversion(many, one)


def _unscaled(raw: Spans) -> Integers:
    """Two words of 64 bits each, the lower first. Right for values of 1 to 16 bytes; the buffer is longer than its runs."""
    octets = len(raw.data)
    words = np.ndarray((octets - _WORD_BYTES + 1,), ">i8", raw.data, strides=(1,))
    length = np.clip(raw.stops - raw.starts, 1, 2 * _WORD_BYTES)
    is_long = length > _WORD_BYTES
    head = words[raw.starts].astype(np.int64)
    found = np.empty((len(length), 2), np.int64)
    found[:, 0] = head >> (8 * (_WORD_BYTES - np.minimum(length, _WORD_BYTES)))
    found[:, 1] = found[:, 0] >> 63
    if is_long.any():
        found[is_long, 0] = words[raw.stops[is_long] - _WORD_BYTES]
        found[is_long, 1] = head[is_long] >> (8 * (2 * _WORD_BYTES - length[is_long]))
    return found


def _size(words: Integers) -> npt.NDArray[np.float64]:
    low, high = words[:, 0], words[:, 1]
    whole = high.astype(np.float64) * 2.0**64 + low.view(np.uint64)
    # Where one word holds it all, the sum above would cancel out what matters.
    return np.abs(np.where(high == low >> 63, low.astype(np.float64), whole))


def _decimal_array(words: Integers, to: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(to, len(words), [None, pa.py_buffer(words.tobytes())])
