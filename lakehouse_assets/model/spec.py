"""What a table declaration may say. The models check it; their descriptions are what editors show.

A `TableSpec` is immutable, comparable, hashable and picklable, and the same from YAML and from Python:

    TableSpec(
        table="ods.clicks",
        source={"topic": "clicks"},
        schema=[
            {"name": "id", "type": "long", "required": True},
            ColumnSpec(name="user_id", path=("user", "id"), type="string"),  # `from` in YAML
        ],
        partition_by=["bucket(16, user_id)"],
    )

A wrong declaration raises pydantic's `ValidationError` with every mistake in it, also those between its
parts; what this package finds is a `ValueError(Mistake(...))` in it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails

from lakehouse_assets.model import fields, transforms
from lakehouse_assets.model.changes import OnSchemaChange
from lakehouse_assets.model.columns import METADATA_COLUMNS, QUARANTINE_SUFFIX, REST_COLUMN, TOPIC_COLUMNS
from lakehouse_assets.model.mistakes import Mistake
from lakehouse_assets.model.rules import ColumnFacts, PartitionFacts, SpecFacts, find_spec_mistakes
from lakehouse_assets.model.schemas import SubjectVersion
from lakehouse_assets.model.types import DataType, Primitive
from lakehouse_assets.model.written import format_moment

Value = TypeVar("Value")

EARLIEST_PARTITION = datetime(2026, 1, 1, tzinfo=UTC)  # older messages belong to the first partition
_MIB = 2**20
_TIMESTAMPS = ("timestamp", "timestamptz")
_FORMATS_WITH_SCHEMA = ("avro", "protobuf")
_TYPES_OF_TEXT = ("string", "binary", "int", "long")  # what a whole key or header may be


class _Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)


class SourceSpec(_Declared):
    """Where the rows come from."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [key]} for key in ("topic", "topics", "topic_pattern")]}
    )

    if TYPE_CHECKING:
        # Pydantic takes more than the fields' own types: text for types and durations, mappings for models.
        def __init__(self, **parts: Any) -> None: ...

    topic: fields.TopicName | None = Field(default=None, description="The Kafka topic.")
    topics: tuple[fields.TopicName, ...] = Field(
        default=(),
        description="Several topics of equal messages instead of one; the table says in _kafka_topic which a row is from.",
    )
    topic_pattern: fields.TopicPattern | None = Field(
        default=None,
        description="A regular expression instead of names: every topic whose whole name matches, those that are created "
        "later too.",
    )
    format: Literal["json", "avro", "protobuf"] = Field(
        default="json",
        description="How messages are encoded: JSON objects, or Avro or Protobuf in Confluent's wire format, whose schemas are "
        "in the registry that SCHEMA_REGISTRY_URL names.",
    )
    schema_file: str | None = Field(
        default=None,
        strict=True,
        min_length=1,
        description="For Avro without a registry: the file with the schema of all messages, which then are bare bodies. A "
        "relative path begins where the declaration stands.",
    )
    start: fields.SourceStart = Field(
        default="earliest",
        description="Where a new table begins: earliest (the oldest message that Kafka holds), latest "
        "(messages from now on), or the first message at or after a time (UTC unless it names a zone).",
    )


    @field_validator("schema_file")
    @classmethod
    def _schema_file_fits_the_format(cls, schema_file: str | None, info: ValidationInfo) -> str | None:
        kind = info.data.get("format", "avro")
        if schema_file is not None and kind != "avro":
            raise ValueError(Mistake(f"{schema_file!r} for messages of {kind}", "schema_file with format: avro only"))
        return schema_file

    @property
    def named_topics(self) -> tuple[str, ...]:
        """The topics that the declaration names; none where it has a pattern."""
        return self.topics if self.topic is None else (self.topic,)

    @property
    def has_several(self) -> bool:
        """Whether rows say which topic they are from."""
        return self.topic is None

    @property
    def label(self) -> str:
        """What it reads, as a phrase for people."""
        if self.topic_pattern is not None:
            return f"topics {self.topic_pattern}"
        return ", ".join(self.named_topics)

    def reads(self, topic: str) -> bool:
        """Whether messages of this topic are the table's."""
        if self.topic_pattern is not None:
            return re.fullmatch(self.topic_pattern, topic) is not None
        return topic in self.named_topics


