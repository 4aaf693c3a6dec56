"""Which decoder reads the messages of a table: the one place that knows every format."""

from lakehouse_assets.decode.avro.decoder import AvroDecoder
from lakehouse_assets.decode.decoded import Decoder
from lakehouse_assets.decode.json_decoder import JsonDecoder
from lakehouse_assets.model.schemas import RegisteredSchema, SchemaOf
from lakehouse_assets.model.spec import TableSpec


def build_decoder(spec: TableSpec, schemas: SchemaOf | RegisteredSchema) -> Decoder:
    """A decoder of the table's messages into its declared columns.

    `schemas` gives the schema that a message names by its id, or is the one of all messages, which then name none. Formats
    without schemas don't ask.

    Raises:
        BrokenSchemaError: the one schema can't be used.
    """
    match spec.source.format:
        case "json":
            return JsonDecoder(spec.columns)
        case "avro":
            return AvroDecoder(spec.columns, schemas)
