"""Creates the table of computed rows, and brings it to the columns that they have.

Hides that the columns of such rows are known only when they come: the table is made then, gets the columns that are new, and
keeps those that the rows have no more. Creates no snapshot.
"""

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import NestedField, TimestampType, TimestamptzType

from lakehouse_assets.model.derived_table import DerivedTable
from lakehouse_assets.model.errors import CommitConflictError, ResultTypeError
from lakehouse_assets.model.slices import EVENT_TIME_COLUMN_KEY
from lakehouse_assets.systems.arrow_types import build_table_schema
from lakehouse_assets.systems.catalog import (
    alter_table,
    create_table,
    list_property_changes,
    load_table,
    refuse_misfit,
)
from lakehouse_assets.systems.evolution import Declared, is_widening, judge_fit
from lakehouse_assets.systems.history import refuse_ledger
from lakehouse_assets.systems.schema import TableShape, build_layout

_ATTEMPTS = 20


def open_derived(catalog: Catalog, derived: DerivedTable, columns: pa.Schema) -> Table:
    """The table, able to take rows of these columns; safe to repeat and to race.

    Raises:
        ResultTypeError: a column can't be one of a table, or the one of event time is missing or no timestamp.
        TableDiffersError: no safe change brings the table to these columns, or it is filled from Kafka.
        CommitConflictError: others changed the table each time that it was looked at.
        CatalogUnavailableError, CatalogAccessError, StorageError
    """
    schema = build_table_schema(derived.name, columns)
    _require_event_time(derived, schema)
    for _ in range(_ATTEMPTS):
        table = load_table(catalog, derived.name)
        if table is None:
            table = create_table(catalog, _build_shape(derived, schema, build_layout(derived.layout, schema)))
        refuse_ledger(table)
        fitting = Schema(*(_widen(field, table.schema()) for field in schema.fields))
        shape = _build_shape(derived, fitting, _choose_layout(derived, fitting, table))
        fit = judge_fit(shape, table, Declared.read(table))
        refuse_misfit(shape, fit)
        properties = list_property_changes(shape, table)
        must_evolve = fit.must_evolve(docs=False)
        if not must_evolve and not properties:
            return table
        alter_table(catalog, table, fit.schema if must_evolve else None, properties)
    raise CommitConflictError(derived.name, f"others changed the table in {_ATTEMPTS} attempts to bring it to its columns")


def _build_shape(derived: DerivedTable, schema: Schema, layout: PartitionSpec) -> TableShape:
    properties = {key: text for key, text in derived.properties.items() if key != "format-version"}
    if derived.description:
        properties["comment"] = derived.description
    if derived.column is not None:
        properties[EVENT_TIME_COLUMN_KEY] = derived.column
    return TableShape(derived.name, schema, layout, properties)


def _require_event_time(derived: DerivedTable, schema: Schema) -> None:
    column = derived.column
    if column is None:
        return
    field = next((field for field in schema.fields if field.name == column), None)
    if field is None:
        raise ResultTypeError(derived.name, column, "missing, and it says when a row happened", f"... AS {column}")
    if not isinstance(field.field_type, (TimestampType, TimestamptzType)):
        found = f"{field.field_type}, and says when a row happened"
        raise ResultTypeError(derived.name, column, found, f"CAST(... AS TIMESTAMP) AS {column}")


def _widen(field: NestedField, table: Schema) -> NestedField:
    """A result may be narrower than the column that it had before: its values fit all the same."""
    found = next((other for other in table.fields if other.name == field.name), None)
    if found is None or not is_widening(field.field_type, found.field_type):
        return field
    return field.model_copy(update={"field_type": found.field_type})


def _choose_layout(derived: DerivedTable, schema: Schema, table: Table) -> PartitionSpec:
    """The declared layout, or else that of the table, whose columns have other ids here."""
    names = {field.source_id: table.schema().find_column_name(field.source_id) for field in table.spec().fields}
    if derived.partition_by is not None or any(name not in schema.column_names for name in names.values()):
        return build_layout(derived.layout, schema)
    return PartitionSpec(
        *(
            PartitionField(
                source_id=schema.find_field(str(names[field.source_id])).field_id,
                field_id=field.field_id,
                transform=field.transform,
                name=field.name,
            )
            for field in table.spec().fields
        )
    )
