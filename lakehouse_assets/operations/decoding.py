"""The decoder of a table's messages as a run needs it: by the declaration, and where the table must stay, by the table too."""

from pyiceberg.table import Table

from lakehouse_assets.decode.decoded import Decoder
from lakehouse_assets.decode.decoder import build_decoder
from lakehouse_assets.decode.fitting import FittingDecoder
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.systems.schema import build_file_schema


def table_decoder(systems: Systems, spec: TableSpec, table: Table) -> Decoder:
    """Decodes messages into rows that `table` can take."""
    decoder = build_decoder(spec, systems.registry.schema_of)
    if spec.on_schema_change == "quarantine":
        return FittingDecoder(decoder, build_file_schema(table.schema()))
    return decoder
