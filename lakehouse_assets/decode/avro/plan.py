"""What a table wants of the messages of one schema: a tree beside the writer's, with what to give at each place.

Both decoders walk the same plan, so that they differ in how they read bytes, not in what these mean. Avro's rules of resolution
are applied here, once per schema: members by name and alias, defaults, promotion.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from lakehouse_assets.decode.avro.conversions import Target, find_conversion
from lakehouse_assets.decode.avro.schema import (
    VARIABLE_SCALE_DECIMAL,
    Array,
    Enum,
    Field,
    Map,
    Node,
    Record,
    Scalar,
    Union,
    takes_no_byte,
)
from lakehouse_assets.decode.avro.values import Conversion
from lakehouse_assets.decode.columns import Column, arrow_type
from lakehouse_assets.decode.decoded import BrokenSchema
from lakehouse_assets.decode.rules import MAX_DEPTH
from lakehouse_assets.model.types import ListType, MapType, Primitive, StructType


@dataclass(frozen=True, slots=True)
class Refused:
    """Whatever stands here, unless it is null, can't become what is wanted."""

    label: str
    expected: str


@dataclass(frozen=True, slots=True)
class Converted:
    """The value here, converted."""

    label: str
    conversion: Conversion


@dataclass(frozen=True, slots=True)
class Passed:
    """What the field of this number gives in this slot."""

    field: int
    slot: int


@dataclass(frozen=True, slots=True)
class Constant:
    """The same for every message: a default of the reader's schema, as it is stored, or null."""

    value: Any = None


@dataclass(frozen=True, slots=True)
class Built:
    """A struct of other things that the same record gives."""

    names: tuple[str, ...]
    members: tuple["Passed | Constant", ...]


@dataclass(frozen=True, slots=True)
class Scaled:
    """A decimal whose scale stands beside its bytes."""

    label: str
    kind: Primitive
    scale: "Passed | Constant"
    value: "Passed | Constant"


Given = Passed | Constant | Built | Scaled | Refused


@dataclass(frozen=True, slots=True)
class Skip:
    """Nothing is wanted of it."""

    node: Node


@dataclass(frozen=True, slots=True)
class ScalarPlan:
    """Leads to values."""

    node: Scalar | Enum
    types: tuple[pa.DataType, ...]
    outs: tuple[Converted | Refused, ...]


@dataclass(frozen=True, slots=True)
class BlocksPlan:
    """A list, or a map if `is_map`. Of each of `outs` that is None, the item's slot gives the items, in order."""

    item: "Plan"
    is_map: bool
    may_be_empty: bool
    types: tuple[pa.DataType, ...]
    outs: tuple[Refused | None, ...]
    label: str


@dataclass(frozen=True, slots=True)
class RecordPlan:
    """A record; all its fields are walked in order."""

    fields: tuple["Plan", ...]
    types: tuple[pa.DataType, ...]
    outs: tuple[Given, ...]


@dataclass(frozen=True, slots=True)
class UnionPlan:
    """Each branch gives all that is wanted."""

    branches: tuple["Plan", ...]
    types: tuple[pa.DataType, ...]


Plan = Skip | ScalarPlan | BlocksPlan | RecordPlan | UnionPlan


@dataclass(frozen=True, slots=True)
class _Step:
    """The way into a member of a record, by one of `names`; `reader` is the reader's field, where there is a reader."""

    names: tuple[str, ...]
    reader: Field | None = None

    @classmethod
    def into(cls, name: str, reader: Node | None) -> "_Step":
        known = reader.fields if isinstance(reader, Record) else ()
        own = next((member for member in known if member.name == name), None)
        return cls((name, *(own.aliases if own else ())), own)


@dataclass(frozen=True, slots=True)
class _Want:
    steps: tuple[_Step, ...]
    target: Target
    label: str


_EXPECTED = {
    "boolean": "a boolean",
    "int": "an int",
    "long": "an int or a long",
    "float": "an int, a long or a float",
    "double": "a number",
    "decimal": "a decimal, or text of one",
    "date": "a date, or text of one",
    "time": "a time, or text of one",
    "timestamp": "a timestamp, text of one, or 'epoch' in the declaration",
    "timestamptz": "a timestamp that is no local one, text of one, or 'epoch' in the declaration",
    "string": "a string, bytes or an enum",
    "uuid": "a uuid, or text of one",
    "fixed": "a fixed of the same size",
    "binary": "bytes, a fixed or a string",
}

ReadDefault = Callable[[Plan, Node, Any], Any]
"""The stored value that a plan of one want makes of a field's default, which is JSON."""


def plan_columns(writer: Node, columns: Sequence[Column], reader: Node | None, read_default: ReadDefault) -> Plan:
    """A plan that gives the columns, in order. `reader` is the schema that the columns come from, None where none is.

    Raises:
        BrokenSchema: nests too deep.
    """
    return _Planner(read_default).plan(writer, [_want_of(column, reader) for column in columns], 0)


def branch_of(node: Node | None) -> Node | None:
    """What a type that may be null is otherwise; None where that is not one thing."""
    if not isinstance(node, Union):
        return node
    others = [branch for branch in node.branches if branch != Scalar("null")]
    return others[0] if len(others) == 1 else None


def _want_of(column: Column, reader: Node | None) -> _Want:
    steps = []
    here = branch_of(reader)
    for name in column.path:
        step = _Step.into(name, here)
        here = branch_of(step.reader.node) if step.reader else None
        steps.append(step)
    return _Want(tuple(steps), Target(column.type, column.epoch, here), ".".join(column.path))


