"""The reference decoder: one message at a time, read by Protobuf's own runtime.

The runtime is given only the fields that the plan has, so that it passes over all others as the fast decoder does. Text and
messages of which nothing can be had come as bytes, enums as numbers, maps as their entries.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from lakehouse_assets.decode.columns import Column
from lakehouse_assets.decode.nested import build_array
from lakehouse_assets.decode.protobuf.conversions import micros_of_timestamp
from lakehouse_assets.decode.protobuf.plan import (
    Absent,
    Built,
    Converted,
    FieldPlan,
    Given,
    Instant,
    Items,
    MessagePlan,
    Passed,
    Refused,
)
from lakehouse_assets.decode.rules import Rejected

_ROOT = "Root"
_SHOWN = 40
_AS_BYTES = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE)


class BadBody(Exception):
    """A body can't become a row: a stable code, and one clause of reason."""

    def __init__(self, code: str, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(code, reason)


class _Refusal(Exception):
    def __init__(self, label: str, found: Any, rejected: Rejected) -> None:
        self.label, self.found, self.rejected = label, found, rejected
        super().__init__(label)


class ExactDecoder:
    """Decodes bodies of one type of message one by one."""

    def __init__(self, plan: MessagePlan, columns: Sequence[Column]) -> None:
        self._plan, self._columns = plan, columns
        file = FileDescriptorProto(name="wanted.proto", package="wanted", syntax="proto2")
        _describe_message(file.message_type.add(name=_ROOT), plan, f".wanted.{_ROOT}")
        pool = DescriptorPool()
        pool.Add(file)
        self._class: Callable[[], Message] = GetMessageClass(pool.FindMessageTypeByName(f"wanted.{_ROOT}"))

    def decode(self, body: bytes) -> list[Any]:
        """The stored values of the columns.

        Raises:
            BadBody
        """
        message = self._class()
        try:
            message.MergeFromString(body)
        except DecodeError as error:
            raise BadBody("broken_protobuf", f"the body is no message of its type ({error})") from None
        try:
            row = _Reader(message, self._plan).outs()
        except _Refusal as refusal:
            found, rejected = _show(refusal.found), refusal.rejected
            raise BadBody(rejected.code, f"field {refusal.label!r}: found {found}, expected {rejected.expected}") from None
        for column, value in zip(self._columns, row, strict=True):
            if column.required and value is None:
                label = ".".join(column.path)
                raise BadBody("missing_required", f"field {label!r} is missing, expected {column.type}")
        return row

    def build(self, rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.Table:
        """The table of such rows."""
        items = zip(*rows, strict=True) if rows else ((),) * len(schema)
        arrays = [build_array(list(values), kind.type) for values, kind in zip(items, schema, strict=True)]
        return pa.Table.from_arrays(arrays, schema=schema)


def _describe_message(described: DescriptorProto, plan: MessagePlan, name: str) -> None:
    for number, field in sorted(plan.fields.items()):
        kind = field.type if field.message is not None else _wire_type(field.type)
        label = FieldDescriptorProto.LABEL_REPEATED if field.is_repeated else FieldDescriptorProto.LABEL_OPTIONAL
        one = described.field.add(name=f"f{number}", number=number, type=kind, label=label)
        if field.message is not None or field.is_group:
            one.type_name = f"{name}.F{number}"
            inner = described.nested_type.add(name=f"F{number}")
            _describe_message(inner, field.message or MessagePlan({}, ()), f"{name}.F{number}")
    for index, group in enumerate(plan.rivals):
        described.oneof_decl.add(name=f"rivals{index}")
        for number, kind in group.items():
            member = next((one for one in described.field if one.number == number), None)
            if member is None:
                member = described.field.add(
                    name=f"f{number}", number=number, type=_wire_type(kind), label=FieldDescriptorProto.LABEL_OPTIONAL
                )
            member.oneof_index = index


def _wire_type(kind: int) -> int:
    """A type of the same encoding that needs no description of its own."""
    if kind == FieldDescriptor.TYPE_ENUM:
        kind = FieldDescriptor.TYPE_INT32
    return int(FieldDescriptor.TYPE_BYTES if kind in _AS_BYTES else kind)


class _Reader:
    """One message as the runtime read it."""

    def __init__(self, message: Any, plan: MessagePlan) -> None:
        self._message, self._plan = message, plan
        self._read: dict[int, list[Any]] = {}

    def outs(self) -> list[Any]:
        return [self._give(given) for given in self._plan.outs]

    def _give(self, given: Given) -> Any:
        match given:
            case Passed(number, slot):
                if number not in self._read:
                    self._read[number] = self._read_field(self._plan.fields[number])
                return self._read[number][slot]
            case Absent():
                return None
            case Refused(label, expected):
                raise _Refusal(label, self._message, Rejected("wrong_type", expected))
            case Built(members, kind):
                return {field.name: self._give(member) for field, member in zip(kind.fields, members, strict=True)}
            case Instant(seconds, nanos, label):
                parts = self._give(seconds), self._give(nanos)
                try:
                    return micros_of_timestamp(*parts)
                except Rejected as rejected:
                    raise _Refusal(label, parts, rejected) from None

    def _read_field(self, field: FieldPlan) -> list[Any]:
        name = f"f{field.number}"
        if field.is_repeated:
            return self._read_repeated(field, getattr(self._message, name))
        if not field.implicit and not self._message.HasField(name):
            return [None] * len(field.outs)
        found = getattr(self._message, name)
        if field.message is not None:
            inner = _Reader(found, field.message).outs()
            return [inner[out] for out in field.outs if isinstance(out, int)]
        return [_convert(out, found) for out in field.outs if isinstance(out, Converted | Refused)]

    def _read_repeated(self, field: FieldPlan, found: Sequence[Any]) -> list[Any]:
        if field.message is not None:
            items = [_Reader(one, field.message).outs() for one in found]
        else:
            items = [[_convert(out, one) for out in field.values] for one in found]
        given: list[Any] = []
        for out in field.outs:
            if isinstance(out, Items):
                listed = [item[out.slot] for item in items]
                given.append(listed if out.key is None else _last_of_each([item[out.key] for item in items], listed))
            elif isinstance(out, Refused) and found:
                raise _Refusal(out.label, found, Rejected("wrong_type", out.expected))
            else:
                given.append(None)
        return given


def _last_of_each(keys: list[str], values: list[Any]) -> list[tuple[str, Any]]:
    return list(dict(zip(keys, values, strict=True)).items())


def _convert(out: Converted | Refused, found: Any) -> Any:
    if isinstance(out, Refused):
        raise _Refusal(out.label, found, Rejected("wrong_type", out.expected))
    try:
        return out.conversion.one(found)
    except Rejected as rejected:
        raise _Refusal(out.label, found, rejected) from None


def _show(found: Any) -> str:
    match found:
        case bool() | int() | float():
            return str(found)
        case bytes():
            text = found[: 4 * _SHOWN].decode(errors="replace")
            return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
        case tuple():
            return f"{found[0]} seconds and {found[1]} nanoseconds"
        case Message():
            return "a message"
        case _:
            return "a repeated field"
