"""How values of a database's columns look in messages, and what they are as the declared type: exactly, one at a time.

Debezium writes one type in several ways, by its settings and by the column's precision. Where a message carries a schema, its
names say which; where it does not, the declaration does, and a value that could be read in two ways is refused. Functions here
raise `Rejected` and nothing else; a value is as `decode.exact` reads JSON, and becomes what `build_array` takes.
"""

import re
from base64 import b64encode
from collections.abc import Callable
from decimal import Context, Decimal
from hashlib import md5
from typing import Any, Final, Protocol
from uuid import UUID

from lakehouse_assets.decode.changes.connect import ConnectType
from lakehouse_assets.decode.columns import Column
from lakehouse_assets.decode.exact import (
    PRIMITIVE_READERS,
    Read,
    float_of,
    integer_of,
    list_reader,
    map_reader,
    member_of,
    struct_reader,
    text_of,
)
from lakehouse_assets.decode.kinds import Fraction, Integer
from lakehouse_assets.decode.rules import (
    Rejected,
    bytes_of_base64,
    checked_micros,
    days_of_date,
    decimal_of_text,
    micros_of_time,
    micros_of_timestamp,
)
from lakehouse_assets.model.types import DataType, ListType, MapType, Primitive, StructType

PLACEHOLDER: Final = "__debezium_unavailable_value"
"""What Debezium writes for a large value that an update did not change and PostgreSQL therefore did not log."""
MIN_DAYS, MAX_DAYS = -719_162, 2_932_896  # 0001-01-01, 9999-12-31
DAY_MICROS = 86_400_000_000
NANOS_OF_INFINITY = 2**63 - 86_400 * 10**9  # from here on, nanoseconds stand for an infinite time
UNITS = {"seconds": (1_000_000, 1), "milliseconds": (1_000, 1), "microseconds": (1, 1), "nanoseconds": (1, 1_000)}
"""What an integer is multiplied with, and then divided by, to be microseconds."""

MAX_SCALE = 2**15  # of a decimal that says its own; the other way, too

