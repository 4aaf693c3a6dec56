"""What JSON values seem to be: a type that holds all that were seen of a field, as far as there is one.

A kind is plain: None (only nulls), the name of a primitive type, a `ListKind`, an `ObjectKind`, a `KeyedKind`, or MIXED.
Bounded, however many keys and items values have.
"""

import re
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from typing import Any, Final, Union

import pyarrow as pa

MIXED: Final = "mixed"
_LONG = range(-(2**63), 2**63)
_HUGE = "decimal(38, 0)"
_DIGITS = 38
_MAX_MEMBERS, _MAX_ITEMS, _MAX_TEXT = 64, 100, 300
_IDENTIFIER = re.compile("[A-Za-z_][A-Za-z0-9_]*")


class Integer(str):
    """Text of a JSON number without fraction and exponent."""

    __slots__ = ()


class Fraction(str):
    """Text of a JSON number with a fraction or an exponent."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ListKind:
    """A list of such items."""

    item: "Kind"


@dataclass(frozen=True, slots=True)
class ObjectKind:
    """An object of such members."""

    members: dict[str, "Kind"]


@dataclass(frozen=True, slots=True)
class KeyedKind:
    """An object whose keys are data: there are too many of them to be names."""

    value: "Kind"


Kind = Union[None, str, ListKind, ObjectKind, KeyedKind]  # noqa: UP007 - a forward reference can't stand in a | of strings


def kind_of(value: Any) -> Kind:
    """The kind of one value, as Python's JSON reader or the exact decoder's gives it."""
    match value:
        case None:
            return None
        case bool():
            return "boolean"
        case Integer():
            return _kind_of_number(int(value)) if len(value) <= _DIGITS + 1 else MIXED
        case int():
            return _kind_of_number(value)
        case float() | Fraction():
            return "double"
        case str():
            return "string"
        case list():
            return ListKind(reduce(merge, map(kind_of, value[:_MAX_ITEMS]), None))
        case _:
            members = {key: kind_of(item) for key, item in islice(value.items(), _MAX_MEMBERS + 1)}
            return _object(members)


def _object(members: dict[str, Kind]) -> Kind:
    return ObjectKind(members) if len(members) <= _MAX_MEMBERS else KeyedKind(reduce(merge, members.values(), None))


def _kind_of_number(number: int) -> str:
    if number in _LONG:
        return "long"
    return _HUGE if abs(number) < 10**_DIGITS else MIXED


def merge(one: Kind, other: Kind) -> Kind:
    """A kind that holds both."""
    if one == other or other is None:
        return one
    if one is None:
        return other
    match one, other:
        case ListKind(), ListKind():
            return ListKind(merge(one.item, other.item))
        case ObjectKind(), ObjectKind():
            names = {**one.members, **other.members}
            return _object({name: merge(one.members.get(name), other.members.get(name)) for name in names})
        case (KeyedKind() | ObjectKind()), (KeyedKind() | ObjectKind()):
            return KeyedKind(reduce(merge, [*_values(one), *_values(other)], None))
    numbers = {one, other} if isinstance(one, str) and isinstance(other, str) else set()
    if numbers == {"long", "double"}:
        return "double"
    return _HUGE if numbers == {"long", _HUGE} else MIXED


def _values(kind: KeyedKind | ObjectKind) -> list[Kind]:
    return [kind.value] if isinstance(kind, KeyedKind) else list(kind.members.values())


def describe_kind(kind: Kind) -> str:
    """The kind as a declared type; empty where there is none."""
    text = _text(kind)
    return text if text is not None and len(text) <= _MAX_TEXT else ""


def _text(kind: Kind) -> str | None:
    match kind:
        case None:
            return "string"  # of an item or member that was always null
        case ListKind(item):
            inner = _text(item)
            return f"list<{inner}>" if inner is not None else None
        case ObjectKind(members):
            return _text_of_object(members)
        case KeyedKind(value):
            inner = _text(value)
            return f"map<string, {inner}>" if inner is not None else None
        case _:
            return None if kind == MIXED else kind


def _text_of_object(members: dict[str, Kind]) -> str | None:
    texts = {name: _text(kind) for name, kind in members.items()}
    if not texts or None in texts.values():
        return None
    if not all(map(_IDENTIFIER.fullmatch, texts)) or len({n.lower() for n in texts}) < len(texts):
        values = set(texts.values())
        return f"map<string, {values.pop()}>" if len(values) == 1 else None  # keys that are data
    return f"struct<{', '.join(f'{name}: {text}' for name, text in texts.items())}>"


def size_of(kind: Kind) -> int:
    """How many columns Arrow needs for it."""
    match kind:
        case ListKind(item):
            return 1 + size_of(item)
        case ObjectKind(members):
            return 1 + sum(map(size_of, members.values()))
    return 1


def arrow_of(kind: Kind) -> pa.DataType | None:
    """What Arrow's JSON reader reads it as; None: it can't."""
    match kind:
        case None:
            return pa.null()
        case "boolean":
            return pa.bool_()
        case "long":
            return pa.int64()
        case "double":
            return pa.float64()
        case "string":
            return pa.string()
        case ListKind(item):
            inner = arrow_of(item)
            return pa.list_(inner) if inner is not None else None
        case ObjectKind(members):
            types = [(name, arrow_of(kind)) for name, kind in members.items()]
            return None if any(found is None for _, found in types) else pa.struct(types)
    return None
