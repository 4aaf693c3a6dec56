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

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
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

from lakehouse_assets.model import fields
from lakehouse_assets.model.changes import OnSchemaChange
from lakehouse_assets.model.column_spec import ColumnSpec
from lakehouse_assets.model.columns import (
    CHANGE_LOG_SUFFIX,
    KAFKA_TIMESTAMP,
    LOG_COLUMNS,
    MARK_COLUMNS,
    METADATA_COLUMNS,
    QUARANTINE_COLUMNS,
    QUARANTINE_SUFFIX,
    REST_COLUMN,
    SOURCE_COLUMNS,
    TOPIC_COLUMNS,
)
from lakehouse_assets.model.declared import Declared
from lakehouse_assets.model.declared_table import DeclaredTable
from lakehouse_assets.model.event_time_spec import EventTimeSpec
from lakehouse_assets.model.facts import read_facts
from lakehouse_assets.model.layout_spec import PartitionField, PartitionFieldSpec, PartitionsSpec, begin_of
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.model.mistakes import Mistake
from lakehouse_assets.model.properties import read_named_column
from lakehouse_assets.model.property_aliases import translate_properties
from lakehouse_assets.model.rules import find_spec_mistakes
from lakehouse_assets.model.schemas import SubjectVersion
from lakehouse_assets.model.slices import SliceClock
from lakehouse_assets.model.source_spec import FORMATS_WITH_SCHEMA, SourceSpec
from lakehouse_assets.model.types import DataType

_MIB = 2**20
_RELATED_TO_COLUMNS = (
    "table", "source", "mode", "key", "on_delete", "keep_change_log", "event_time", "partition_by", "properties", "maintenance",
)  # fmt: skip


class ChecksSpec(Declared):
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
    complete_within: fields.Duration | None = Field(
        default=None,
        description="How long after its end, and event_time.max_disorder, an hour or day of event time may be incomplete by "
        "the clock, as 1h. Left out: max_age.",
    )


