"""The kinds of value in a declaration, as annotations for pydantic models.

Each kind says how a value is read from what a person writes, written back as text, and shown to editors.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

from lakehouse_assets.model import types, written
from lakehouse_assets.model.mistakes import Mistake, describe
from lakehouse_assets.model.types import DataType, ListType, MapType, Primitive, StructType

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, eq=False)  # hashed by typing.Union, which the dict would refuse
class Written:
    """Reads a value with `read`, which raises `ValueError(Mistake(...))`, and writes it back with `write`."""

    read: Callable[[Any], Any]
    json_schema: Mapping[str, Any]
    write: Callable[[Any], Any] = str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        back = core_schema.plain_serializer_function_ser_schema(self.write, when_used="json")
        return core_schema.no_info_plain_validator_function(self.read, serialization=back)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return dict(self.json_schema)


def _text(read: Callable[[Any], str], pattern: str) -> Written:
    return Written(read, {"type": "string", "pattern": pattern})


def duration_of_at_least(minimum: timedelta) -> Written:
    """The kind of a duration such as 10s."""
    schema = {"type": "string", "pattern": written.DURATION_PATTERN, "examples": ["10s", "5m", "1h"]}
    return Written(partial(written.read_duration, minimum=minimum), schema, written.format_duration)


def size_of_at_least(minimum_bytes: int) -> Written:
    """The kind of a size such as 64MiB, an int of bytes in Python."""
    text = {"type": "string", "pattern": written.SIZE_PATTERN, "examples": ["64MiB", "1GB"]}
    schema = {"anyOf": [text, {"type": "integer", "minimum": minimum_bytes}]}
    return Written(partial(written.read_size, minimum_bytes=minimum_bytes), schema, written.format_size)


def read_data_type(value: object) -> DataType:
    """A type that JSON messages can fill, from its text."""
    if isinstance(value, (Primitive, ListType, MapType, StructType)):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(
            Mistake(describe(value), "an Iceberg type such as long, decimal(10,2), list<string>")
        )
    kind = types.parse_type(value)
    if any(inner.key != Primitive("string") for inner in types.list_maps(kind)):
        raise ValueError(
            Mistake(repr(value), "maps with string keys, as map<string, ...>: JSON has no others")
        )
    return kind


def read_property_value(value: object) -> str:
    """The text of a table property; YAML's numbers and truth values become text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ValueError(Mistake(describe(value), "text, a number, true or false"))


def _read_source_start(value: object) -> object:
    return value if value in ("earliest", "latest") else written.read_moment(value, "earliest, latest, or ")


def _format_source_start(value: str | datetime) -> str:
    return value if isinstance(value, str) else written.format_moment(value)


def _read_follow(value: object) -> object:
    if isinstance(value, (bool, written.DailyWindow)):
        return value
    try:
        return written.DailyWindow.read(value)
    except ValueError:
        raise ValueError(Mistake(describe(value), "true, false, or a part of the day in UTC, as 08:00-20:00")) from None


def _format_follow(value: bool | written.DailyWindow) -> object:
    return value if isinstance(value, bool) else str(value)


def _read_key_place(value: object) -> tuple[str, ...]:
    if value is True or value == ():
        return ()
    if isinstance(value, bool):
        raise ValueError(Mistake("false", 'true for the whole key, or a path into it such as a.b'))
    return written.read_path(value)


_MOMENT_SCHEMA = {"type": "string", "examples": ["2026-01-01T00:00"]}
_TYPE_SCHEMA = {
    "anyOf": [
        {"enum": [name for name in types.PRIMITIVE_NAMES if name not in ("decimal", "fixed")]},
        {"type": "string", "pattern": types.TYPE_PATTERN},
    ],
    "examples": ["decimal(10,2)", "fixed[16]", "list<string>", "map<string,long>", "struct<a:int,b:string>"],
}

TableName = Annotated[str, _text(written.read_table_name, written.TABLE_PATTERN)]
ColumnName = Annotated[str, _text(written.read_column_name, written.IDENTIFIER_PATTERN)]
TopicName = Annotated[str, _text(written.read_topic, written.TOPIC_PATTERN)]
TopicPattern = Annotated[str, Written(written.read_topic_pattern, {"type": "string", "examples": ["click_.*"]})]
Owner = Annotated[str, _text(written.read_owner, written.OWNER_PATTERN)]
CronLine = Annotated[str, Written(written.read_cron, {"type": "string", "examples": ["0 * * * *"]})]
ColumnType = Annotated[DataType, Written(read_data_type, _TYPE_SCHEMA)]
Duration = Annotated[timedelta, duration_of_at_least(_SECOND)]
DailyWindow = Annotated[
    written.DailyWindow,
    Written(
        written.DailyWindow.read,
        {"type": "string", "pattern": written.DAILY_WINDOW_PATTERN, "examples": ["22:00-05:00"]},
    ),
]
Follow = Annotated[
    bool | written.DailyWindow,
    Written(
        _read_follow,
        {
            "anyOf": [{"type": "boolean"}, {"type": "string", "pattern": written.DAILY_WINDOW_PATTERN}],
            "examples": [True, "08:00-20:00"],
        },
        _format_follow,
    ),
]
Moment = Annotated[datetime, Written(written.read_moment, _MOMENT_SCHEMA, written.format_moment)]
SourceStart = Annotated[
    Literal["earliest", "latest"] | datetime,
    Written(
        _read_source_start,
        {"anyOf": [{"enum": ["earliest", "latest"]}, _MOMENT_SCHEMA]},
        _format_source_start,
    ),
]
_PATH_SCHEMAS: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "array", "items": {"type": "string"}, "minItems": 1},
]
MessagePath = Annotated[tuple[str, ...], Written(written.read_path, {"anyOf": _PATH_SCHEMAS}, list)]
KeyPlace = Annotated[
    tuple[str, ...], Written(_read_key_place, {"anyOf": [{"const": True}, *_PATH_SCHEMAS]}, lambda path: list(path) or True)
]
Sql = Annotated[str, Written(written.read_sql, {"type": "string", "minLength": 1, "maxLength": written.MAX_SQL_CHARACTERS})]
Statement = Annotated[
    str, Written(written.read_statement, {"type": "string", "minLength": 1, "maxLength": written.MAX_STATEMENT_CHARACTERS})
]
PropertyValue = Annotated[str, Written(read_property_value, {"type": ["string", "number", "boolean"]})]
