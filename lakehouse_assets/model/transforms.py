"""Iceberg's partition transforms as people write them, and which types each of them takes.

Hides the grammar of `day(event_time)`, `bucket(16, user_id)` and bare `country`, and the rules of the Iceberg
spec, section "Partition Transforms".
"""

import re

from lakehouse_assets.model.mistakes import Mistake, describe, nearest
from lakehouse_assets.model.types import PRIMITIVE_NAMES, DataType, Primitive

_DATES = ("date", "timestamp", "timestamptz")
_SOURCES = {
    "identity": PRIMITIVE_NAMES,
    "year": _DATES,
    "month": _DATES,
    "day": _DATES,
    "hour": ("timestamp", "timestamptz"),
    "bucket": (
        "int",
        "long",
        "decimal",
        "date",
        "time",
        "timestamp",
        "timestamptz",
        "string",
        "uuid",
        "fixed",
        "binary",
    ),
    "truncate": ("int", "long", "decimal", "string", "binary"),
}
TRANSFORM_NAMES = tuple(_SOURCES)
TIME_TRANSFORMS = ("year", "month", "day", "hour")
PARTITION_FIELD_PATTERN = (
    r"^\s*([A-Za-z_][A-Za-z0-9_]*|(identity|year|month|day|hour)\(\s*[A-Za-z_][A-Za-z0-9_]*\s*\)"
    r"|(bucket|truncate)\(\s*[0-9]+\s*,\s*[A-Za-z_][A-Za-z0-9_]*\s*\))\s*$"
)
_WITH_PARAMETER = {
    "bucket": "the number of buckets, as bucket(16, column)",
    "truncate": "a width, as truncate(4, column)",
}
_FORM = re.compile(r"\s*(\w+)\s*(?:\(([^()]*)\))?\s*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ALLOWED = "a column, identity(c), year(c), month(c), day(c), hour(c), bucket(n, c), truncate(n, c)"
_MAX_PARAMETER = 2**31 - 1  # both are 32-bit in Iceberg


def parse_partition_field(value: object) -> tuple[str, str, int | None]:
    """Read `bucket(16, user_id)` as (column, transform, parameter); a bare column is `identity`.

    Raises:
        ValueError: no transform of Iceberg, or not its form.
    """
    match = _FORM.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(Mistake(describe(value), _ALLOWED))
    transform, inner = (match[1], match[2]) if match[2] is not None else ("identity", match[1])
    if transform not in _SOURCES:
        raise ValueError(
            Mistake(f"{transform!r} in {value!r}", _ALLOWED, nearest(transform, TRANSFORM_NAMES))
        )
    arguments = [argument.strip() for argument in inner.split(",")]
    if transform not in _WITH_PARAMETER:
        if len(arguments) != 1 or not _NAME.fullmatch(arguments[0]):
            raise ValueError(Mistake(repr(value), f"one column, as {transform}(column)"))
        return arguments[0], transform, None
    if (
        len(arguments) == 2
        and _NAME.fullmatch(arguments[1])
        and arguments[0].isascii()
        and arguments[0].isdigit()
    ):
        parameter = int(arguments[0][:11])
        if 1 <= parameter <= _MAX_PARAMETER:
            return arguments[1], transform, parameter
    raise ValueError(Mistake(repr(value), f"{_WITH_PARAMETER[transform]}, from 1 to {_MAX_PARAMETER}"))


def name_partition_field(column: str, transform: str, parameter: int | None) -> str:
    """The partition field's name, as PyIceberg makes it: `event_time_day`, `user_id_bucket_16`."""
    match transform:
        case "identity":
            return column
        case "bucket":
            return f"{column}_bucket_{parameter}"
        case "truncate":
            return f"{column}_trunc_{parameter}"
        case _:
            return f"{column}_{transform}"


def list_fitting_types(transform: str) -> tuple[str, ...]:
    """Names of the primitive types that the transform takes."""
    return _SOURCES[transform]


def is_fitting(transform: str, kind: DataType) -> bool:
    """Whether Iceberg defines the transform for values of this type."""
    return isinstance(kind, Primitive) and kind.name in _SOURCES[transform]
