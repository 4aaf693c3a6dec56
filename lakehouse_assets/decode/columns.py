"""What a decoder is asked for (declared columns) and what each becomes in Arrow."""

from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa

from lakehouse_assets.model.types import DataType, ListType, MapType, Primitive, StructType


class Column(Protocol):
    """A declared column, as far as decoding needs it."""

    @property
    def name(self) -> str:
        """Name of the column in the table."""

    @property
    def type(self) -> DataType:
        """Declared type."""

    @property
    def required(self) -> bool:
        """Whether a message without this value is bad."""

    @property
    def path(self) -> tuple[str, ...]:
        """Where the value stands in the message: the keys from the outermost object inwards, at least one."""

    @property
    def epoch(self) -> str | None:
        """Unit of an integer timestamp: seconds, milliseconds or microseconds; None: ISO text."""


_PRIMITIVES: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "string": pa.string(),
    "uuid": pa.uuid(),
    "binary": pa.binary(),
}


def arrow_type(declared: DataType) -> pa.DataType:
    """The Arrow type of a declared type. Map keys are not nullable, everything else is."""
    match declared:
        case Primitive("decimal", (precision, scale)):
            return pa.decimal128(precision, scale)
        case Primitive("fixed", (length,)):
            return pa.binary(length)
        case Primitive(name, _):
            return _PRIMITIVES[name]
        case ListType(element):
            return pa.list_(arrow_type(element))
        case MapType(key, value):
            return pa.map_(arrow_type(key), arrow_type(value))
        case StructType(fields):
            return pa.struct([(field.name, arrow_type(field.type)) for field in fields])


def arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    """One nullable Arrow field per column, in order; `required` is a rule about messages only."""
    return pa.schema([(column.name, arrow_type(column.type)) for column in columns])
