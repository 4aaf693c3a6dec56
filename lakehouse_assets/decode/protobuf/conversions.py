"""How one Protobuf value, or many, become a declared primitive: as the same Avro type does, and what only Protobuf has.

What is raw: integers, floats and booleans as such, an enum as its number; text and bytes as bytes.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from lakehouse_assets.decode.avro.conversions import Target
from lakehouse_assets.decode.avro.conversions import find_conversion as find_plain
from lakehouse_assets.decode.avro.schema import Scalar
from lakehouse_assets.decode.avro.values import Conversion, Doubt, Spans
from lakehouse_assets.decode.rules import MAX_MICROS, MIN_MICROS, Rejected
from lakehouse_assets.model.types import DataType, Primitive

KINDS = {
    FieldDescriptor.TYPE_BOOL: "boolean",
    FieldDescriptor.TYPE_INT32: "int",
    FieldDescriptor.TYPE_SINT32: "int",
    FieldDescriptor.TYPE_SFIXED32: "int",
    FieldDescriptor.TYPE_ENUM: "int",
    FieldDescriptor.TYPE_UINT32: "long",
    FieldDescriptor.TYPE_FIXED32: "long",
    FieldDescriptor.TYPE_INT64: "long",
    FieldDescriptor.TYPE_SINT64: "long",
    FieldDescriptor.TYPE_SFIXED64: "long",
    FieldDescriptor.TYPE_UINT64: "long",
    FieldDescriptor.TYPE_FIXED64: "long",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
}
_UNSIGNED = (FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64)
_MAX_NANOS = 999_999_999

Integers = npt.NDArray[np.int64]


def find_conversion(field: FieldDescriptor, to: DataType, epoch: str | None) -> Conversion | None:
    """How values of a scalar field become `to`; None: they never do."""
    if not isinstance(to, Primitive):
        return None
    if field.type == FieldDescriptor.TYPE_ENUM and to.name == "string":
        return _enum(field.enum_type)
    if field.type == FieldDescriptor.TYPE_BYTES and to.name == "fixed":
        return _fixed(to.parameters[0])
    found = find_plain(Scalar(KINDS[field.type]), Target(to, epoch))
    return _unsigned(found) if found is not None and field.type in _UNSIGNED else found


def _enum(kind: EnumDescriptor) -> Conversion:
    names: dict[int, str] = {}
    for value in kind.values:
        names.setdefault(value.number, value.name)
    expected = f"one of the numbers that the enum {kind.name} names"

    def many(raw: Integers, doubt: Doubt) -> pa.Array:
        numbers, which = np.unique(raw, return_inverse=True)
        texts = pa.array([names.get(number) for number in numbers.tolist()], pa.string())
        if texts.null_count:
            doubt(texts.is_null().to_numpy(zero_copy_only=False)[which])
        return texts.take(pa.array(which))

    def one(raw: int) -> str:
        if raw not in names:
            raise Rejected("out_of_range", expected)
        return names[raw]

    return Conversion(many, one)


def _fixed(size: int) -> Conversion:
    def many(raw: Spans, doubt: Doubt) -> pa.Array:
        wrong = raw.stops - raw.starts != size
        if wrong.all():
            doubt(wrong)
            return pa.nulls(len(wrong), pa.binary(size))
        if wrong.any():
            doubt(wrong)
        octets = raw.to_matrix(size)
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(octets), [None, pa.py_buffer(octets.tobytes())])

    def one(raw: bytes) -> bytes:
        if len(raw) != size:
            raise Rejected("out_of_range", f"exactly {size} bytes")
        return raw

    return Conversion(many, one)


def _unsigned(signed: Conversion) -> Conversion:
    """Iceberg has no integers from 2^63 on."""

    def many(raw: Integers, doubt: Doubt) -> pa.Array:
        if raw.size and raw.min() < 0:
            doubt(raw < 0)
            raw = np.where(raw < 0, 0, raw)
        return signed.many(raw, doubt)

    def one(raw: int) -> object:
        if raw >= 2**63:
            raise Rejected("out_of_range", "an integer of 64 bits with a sign")
        return signed.one(raw)

    return Conversion(many, one)


def micros_of_timestamps(seconds: Integers, nanos: Integers, doubt: Doubt) -> pa.Array:
    """Timestamps as times; digits past microseconds are cut, as everywhere."""
    wrong = (nanos < 0) | (nanos > _MAX_NANOS) | (seconds < MIN_MICROS // 10**6) | (seconds > MAX_MICROS // 10**6)
    if wrong.any():
        doubt(wrong)
        seconds = np.where(wrong, 0, seconds)
    return pa.array(seconds * 10**6 + nanos // 1000).view(pa.timestamp("us", tz="UTC"))


def micros_of_timestamp(seconds: int, nanos: int) -> int:
    """One Timestamp, in microseconds since 1970."""
    if not 0 <= nanos <= _MAX_NANOS:
        raise Rejected("out_of_range", "nanoseconds of 0 to 999,999,999")
    micros = seconds * 10**6 + nanos // 1000
    if not MIN_MICROS <= micros <= MAX_MICROS:
        raise Rejected("out_of_range", "a time in the years 1 to 9999")
    return micros