_CONNECT_UNITS = {
    "io.debezium.time.Time": "milliseconds",
    "io.debezium.time.MicroTime": "microseconds",
    "io.debezium.time.NanoTime": "nanoseconds",
    "io.debezium.time.Timestamp": "milliseconds",
    "io.debezium.time.MicroTimestamp": "microseconds",
    "io.debezium.time.NanoTimestamp": "nanoseconds",
    "org.apache.kafka.connect.data.Time": "milliseconds",
    "org.apache.kafka.connect.data.Timestamp": "milliseconds",
}
CONNECT_DECIMAL = "org.apache.kafka.connect.data.Decimal"
_NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_HEX = re.compile("(?:[0-9a-f]{2})*")
_DIGITS = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_BASE64 = re.compile("(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_URL_SAFE = str.maketrans("-_", "+/")
_MAX_UNSCALED_BYTES = 4096  # about 10,000 digits; more would take long to spell out
_EXACT = Context(prec=100_000)

_PLACEHOLDER_BYTES = PLACEHOLDER.encode()
PLACEHOLDER_TEXTS = frozenset(
    (
        PLACEHOLDER,
        b64encode(_PLACEHOLDER_BYTES).decode(),
        _PLACEHOLDER_BYTES.hex(),
        f'{{"{PLACEHOLDER}":"{PLACEHOLDER}"}}',  # hstore as JSON
    )
)
PLACEHOLDER_ITEMS = PLACEHOLDER_TEXTS | {str(UUID(bytes=md5(_PLACEHOLDER_BYTES, usedforsecurity=False).digest(), version=3))}
_PLACEHOLDER_NUMBERS = list(map(str, _PLACEHOLDER_BYTES))


class EncodedColumn(Column, Protocol):
    """A declared column with what a message without a schema does not say of its values."""

    @property
    def encoding(self) -> str | None:
        """How text is to be read: `text` or `base64` for decimals, `base64` or `hex` for bytes; None: as far as it is clear."""


def is_unavailable(found: Any) -> bool:
    """Whether a value is the placeholder, in the form that it takes for its type."""
    match found:
        case str():
            return found in PLACEHOLDER_TEXTS
        case [str(item)]:
            return item in PLACEHOLDER_ITEMS
        case list():
            return found == _PLACEHOLDER_NUMBERS
        case dict():
            return len(found) == 1 and PLACEHOLDER in found
    return False


def open_reader(column: EncodedColumn, source: ConnectType | None = None) -> Read:
    """Reads a value of the column that is neither null nor the placeholder. `source`: its type where the message says it."""
    return _open(column.type, column.epoch, column.encoding, source)


def _open(declared: DataType, epoch: str | None, encoding: str | None, source: ConnectType | None) -> Read:
    match declared:
        case ListType(element):
            return list_reader(_open(element, epoch, encoding, source.item if source else None))
        case MapType(_, value):
            return map_reader(_open(value, None, encoding, source.item if source else None))
        case StructType(fields):
            member = source.member if source else lambda _: None
            return struct_reader([(one.name, _open(one.type, None, None, member(one.name))) for one in fields])
        case Primitive("decimal", (precision, scale)):
            return lambda found: decimal_of(found, precision, scale, encoding, source)
        case Primitive("fixed", (length,)):
            return lambda found: bytes_of(found, encoding, source, length)
        case Primitive("binary"):
            return lambda found: bytes_of(found, encoding, source)
        case Primitive("timestamp" | "timestamptz" | "time" as name):
            return _moment_reader(name, unit_of(epoch, source))
        case Primitive("string"):
            return lambda found: string_of(found, source)
        case Primitive(name, _):
            return _OTHERS.get(name) or PRIMITIVE_READERS[name]


def unit_of(epoch: str | None, source: ConnectType | None) -> str | None:
    """What integers of a time count: the message says it, or the declaration does, or nobody."""
    return (_CONNECT_UNITS.get(source.name) if source else None) or epoch


def _moment_reader(name: str, unit: str | None) -> Read:
    convert: Callable[[str], int]
    if name == "time":
        convert, check = micros_of_clock, _checked_clock
    else:
        is_local = name == "timestamp"
        convert, check = (local_micros if is_local else zoned_micros), checked_micros
    since = "midnight" if name == "time" else "1970"

    def read_moment(found: Any) -> int:
        if type(found) is str:
            return convert(found)
        if unit is None:
            raise Rejected("unknown_unit", f"text of a {name}; where it is a number, 'epoch' in the declaration says of what")
        number = integer_of(found, f"text of a {name}, or an integer of {unit} since {since}", 2**63)
        return check(micros_of(number, unit))

    return read_moment


def micros_of(number: int, unit: str) -> int:
    """Microseconds of a number of `unit`; what is finer is cut, as in text."""
    if unit == "nanoseconds" and abs(number) >= NANOS_OF_INFINITY:
        raise Rejected("out_of_range", "a time that is not infinite")
    factor, divisor = UNITS[unit]
    return number * factor // divisor


def _checked_clock(micros: int) -> int:
    if not 0 <= micros < DAY_MICROS:
        raise Rejected("out_of_range", "a time of the day")
    return micros


def micros_of_clock(text: str) -> int:
    """Microseconds since midnight; a time with an offset is in UTC, as Debezium writes it."""
    return micros_of_time(text.removesuffix("Z"))


def local_micros(text: str) -> int:
    """Microseconds of a date and time without a zone, which `isostring` ends in Z all the same."""
    return micros_of_timestamp(text.removesuffix("Z"), with_zone=False)


def zoned_micros(text: str) -> int:
    """Microseconds of a date and time with a zone."""
    return micros_of_timestamp(text, with_zone=True)


def _date_of(found: Any) -> int:
    if type(found) is str:
        return days_of_date(found.removesuffix("Z"))
    days = integer_of(found, "text of a date, or an integer of days since 1970", 2**63)
    if not MIN_DAYS <= days <= MAX_DAYS:
        raise Rejected("out_of_range", "a day of the calendar in the years 1 to 9999")
    return days


def _boolean_of(found: Any) -> bool:
    if isinstance(found, bool):
        return found
    number = integer_of(found, "true or false, or 1 or 0", 2)  # MySQL's tinyint(1)
    if number < 0:
        raise Rejected("out_of_range", "1 or 0")
    return number == 1


def _real_of(found: Any, bits: int) -> float:
    return _NOT_FINITE[found] if type(found) is str and found in _NOT_FINITE else float_of(found, bits)


_OTHERS: dict[str, Read] = {
    "date": _date_of,
    "boolean": _boolean_of,
    "float": lambda found: _real_of(found, 32),
    "double": lambda found: _real_of(found, 64),
}


def string_of(found: Any, source: ConnectType | None) -> str:
    """Text; a decimal of any length, for which no other type has the room, as its digits."""
    if isinstance(found, dict) and found.keys() >= {"scale", "value"}:
        return format(_variable_decimal(found), "f")
    text = text_of(found, "a string")
    if source is not None and source.name == CONNECT_DECIMAL:
        return format(unscaled_decimal(text, source.scale or 0), "f")
    return text


def decimal_of(found: Any, precision: int, scale: int, encoding: str | None, source: ConnectType | None) -> Decimal:
    """The exact value of a number, of its text, of base64 of the unscaled number, or of that with the scale beside it."""
    if isinstance(found, (Integer, Fraction)):
        return decimal_of_text(str(found), precision, scale)
    if isinstance(found, dict):
        return fitting_decimal(_variable_decimal(found), precision, scale)
    text = text_of(found, "a number, text of one, or base64")
    is_number, is_base64 = bool(_DIGITS.fullmatch(text)), bool(_BASE64.fullmatch(text))
    if source is not None:
        encoding, scale_there = ("base64" if source.kind == "bytes" else "text"), source.scale
    else:
        scale_there = None
    if encoding is None and is_number and is_base64:
        raise Rejected("ambiguous", "text that is not both a number and base64; 'encoding' in the declaration says which")
    if encoding == "text" or (encoding is None and is_number):
        return decimal_of_text(text, precision, scale)
    if not is_base64:
        raise Rejected("invalid_text", f"a number for decimal({precision}, {scale}), text of one, or base64")
    return fitting_decimal(unscaled_decimal(text, scale if scale_there is None else scale_there), precision, scale)


def _variable_decimal(found: dict[str, Any]) -> Decimal:
    scale = integer_of(member_of(found, "scale"), "a scale beside the value", MAX_SCALE)
    return unscaled_decimal(text_of(member_of(found, "value"), "base64 beside the scale"), scale)


def unscaled_decimal(text: str, scale: int) -> Decimal:
    """The value of base64 of a big-endian number, of which so many digits are behind the point."""
    octets = bytes_of_base64(text, None)
    if not octets:
        raise Rejected("invalid_text", "base64 of a number")
    if len(octets) > _MAX_UNSCALED_BYTES:
        raise Rejected("out_of_range", f"a number of at most {_MAX_UNSCALED_BYTES} bytes")
    return Decimal(int.from_bytes(octets, "big", signed=True)).scaleb(-scale, _EXACT)


def fitting_decimal(value: Decimal, precision: int, scale: int) -> Decimal:
    """The same value with `scale` fractional digits, if it has no more and fits the precision."""
    return decimal_of_text(str(value), precision, scale)


def bytes_of(found: Any, encoding: str | None, source: ConnectType | None, length: int | None = None) -> bytes:
    """The bytes of base64, also of its URL-safe form, or of hex digits; exactly `length` of them unless None."""
    text = text_of(found, "text of bytes")
    if source is not None and source.kind == "bytes":
        encoding = "base64"
    standard = text.translate(_URL_SAFE)
    is_hex, is_base64 = bool(_HEX.fullmatch(text)), bool(_BASE64.fullmatch(standard))
    if encoding is None and text and is_hex and is_base64:
        raise Rejected("ambiguous", "text that is not both hex digits and base64; 'encoding' in the declaration says which")
    if encoding == "base64" or (encoding is None and not is_hex):
        return bytes_of_base64(standard, length)
    if not is_hex:
        raise Rejected("invalid_text", "hex digits")
    octets = bytes.fromhex(text)
    if length is not None and len(octets) != length:
        raise Rejected("out_of_range", f"hex digits of exactly {length} bytes")
    return octets
