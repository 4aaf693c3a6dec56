"""Fields of messages that no column of the declaration reads: how often they occur, what they seem to be, how to declare them.

Bounded, whatever messages hold: of many names the most frequent are kept.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lakehouse_assets.model.types import (
    DataType,
    ListType,
    MapType,
    Primitive,
    StructField,
    StructType,
    parse_type,
)
from lakehouse_assets.model.written import IDENTIFIER_PATTERN, RESERVED_PREFIX

MAX_NAMES = 50
_SHOWN_CHARACTERS = 80
_HUGE = Primitive("decimal", (38, 0))
_JOINED = {frozenset(("long", "double")): Primitive("double"), frozenset(("long", str(_HUGE))): _HUGE}
_PLAIN = re.compile(IDENTIFIER_PATTERN)

FieldPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnknownField:
    """One field: the keys that lead to it, in how many messages it has a value, and a type that would hold what was seen.

    `kind` is empty where no one type would. `is_inside`: a declared column holds the object or list that the field is in.
    """

    path: FieldPath
    count: int
    kind: str
    is_inside: bool = False

    @property
    def name(self) -> str:
        """Its dotted name, shortened."""
        name = ".".join(self.path)
        return name if len(name) <= _SHOWN_CHARACTERS else name[:_SHOWN_CHARACTERS] + "…"

    @property
    def line(self) -> str:
        """What to add to the declaration to keep it; empty where that can't be told."""
        if not self.kind or len(".".join(self.path)) > _SHOWN_CHARACTERS:
            return ""
        last = self.path[-1]
        if self.is_inside:
            return f"{last}: {self.kind}   # in the type of {self.path[0]}" if _PLAIN.fullmatch(last) else ""
        column = re.sub(r"\W", "_", "_".join(self.path), flags=re.ASCII)
        if not _PLAIN.fullmatch(column) or column.lower().startswith(RESERVED_PREFIX):
            column = f"field_{column.lstrip('_')}"
        kind = self.kind if re.fullmatch(r"\w+", self.kind) else json.dumps(self.kind)
        return f"- {{name: {column}, type: {kind}{self._source(column)}}}"

    def _source(self, column: str) -> str:
        if self.path == (column,):
            return ""
        if all(map(_PLAIN.fullmatch, self.path)):
            return f", from: {'.'.join(self.path)}"
        return f", from: {json.dumps(list(self.path), ensure_ascii=False)}"


@dataclass(frozen=True, slots=True)
class UnknownFields:
    """The unknown fields of some messages, of which `looked_at` were looked at; `fields` by their path.

    `other_names`: there are at least so many more.
    """

    messages: int = 0
    looked_at: int = 0
    fields: Mapping[FieldPath, UnknownField] = field(default_factory=dict)
    other_names: int = 0

    def joined(self, other: "UnknownFields") -> "UnknownFields":
        """Both together."""
        if not other.fields and not self.fields:
            return UnknownFields(self.messages + other.messages, self.looked_at + other.looked_at)
        both = dict(self.fields)
        for path, found in other.fields.items():
            known = both.get(path)
            both[path] = _join(known, found) if known is not None else found
        return UnknownFields(
            self.messages + other.messages, self.looked_at + other.looked_at, both, max(self.other_names, other.other_names)
        ).bounded()

    def bounded(self) -> "UnknownFields":
        """The most frequent ones."""
        if len(self.fields) <= MAX_NAMES:
            return self
        kept = {found.path: found for found in self.ranked[:MAX_NAMES]}
        dropped = max(self.other_names, len(self.fields) - MAX_NAMES)
        return UnknownFields(self.messages, self.looked_at, kept, dropped)

    def unkept(self, *, has_rest: bool) -> "UnknownFields":
        """Those that a column `_rest` does not keep, if there is one."""
        fields = {path: found for path, found in self.fields.items() if not has_rest or found.is_inside or len(path) > 1}
        return UnknownFields(self.messages, self.looked_at, fields, 0 if has_rest else self.other_names)

    @property
    def ranked(self) -> list[UnknownField]:
        """The most frequent first."""
        return sorted(self.fields.values(), key=lambda found: (-found.count, found.path))

    def share(self, found: UnknownField) -> float:
        """In which share of the messages looked at a field has a value."""
        return found.count / self.looked_at if self.looked_at else 0.0


def _join(one: UnknownField, other: UnknownField) -> UnknownField:
    return UnknownField(one.path, one.count + other.count, _wider(one.kind, other.kind), one.is_inside)


def _wider(one: str, other: str) -> str:
    """A type for both, as far as their texts tell; empty where none is known."""
    if one == other or not one or not other:
        return one if one == other else ""
    try:
        both = _join_types(parse_type(one), parse_type(other))
    except ValueError:  # deeper than a declaration may nest, or names that differ in letter case alone
        return ""
    return str(both) if both is not None else ""


def _join_types(one: DataType, other: DataType) -> DataType | None:
    match one, other:
        case _ if one == other:
            return one
        case Primitive(), Primitive():
            return _JOINED.get(frozenset((str(one), str(other))))
        case ListType(a), ListType(b):
            item = _join_types(a, b)
            return ListType(item) if item is not None else None
        case StructType(), StructType():
            members = {member.name: member.type for member in one.fields}
            for member in other.fields:
                joined = _join_types(members.get(member.name, member.type), member.type)
                if joined is None:
                    return None
                members[member.name] = joined
            return StructType(tuple(StructField(name, kind) for name, kind in members.items()))
        case (MapType() | StructType()), (MapType() | StructType()):
            value, *others = *_list_values(one), *_list_values(other)
            for kind in others:
                joined = _join_types(value, kind)
                if joined is None:
                    return None
                value = joined
            return MapType(Primitive("string"), value)
    return None


def _list_values(kind: MapType | StructType) -> list[DataType]:
    return [kind.value] if isinstance(kind, MapType) else [member.type for member in kind.fields]