class TableSpec(DeclaredTable):
    """An Iceberg table that is filled from a Kafka topic."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {
                    "if": {
                        "properties": {
                            "source": {"required": ["format"], "properties": {"format": {"enum": list(FORMATS_WITH_SCHEMA)}}}
                        }
                    },
                    "else": {"required": ["schema"]},
                },
                {
                    "if": {"required": ["mode"], "properties": {"mode": {"const": "upsert"}}},
                    "then": {"required": ["key"], "properties": {"key": {"minItems": 1}}},
                },
            ]
        }
    )

    if TYPE_CHECKING:

        def __init__(self, **parts: Any) -> None: ...

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
    mode: Literal["append", "upsert"] = Field(
        default="append",
        description="What a message does to the table: append adds one row; upsert puts its row in the place of the one with "
        "the same key, or takes that out.",
    )
    key: tuple[Annotated[str, Field(strict=True)], ...] = Field(
        default=(),
        description="Columns that name a row; they become Iceberg's identifier fields and must be required. Needed for upsert.",
    )
    on_delete: Literal["delete", "mark"] = Field(
        default="delete",
        description="For upsert, what a deletion does: delete takes the row out, mark keeps its last values and sets "
        "_is_deleted.",
    )
    keep_change_log: bool = Field(
        default=False,
        strict=True,
        description="For upsert: keep every change too, in the append table <table>__changes.",
    )
    event_time: EventTimeSpec | None = Field(
        default=None,
        description="Which column says when a row happened: then the table says up to which time it is complete.",
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
    follow: fields.Follow = Field(
        default=False,
        description="Whether runs stay while the topic is hot and hand over to each other without a gap, where others end once "
        "the table is caught up; or the part of the day, in UTC, in which they do, as 08:00-20:00.",
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
    maintenance: MaintenanceSpec = Field(default=MaintenanceSpec(), description="How the table is looked after.")
    properties: dict[str, fields.PropertyValue] = Field(
        default={}, description="Iceberg's table properties, under Iceberg's own names."
    )

    # Where columns come from that nobody declared; set by `with_columns_of`.
    _column_source: SubjectVersion | None = PrivateAttr(default=None)
    # The upsert table whose changes this one keeps; set by `change_log`.
    _state: "TableSpec | None" = PrivateAttr(default=None)

    @field_validator("columns")
    @classmethod
    def _columns_are_declared(cls, columns: tuple[ColumnSpec, ...], info: ValidationInfo) -> tuple[ColumnSpec, ...]:
        if not columns:
            raise ValueError(Mistake("an empty list", "at least one column"))
        source = info.data.get("source")
        if source is not None and source.format != "json" and any(column.name == REST_COLUMN for column in columns):
            found = f"the column {REST_COLUMN} of {source.format} messages"
            raise ValueError(Mistake(found, f"{REST_COLUMN} of JSON messages only"))
        if source is not None:
            for mistake in filter(None, (column.find_format_mistake(source.format) for column in columns)):
                raise ValueError(mistake)
        if all(column.expr is not None for column in columns):
            raise ValueError(Mistake("nothing but columns with expr", "at least one column that the message holds"))
        return columns

    @model_validator(mode="wrap")
    @classmethod
    def _report_every_mistake(cls, data: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        errors: list[InitErrorDetails] = []
        try:
            spec = validate(translate_properties(data) if isinstance(data, Mapping) else data)
        except ValidationError as error:
            errors += [_raise_again(details) for details in error.errors(include_url=False)]
        for place, mistake in find_spec_mistakes(read_facts(data)):
            cause = {"error": ValueError(mistake)}
            errors.append({"type": "value_error", "loc": place, "input": None, "ctx": cause})
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return spec

    @property
    def metadata_columns(self) -> Mapping[str, tuple[DataType, str]]:
        """Type and description of the columns that the platform adds."""
        columns = TOPIC_COLUMNS | METADATA_COLUMNS if self.source.has_several else METADATA_COLUMNS
        if self.source.is_change_stream:
            columns = columns | SOURCE_COLUMNS
        if self.state is not None:
            columns = columns | LOG_COLUMNS
        return columns | MARK_COLUMNS if self.on_delete == "mark" else columns

    @property
    def column_source(self) -> SubjectVersion | None:
        """The version of a schema that gave the columns; None where they are declared, or not known yet."""
        return self._column_source

    def with_columns_of(self, source: SubjectVersion, columns: Sequence[Mapping[str, Any]]) -> "TableSpec":
        """This declaration with the columns that a schema gave.

        Raises:
            ValidationError: key, partition_by or properties don't fit them, or they are none that a table may have.
        """
        if self.state is not None:
            known = self.state.with_columns_of(source, columns).change_log
            assert known is not None  # noqa: S101 - this one is its
            return known
        related = {name: getattr(self, name) for name in _RELATED_TO_COLUMNS}
        spec = self.model_copy(update={"columns": type(self)(**related, columns=columns).columns})
        spec._column_source = source
        return spec

    @property
    def event_slices(self) -> SliceClock | None:
        """The slices of event time that are told to be complete; None for a table without event time."""
        if self.event_time is None:
            return None
        every = self.event_time.every
        return SliceClock(every, self.event_time.start or begin_of(self.partitions.start, every))

    @property
    def keeps_rest(self) -> bool:
        """Whether a column keeps the fields that no other reads."""
        return any(column.name == REST_COLUMN for column in self.columns)

    @property
    def is_upsert(self) -> bool:
        """Whether the table has one row per key."""
        return self.mode == "upsert"

    @property
    def copy_on_write(self) -> bool:
        """Whether a commit of an upsert table rewrites the files that it touches, instead of marking rows in them as gone."""
        return self.properties.get("write.update.mode", self.properties.get("write.delete.mode")) == "copy-on-write"

    @property
    def change_log(self) -> "TableSpec | None":
        """The append table of every change, where one is kept: the same columns, which a deletion may lack."""
        if not self.keep_change_log:
            return None
        log = self.model_copy(
            update={
                "table": f"{self.table}{CHANGE_LOG_SUFFIX}",
                "description": f"Every change of {self.table}, as it came.",
                "columns": tuple(column.model_copy(update={"required": False}) for column in self.decoded_columns),
                "where": None,
                "mode": "append",
                "key": (),
                "event_time": None,
                "on_delete": "delete",
                "keep_change_log": False,
                "partition_by": (PartitionFieldSpec(KAFKA_TIMESTAMP, "day"),),
                "maintenance": self.maintenance.for_columns([column.name for column in self.decoded_columns]),
                "properties": {name: value for name, value in self.properties.items() if read_named_column(name) is None},
            }
        )
        log._state = self
        return log

    @property
    def state(self) -> "TableSpec | None":
        """The upsert table whose changes this one keeps; None for every other table."""
        return self._state

    @property
    def has_row_per_message(self) -> bool:
        """Whether each message that is not left out is one row, for good."""
        return not self.is_upsert and self.state is None

    def follows_at(self, now: datetime) -> bool:
        """Whether a run that works at that time stays while the topic is hot."""
        return self.follow if isinstance(self.follow, bool) else self.follow.contains(now)

    @property
    def decoded_columns(self) -> tuple[ColumnSpec, ...]:
        """The columns that the message holds; the others are derived from them."""
        return tuple(column for column in self.columns if column.expr is None)

    @property
    def has_expressions(self) -> bool:
        """Whether SQL decides which rows there are, or makes a column."""
        return self.where is not None or len(self.decoded_columns) < len(self.columns)

    def without_expressions(self) -> "TableSpec":
        """This declaration with what the message holds alone: no rule leaves a message out, no column is derived."""
        return self.model_copy(update={"where": None, "columns": self.decoded_columns})

    @property
    def quarantine_table(self) -> str:
        """namespace.name of the table of the messages that can't become rows."""
        return f"{self.table}{QUARANTINE_SUFFIX}"

    @property
    def maintained_tables(self) -> Mapping[str, MaintenanceSpec]:
        """How each table is looked after that is filled by this declaration: its own, and that of its bad messages."""
        return {self.table: self.maintenance, self.quarantine_table: self.maintenance.for_columns(QUARANTINE_COLUMNS)}

    @property
    def asset_key(self) -> tuple[str, str]:
        """Namespace and name: the path of the Dagster asset."""
        return self.namespace, self.name

    def __hash__(self) -> int:
        return hash((self.table, self.source, self.columns, self.partition_by))


def _raise_again(details: ErrorDetails) -> InitErrorDetails:
    return {
        "type": details["type"],
        "loc": details["loc"],
        "input": details["input"],
        "ctx": details.get("ctx", {}),
    }
