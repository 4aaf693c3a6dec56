"""Whether a topic's messages are the changes of a database's rows, whose format they have, and what they say of the rows.

Hides where each format keeps the row, the names of its key and its types. Reads loosely: this is for drafts, decoders judge.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lakehouse_assets.decode.changes.decoded import ChangeMessages
from lakehouse_assets.decode.changes.table_names import join_name, read_name
from lakehouse_assets.decode.exact import Unreadable, parse_object, parse_value
from lakehouse_assets.model.schemas import RegisteredSchema
from lakehouse_assets.model.types import (
    MAX_DECIMAL_PRECISION,
    DataType,
    ListType,
    MapType,
    Primitive,
    StructField,
    StructType,
)
from lakehouse_assets.model.written import IDENTIFIER_PATTERN

Row = Mapping[str, Any]
Types = Mapping[str, DataType]

_PLACEHOLDER = "__debezium_unavailable_value"
_NO_EXAMPLES = (_PLACEHOLDER, [_PLACEHOLDER], "NaN", "Infinity", "-Infinity")  # texts in columns of any type
_CANAL_KINDS = frozenset(("INSERT", "UPDATE", "DELETE", "INIT"))
_MAXWELL_KINDS = frozenset(("insert", "update", "delete", "bootstrap-insert"))
_MAXWELL_KEY = "pk."
_ENVELOPE = {"before", "after", "source", "op"}
_MEASURED = 100  # rows whose size stands for all

_CONNECT_KINDS: Final = {
    "boolean": "boolean", "int8": "int", "int16": "int", "int32": "int", "int64": "long", "float32": "float", "float": "float",
    "float64": "double", "double": "double", "string": "string", "bytes": "binary",
}  # fmt: skip
_CONNECT_NAMES: Final = {
    **{f"io.debezium.time.{name}": "time" for name in ("Time", "MicroTime", "NanoTime", "IsoTime")},
    **{f"io.debezium.time.{name}": "timestamp" for name in ("Timestamp", "MicroTimestamp", "NanoTimestamp", "IsoTimestamp")},
    "io.debezium.time.Date": "date",
    "io.debezium.time.IsoDate": "date",
    "io.debezium.time.ZonedTimestamp": "timestamptz",
    "io.debezium.data.Uuid": "uuid",
    "io.debezium.data.VariableScaleDecimal": "string",  # each value has a scale of its own
    "org.apache.kafka.connect.data.Date": "date",
    "org.apache.kafka.connect.data.Time": "time",
    "org.apache.kafka.connect.data.Timestamp": "timestamp",
}
_MYSQL_KINDS: Final = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "integer", "year"), "int"),
    **dict.fromkeys(("datetime", "timestamp"), "timestamp"),
    **dict.fromkeys(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"), "binary"),
    "bigint": "long", "float": "double", "double": "double", "date": "date",
}  # fmt: skip
_MYSQL_TYPE = re.compile(r"\s*([a-z]+)\s*(?:\(([^)]*)\))?\s*(.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ChangeSample:
    """Messages that are changes.

    Attributes:
        format: As a declaration names it.
        rows: Rows as they are after a change.
        key: The fields that name a row; none where no message says them.
        types: Of the fields whose types messages say.
        change_count: Messages that are changes of rows, of other tables too.
        row_count: Rows that these changes are of.
        row_bytes: How long a row is as JSON, about.
        table: Of the source's tables the one that has the most changes, which all this is of; None: no second one was met.
    """

    format: str
    rows: Sequence[Row]
    key: tuple[str, ...]
    types: Types
    change_count: int
    row_count: int
    row_bytes: int
    table: str | None = None

    @property
    def share_of_rows(self) -> float:
        """Rows for each change, at most 1."""
        return min(1.0, self.row_count / self.change_count) if self.change_count else 0.0


@dataclass(frozen=True, slots=True)
class _Change:
    rows: Sequence[Row]
    key: tuple[str, ...]
    types: Types
    names: Sequence[str]  # of the rows that it is of
    table: str | None


def find_changes(messages: ChangeMessages) -> ChangeSample | None:
    """The changes among messages, where most of those that are JSON objects are changes in one format; else None."""
    pairs = zip(messages.values, messages.keys, strict=True)
    objects = [(found, key) for value, key in pairs if value is not None and (found := _read(value)) is not None]
    for name, read in _READERS.items():
        changes = [change for found, key in objects if (change := read(found, key)) is not None]
        if len(changes) * 2 > len(objects):
            return _summarize(name, changes)
    return None


def is_debezium_envelope(schema: RegisteredSchema) -> bool:
    """Whether an Avro schema is that of Debezium's changes."""
    return set(list_fields(schema)) >= _ENVELOPE


