"""Names and order of the columns that every ingested table carries beside the declared ones.

They say which message a row is. All are optional: rows that others append have none. The columns of a quarantine table stand
here too: messages that can't become rows, as they came.
"""

from dataclasses import dataclass

from lakehouse_assets.model.types import DataType, ListType, Primitive, StructField, StructType

KAFKA_PARTITION = "_kafka_partition"
KAFKA_OFFSET = "_kafka_offset"
KAFKA_TIMESTAMP = "_kafka_timestamp"

METADATA_COLUMNS: dict[str, tuple[DataType, str]] = {
    KAFKA_PARTITION: (Primitive("int"), "Topic partition of the message; null for rows that others wrote."),
    KAFKA_OFFSET: (Primitive("long"), "Offset of the message within its topic partition."),
    KAFKA_TIMESTAMP: (Primitive("timestamptz"), "Kafka's timestamp of the message; null where it has none."),
}


@dataclass(frozen=True, slots=True)
class PositionColumns:
    """The columns of a table that say topic partition and offset of a row."""

    partition: str
    offset: str


ROW_POSITION = PositionColumns(KAFKA_PARTITION, KAFKA_OFFSET)

QUARANTINE_SUFFIX = "__quarantine"
QUARANTINE_POSITION = PositionColumns("partition", "offset")
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
