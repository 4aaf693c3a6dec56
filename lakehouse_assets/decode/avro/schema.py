"""Avro schemas as trees: JSON text to nodes, names resolved.

Hides namespaces, references and the spellings of logical types: Avro's own, and the names that Kafka Connect's converters leave
beside them. A logical type that does not fit what it annotates is left out, as Avro's specification says.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from lakehouse_assets.decode.decoded import BrokenSchema

MAX_DEPTH = 64
"""Types inside each other in one schema, names apart."""

_PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
_LOGICAL = {
    "int": ("date", "time-millis"),
    "long": (
        "time-micros", "timestamp-millis", "timestamp-micros", "timestamp-nanos",
        "local-timestamp-millis", "local-timestamp-micros", "local-timestamp-nanos",
    ),
    "string": ("uuid",),
    "bytes": ("decimal",),
    "fixed": ("decimal", "duration", "uuid"),
}  # fmt: skip
_SIZE = {"duration": 12, "uuid": 16}
_DEBEZIUM, _CONNECT = "io.debezium.", "org.apache.kafka.connect.data."
CONNECT_DECIMAL = f"{_CONNECT}Decimal"
VARIABLE_SCALE_DECIMAL = f"{_DEBEZIUM}data.VariableScaleDecimal"
_NO_PRECISION = 64  # what Confluent's converter writes where none is known
# Of a type with such a name, the logical type that says the same; those of text are not Avro's.
_CONNECT_LOGICAL = {
    (kind, prefix + name): logical
    for kind, prefix, name, logical in (
        ("int", f"{_DEBEZIUM}time.", "Date", "date"),
        ("int", f"{_DEBEZIUM}time.", "Time", "time-millis"),
        ("long", f"{_DEBEZIUM}time.", "MicroTime", "time-micros"),
        ("long", f"{_DEBEZIUM}time.", "NanoTime", "time-nanos"),
        ("long", f"{_DEBEZIUM}time.", "Timestamp", "timestamp-millis"),
        ("long", f"{_DEBEZIUM}time.", "MicroTimestamp", "timestamp-micros"),
        ("long", f"{_DEBEZIUM}time.", "NanoTimestamp", "timestamp-nanos"),
        ("string", f"{_DEBEZIUM}time.", "ZonedTimestamp", "timestamptz-text"),
        ("string", f"{_DEBEZIUM}time.", "ZonedTime", "clock-text"),
        ("string", f"{_DEBEZIUM}time.", "IsoDate", "date-text"),
        ("string", f"{_DEBEZIUM}time.", "IsoTime", "time-text"),
        ("string", f"{_DEBEZIUM}time.", "IsoTimestamp", "timestamp-text"),
        ("string", f"{_DEBEZIUM}data.", "Uuid", "uuid"),
        ("int", _CONNECT, "Date", "date"),
        ("int", _CONNECT, "Time", "time-millis"),
        ("long", _CONNECT, "Timestamp", "timestamp-millis"),
    )
}


@dataclass(frozen=True, slots=True)
class Scalar:
    """A type without parts; `size` of a fixed, `precision` and `scale` of a decimal, 0 where its precision is not known.

    `logical` may end in `-text`: text of such a value. `is_local`: of Debezium's, whose numbers are of columns without a zone.
    """

    kind: str
    logical: str | None = None
    size: int = 0
    precision: int = 0
    scale: int = 0
    is_local: bool = False


@dataclass(frozen=True, slots=True)
class Enum:
    """Text of a closed list; `default` is what a reader takes for a symbol that it does not know."""

    symbols: tuple[str, ...]
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Array:
    """A list."""

    items: "Node"


@dataclass(frozen=True, slots=True)
class Map:
    """A map with string keys."""

    values: "Node"


@dataclass(frozen=True, slots=True)
class Union:
    """One of several."""

    branches: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Field:
    """A member of a record. `default` is JSON, and counts only where `has_default`."""

    name: str
    node: "Node"
    aliases: tuple[str, ...] = ()
    has_default: bool = False
    default: Any = None
    doc: str = ""


@dataclass(eq=False, slots=True)
class Record:
    """Named fields. Compared by identity, because it may contain itself. `connect_name`: as Kafka Connect calls it."""

    name: str
    fields: tuple[Field, ...] = field(default=(), repr=False)
    connect_name: str = ""


Node = Scalar | Enum | Array | Map | Union | Record


def parse_schema(text: str, references: Sequence[tuple[str, str]] = ()) -> Node:
    """The tree of a schema. `references` are schemas whose named types it may name.

    Raises:
        BrokenSchema
    """
    names: dict[str, Node] = {}
    try:
        for _, other in references:
            _Parser(names).read(json.loads(other), "", 0)
        return _Parser(names).read(_loads(text), "", 0)
    except (ValueError, RecursionError) as error:
        raise BrokenSchema(f"it is no JSON ({error})") from None


def _loads(text: str) -> Any:
    """The JSON; a bare name of a primitive, as some registries keep it, is taken as one."""
    return text if text in _PRIMITIVES else json.loads(text)


def children(node: Node) -> Sequence[Node]:
    """What a value of the type may hold, one level down."""
    match node:
        case Array(items):
            return (items,)
        case Map(values):
            return (values,)
        case Union(branches):
            return branches
        case Record():
            return [member.node for member in node.fields]
        case _:
            return ()


def is_plain(node: Node, max_depth: int) -> bool:
    """Whether no type contains itself or nests deeper, and each item of a list takes a byte at least."""
    return _is_plain(node, max_depth, (), [])


def _is_plain(node: Node, max_depth: int, inside: tuple[Node, ...], proved: list[Node]) -> bool:
    if len(inside) > max_depth or any(node is outer for outer in inside):
        return False
    if any(node is other for other in proved):
        return True
    if isinstance(node, Array) and takes_no_byte(node.items):
        return False
    if not all(_is_plain(child, max_depth, (*inside, node), proved) for child in children(node)):
        return False
    if isinstance(node, Record):
        proved.append(node)
    return True


def takes_no_byte(node: Node, inside: tuple[Node, ...] = ()) -> bool:
    """Whether a value can take no byte at all, so that a few bytes may stand for any number of them."""
    match node:
        case Scalar("null"):
            return True
        case Scalar("fixed"):
            return node.size == 0
        case Record():
            if any(node is outer for outer in inside):
                return False
            return all(takes_no_byte(member.node, (*inside, node)) for member in node.fields)
        case _:
            return False


@dataclass(slots=True)
class _Parser:
    names: dict[str, Node]

    def read(self, found: Any, namespace: str, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise BrokenSchema(f"it nests deeper than {MAX_DEPTH} types")
        if isinstance(found, str):
            return self._named(found, namespace)
        if isinstance(found, list):
            branches = tuple(self.read(branch, namespace, depth + 1) for branch in found)
            if any(isinstance(branch, Union) for branch in branches) or not branches:
                raise BrokenSchema("a union is empty, or directly inside a union")
            return Union(branches)
        if not isinstance(found, dict):
            raise BrokenSchema(f"it has {json.dumps(found)} for a type")
        kind = found.get("type")
        if isinstance(kind, (list, dict)):
            return self.read(kind, namespace, depth + 1)
        match kind:
            case "record" | "error":
                return self._record(found, namespace, depth)
            case "enum":
                return self._enum(found, namespace)
            case "fixed":
                size = found.get("size")
                if not _is_count(size):
                    raise BrokenSchema("a fixed has no size")
                return self._add(found, namespace, _annotate(Scalar("fixed", size=size), found))
            case "array":
                return Array(self.read(found.get("items"), namespace, depth + 1))
            case "map":
                return Map(self.read(found.get("values"), namespace, depth + 1))
            case str():
                node = self._named(kind, namespace)
                return _annotate(node, found) if isinstance(node, Scalar) and node.kind == kind else node
            case _:
                raise BrokenSchema("a type lacks 'type'")

    def _named(self, name: str, namespace: str) -> Node:
        if name in _PRIMITIVES:
            return Scalar(name)
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        node = self.names.get(full)
        if node is None:
            raise BrokenSchema(f"it names the type {full!r}, which it does not define before")
        return node

    def _record(self, found: Mapping[str, Any], namespace: str, depth: int) -> Record:
        record = Record(str(found.get("name", "")), connect_name=str(found.get("connect.name", "")))
        self._add(found, namespace, record)
        inner = _split(found, namespace)[0]
        members = found.get("fields")
        if not isinstance(members, list):
            raise BrokenSchema(f"the record {record.name!r} has no list of fields")
        record.fields = tuple(self._fields(members, inner, depth))
        if len({member.name for member in record.fields}) < len(record.fields):
            raise BrokenSchema(f"the record {record.name!r} has a field twice")
        return record

    def _fields(self, members: list[Any], namespace: str, depth: int) -> Iterator[Field]:
        for member in members:
            if not isinstance(member, dict) or not isinstance(member.get("name"), str) or "type" not in member:
                raise BrokenSchema("a field lacks 'name' or 'type'")
            aliases = member.get("aliases")
            yield Field(
                member["name"],
                self.read(member["type"], namespace, depth + 1),
                tuple(map(str, aliases)) if isinstance(aliases, list) else (),
                "default" in member,
                member.get("default"),
                member["doc"] if isinstance(member.get("doc"), str) else "",
            )

    def _enum(self, found: Mapping[str, Any], namespace: str) -> Node:
        symbols = found.get("symbols")
        if not _are_texts(symbols) or not symbols:
            raise BrokenSchema("an enum has no list of symbols")
        default = found.get("default")
        return self._add(found, namespace, Enum(tuple(symbols), default if default in symbols else None))

    def _add(self, found: Mapping[str, Any], namespace: str, node: Node) -> Node:
        inner, name = _split(found, namespace)
        full = f"{inner}.{name}" if inner else name
        if full in self.names or name in _PRIMITIVES:
            raise BrokenSchema(f"it defines the type {full!r} twice")
        self.names[full] = node
        return node


def _split(found: Mapping[str, Any], namespace: str) -> tuple[str, str]:
    """Namespace and short name of a named type."""
    name = found.get("name")
    if not isinstance(name, str) or not name:
        raise BrokenSchema("a named type lacks 'name'")
    if "." in name:
        inner, _, short = name.rpartition(".")
        return inner, short
    own = found.get("namespace")
    return (own if isinstance(own, str) else namespace), name


def _annotate(node: Scalar, found: Mapping[str, Any]) -> Scalar:
    logical, name = found.get("logicalType"), found.get("connect.name")
    if logical is None and name == CONNECT_DECIMAL and node.kind == "bytes":
        return _decimal(node, found)
    known = _CONNECT_LOGICAL.get((node.kind, name)) if isinstance(name, str) else None
    if known is not None:
        assert isinstance(name, str)
        return Scalar(node.kind, known, is_local=name.startswith(_DEBEZIUM))
    if logical not in _LOGICAL.get(node.kind, ()) or (node.kind == "fixed" and node.size != _SIZE.get(logical, node.size)):
        return node
    if logical != "decimal":
        return Scalar(node.kind, logical, node.size)
    precision, scale = found.get("precision"), found.get("scale", 0)
    if not _is_count(precision) or not _is_count(scale) or not 0 < precision >= scale:
        return node
    is_unknown = name == CONNECT_DECIMAL and precision == _NO_PRECISION
    return Scalar(node.kind, logical, node.size, 0 if is_unknown else precision, scale)


def _decimal(node: Scalar, found: Mapping[str, Any]) -> Scalar:
    """A decimal that only Connect's annotations say to be one: converters do so where Avro's rules forbid its scale."""
    parameters = found.get("connect.parameters")
    scale = parameters.get("scale") if isinstance(parameters, dict) else None
    if not isinstance(scale, str) or not scale.isdecimal():
        return node
    return Scalar(node.kind, "decimal", scale=int(scale))


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