def list_fields(schema: RegisteredSchema) -> tuple[str, ...]:
    """The names of the fields of an Avro record; none where it is something else."""
    try:
        found = json.loads(schema.text) if schema.kind == "AVRO" else None
    except ValueError:
        return ()
    return tuple(str(one.get("name")) for one in _fields(found)) if isinstance(found, dict) else ()


def _read(value: bytes) -> dict[str, Any] | None:
    try:
        return parse_object(value)
    except Unreadable:
        return None


def _summarize(name: str, found: Sequence[_Change]) -> ChangeSample:
    tables = Counter(change.table for change in found if change.names and change.table is not None)
    table = tables.most_common(1)[0][0] if len(tables) > 1 else None
    changes = [change for change in found if table is None or change.table == table]
    rows = [row for change in changes for row in change.rows]
    texts = [len(json.dumps(row)) for row in rows[:_MEASURED]]
    return ChangeSample(
        format=name,
        rows=rows,
        key=next((change.key for change in reversed(changes) if change.key), ()),
        types={field: kind for change in changes for field, kind in change.types.items()},
        change_count=sum(len(change.names) for change in found),
        row_count=len({row for change in changes for row in change.names}),
        row_bytes=sum(texts) // len(texts) if texts else 0,
        table=table,
    )


def _read_debezium(message: dict[str, Any], key: bytes | None) -> _Change | None:
    envelope, schema = _unwrap(message)
    if not isinstance(envelope.get("op"), str) or not isinstance(envelope.get("source"), dict):
        return None
    names = _unwrap(_key_object(key))[0]
    after = envelope.get("after")
    rows = [_telling(after)] if isinstance(after, dict) else []
    image = next((one for one in _fields(schema) if one.get("field") == "after"), {})
    types = {str(one.get("field")): kind for one in _fields(image) if (kind := _connect_type(one)) is not None}
    is_change = isinstance(after, dict) or isinstance(envelope.get("before"), dict)
    identities = [json.dumps(names) if names else json.dumps(after)] if is_change else []
    return _Change(rows, tuple(names), types, identities, read_name(envelope["source"]))


def _read_canal(message: dict[str, Any], _: bytes | None) -> _Change | None:
    rows = message.get("data")
    if message.get("type") not in _CANAL_KINDS or not isinstance(rows, list) or "isDdl" not in message:
        return _Change((), (), {}, (), None) if message.get("isDdl") is True else None
    rows = [row for row in rows if isinstance(row, dict)]
    key = tuple(name for name in message.get("pkNames") or () if isinstance(name, str))
    declared = message.get("mysqlType")
    types = {name: _mysql_type(str(kind)) for name, kind in declared.items()} if isinstance(declared, dict) else {}
    images = [] if message["type"] == "DELETE" else rows
    table = join_name(message.get("database"), message.get("table"))
    return _Change(images, key, types, [_name_of(row, key) for row in rows], table)


