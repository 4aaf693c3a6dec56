"""The decoder of a table's messages as a run needs it: by the declaration and the schemas that its messages are written by.

Where the table must stay as it is, by the table too.
"""

from pathlib import Path

from pyiceberg.table import Table

from lakehouse_assets.decode.decoded import Decoder
from lakehouse_assets.decode.decoder import build_decoder
from lakehouse_assets.decode.fitting import FittingDecoder
from lakehouse_assets.model.errors import BrokenSchemaError
from lakehouse_assets.model.schemas import RegisteredSchema
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.systems.schema import build_file_schema


def table_decoder(systems: Systems, spec: TableSpec, table: Table) -> Decoder:
    """Decodes messages into rows that `table` can take.

    Raises:
        BrokenSchemaError: the schema file can't be read, or is no schema.
    """
    decoder = open_decoder(systems, spec)
    if spec.on_schema_change == "quarantine":
        return FittingDecoder(decoder, build_file_schema(table.schema()))
    return decoder


def open_decoder(systems: Systems, spec: TableSpec) -> Decoder:
    """Decodes messages into rows that fit the declaration. Contacts no registry yet.

    Raises:
        BrokenSchemaError: the schema file can't be read, or is no schema.
    """
    if spec.source.schema_file is None:
        return build_decoder(spec, systems.registry.schema_of)
    return build_decoder(spec, _read_schema_file(spec.source.schema_file))


def _read_schema_file(path: str) -> RegisteredSchema:
    try:
        return RegisteredSchema("AVRO", Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenSchemaError(path, f"it can't be read ({error})") from error
