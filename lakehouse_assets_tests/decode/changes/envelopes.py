"""Debezium's envelopes in Avro for tests, written by fastavro, with the schemas that Kafka Connect's Avro converter makes.

The shapes of schemas are those of Apache Flink's test schema, flink-formats/flink-avro-confluent-registry/src/test/resources/
debezium-test-schema.json (Apache-2.0), and of confluentinc/schema-registry's AvroData (Apache-2.0), which writes the annotations;
sources are Debezium's (io.debezium.connector.postgresql.Source, io.debezium.connector.mysql.Source).
"""

from collections.abc import Sequence
from typing import Any

from lakehouse_assets.model.schemas import RegisteredSchema
from lakehouse_assets_tests.decode.avro.messages import body_of, connect, framed, record, registered

VALUES, KEYS, MARKS, BEATS, OTHERS, NEWER, DDL = range(1, 8)
PLACEHOLDER = "__debezium_unavailable_value"

_SNAPSHOT = [
    {
        **connect("string", "data.Enum"),
        "connect.parameters": {"allowed": "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"},
        "connect.default": "false",
    },
    "null",
]
POSTGRES = record(
    ("version", "string"),
    ("connector", "string"),
    ("name", "string"),
    ("ts_ms", "long"),
    {"name": "snapshot", "type": _SNAPSHOT, "default": "false"},
    ("db", "string"),
    {"name": "sequence", "type": ["null", "string"], "default": None},
    ("schema", "string"),
    ("table", "string"),
    {"name": "txId", "type": ["null", "long"], "default": None},
    {"name": "lsn", "type": ["null", "long"], "default": None},
    {"name": "xmin", "type": ["null", "long"], "default": None},
    name="io.debezium.connector.postgresql.Source",
)
MYSQL = record(
    ("version", "string"),
    ("connector", "string"),
    ("name", "string"),
    ("ts_ms", "long"),
    ("db", "string"),
    {"name": "table", "type": ["null", "string"], "default": None},
    ("server_id", "long"),
    {"name": "gtid", "type": ["null", "string"], "default": None},
    ("file", "string"),
    ("pos", "long"),
    ("row", "int"),
    name="io.debezium.connector.mysql.Source",
)
_POSTGRES = {"version": "3.6.3.Final", "connector": "postgresql", "name": "shop", "ts_ms": 1, "db": "shop", "schema": "public"}
_MYSQL = {"version": "3.6.3.Final", "connector": "mysql", "name": "shop", "ts_ms": 1, "db": "shop", "server_id": 1}
_BLOCK = record(("id", "string"), ("total_order", "long"), ("data_collection_order", "long"), name="event.block")
BEAT = record(("ts_ms", "long"), name="io.debezium.connector.common.Heartbeat")
MARK = record(
    ("status", "string"),
    ("id", "string"),
    {"name": "event_count", "type": ["null", "long"], "default": None},
    ("ts_ms", "long"),
    name="io.debezium.connector.common.TransactionMetadataValue",
)
SCHEMA_CHANGE = record(
    ("source", MYSQL), ("ts_ms", "long"), ("databaseName", ["null", "string"]), ("ddl", ["null", "string"]), name="SchemaChangeValue"
)


def row(*fields: tuple[str, Any]) -> dict[str, Any]:
    """The record of a table's rows; a field as (name, type)."""
    return record(*fields, name="shop.public.items.Value")


def envelope(value: dict[str, Any], source: dict[str, Any] = POSTGRES) -> dict[str, Any]:
    """The envelope around rows of a table."""
    return record(
        {"name": "before", "type": ["null", value], "default": None},
        {"name": "after", "type": ["null", value["name"]], "default": None},
        ("source", source),
        {"name": "transaction", "type": ["null", _BLOCK], "default": None},
        ("op", "string"),
        {"name": "ts_ms", "type": ["null", "long"], "default": None},
        name="shop.public.items.Envelope",
    )


class Stream:
    """Messages of one table, and the schemas that they name."""

    def __init__(self, value: dict[str, Any], key: Any = None, source: dict[str, Any] = POSTGRES) -> None:
        """`key`: the schema of the messages' keys."""
        self._value, self._key, self._source = envelope(value, source), key, source
        known = {VALUES: self._value, MARKS: MARK, BEATS: BEAT, DDL: SCHEMA_CHANGE, OTHERS: value}
        self.schemas: dict[int, RegisteredSchema] = {number: registered(schema) for number, schema in known.items()}
        if key is not None:
            self.schemas[KEYS] = registered(key)

    def change(self, op: str, after: Any = None, before: Any = None, **source: Any) -> bytes:
        """An envelope; what is said of its source beside what every one says: `lsn`, or `file`, `pos` and `row`."""
        base = _POSTGRES if self._source is POSTGRES else _MYSQL
        around = {**base, "table": "items", "snapshot": "false", **source}
        return framed(body_of(self._value, {"op": op, "after": after, "before": before, "source": around, "ts_ms": 2}), VALUES)

    def key(self, value: Any) -> bytes:
        """The key of a message."""
        return framed(body_of(self._key, value), KEYS)


def beside() -> Sequence[bytes]:
    """A heartbeat, both marks of a transaction, a change of the schema."""
    around = {**_MYSQL, "file": "bin.000001", "pos": 4, "row": 0}
    return [
        framed(body_of(BEAT, {"ts_ms": 5}), BEATS),
        framed(body_of(MARK, {"status": "BEGIN", "id": "571:53195829", "ts_ms": 5}), MARKS),
        framed(body_of(MARK, {"status": "END", "id": "571:53195832", "event_count": 2, "ts_ms": 5}), MARKS),
        framed(body_of(SCHEMA_CHANGE, {"source": around, "ts_ms": 5, "databaseName": "shop", "ddl": None}), DDL),
    ]
