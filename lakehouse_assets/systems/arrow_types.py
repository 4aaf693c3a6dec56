"""Columns of Arrow, as engines and libraries give them, as columns of an Iceberg table.

Hides how many of Arrow's types are one of Iceberg's. None that holds a value is narrowed.
"""

from collections.abc import Callable
from itertools import count

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from lakehouse_assets.model.errors import ResultTypeError

_MAX_PRECISION = 38
_is = pa.types
_PLAIN: tuple[tuple[Callable[[pa.DataType], bool], IcebergType], ...] = (
    (_is.is_boolean, BooleanType()),
    (lambda kind: kind in (pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16()), IntegerType()),
    (lambda kind: kind in (pa.int64(), pa.uint32()), LongType()),
    (lambda kind: kind == pa.uint64(), DecimalType(20, 0)),
    (lambda kind: kind in (pa.float16(), pa.float32()), FloatType()),
    (_is.is_float64, DoubleType()),
    (lambda kind: _is.is_string(kind) or _is.is_large_string(kind) or _is.is_string_view(kind), StringType()),
    (lambda kind: _is.is_binary(kind) or _is.is_large_binary(kind) or _is.is_binary_view(kind), BinaryType()),
    (_is.is_date, DateType()),
    (_is.is_time, TimeType()),
)


def build_table_schema(table: str, columns: pa.Schema) -> Schema:
    """The columns of a table that can hold rows of these, all optional.

    Raises:
        ResultTypeError: no type of Iceberg holds the values of one, or two bear one name.
    """
    ids = count(1)
    seen: set[str] = set()
    fields = []
    for column in columns:
        if column.name.lower() in seen:
            raise ResultTypeError(table, column.name, "a second column of that name, letter case aside", "AS another_name")
        seen.add(column.name.lower())
        fields.append(NestedField(next(ids), column.name, _convert(table, column.name, column.type, ids), required=False))
    return Schema(*fields)


def _convert(table: str, name: str, kind: pa.DataType, ids: "count[int]") -> IcebergType:
    for fits, plain in _PLAIN:
        if fits(kind):
            return plain
    if _is.is_timestamp(kind):
        return TimestampType() if kind.tz is None else TimestamptzType()
    if _is.is_decimal(kind) and kind.precision <= _MAX_PRECISION and kind.scale >= 0:
        return DecimalType(kind.precision, kind.scale)
    if _is.is_fixed_size_binary(kind):
        return FixedType(kind.byte_width)
    if _is.is_dictionary(kind):
        return _convert(table, name, kind.value_type, ids)
    if isinstance(kind, pa.BaseExtensionType):
        return UUIDType() if kind.extension_name == "arrow.uuid" else _convert(table, name, kind.storage_type, ids)
    return _convert_nested(table, name, kind, ids)


def _convert_nested(table: str, name: str, kind: pa.DataType, ids: "count[int]") -> IcebergType:
    if _is.is_map(kind):
        return MapType(
            next(ids),
            _convert(table, f"{name}.key", kind.key_type, ids),
            next(ids),
            _convert(table, f"{name}.value", kind.item_type, ids),
            value_required=False,
        )
    if _is.is_list(kind) or _is.is_large_list(kind) or _is.is_fixed_size_list(kind) or _is.is_list_view(kind):
        return ListType(next(ids), _convert(table, f"{name}.element", kind.value_type, ids), element_required=False)
    if _is.is_struct(kind) and kind.num_fields:
        members = [kind.field(i) for i in range(kind.num_fields)]
        return StructType(
            *(
                NestedField(next(ids), it.name, _convert(table, f"{name}.{it.name}", it.type, ids), required=False)
                for it in members
            )
        )
    what = "nothing but null, of no type" if _is.is_null(kind) else f"the type {kind}, which Iceberg has not"
    raise ResultTypeError(table, name, what, "CAST(... AS another type)")
