"""A table's declaration as PyIceberg's schema, partition spec and Arrow file schema.

Hides how declared types, columns and transforms are spelt in PyIceberg and Arrow.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import Transform, parse_transform
from pyiceberg.types import IcebergType, NestedField, PrimitiveType
from pyiceberg.types import ListType as IcebergList
from pyiceberg.types import MapType as IcebergMap
from pyiceberg.types import StructType as IcebergStruct

from lakehouse_assets.model.changes import OnSchemaChange
from lakehouse_assets.model.columns import (
    KAFKA_OFFSET,
    KAFKA_PARTITION,
    KAFKA_TOPIC,
    QUARANTINE_COLUMNS,
    QUARANTINE_POSITION,
    PositionColumns,
)
from lakehouse_assets.model.layout_spec import PartitionFieldSpec
from lakehouse_assets.model.slices import EVENT_TIME_COLUMN_KEY
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.types import DataType, ListType, MapType, Primitive, StructType

MODE_KEY: Final = "lakehouse.mode"  # of an upsert table; rows that were appended don't hold each key once
FORMAT_VERSION: Final = 2  # the one that snapshots are written in
_read_primitive: TypeAdapter[PrimitiveType] = TypeAdapter(PrimitiveType)
_LATEST_TIMESTAMP_MS = 253_402_300_799_999  # year 9999, the last that every engine can show
_FIRST_PARTITION_FIELD_ID = 1000  # Iceberg spec, "Partition Evolution"


@dataclass(frozen=True, slots=True)
class TableShape:
    """What a table must look like: as it is created, as it is compared, and what happens where it does not."""

    name: str
    schema: Schema
    partition_spec: PartitionSpec
    properties: Mapping[str, str]
    on_change: OnSchemaChange = "evolve"

    @classmethod
    def declared(cls, spec: TableSpec) -> "TableShape":
        """The table of a declaration. `properties` are those that a table can be given at any time."""
        schema = build_schema(spec)
        properties = {key: text for key, text in spec.properties.items() if key != "format-version"}
        if spec.description:
            properties["comment"] = spec.description
        if spec.is_upsert:
            properties[MODE_KEY] = spec.mode
        if spec.event_time is not None:
            properties[EVENT_TIME_COLUMN_KEY] = spec.event_time.column
        return cls(spec.table, schema, build_partition_spec(spec, schema), properties, spec.on_schema_change)

    @classmethod
    def quarantine(cls, spec: TableSpec) -> "TableShape":
        """The table of the messages that can't become rows of a declared one."""
        columns = [(name, kind, False, doc) for name, (kind, doc) in QUARANTINE_COLUMNS.items()]
        comment = f"Messages of {spec.source.label} that can't become rows of {spec.table}, as they came, and why."
        return cls(spec.quarantine_table, Schema(*_fields(columns)), PartitionSpec(), {"comment": comment})


@dataclass(frozen=True, slots=True)
class Base:
    """What staged files were written for. They are valid only while the table still is that."""

    table_uuid: uuid.UUID
    schema_id: int
    spec_id: int

    @classmethod
    def of(cls, table: Table) -> "Base":
        """The base that `table` is now."""
        return cls(table.metadata.table_uuid, table.metadata.current_schema_id, table.metadata.default_spec_id)


def build_schema(spec: TableSpec) -> Schema:
    """The schema that a new table gets: declared columns, then the metadata columns; `key` as identifier fields."""
    columns = [(c.name, c.type, c.required, c.doc) for c in spec.columns]
    columns += [(name, kind, False, doc) for name, (kind, doc) in spec.metadata_columns.items()]
    fields = _fields(columns)
    keys = [field.field_id for field in fields if field.name in spec.key]
    return Schema(*fields, identifier_field_ids=keys)


def _fields(columns: Sequence[tuple[str, DataType, bool, str]]) -> list[NestedField]:
    """Fields of name, type, required and doc, with ids in the order in which Iceberg gives them."""
    ids = count(1)
    return [
        NestedField(next(ids), name, _iceberg_type(kind, ids), required=required, doc=doc or None)
        for name, kind, required, doc in columns
    ]


def build_partition_spec(spec: TableSpec, schema: Schema) -> PartitionSpec:
    """The partition spec that a new table gets."""
    return build_layout(spec.partition_by, schema)


def build_layout(partition_by: Sequence[PartitionFieldSpec], schema: Schema) -> PartitionSpec:
    """A declared layout over these columns."""
    fields = [
        PartitionField(
            source_id=schema.find_field(declared.column).field_id,
            field_id=_FIRST_PARTITION_FIELD_ID + i,
            transform=_transform(declared),
            name=declared.field_name,
        )
        for i, declared in enumerate(partition_by)
    ]
    return PartitionSpec(*fields)


def build_file_schema(schema: Schema) -> pa.Schema:
    """Arrow schema of the table's data files, with Iceberg's field ids, in 32-bit offset types.

    PyIceberg answers with 64-bit string types, which would cost a copy of every string column.
    """
    return pa.schema([_narrow(field) for field in schema_to_pyarrow(schema, include_field_ids=True)])


def timestamp_column(stamps_ms: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> pa.Array:
    """Kafka's stamps, ms since 1970, as Arrow's; null where a message has none (negative)."""
    stamps_us = np.clip(stamps_ms, 0, _LATEST_TIMESTAMP_MS) * 1000
    return pa.array(stamps_us, pa.timestamp("us", tz="UTC"), mask=stamps_ms < 0)


def position_columns(schema: Schema) -> PositionColumns:
    """Which columns of a table of ours say the message that a row is, or was."""
    if KAFKA_PARTITION not in schema.column_names:
        return QUARANTINE_POSITION
    return PositionColumns(KAFKA_TOPIC if KAFKA_TOPIC in schema.column_names else None, KAFKA_PARTITION, KAFKA_OFFSET)


def _iceberg_type(kind: DataType, ids: "count[int]") -> IcebergType:
    match kind:
        case Primitive():
            return _read_primitive.validate_python(str(kind))
        case ListType():
            return IcebergList(next(ids), _iceberg_type(kind.element, ids), element_required=False)
        case MapType():
            return IcebergMap(
                next(ids), _iceberg_type(kind.key, ids), next(ids), _iceberg_type(kind.value, ids), value_required=False
            )
        case StructType():
            fields = [NestedField(next(ids), f.name, _iceberg_type(f.type, ids), required=False) for f in kind.fields]
            return IcebergStruct(*fields)


def _transform(declared: PartitionFieldSpec) -> Transform:  # type: ignore[type-arg]  # source and result type vary
    text = declared.transform if declared.parameter is None else f"{declared.transform}[{declared.parameter}]"
    return parse_transform(text)


_NARROW: dict[pa.DataType, Callable[[], pa.DataType]] = {pa.large_string(): pa.string, pa.large_binary(): pa.binary}


def _narrow(field: pa.Field) -> pa.Field:
    return field.with_type(_narrow_type(field.type))


def _narrow_type(kind: pa.DataType) -> pa.DataType:
    if kind in _NARROW:
        return _NARROW[kind]()
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return pa.list_(_narrow(kind.value_field))
    if pa.types.is_map(kind):
        return pa.map_(_narrow(kind.key_field), _narrow(kind.item_field))
    if pa.types.is_struct(kind):
        return pa.struct([_narrow(kind.field(i)) for i in range(kind.num_fields)])
    return kind
