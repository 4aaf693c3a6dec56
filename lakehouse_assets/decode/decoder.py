"""Which decoder reads the messages of a table: the one place that knows every format."""

from collections.abc import Sequence

from lakehouse_assets.decode.avro import derive as avro
from lakehouse_assets.decode.avro.decoder import AvroDecoder
from lakehouse_assets.decode.beside import MessageDecoder
from lakehouse_assets.decode.decoded import BrokenSchema, Decoder, LeftOut, ValueDecoder
from lakehouse_assets.decode.json_decoder import JsonDecoder
from lakehouse_assets.decode.protobuf import derive as protobuf
from lakehouse_assets.decode.protobuf.decoder import ProtobufDecoder
from lakehouse_assets.model.column_spec import ColumnSpec
from lakehouse_assets.model.derived import DerivedColumn
from lakehouse_assets.model.schemas import RegisteredSchema, SchemaOf
from lakehouse_assets.model.spec import TableSpec


def build_decoder(spec: TableSpec, schemas: SchemaOf | RegisteredSchema) -> Decoder:
    """A decoder of the table's messages into its declared columns.

    `schemas` gives the schema that a message names by its id, or is the one of all messages, which then name none. Formats
    without schemas don't ask.

    Raises:
        BrokenSchemaError: the one schema can't be used.
    """
    decoder = build_message_decoder(spec, schemas)
    if not spec.has_expressions:
        return decoder
    from lakehouse_assets.decode.deriving import Deriver, DerivingDecoder  # they load DuckDB

    return DerivingDecoder(Deriver(spec), decoder)


def build_message_decoder(spec: TableSpec, schemas: SchemaOf | RegisteredSchema) -> Decoder:
    """The same without the expressions: a decoder of what the message itself holds."""
    columns = spec.decoded_columns
    in_values = [column for column in columns if column.is_in_value]
    return MessageDecoder(columns, _build_value_decoder(spec, in_values, schemas) if in_values else None)


def derive_columns(kind: str, schema: RegisteredSchema, left_out: LeftOut = None) -> list[DerivedColumn]:
    """The columns of a table of messages in this format that declares none. `left_out`: see `derive_each`.

    Raises:
        BrokenSchema: the schema gives none; says why in a clause.
    """
    match kind:
        case "avro":
            return avro.derive_columns(schema, left_out)
        case "debezium-avro":
            return avro.derive_row_columns(schema, left_out)
        case "protobuf":
            return protobuf.derive_columns(schema, left_out)
        case _:
            raise BrokenSchema(f"messages of {kind} have no schema")


def _build_value_decoder(
    spec: TableSpec, columns: Sequence[ColumnSpec], schemas: SchemaOf | RegisteredSchema
) -> ValueDecoder:
    match spec.source.format:
        case "json":
            return JsonDecoder(columns)
        case "avro":
            return AvroDecoder(columns, schemas, spec.column_source.schema if spec.column_source else None)
        case "protobuf":
            assert not isinstance(schemas, RegisteredSchema)  # noqa: S101 - a declaration can't name one for it
            return ProtobufDecoder(columns, schemas)
        case _:
            raise AssertionError(f"unreachable: {spec.source.format} is decoded by decode.changes")
