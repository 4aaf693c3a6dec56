"""Names and order of the columns that every ingested table carries beside the declared ones.

They say which message a row is. All are optional: rows that others append have none.
"""

from lakehouse_assets.model.types import DataType, Primitive

KAFKA_PARTITION = "_kafka_partition"
KAFKA_OFFSET = "_kafka_offset"
KAFKA_TIMESTAMP = "_kafka_timestamp"

METADATA_COLUMNS: dict[str, tuple[DataType, str]] = {
    KAFKA_PARTITION: (Primitive("int"), "Topic partition of the message; null for rows that others wrote."),
    KAFKA_OFFSET: (Primitive("long"), "Offset of the message within its topic partition."),
    KAFKA_TIMESTAMP: (Primitive("timestamptz"), "Kafka's timestamp of the message; null where it has none."),
}
