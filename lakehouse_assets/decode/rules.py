"""The language of message values that both decoders share: limits, patterns, and text to value.

Times are held as Iceberg holds them: microseconds since 1970 (timestamps) or since midnight (times), days
since 1970 (dates). Functions here raise `Rejected` and nothing else.
"""

import binascii
import re
from datetime import date
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation
from uuid import UUID

MAX_DEPTH = 256
"""Objects and lists inside each other; deeper values are bad. Well below Python's own recursion limit."""

MIN_MICROS = -62_135_596_800_000_000
"""0001-01-01T00:00:00Z."""
MAX_MICROS = 253_402_300_799_999_999
"""9999-12-31T23:59:59.999999Z."""
MICROS_PER_EPOCH_UNIT = {"seconds": 1_000_000, "milliseconds": 1_000, "microseconds": 1}

# The patterns are read by Python's re and by RE2, always against the whole text.
DATE_PATTERN = "[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
TIME_PATTERN = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]+)?)?"
ZONE_PATTERN = "(?:Z|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)"
TIMESTAMP_PATTERN = f"{DATE_PATTERN}[T ]{TIME_PATTERN}"
TIMESTAMPTZ_PATTERN = f"{TIMESTAMP_PATTERN}{ZONE_PATTERN}"
MIN_TIMESTAMP_LENGTH = len("2000-01-01T00:00")
MIN_TIME_LENGTH = len("00:00")

_DATE = re.compile(DATE_PATTERN)
_TIME = re.compile(TIME_PATTERN)
_TIMESTAMP = re.compile(f"({DATE_PATTERN})[T ]({TIME_PATTERN})({ZONE_PATTERN})?")
_UUID = re.compile("[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NESTING = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
_EPOCH_DATE = date(1970, 1, 1)
_EXACT = Context(prec=76, traps=[Inexact, InvalidOperation])


class Rejected(Exception):
    """A value breaks a rule. `code` is the stable identifier, `expected` says what the rule asks for."""

    def __init__(self, code: str, expected: str) -> None:
        self.code, self.expected = code, expected
        super().__init__(code, expected)


def days_of_date(text: str) -> int:
    """Days since 1970-01-01 of `YYYY-MM-DD`, years 1 to 9999."""
    if not _DATE.fullmatch(text):
        raise Rejected("invalid_text", "a date as YYYY-MM-DD")
    return (_calendar_date(text) - _EPOCH_DATE).days


def micros_of_time(text: str) -> int:
    """Microseconds since midnight of `hh:mm[:ss[.f…]]`; digits past microseconds are cut."""
    if not _TIME.fullmatch(text):
        raise Rejected("invalid_text", "a time as hh:mm:ss.ffffff without an offset")
    seconds, _, fraction = text.partition(".")
    parts = [*map(int, seconds.split(":")), 0]
    return (parts[0] * 3600 + parts[1] * 60 + parts[2]) * 1_000_000 + int(fraction[:6].ljust(6, "0"))


def micros_of_timestamp(text: str, *, with_zone: bool) -> int:
    """Microseconds since 1970 of an ISO 8601 date and time; with an offset or `Z` exactly if `with_zone`."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None or (match[3] is not None) != with_zone:
        zone = "with an offset or Z" if with_zone else "without an offset"
        raise Rejected("invalid_text", f"a date and time as YYYY-MM-DDThh:mm:ss.ffffff {zone}")
    day = (_calendar_date(match[1]) - _EPOCH_DATE).days
    local = day * 86_400_000_000 + micros_of_time(match[2])
    return checked_micros(local - _micros_of_zone(match[3] or "Z"))


def _micros_of_zone(zone: str) -> int:
    if zone == "Z":
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    return (-minutes if zone[0] == "-" else minutes) * 60_000_000


def _calendar_date(text: str) -> date:
    try:
        return date(int(text[:4]), int(text[5:7]), int(text[8:10]))
    except ValueError as error:
        raise Rejected("out_of_range", "a day of the calendar in the years 1 to 9999") from error


def checked_micros(micros: int) -> int:
    """`micros` since 1970 if it lies in the years 1 to 9999, which is what every reader can show."""
    if not MIN_MICROS <= micros <= MAX_MICROS:
        raise Rejected("out_of_range", "a time in the years 1 to 9999")
    return micros


def bytes_of_uuid(text: str) -> bytes:
    """The 16 bytes of a UUID in its 36-character form, either case."""
    if not _UUID.fullmatch(text):
        raise Rejected("invalid_text", "a UUID of 36 characters")
    return UUID(text).bytes


def bytes_of_base64(text: str, length: int | None) -> bytes:
    """The bytes of padded standard base64, exactly `length` of them unless None."""
    try:
        decoded = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except ValueError as error:  # binascii.Error and UnicodeEncodeError are both ValueErrors
        raise Rejected("invalid_text", "base64 text") from error
    if length is not None and len(decoded) != length:
        raise Rejected("out_of_range", f"base64 of exactly {length} bytes")
    return decoded


def decimal_of_text(text: str, precision: int, scale: int) -> Decimal:
    """The exact value with `scale` fractional digits; never rounded."""
    if not _DECIMAL.fullmatch(text):
        raise Rejected("invalid_text", f"a number for decimal({precision}, {scale})")
    try:
        value = Decimal(text)
        if value and value.adjusted() >= precision - scale:
            raise Rejected("out_of_range", f"at most {precision - scale} digits before the point")
        digits = value.quantize(Decimal(1).scaleb(-scale), context=_EXACT) if value else Decimal(0)
    except DecimalException as error:
        raise Rejected("out_of_range", f"at most {scale} digits after the point") from error
    return digits


def is_too_deep(document: bytes) -> bool:
    """Whether brackets outside of strings nest deeper than `MAX_DEPTH`. Right for valid JSON."""
    if len(document) <= 2 * MAX_DEPTH or document.count(b"{") + document.count(b"[") <= MAX_DEPTH:
        return False
    depth = 0
    for match in _NESTING.finditer(document):
        token = match[0]
        if token in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif token in b"]}":
            depth -= 1
    return False
