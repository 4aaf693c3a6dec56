"""Names and order of the columns that every ingested table carries beside the declared ones.

They say which message a row is; tables of several topics have `TOPIC_COLUMNS` too. All are optional: rows that others append
have none. The columns of a quarantine table stand here too: messages that can't become rows, as they came.
"""

from dataclasses import dataclass

from lakehouse_assets.model.types import DataType, ListType, Primitive, StructField, StructType

KAFKA_TOPIC = "_kafka_topic"
REST_COLUMN = "_rest"  # declared: keeps the fields of a JSON message that no other column reads
KAFKA_PARTITION = "_kafka_partition"
KAFKA_OFFSET = "_kafka_offset"
KAFKA_TIMESTAMP = "_kafka_timestamp"

TOPIC_COLUMNS: dict[str, tuple[DataType, str]] = {
    KAFKA_TOPIC: (Primitive("string"), "Topic of the message; null for rows that others wrote."),
}
METADATA_COLUMNS: dict[str, tuple[DataType, str]] = {
    KAFKA_PARTITION: (Primitive("int"), "Topic partition of the message; null for rows that others wrote."),
    KAFKA_OFFSET: (Primitive("long"), "Offset of the message within its topic partition."),
    KAFKA_TIMESTAMP: (Primitive("timestamptz"), "Kafka's timestamp of the message; null where it has none."),
}
SOURCE_POSITION = "_source_position"
DELETED = "_is_deleted"
OPERATION = "_operation"
# Iceberg's own names for what it knows of a row: engines refuse to read a table that has a column of such a name.
ICEBERG_NAMES = ("_file", "_pos", "_deleted", "_spec_id", "_partition", "_row_id", "_last_updated_sequence_number")
# Of tables that follow the changes of a database.
SOURCE_COLUMNS: dict[str, tuple[DataType, str]] = {
    SOURCE_POSITION: (
        Primitive("long"),
        "Where the change stands in the source's own log (LSN, binlog position); larger is newer. Null where it does not say.",
    ),
}
# Of tables that keep the rows that were deleted.
MARK_COLUMNS: dict[str, tuple[DataType, str]] = {
    DELETED: (Primitive("boolean"), "Whether the row was deleted in the source; its last values are kept."),
}
# Of tables that keep every change.
LOG_COLUMNS: dict[str, tuple[DataType, str]] = {
    OPERATION: (
        Primitive("string"),
        "What happened to the row: insert, update, delete, or read (it was there already); truncate: to all rows.",
    ),
}


@dataclass(frozen=True, slots=True)
class PositionColumns:
    """The columns of a table that say topic, topic partition and offset of a row; a table of one topic may have no first."""

    topic: str | None
    partition: str
    offset: str

    @property
    def names(self) -> tuple[str, ...]:
        """Those that there are."""
        return (self.partition, self.offset) if self.topic is None else (self.topic, self.partition, self.offset)


CHANGE_LOG_SUFFIX = "__changes"
QUARANTINE_SUFFIX = "__quarantine"
QUARANTINE_POSITION = PositionColumns("topic", "partition", "offset")
_HEADERS = ListType(StructType((StructField("key", Primitive("string")), StructField("value", Primitive("binary")))))
QUARANTINE_COLUMNS: dict[str, tuple[DataType, str]] = {
    "topic": (Primitive("string"), "Topic of the message."),
    QUARANTINE_POSITION.partition: (Primitive("int"), "Topic partition of the message."),
    QUARANTINE_POSITION.offset: (Primitive("long"), "Offset of the message within its topic partition."),
    "timestamp": (Primitive("timestamptz"), "Kafka's timestamp of the message; null where it has none."),
    "key": (Primitive("binary"), "The message's key, byte by byte; null where it has none."),
    "value": (Primitive("binary"), "The message's value, byte by byte."),
    "headers": (_HEADERS, "The message's headers, in their order."),
    "error_code": (Primitive("string"), "Why it can't become a row, in one word that stays the same."),
    "error": (Primitive("string"), "Why it can't become a row, in a sentence."),
}
