"""What a table wants of the messages of one Protobuf type: a tree of fields, with what to give at each place.

Both decoders walk the same plan, so that they differ in how they read bytes, not in what these mean. It is as deep as the
declared columns are, whatever a recursive type could hold. Fields that nobody wants are not in it, and are passed over unread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from lakehouse_assets.decode.avro.values import Conversion
from lakehouse_assets.decode.columns import Column
from lakehouse_assets.decode.protobuf.conversions import find_conversion
from lakehouse_assets.model.types import DataType, ListType, MapType, Primitive, StructField, StructType

TIMESTAMP = "google.protobuf.Timestamp"
WRAPPERS = {
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
}
_MESSAGES = (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_GROUP)


@dataclass(frozen=True, slots=True)
class Refused:
    """What stands here can't become what is wanted."""

    label: str
    expected: str
    type: DataType


@dataclass(frozen=True, slots=True)
class Converted:
    """The value here, converted."""

    label: str
    conversion: Conversion
    type: DataType


@dataclass(frozen=True, slots=True)
class Items:
    """A list of what each occurrence gives in this slot; a map where `key` names a slot too."""

    slot: int
    type: ListType | MapType
    label: str
    key: int | None = None


@dataclass(frozen=True, slots=True)
class Passed:
    """What the field of this number gives in this slot."""

    number: int
    slot: int
    type: DataType


@dataclass(frozen=True, slots=True)
class Absent:
    """Null: the schema has no such field."""

    type: DataType


@dataclass(frozen=True, slots=True)
class Built:
    """A struct of other things that the same message gives."""

    members: tuple["Given", ...]
    type: StructType


@dataclass(frozen=True, slots=True)
class Instant:
    """A time, from a Timestamp's seconds and nanoseconds."""

    seconds: Passed
    nanos: Passed
    label: str
    type: Primitive


Given = Passed | Absent | Built | Instant | Refused


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """A field of which something is wanted. `implicit`: one that is not there has its type's default.

    Scalars, and messages of which nothing can be had, have no `message`; `outs` then say what becomes of each value. Otherwise
    each of `outs` is a slot of `message`, or the list of what it gives.
    """

    number: int
    name: str
    type: int
    is_repeated: bool
    implicit: bool
    message: "MessagePlan | None"
    outs: tuple[Converted | Refused | Items | int, ...]
    values: tuple[Converted | Refused, ...] = ()

    @property
    def is_group(self) -> bool:
        """In the old encoding, between two tags."""
        return bool(self.type == FieldDescriptor.TYPE_GROUP)


@dataclass(frozen=True, slots=True)
class MessagePlan:
    """A message. `rivals`: fields of which one at most counts, the last that is there: their numbers and types."""

    fields: Mapping[int, FieldPlan]
    outs: tuple[Given, ...]
    rivals: tuple[Mapping[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class _Want:
    steps: tuple[str, ...]
    type: DataType
    epoch: str | None
    label: str


@dataclass(slots=True)
class _Asked:
    """What the fields of one message are asked for, slot by slot."""

    wants: dict[int, list[_Want]] = field(default_factory=dict)

    def ask(self, number: int, want: _Want) -> Passed:
        slots = self.wants.setdefault(number, [])
        slots.append(want)
        return Passed(number, len(slots) - 1, want.type)


def plan_columns(message: Descriptor, columns: Sequence[Column]) -> MessagePlan:
    """A plan that gives the columns, in order."""
    return _plan(message, [_Want(column.path, column.type, column.epoch, ".".join(column.path)) for column in columns])


def _plan(message: Descriptor, wants: Sequence[_Want]) -> MessagePlan:
    asked = _Asked()
    is_entry = message.GetOptions().map_entry
    outs = tuple(_give(message, asked, want) for want in wants)
    by_number = {one.number: one for one in message.fields}
    fields = {number: _plan_field(by_number[number], found, is_entry) for number, found in asked.wants.items()}
    oneofs = [oneof for oneof in message.oneofs if len(oneof.fields) > 1 and any(one.number in fields for one in oneof.fields)]
    return MessagePlan(fields, outs, tuple({one.number: one.type for one in oneof.fields} for oneof in oneofs))


def _give(message: Descriptor, asked: _Asked, want: _Want) -> Given:
    if want.steps:
        found = message.fields_by_name.get(want.steps[0])
        if found is None:
            return Absent(want.type)
        return asked.ask(found.number, _Want(want.steps[1:], want.type, want.epoch, want.label))
    if isinstance(want.type, StructType):
        return Built(tuple(_give(message, asked, _member(want, one)) for one in want.type.fields), want.type)
    if want.type == Primitive("timestamptz") and message.full_name == TIMESTAMP:
        seconds, nanos = (
            asked.ask(number, _Want((), Primitive(kind), None, want.label)) for number, kind in ((1, "long"), (2, "int"))
        )
        return Instant(seconds, nanos, want.label, want.type)
    if isinstance(want.type, Primitive) and message.full_name in WRAPPERS:
        return asked.ask(message.fields[0].number, want)
    return _refuse(want)


def _member(want: _Want, member: StructField) -> _Want:
    return _Want((member.name,), member.type, None, f"{want.label}.{member.name}")


def _plan_field(found: FieldDescriptor, wants: Sequence[_Want], is_in_entry: bool) -> FieldPlan:
    is_message = found.type in _MESSAGES
    is_map = is_message and found.message_type.GetOptions().map_entry
    outs: list[Converted | Refused | Items | int] = []
    inner: list[_Want] = []
    for want in wants:
        match want.type:
            case ListType(element) if found.is_repeated and not is_map and not want.steps:
                outs.append(Items(len(inner), want.type, want.label))
                inner.append(_Want((), element, None, f"{want.label}[]"))
            case MapType(key, value) if is_map and not want.steps:
                outs.append(Items(len(inner) + 1, want.type, want.label, key=len(inner)))
                inner.append(_Want(("key",), key, None, f"{want.label} (key)"))
                inner.append(_Want(("value",), value, None, f"{want.label} (value)"))
            case _ if found.is_repeated:
                outs.append(_refuse(want))
            case _:
                outs.append(len(inner))
                inner.append(want)
    values = () if is_message else tuple(_convert(found, want) for want in inner)
    if values and not found.is_repeated:
        outs = list(values)
    plan = _plan(found.message_type, inner) if is_message and inner else None
    implicit = (is_in_entry or not found.has_presence) and not found.is_repeated
    return FieldPlan(found.number, found.name, found.type, found.is_repeated, implicit, plan, tuple(outs), values)


def _convert(found: FieldDescriptor, want: _Want) -> Converted | Refused:
    conversion = None if want.steps else find_conversion(found, want.type, want.epoch)
    return _refuse(want) if conversion is None else Converted(want.label, conversion, want.type)


def _refuse(want: _Want) -> Refused:
    if want.steps:
        return Refused(want.label, f"a message around {want.steps[0]!r}", want.type)
    match want.type:
        case StructType():
            expected = "a message"
        case ListType():
            expected = "a repeated field"
        case MapType():
            expected = "a map"
        case other:
            expected = f"a number of {want.epoch}" if want.epoch else f"a field that fits {other}"
    return Refused(want.label, expected, want.type)