class ColumnSpec(_Declared):
    """One column of the table. A field that a message lacks becomes null, never zero."""

    if TYPE_CHECKING:

        def __init__(self, **parts: Any) -> None: ...

    name: fields.ColumnName = Field(description="Name of the column.")
    type: fields.ColumnType = Field(
        description="Type in Iceberg's spelling. Maps have string keys, because JSON has no others."
    )
    required: bool = Field(
        default=False,
        strict=True,
        description="Whether every row has a value. A message without one can't become a row.",
    )
    doc: str = Field(
        default="",
        strict=True,
        description="What the column means; kept in the table, shown by query engines.",
    )
    path: fields.MessagePath = Field(
        default_factory=tuple,
        validation_alias="from",
        serialization_alias="from",
        description="Where the message holds the value, if not in a field of the column's name: another "
        'name, a path into nested objects (a.b), or a list where names contain dots (["a.b", "c"]).',
    )
    epoch: Literal["seconds", "milliseconds", "microseconds"] | None = Field(
        default=None,
        description="For timestamp and timestamptz: the message carries a number of these since 1970 instead "
        "of ISO 8601 text.",
    )
    from_key: fields.KeyPlace | None = Field(
        default=None,
        description="Instead of 'from': the message's key. true is the whole key, for string, binary, int and long (as text); "
        "where keys are JSON objects, a path into them as in 'from'.",
    )
    from_header: str | None = Field(
        default=None,
        strict=True,
        min_length=1,
        description="Instead of 'from': the last header of this name, for string, binary, int and long (as text).",
    )
    expr: fields.Sql | None = Field(
        default=None,
        description="The column is derived: an SQL expression, in DuckDB's dialect, over the columns that the message "
        "holds. Instead of the keys that say where it is in the message.",
    )

    @model_validator(mode="before")
    @classmethod
    def _path_is_the_name(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        if any(data.get(place) is not None for place in ("from_key", "from_header", "expr")):
            return {name: value for name, value in data.items() if name not in ("from", "path") or value}
        return {**data, "from": [data["name"]]} if data.get("name") and not data.keys() & {"from", "path"} else data

    @field_validator("from_key", "from_header")
    @classmethod
    def _place_is_the_only_one(cls, place: Any, info: ValidationInfo) -> Any:
        if place is None:
            return place
        is_given = {"from": bool(info.data.get("path")), "from_key": info.data.get("from_key") is not None}
        for other in (name for name, given in is_given.items() if given):
            if other != info.field_name:
                raise ValueError(Mistake(f"{info.field_name} beside {other}", "one of from, from_key and from_header"))
        kind = info.data.get("type")
        is_text = isinstance(kind, Primitive) and kind.name in _TYPES_OF_TEXT
        if (place == () or info.field_name == "from_header") and kind is not None and not is_text:
            raise ValueError(Mistake(f"{info.field_name} on a column of type {kind}", ", ".join(_TYPES_OF_TEXT)))
        return place

    @model_validator(mode="after")
    def _rest_is_an_optional_text(self) -> Self:
        if self.name == REST_COLUMN:
            is_text = self.type == Primitive("string") and not self.required and self.epoch is None
            if not is_text or not self.is_in_value or self.path != (REST_COLUMN,):
                allowed = f"{{name: {REST_COLUMN}, type: string}}, which keeps the fields that no other column reads"
                raise ValueError(Mistake(f"a column {REST_COLUMN} of another kind", allowed))
        return self

    @property
    def is_in_value(self) -> bool:
        """Whether the message's value has it, not its key or a header."""
        return self.from_key is None and self.from_header is None

    @field_validator("epoch")
    @classmethod
    def _epoch_fits_the_type(cls, epoch: str | None, info: ValidationInfo) -> str | None:
        kind = info.data.get("type")
        is_timestamp = isinstance(kind, Primitive) and kind.name in _TIMESTAMPS
        if epoch is not None and kind is not None and not is_timestamp:
            found = f"{epoch!r} on a column of type {kind}"
            raise ValueError(Mistake(found, "epoch on timestamp and timestamptz only"))
        return epoch

    @field_validator("expr")
    @classmethod
    def _expr_stands_alone(cls, expr: str | None, info: ValidationInfo) -> str | None:
        beside = [key for key in ("epoch", "from_key", "from_header") if info.data.get(key) is not None]
        beside += ["from"] if info.data.get("path") else []
        if expr is not None and beside:
            raise ValueError(Mistake(f"expr beside {beside[0]}", "expr alone: it says where the value comes from"))
        kind = info.data.get("type")
        if expr is not None and kind is not None and not isinstance(kind, Primitive):
            raise ValueError(Mistake(f"expr on a column of type {kind}", "expr on columns of a primitive type"))
        return expr


@dataclass(frozen=True, slots=True)
class PartitionFieldSpec:
    """One way in which the table is partitioned; `parameter` is the number of buckets, or truncate's width.

    Raises:
        ValueError: no such transform, or a parameter that it does not take.
    """

    column: str
    transform: str = "identity"
    parameter: int | None = None

    def __post_init__(self) -> None:
        transforms.parse_partition_field(self._call)

    @classmethod
    def read(cls, value: object) -> "PartitionFieldSpec":
        """Read `day(event_time)`, `bucket(16, user_id)` or a bare column."""
        return value if isinstance(value, cls) else cls(*transforms.parse_partition_field(value))

    @property
    def field_name(self) -> str:
        """Name of the partition field in the table, as `event_time_day`."""
        return transforms.name_partition_field(self.column, self.transform, self.parameter)

    @property
    def _call(self) -> str:
        argument = self.column if self.parameter is None else f"{self.parameter}, {self.column}"
        return f"{self.transform}({argument})"

    def __str__(self) -> str:
        return self.column if self.transform == "identity" else self._call


_PARTITION_FIELD_SCHEMA = {
    "type": "string",
    "pattern": transforms.PARTITION_FIELD_PATTERN,
    "examples": ["day(event_time)", "bucket(16, user_id)", "truncate(4, url)", "country"],
}
PartitionField = Annotated[
    PartitionFieldSpec, fields.Written(PartitionFieldSpec.read, _PARTITION_FIELD_SCHEMA)
]


class PartitionsSpec(_Declared):
    """The asset's time partitions, in UTC: what one click in the UI replaces."""

    every: Literal["hour", "day"] = Field(default="hour", description="Length of a partition.")
    start: fields.Moment = Field(
        default=EARLIEST_PARTITION,
        description="Start of the first partition, in UTC, on a full hour or day. Older messages belong to "
        "the first partition.",
    )

    @field_validator("start")
    @classmethod
    def _start_is_a_boundary(cls, start: datetime, info: ValidationInfo) -> datetime:
        every = info.data.get("every")
        hour = 0 if every == "day" else start.hour
        boundary = start.replace(hour=hour, minute=0, second=0, microsecond=0)
        if every is not None and start != boundary:
            raise ValueError(Mistake(format_moment(start), f"a full {every} in UTC", format_moment(boundary)))
        return start


class ChecksSpec(_Declared):
    """When the asset's checks fail."""

    max_lag: int = Field(
        default=1_000_000,
        strict=True,
        ge=0,
        description="Most messages that the table may be behind its topic.",
    )
    max_age: fields.Duration = Field(
        default=timedelta(minutes=15),
        description="Longest time that a waiting message may stay out of the table, as 15m.",
    )


class TableSpec(_Declared):
    """An Iceberg table that is filled from a Kafka topic."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {
                "properties": {
                    "source": {"required": ["format"], "properties": {"format": {"enum": list(_FORMATS_WITH_SCHEMA)}}}
                }
            },
            "else": {"required": ["schema"]},
        }
    )

    if TYPE_CHECKING:

        def __init__(self, **parts: Any) -> None: ...

    table: fields.TableName = Field(
        description="namespace.name of the Iceberg table; the asset key is namespace/name."
    )
    description: str = Field(
        default="", strict=True, description="What a row is, for those who find the table in the UI."
    )
    owners: tuple[fields.Owner, ...] = Field(
        default=(), description="Who answers for the table: e-mail addresses, or team:name."
    )
    source: SourceSpec = Field(description="Where the rows come from.")
    columns: tuple[ColumnSpec, ...] = Field(
        default=(),
        alias="schema",
        json_schema_extra={"minItems": 1},
        description="The columns. Left out for Avro: the newest schema of the registry's subject <topic>-value gives them, or "
        "the schema file. The platform adds _kafka_partition, _kafka_offset and _kafka_timestamp, and _kafka_topic to "
        "tables of several topics.",
    )
    where: fields.Sql | None = Field(
        default=None,
        description="Which messages become rows: an SQL condition, in DuckDB's dialect, over the columns that the message "
        "holds. The others are skipped and counted.",
    )
    mode: Literal["append"] = Field(
        default="append", description="What a message does to the table: append adds one row."
    )
    key: tuple[Annotated[str, Field(strict=True)], ...] = Field(
        default=(),
        description="Columns that name a row; they become Iceberg's identifier fields and must be required.",
    )
    partition_by: tuple[PartitionField, ...] = Field(
        default=(),
        description="How the table's files are laid out: day(event_time), bucket(16, user_id), country.",
    )
    partitions: PartitionsSpec = Field(default=PartitionsSpec(), description="The asset's time partitions.")
    commit_interval: fields.Duration = Field(
        default=timedelta(seconds=10),
        description="About how often what has been read becomes visible, as 10s. At least 1s.",
    )
    commit_size: Annotated[int, fields.size_of_at_least(_MIB)] = Field(
        default=1024 * _MIB,
        json_schema_extra={"default": "1GiB"},
        description="A commit is made early when this much of raw messages is staged, as 1GiB; at least "
        "1MiB.",
    )
    run_time_limit: fields.Duration = Field(
        default=timedelta(minutes=5),
        description="How long one run of the sensor drains the topic before it hands over, as 5m.",
    )
    workers: int = Field(
        default=1, strict=True, ge=1, le=64, description="Processes that stage files for one commit."
    )
    buffer_size: Annotated[int, fields.size_of_at_least(16 * _MIB)] = Field(
        default=256 * _MIB,
        json_schema_extra={"default": "256MiB"},
        description="Bound on the memory for rows that are not written yet, as 256MiB; at least 16MiB.",
    )
    on_bad_record: Literal["quarantine", "fail"] = Field(
        default="quarantine",
        description="What happens to a message that can't become a row: quarantine keeps it in the table "
        "<table>__quarantine, fail stops the table at it.",
    )
    max_bad_share: float = Field(
        default=0.5,
        strict=True,
        ge=0,
        le=1,
        description="Share of messages, of at least 1,000, above which they are not bad but the declaration is "
        "wrong: the run stops and nothing of them lands.",
    )
    on_schema_change: OnSchemaChange = Field(
        default="evolve",
        description="What happens where the columns here are not those of the table: evolve adds columns, widens them "
        "and makes them optional; quarantine leaves the table and keeps messages that do not fit it; fail stops.",
    )
    schedule: fields.CronLine | None = Field(
        default=None, description="Cron line in UTC that materialises the newest partition beside the sensor."
    )
    checks: ChecksSpec = Field(default=ChecksSpec(), description="When the asset's checks fail.")
    properties: dict[str, fields.PropertyValue] = Field(
        default={}, description="Iceberg's table properties, under Iceberg's own names."
    )

    # Where columns come from that nobody declared; set by `with_columns_of`.
    _column_source: SubjectVersion | None = PrivateAttr(default=None)

    @field_validator("columns")
    @classmethod
    def _columns_are_declared(cls, columns: tuple[ColumnSpec, ...], info: ValidationInfo) -> tuple[ColumnSpec, ...]:
        if not columns:
            raise ValueError(Mistake("an empty list", "at least one column"))
        source = info.data.get("source")
        if source is not None and source.format != "json" and any(column.name == REST_COLUMN for column in columns):
            found = f"the column {REST_COLUMN} of {source.format} messages"
            raise ValueError(Mistake(found, f"{REST_COLUMN} of JSON messages only"))
        if all(column.expr is not None for column in columns):
            raise ValueError(Mistake("nothing but columns with expr", "at least one column that the message holds"))
        return columns

    @model_validator(mode="wrap")
    @classmethod
    def _report_every_mistake(cls, data: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        errors: list[InitErrorDetails] = []
        try:
            spec = validate(data)
        except ValidationError as error:
            errors += [_raise_again(details) for details in error.errors(include_url=False)]
        for place, mistake in find_spec_mistakes(_read_facts(data)):
            cause = {"error": ValueError(mistake)}
            errors.append({"type": "value_error", "loc": place, "input": None, "ctx": cause})
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return spec

    @property
    def metadata_columns(self) -> Mapping[str, tuple[DataType, str]]:
        """Type and description of the columns that the platform adds."""
        return TOPIC_COLUMNS | METADATA_COLUMNS if self.source.has_several else METADATA_COLUMNS

    @property
    def column_source(self) -> SubjectVersion | None:
        """The version of a schema that gave the columns; None where they are declared, or not known yet."""
        return self._column_source

    def with_columns_of(self, source: SubjectVersion, columns: Sequence[Mapping[str, Any]]) -> "TableSpec":
        """This declaration with the columns that a schema gave.

        Raises:
            ValidationError: key, partition_by or properties don't fit them, or they are none that a table may have.
        """
        related = {name: getattr(self, name) for name in ("table", "source", "key", "partition_by", "properties")}
        spec = self.model_copy(update={"columns": type(self)(**related, columns=columns).columns})
        spec._column_source = source
        return spec

    @property
    def keeps_rest(self) -> bool:
        """Whether a column keeps the fields that no other reads."""
        return any(column.name == REST_COLUMN for column in self.columns)

    @property
    def namespace(self) -> str:
        """The part of `table` before the dot."""
        return self.table.split(".")[0]

    @property
    def name(self) -> str:
        """The part of `table` after the dot."""
        return self.table.split(".")[1]

    @property
    def decoded_columns(self) -> tuple[ColumnSpec, ...]:
        """The columns that the message holds; the others are derived from them."""
        return tuple(column for column in self.columns if column.expr is None)

    @property
    def has_expressions(self) -> bool:
        """Whether SQL decides which rows there are, or makes a column."""
        return self.where is not None or len(self.decoded_columns) < len(self.columns)

    @property
    def quarantine_table(self) -> str:
        """namespace.name of the table of the messages that can't become rows."""
        return f"{self.table}{QUARANTINE_SUFFIX}"

    @property
    def asset_key(self) -> tuple[str, str]:
        """Namespace and name: the path of the Dagster asset."""
        return self.namespace, self.name

    def __hash__(self) -> int:
        return hash((self.table, self.source, self.columns, self.partition_by))


def _read_facts(data: object) -> SpecFacts:
    """What can be read of a declaration that may be wrong anywhere."""
    parts = data if isinstance(data, Mapping) else {}
    properties = parts.get("properties")
    pairs = properties.items() if isinstance(properties, Mapping) else ()
    values = {str(name): _try(fields.read_property_value, value) for name, value in pairs}
    source = parts.get("source")
    if isinstance(source, SourceSpec):
        source = source.model_dump()
    given = source if isinstance(source, Mapping) else {}
    has_schema = given.get("format") in _FORMATS_WITH_SCHEMA and bool(given.get("topic") or given.get("schema_file"))
    return SpecFacts(
        may_lack_columns=has_schema or not parts.keys().isdisjoint({"schema", "columns"}),
        source_keys=frozenset(key for key, value in source.items() if value) if isinstance(source, Mapping) else None,
        columns=[_read_column_facts(column) for column in _items(parts.get("schema", parts.get("columns")))],
        key=[name if isinstance(name, str) else None for name in _items(parts.get("key"))],
        partition_by=[_read_partition_facts(field) for field in _items(parts.get("partition_by"))],
        properties={name: value for name, value in values.items() if value is not None},
    )


def _read_column_facts(column: object) -> ColumnFacts:
    if isinstance(column, ColumnSpec):
        return ColumnFacts(column.name, column.type, column.required)
    parts = column if isinstance(column, Mapping) else {}
    name, required = parts.get("name"), parts.get("required", False)
    return ColumnFacts(
        name if isinstance(name, str) else None,
        _try(fields.read_data_type, parts.get("type")),
        required if isinstance(required, bool) else None,
    )


def _read_partition_facts(field: object) -> PartitionFacts | None:
    read = _try(PartitionFieldSpec.read, field)
    return (read.column, read.transform, read.parameter) if read else None


def _items(value: object) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _try(read: Callable[[object], Value], value: object) -> Value | None:
    try:
        return read(value)
    except ValueError:
        return None


def _raise_again(details: ErrorDetails) -> InitErrorDetails:
    return {
        "type": details["type"],
        "loc": details["loc"],
        "input": details["input"],
        "ctx": details.get("ctx", {}),
    }
