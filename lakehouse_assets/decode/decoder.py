"""Which decoder reads the messages of a table: the one place that knows every format."""

from lakehouse_assets.decode.decoded import Decoder
from lakehouse_assets.decode.json_decoder import JsonDecoder
from lakehouse_assets.model.schemas import SchemaOf
from lakehouse_assets.model.spec import TableSpec


def build_decoder(spec: TableSpec, schema_of: SchemaOf) -> Decoder:
    """A decoder of the table's messages into its declared columns.

    `schema_of` gives the schema that a message names by its id; it is called only by formats that have schemas.
    """
    match spec.source.format:
        case "json":
            return JsonDecoder(spec.columns)
