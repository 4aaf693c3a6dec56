"""What a declaration may say of where rows come from: topics, and how their messages are encoded."""

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from lakehouse_assets.model import fields
from lakehouse_assets.model.declared import Declared
from lakehouse_assets.model.mistakes import Mistake

SourceFormat = Literal["json", "avro", "protobuf", "debezium-json", "debezium-avro", "canal-json", "maxwell-json"]
CHANGE_FORMATS = ("debezium-json", "debezium-avro", "canal-json", "maxwell-json")
FORMATS_WITH_SCHEMA = ("avro", "protobuf", "debezium-avro")  # which can give the columns that nobody declares


class SourceSpec(Declared):
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
    format: SourceFormat = Field(
        default="json",
        description="How messages are encoded: JSON objects, or Avro or Protobuf in Confluent's wire format, whose schemas are "
        "in the registry that SCHEMA_REGISTRY_URL names. The others are the changes of a database's rows, as Debezium, Canal "
        "or Maxwell send them.",
    )
    schema_file: str | None = Field(
        default=None,
        strict=True,
        min_length=1,
        description="For Avro without a registry: the file with the schema of all messages, which then are bare bodies. A "
        "relative path begins where the declaration stands.",
    )
    tables: tuple[Annotated[str, Field(strict=True, min_length=1)], ...] = Field(
        default=(),
        description="For changes of a database, where a topic has those of several of its tables: which are meant, as "
        "public.orders or shop.orders; * stands for anything. The others are skipped.",
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

    @field_validator("tables")
    @classmethod
    def _tables_are_a_databases(cls, tables: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        kind = info.data.get("format", CHANGE_FORMATS[0])
        if tables and kind not in CHANGE_FORMATS:
            allowed = f"tables with the changes of a database: {', '.join(CHANGE_FORMATS)}"
            raise ValueError(Mistake(f"{', '.join(tables)} for messages of {kind}", allowed))
        return tables

    @property
    def named_topics(self) -> tuple[str, ...]:
        """The topics that the declaration names; none where it has a pattern."""
        return self.topics if self.topic is None else (self.topic,)

    @property
    def has_several(self) -> bool:
        """Whether rows say which topic they are from."""
        return self.topic is None

    @property
    def is_change_stream(self) -> bool:
        """Whether messages are the changes of a database's rows."""
        return self.format in CHANGE_FORMATS

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
