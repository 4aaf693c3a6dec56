"""The exact decoder of Avro bodies: one message at a time, every rule spelled out. It alone says why a message is bad.

It reads any schema, also one that contains itself. Bytes that claim more than they hold cost no memory and no stack.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from lakehouse_assets.decode.avro.decimals import scaled
from lakehouse_assets.decode.avro.plan import (
    BlocksPlan,
    Built,
    Constant,
    Converted,
    Given,
    Passed,
    Plan,
    RecordPlan,
    Refused,
    ScalarPlan,
    Scaled,
    Skip,
    UnionPlan,
)
from lakehouse_assets.decode.avro.schema import (
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
from lakehouse_assets.decode.rules import MAX_DEPTH, Rejected

Value = TypeVar("Value")

MAX_EMPTY_ITEMS = 100_000
"""Items without any byte that one message may have in its lists; a few bytes could claim any number."""
_SHOWN_CHARACTERS = 40
_LAST_SHIFT = 63
_FLOATS = {"float": struct.Struct("<f"), "double": struct.Struct("<d")}


class BadBody(Exception):
    """A body that can't become a row: a stable code, and one clause of reason."""

    def __init__(self, code: str, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(code, reason)


def read_body(plan: Plan, value: bytes, start: int) -> list[Any]:
    """What the plan gives for the body that fills `value` from `start` on, as it is stored.

    Raises:
        BadBody
    """
    body = _Body(value, start)
    found = body.read(plan, 0)
    if body.at != len(value):
        raise body.broken(f"{len(value) - body.at} bytes are left")
    if body.refusal is not None:
        raise body.refusal
    return found


@dataclass(slots=True)
class _Body:
    """Reads on from `at`. A value that is refused does not end the reading: that the bytes are broken says more."""

    value: bytes
    at: int
    refusal: BadBody | None = None
    empty_items: int = 0

    def broken(self, what: str) -> BadBody:
        return BadBody("broken_avro", f"byte {self.at} of the value, by the writer's schema: {what}")

    def refuse(self, label: str, found: str, code: str, expected: str) -> None:
        self.refusal = self.refusal or BadBody(code, f"field {label!r}: found {found}, expected {expected}")

    def read(self, plan: Plan, depth: int) -> list[Any]:
        if depth > MAX_DEPTH:
            raise BadBody("too_deep", f"the value nests deeper than {MAX_DEPTH} levels")
        match plan:
            case Skip(node):
                self.skip(node, depth)
                return []
            case ScalarPlan():
                return self.read_scalar(plan)
            case RecordPlan():
                deeper = depth + 1
                found = [self.read_scalar(f) if type(f) is ScalarPlan else self.read(f, deeper) for f in plan.fields]
                return [self.give(out, found) for out in plan.outs]
            case UnionPlan():
                return self.read(plan.branches[self.read_branch(len(plan.branches))], depth + 1)
            case BlocksPlan():
                return self.read_blocks(plan, depth)

    def read_scalar(self, plan: ScalarPlan) -> list[Any]:
        raw = self.read_raw(plan.node)
        if raw is None:
            return [None] * len(plan.outs)
        values = []
        for out in plan.outs:
            value = None
            if isinstance(out, Converted):
                try:
                    value = out.conversion.one(raw)
                except Rejected as error:
                    self.refuse(out.label, _describe(plan.node, raw), error.code, error.expected)
            else:
                self.refuse(out.label, _describe(plan.node, raw), "wrong_type", out.expected)
            values.append(value)
        return values

    def give(self, out: Given, found: list[list[Any]]) -> Any:
        match out:
            case Passed(field, slot):
                return found[field][slot]
            case Constant(value):
                return value
            case Built(names, members):
                return {name: self.give(member, found) for name, member in zip(names, members, strict=True)}
            case Scaled(label, kind, scale, value):
                raw, places = self.give(value, found), self.give(scale, found)
                try:
                    return None if raw is None or places is None else scaled(raw, places, kind)
                except Rejected as error:
                    self.refuse(label, "a decimal with its scale", error.code, error.expected)
                    return None
            case Refused(label, expected):
                self.refuse(label, "a record", "wrong_type", expected)
                return None

    def read_blocks(self, plan: BlocksPlan, depth: int) -> list[Any]:
        keys: list[str] = []

        def read_item() -> list[Any]:
            if plan.is_map:
                keys.append(self.read_key(plan.label))
            return self.read(plan.item, depth + 1)

        items = self.read_items(read_item, is_empty=plan.may_be_empty)
        if plan.is_map and len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            self.refuse(plan.label, "a map", "duplicate_key", f"each key once, but {_shorten(twice)!r} repeats")
        slots = iter(zip(*items, strict=True)) if items else iter(())
        values: list[Any] = []
        for out in plan.outs:
            if out is not None:
                self.refuse(out.label, "a map" if plan.is_map else "an array", "wrong_type", out.expected)
                values.append(None)
                continue
            given = list(next(slots, ()))
            values.append(list(zip(keys, given, strict=True)) if plan.is_map else given)
        return values

    def read_items(self, read_item: Callable[[], Value], *, is_empty: bool) -> list[Value]:
        items: list[Value] = []
        while size := self.read_long("a block's number of items"):
            if size < 0:
                size = -size
                self.read_long("a block's number of bytes")
            if is_empty:
                self.empty_items += size
                if self.empty_items > MAX_EMPTY_ITEMS:
                    raise self.broken(f"more than {MAX_EMPTY_ITEMS:,} items without any byte")
            elif size > len(self.value) - self.at:
                raise self.broken(f"a block of {size} items, where {len(self.value) - self.at} bytes are left")
            items.extend(read_item() for _ in range(size))
        return items

    def read_key(self, label: str) -> str:
        key = self.take(self.read_length(), "a map's key")
        try:
            return key.decode()
        except UnicodeDecodeError:
            self.refuse(label, "a map", "invalid_utf8", "keys in UTF-8")
            return ""

    def read_branch(self, count: int) -> int:
        number = self.read_long("a union's branch")
        if not 0 <= number < count:
            raise self.broken(f"branch {number} of a union that has {count}")
        return number

    def read_raw(self, node: Scalar | Enum) -> Any:
        if isinstance(node, Enum):
            number = self.read_long("an enum's symbol")
            if not 0 <= number < len(node.symbols):
                raise self.broken(f"symbol {number} of an enum that has {len(node.symbols)}")
            return number
        match node.kind:  # the most frequent first
            case "string" | "bytes":
                return self.take(self.read_length(), node.kind)
            case "long":
                return self.read_long("a long")
            case "null":
                return None
            case "boolean":
                octet = self.take(1, "a boolean")[0]
                if octet > 1:
                    raise self.broken(f"the byte {octet} for a boolean")
                return octet == 1
            case "int":
                number = self.read_long("an int")
                if not -(2**31) <= number < 2**31:
                    raise self.broken(f"the number {number} for an int of 32 bits")
                return number
            case "float" | "double":
                layout = _FLOATS[node.kind]
                return layout.unpack(self.take(layout.size, f"a {node.kind}"))[0]
            case _:
                return self.take(node.size, f"a fixed of {node.size} bytes")

    def read_length(self) -> int:
        length = self.read_long("a length")
        if not 0 <= length <= len(self.value) - self.at:
            raise self.broken(f"a length of {length}, where {len(self.value) - self.at} bytes are left")
        return length

    def take(self, count: int, what: str) -> bytes:
        taken = self.value[self.at : self.at + count]
        if len(taken) < count:
            raise self.broken(f"the end, within {what}")
        self.at += count
        return taken

    def read_long(self, what: str) -> int:
        at, value = self.at, self.value
        if at < len(value) and (octet := value[at]) < 0x80:  # as most are
            self.at = at + 1
            return (octet >> 1) ^ -(octet & 1)
        number = shift = 0
        while at < len(value):
            octet = value[at]
            at += 1
            number |= (octet & 0x7F) << shift
            if octet < 0x80 and not (shift == _LAST_SHIFT and octet > 1):
                self.at = at
                return (number >> 1) ^ -(number & 1)
            shift += 7
            if shift > _LAST_SHIFT:
                raise self.broken(f"more than 64 bits for {what}")
        raise self.broken(f"the end, within {what}")

    def skip(self, node: Node, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise BadBody("too_deep", f"the value nests deeper than {MAX_DEPTH} levels")
        match node:
            case Record():
                for field in node.fields:
                    self.skip(field.node, depth + 1)
            case Union(branches):
                self.skip(branches[self.read_branch(len(branches))], depth + 1)
            case Array(items):
                self.read_items(lambda: self.skip(items, depth + 1), is_empty=takes_no_byte(items))
            case Map(values):
                entry = Record("", (Field("key", Scalar("bytes")), Field("value", values)))
                self.read_items(lambda: self.skip(entry, depth), is_empty=False)
            case _:
                self.read_raw(node)


def _describe(node: Scalar | Enum, raw: Any) -> str:
    if isinstance(node, Enum):
        return f"the symbol {_shorten(node.symbols[raw])!r}"
    match node.kind:
        case "boolean":
            return "true" if raw else "false"
        case "string":
            return f"the string {_shorten(raw.decode(errors='replace'))!r}"
        case "bytes" | "fixed":
            return f"{node.logical or node.kind} of {len(raw)} bytes"
        case kind:
            return f"the {node.logical or kind} {raw}"


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