def _read_maxwell(message: dict[str, Any], key: bytes | None) -> _Change | None:
    row = message.get("data")
    if not isinstance(message.get("database"), str) or not isinstance(message.get("table"), str):
        return None
    if message.get("type") not in _MAXWELL_KINDS or not isinstance(row, dict):
        return _Change((), (), {}, (), None) if isinstance(message.get("type"), str) else None
    listed = message.get("primary_key_columns")
    names = tuple(name for name in listed if isinstance(name, str)) if isinstance(listed, list) else ()
    if not names:
        # Maxwell's keys have the columns' names in lower case.
        of_key = {name.removeprefix(_MAXWELL_KEY) for name in _key_object(key) if name.startswith(_MAXWELL_KEY)}
        names = tuple(name for name in row if name.lower() in of_key)
    images = [] if message["type"] == "delete" else [row]
    return _Change(images, names, {}, [_name_of(row, names)], join_name(message["database"], message["table"]))


_READERS: Mapping[str, Callable[[dict[str, Any], bytes | None], _Change | None]] = {
    "debezium-json": _read_debezium,
    "canal-json": _read_canal,
    "maxwell-json": _read_maxwell,
}


def _unwrap(message: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    payload, schema = message.get("payload"), message.get("schema")
    if message.keys() == {"schema", "payload"} and isinstance(payload, dict):
        return payload, schema if isinstance(schema, dict) else {}
    return message, {}


def _key_object(key: bytes | None) -> dict[str, Any]:
    try:
        found = parse_value(key) if key is not None else None
    except Unreadable:
        return {}
    return found if isinstance(found, dict) else {}


def _name_of(row: Row, key: Iterable[str]) -> str:
    names = tuple(key)
    return json.dumps([row.get(name) for name in names] if names else row)


def _telling(row: Row) -> Row:
    """The row without values that say nothing of their column's type."""
    return {name: None if value in _NO_EXAMPLES else value for name, value in row.items()}


def _fields(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = schema.get("fields")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _connect_type(schema: Mapping[str, Any]) -> DataType | None:
    """The type of a field in a schema of Kafka Connect; None where values have to tell."""
    name, kind = schema.get("name"), schema.get("type")
    if name == "org.apache.kafka.connect.data.Decimal":
        parameters = schema.get("parameters")
        given = parameters if isinstance(parameters, dict) else {}
        return _decimal(given.get("connect.decimal.precision"), given.get("scale"))
    if name in _CONNECT_NAMES:
        return Primitive(_CONNECT_NAMES[name])
    inner = schema.get("items") if kind == "array" else schema.get("values") if kind == "map" else None
    if isinstance(inner, dict):
        element = _connect_type(inner)
        if element is None:
            return None
        return ListType(element) if kind == "array" else MapType(Primitive("string"), element)
    if kind == "struct":
        members = {str(one.get("field")): _connect_type(one) for one in _fields(schema)}
        is_named = members and all(re.fullmatch(IDENTIFIER_PATTERN, name) for name in members)
        if not is_named or None in members.values():
            return None
        return StructType(tuple(StructField(name, member) for name, member in members.items() if member is not None))
    return Primitive(_CONNECT_KINDS[kind]) if isinstance(kind, str) and kind in _CONNECT_KINDS else None


def _decimal(precision: Any, scale: Any) -> DataType:
    digits = int(precision) if str(precision).isdigit() else MAX_DECIMAL_PRECISION
    behind = int(scale) if str(scale).isdigit() else 0
    if not 0 <= behind <= digits or not 0 < digits <= MAX_DECIMAL_PRECISION:
        return Primitive("string")
    return Primitive("decimal", (digits, behind))


def _mysql_type(declared: str) -> DataType:
    """The type that surely takes every value of one of MySQL's."""
    match = _MYSQL_TYPE.fullmatch(declared)
    name, arguments, rest = (match[1].lower(), match[2] or "", match[3].lower()) if match else ("", "", "")
    if name in ("decimal", "numeric"):
        precision, _, scale = arguments.partition(",")
        return _decimal(precision.strip() or "10", scale.strip() or "0")
    if "unsigned" in rest and name == "bigint":
        return Primitive("decimal", (20, 0))
    if "unsigned" in rest and name in ("int", "integer"):
        return Primitive("long")
    return Primitive(_MYSQL_KINDS.get(name, "string"))
