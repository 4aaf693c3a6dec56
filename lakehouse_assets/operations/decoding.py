"""The decoder of a table's messages as a run needs it: by the declaration and the schemas that its messages are written by.

Where the table must stay as it is, by the table too.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pyiceberg.table import Table

from lakehouse_assets.decode.changes.building import build_change_decoder
from lakehouse_assets.decode.changes.decoded import ChangeDecoder
from lakehouse_assets.decode.changes.fitting import FittingChangeDecoder
from lakehouse_assets.decode.changes.log import ChangeLogDecoder
from lakehouse_assets.decode.decoded import BrokenSchema, Decoder, Messages
from lakehouse_assets.decode.decoder import build_decoder, derive_columns
from lakehouse_assets.decode.fitting import FittingDecoder
from lakehouse_assets.model.derived import DerivedColumn
from lakehouse_assets.model.errors import BrokenSchemaError, SchemaMovedError
from lakehouse_assets.model.schemas import RegisteredSchema, SchemaOf, SubjectVersion
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.systems.messages import MessageBatch
from lakehouse_assets.systems.positions import Offsets
from lakehouse_assets.systems.registry import SchemaRegistry
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


def table_change_decoder(systems: Systems, spec: TableSpec, table: Table) -> ChangeDecoder:
    """Decodes messages into changes of rows that `table` can take.

    Raises:
        BrokenSchemaError: the schema file can't be read, or is no schema.
    """
    decoder = open_change_decoder(systems, spec)
    if spec.on_schema_change == "quarantine":
        return FittingChangeDecoder(decoder, build_file_schema(table.schema()))
    return decoder


def open_change_decoder(systems: Systems, spec: TableSpec) -> ChangeDecoder:
    """Decodes messages into changes of rows that fit the declaration. Contacts no registry yet.

    Raises:
        BrokenSchemaError: the schema file can't be read, or is no schema.
    """
    return build_change_decoder(spec, _schemas(systems, spec))


def open_decoder(systems: Systems, spec: TableSpec) -> Decoder:
    """Decodes messages into rows that fit the declaration. Contacts no registry yet.

    Raises:
        BrokenSchemaError: the schema file can't be read, or is no schema.
    """
    if (state := spec.state) is not None:
        return ChangeLogDecoder(open_change_decoder(systems, state.without_expressions()), state.key)
    return build_decoder(spec, _schemas(systems, spec))


def _schemas(systems: Systems, spec: TableSpec) -> SchemaOf | RegisteredSchema:
    if spec.source.schema_file is not None:
        return _read_schema_file(spec.source.schema_file)
    if spec.column_source is None:
        return systems.registry.schema_of
    return partial(_schema_of, systems.registry, spec.column_source)


def _schema_of(registry: SchemaRegistry, columns_of: SubjectVersion, schema_id: int) -> RegisteredSchema | None:
    """The schema of an id that was not met before: the moment when columns may have been added to the subject."""
    latest = registry.latest(columns_of.subject)
    if latest.version != columns_of.version:
        raise SchemaMovedError(columns_of.subject, columns_of.version, latest.version)
    return registry.schema_of(schema_id)


def resolve_columns(systems: Systems, spec: TableSpec) -> TableSpec:
    """The declaration as a run needs it: with its columns, which the newest schema gives where none are declared.

    Raises:
        SubjectMissingError, RegistryUnavailableError, RegistryAccessError
        BrokenSchemaError: the schema gives no columns, or none that fit the declaration.
    """
    if spec.columns:
        return spec
    if spec.source.schema_file is not None:
        source = SubjectVersion(spec.source.schema_file, 0, 0, _read_schema_file(spec.source.schema_file))
    else:
        source = systems.registry.latest(f"{spec.source.topic}-value")
    place = f"{source.subject!r}, version {source.version}," if source.version else repr(source.subject)
    try:
        columns = derive_columns(spec.source.format, source.schema)
        keyed = (spec.state or spec).key if spec.source.is_change_stream else None
        parts = [{"name": c.name, "type": c.type, "required": _is_required(c, keyed), "doc": c.doc} for c in columns]
        return spec.with_columns_of(source, parts)
    except BrokenSchema as error:
        raise BrokenSchemaError(f"{place} for the columns of {spec.table}", str(error)) from None
    except ValidationError as error:
        reasons = "; ".join(str(details["msg"]) for details in error.errors(include_url=False))
        raise BrokenSchemaError(f"{place} for the columns of {spec.table}", reasons) from None


def _is_required(column: DerivedColumn, key: Sequence[str] | None) -> bool:
    """Of a database's table, the key's columns, whatever default they have, and no others.

    Changes from before a column was renamed or added lack it, however strict the database is about it now.
    """
    return column.required if key is None else column.name in key


def _read_schema_file(path: str) -> RegisteredSchema:
    try:
        return RegisteredSchema("AVRO", Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenSchemaError(path, f"it can't be read ({error})") from error


def messages_at(batch: MessageBatch, present: Offsets) -> Messages:
    """Those at `present` in the batch, which have a value."""
    columns: list[list[Any]] = [batch.values, batch.keys, batch.headers]
    if len(present) < len(batch):
        places = present.tolist()
        columns = [[column[place] for place in places] for column in columns]
    return Messages(*columns)
