"""The columns that a Protobuf schema gives to a table that declares none: the fields of its first message."""

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from lakehouse_assets.decode.decoded import BrokenSchema, LeftOut, derive_each
from lakehouse_assets.decode.protobuf.conversions import KINDS
from lakehouse_assets.decode.protobuf.plan import TIMESTAMP, WRAPPERS
from lakehouse_assets.decode.protobuf.schema import compile_schema
from lakehouse_assets.model.derived import DerivedColumn
from lakehouse_assets.model.schemas import RegisteredSchema
from lakehouse_assets.model.types import DataType, ListType, MapType, Primitive, StructField, StructType


def derive_columns(schema: RegisteredSchema, left_out: LeftOut = None) -> list[DerivedColumn]:
    """One optional column for each field: of most, Protobuf does not say whether they have to be there.

    `left_out`: see `derive_each`.

    Raises:
        BrokenSchema: the schema is none, has no message with fields, or a field has no type that a column could have.
        ConfigurationError: the compiler of schemas is not installed.
    """
    if schema.kind != "PROTOBUF":
        raise BrokenSchema(f"it is a schema of {schema.kind}, expected PROTOBUF")
    message = compile_schema(schema.text, schema.references).find_message((0,))
    if message is None or not message.fields:
        raise BrokenSchema("its first message has no fields, or there is none")

    def derive(field: FieldDescriptor) -> DerivedColumn:
        return DerivedColumn(field.name, _type(field, field.name, (message,)), required=False)

    return derive_each(message.fields, derive, left_out)


def _type(field: FieldDescriptor, place: str, inside: tuple[Descriptor, ...]) -> DataType:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        key, value = inner.fields_by_name["key"], inner.fields_by_name["value"]
        if key.type != FieldDescriptor.TYPE_STRING:
            raise BrokenSchema(f"the field {place!r} is a map whose keys are no strings")
        return MapType(Primitive("string"), _single(value, f"{place}{{}}", inside))
    one = _single(field, place, inside)
    return ListType(one) if field.is_repeated else one


def _single(field: FieldDescriptor, place: str, inside: tuple[Descriptor, ...]) -> DataType:
    inner = field.message_type
    if inner is None:
        kind = KINDS[field.type]
        return Primitive("string" if field.enum_type is not None else "binary" if kind == "bytes" else kind)
    if inner.full_name == TIMESTAMP:
        return Primitive("timestamptz")
    if inner.full_name in WRAPPERS:
        return _single(inner.fields[0], place, inside)
    if any(inner.full_name == outer.full_name for outer in inside):
        raise BrokenSchema(f"the field {place!r} contains itself, without end")
    if not inner.fields:
        raise BrokenSchema(f"the field {place!r} is a message without fields")
    members = (StructField(one.name, _type(one, f"{place}.{one.name}", (*inside, inner))) for one in inner.fields)
    return StructType(tuple(members))
