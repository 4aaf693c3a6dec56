"""Avro messages for tests, written by fastavro, which has nothing in common with what reads them."""

import io
import json
from collections.abc import Sequence
from typing import Any

import fastavro

from lakehouse_assets.decode.avro.decoder import AvroDecoder
from lakehouse_assets.model.schemas import RegisteredSchema
from lakehouse_assets_tests.decode.declared import DeclaredColumn

SCHEMA_ID = 7


def record(*fields: tuple[str, Any] | dict[str, Any], name: str = "Message") -> dict[str, Any]:
    """A record schema; fields as (name, type), or in full."""
    members = [field if isinstance(field, dict) else {"name": field[0], "type": field[1]} for field in fields]
    return {"type": "record", "name": name, "fields": members}


def connect(kind: str, name: str, **more: Any) -> dict[str, Any]:
    """A type as Kafka Connect's Avro converters annotate it; of Debezium's names, what stands behind `io.debezium.`."""
    full = name if name.startswith("org.") else f"io.debezium.{name}"
    return {"type": kind, "connect.version": 1, "connect.name": full, **more}


VARIABLE_SCALE_DECIMAL = {
    **record(("scale", "int"), ("value", "bytes"), name="VariableScaleDecimal"),
    "namespace": "io.debezium.data",
    "connect.version": 1,
    "connect.name": "io.debezium.data.VariableScaleDecimal",
}


def registered(schema: Any, *references: tuple[str, Any]) -> RegisteredSchema:
    """A schema as the registry gives it."""
    return RegisteredSchema("AVRO", json.dumps(schema), tuple((name, json.dumps(other)) for name, other in references))


def body_of(schema: Any, value: Any) -> bytes:
    """A body, without the id of its schema."""
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), value)
    return stream.getvalue()


def framed(body: bytes, schema_id: int = SCHEMA_ID) -> bytes:
    """A message as Confluent's serializers write it."""
    return b"\0" + schema_id.to_bytes(4, "big") + body


def messages(schema: Any, values: Sequence[Any], schema_id: int = SCHEMA_ID) -> list[bytes]:
    """One message of each value."""
    return [framed(body_of(schema, value), schema_id) for value in values]


def decoder(columns: Sequence[DeclaredColumn], schema: Any, reader: Any = None) -> AvroDecoder:
    """A decoder for messages of one schema, whose id is SCHEMA_ID."""
    schemas = {SCHEMA_ID: registered(schema)}
    return AvroDecoder(columns, schemas.get, None if reader is None else registered(reader))
