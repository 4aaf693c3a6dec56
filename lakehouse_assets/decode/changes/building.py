"""Which decoder reads the changes of an upsert table: the one place that knows every format of them."""

from lakehouse_assets.decode.changes.avro_keys import AvroKeys, KeyColumn
from lakehouse_assets.decode.changes.canal import CanalDecoder
from lakehouse_assets.decode.changes.debezium import DebeziumDecoder
from lakehouse_assets.decode.changes.debezium_avro import DebeziumAvroDecoder
from lakehouse_assets.decode.changes.decoded import ChangeDecoder
from lakehouse_assets.decode.changes.maxwell import MaxwellDecoder
from lakehouse_assets.decode.changes.plain import JsonKeys, PlainChangeDecoder
from lakehouse_assets.decode.changes.table_names import TableNames
from lakehouse_assets.decode.decoder import build_message_decoder
from lakehouse_assets.model.schemas import RegisteredSchema, SchemaOf
from lakehouse_assets.model.spec import TableSpec


def build_change_decoder(spec: TableSpec, schemas: SchemaOf | RegisteredSchema) -> ChangeDecoder:
    """A decoder of the table's messages into changes of its decoded columns.

    `schemas` as in `build_decoder`.

    Raises:
        BrokenSchemaError: the one schema can't be used.
    """
    decoder = _build(spec, schemas)
    if not spec.has_expressions:
        return decoder
    from lakehouse_assets.decode.changes.deriving import DerivingChangeDecoder  # they load DuckDB
    from lakehouse_assets.decode.deriving import Deriver

    return DerivingChangeDecoder(Deriver(spec), decoder)


def _build(spec: TableSpec, schemas: SchemaOf | RegisteredSchema) -> ChangeDecoder:
    names = TableNames(spec.source.tables)
    key_columns = [column for column in spec.decoded_columns if column.name in spec.key]
    match spec.source.format:
        case "avro" if not isinstance(schemas, RegisteredSchema):
            keys = AvroKeys([KeyColumn.of(column) for column in key_columns], schemas, JsonKeys(key_columns))
            return PlainChangeDecoder(build_message_decoder(spec, schemas), keys)
        case "json" | "avro" | "protobuf":
            return PlainChangeDecoder(build_message_decoder(spec, schemas), JsonKeys(key_columns))
        case "canal-json":
            return CanalDecoder(spec.decoded_columns, spec.key, names)
        case "maxwell-json":
            return MaxwellDecoder(spec.decoded_columns, spec.key, names)
        case "debezium-json":
            return DebeziumDecoder(spec.decoded_columns, spec.key, names)
        case "debezium-avro":
            assert not isinstance(schemas, RegisteredSchema)  # noqa: S101 - a declaration can't name one for it
            return DebeziumAvroDecoder(spec.decoded_columns, spec.key, schemas, names)