@dataclass(slots=True)
class _RecordWants:
    """What the fields of one record are asked for, slot by slot."""

    record: Record
    asked: dict[int, list[_Want]] = field(default_factory=dict)

    def find(self, names: Sequence[str]) -> int | None:
        places = {member.name: place for place, member in enumerate(self.record.fields)}
        return next((places[name] for name in names if name in places), None)

    def ask(self, place: int, want: _Want) -> Passed:
        slots = self.asked.setdefault(place, [])
        slots.append(want)
        return Passed(place, len(slots) - 1)


@dataclass(frozen=True, slots=True)
class _Planner:
    read_default: ReadDefault

    def plan(self, node: Node, wants: Sequence[_Want], depth: int) -> Plan:
        if not wants:
            return Skip(node)
        if depth > MAX_DEPTH:
            raise BrokenSchema(f"it nests deeper than {MAX_DEPTH} levels")
        types = tuple(arrow_type(want.target.type) for want in wants)
        match node:
            case Union(branches):
                return UnionPlan(tuple(self.plan(branch, wants, depth + 1) for branch in branches), types)
            case Array(items):
                return self._blocks(node, items, wants, types, depth)
            case Map(values):
                return self._blocks(node, values, wants, types, depth)
            case Record():
                asked = _RecordWants(node)
                outs = tuple(self._give(node, asked, want, depth) for want in wants)
                fields = [
                    self.plan(member.node, asked.asked.get(place, ()), depth + 1) for place, member in enumerate(node.fields)
                ]
                return RecordPlan(tuple(fields), types, outs)
            case _:
                return ScalarPlan(node, types, tuple(_convert(node, want) for want in wants))

    def _blocks(
        self, node: Array | Map, item: Node, wants: Sequence[_Want], types: tuple[pa.DataType, ...], depth: int
    ) -> Plan:
        outs: list[Refused | None] = []
        inner: list[_Want] = []
        for want in wants:
            match want.target.type, node:
                case ListType(element), Array() if not want.steps:
                    reader = want.target.reader
                    items = reader.items if isinstance(reader, Array) else None
                    inner.append(_Want((), Target(element, None, branch_of(items)), f"{want.label}[]"))
                    outs.append(None)
                case MapType(_, value), Map() if not want.steps:
                    reader = want.target.reader
                    values = reader.values if isinstance(reader, Map) else None
                    inner.append(_Want((), Target(value, None, branch_of(values)), f"{want.label}{{}}"))
                    outs.append(None)
                case _:
                    outs.append(_refuse(want))
        is_map = isinstance(node, Map)
        may_be_empty = not is_map and takes_no_byte(item)
        return BlocksPlan(self.plan(item, inner, depth + 1), is_map, may_be_empty, types, tuple(outs), wants[0].label)

    def _give(self, node: Record, asked: _RecordWants, want: _Want, depth: int) -> Given:
        if want.steps:
            return self._follow(asked, want, depth)
        if node.connect_name == VARIABLE_SCALE_DECIMAL and isinstance(want.target.type, Primitive):
            return self._scaled(asked, want, depth)
        if not isinstance(want.target.type, StructType):
            return _refuse(want)
        members = []
        for member in want.target.type.fields:
            step = _Step.into(member.name, want.target.reader)
            reader = branch_of(step.reader.node) if step.reader else None
            inner = _Want((step,), Target(member.type, None, reader), f"{want.label}.{member.name}")
            members.append(self._follow(asked, inner, depth))
        return Built(tuple(member.name for member in want.target.type.fields), tuple(members))

    def _scaled(self, asked: _RecordWants, want: _Want, depth: int) -> Scaled | Refused:
        kind = want.target.type
        if not isinstance(kind, Primitive) or kind.name not in ("decimal", "string"):
            return _refuse(want)
        scale, value = (
            self._follow(asked, _Want((_Step((name,)),), Target(Primitive(part)), f"{want.label}.{name}"), depth)
            for name, part in (("scale", "int"), ("value", "binary"))
        )
        return Scaled(want.label, kind, scale, value)

    def _follow(self, asked: _RecordWants, want: _Want, depth: int) -> Passed | Constant:
        step, rest = want.steps[0], want.steps[1:]
        place = asked.find(step.names)
        inner = _Want(rest, want.target, want.label)
        if place is not None:
            return asked.ask(place, inner)
        if step.reader is None or not step.reader.has_default:
            return Constant()
        plan = self.plan(step.reader.node, [inner], depth + 1)
        return Constant(self.read_default(plan, step.reader.node, step.reader.default))


def _convert(node: Scalar | Enum, want: _Want) -> Converted | Refused:
    conversion = None if want.steps else find_conversion(node, want.target)
    return _refuse(want) if conversion is None else Converted(want.label, conversion)


def _refuse(want: _Want) -> Refused:
    if want.steps:
        return Refused(want.label, f"a record around {want.steps[0].names[0]!r}")
    match want.target.type:
        case StructType():
            return Refused(want.label, "a record")
        case ListType():
            return Refused(want.label, "an array")
        case MapType():
            return Refused(want.label, "a map")
        case Primitive(name, _):
            return Refused(want.label, "a number of " + want.target.epoch if want.target.epoch else _EXPECTED[name])
