"""How a declaration and its table fit together, and the schema that brings the table to the declaration.

Hides which changes are safe: columns are added, widened and made optional; none is dropped, narrowed or renamed. A property of
the table says what was declared when it was last brought to a declaration. By it a change of the declaration is told from one
that somebody else made to the table, which is met where rows can still be written. Pure.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema, assign_fresh_schema_ids, index_by_id
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.transforms import UnknownTransform
from pyiceberg.types import (
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
)
from pyiceberg.types import ListType as IcebergList
from pyiceberg.types import MapType as IcebergMap
from pyiceberg.types import StructType as IcebergStruct

from lakehouse_assets.model.changes import ColumnChange, SchemaChange, TableColumn
from lakehouse_assets.model.ledger import LEDGER_KEY
from lakehouse_assets.systems.schema import FORMAT_VERSION, TableShape

DECLARED_KEY: Final = "lakehouse.declared"


@dataclass(frozen=True, slots=True)
class Declared:
    """What was declared: every column and member by its dotted name, and the layout. Kept in the table."""

    columns: Mapping[str, str]
    partition_by: Sequence[str]

    @classmethod
    def of(cls, shape: TableShape) -> "Declared":
        """What a shape declares."""
        columns = {shape.schema.find_column_name(i): field for i, field in index_by_id(shape.schema).items()}
        return cls(
            {str(name): describe_field(field) for name, field in columns.items()},
            tuple(partition_texts(shape.partition_spec, shape.schema)),
        )

    def to_json(self) -> str:
        """The text of the table's property."""
        return json.dumps({"columns": self.columns, "partition_by": list(self.partition_by)}, separators=(",", ":"))

    @classmethod
    def read(cls, table: Table) -> "Declared":
        """What the table was last brought to; nothing where it never was, or where nobody can read it."""
        try:
            text = json.loads(table.metadata.properties.get(DECLARED_KEY, "{}"))
            return cls(dict(text.get("columns", {})), tuple(text.get("partition_by", ())))
        except (ValueError, TypeError, AttributeError):
            return cls({}, ())


@dataclass(frozen=True, slots=True)
class Fit:
    """What stands between a table and its declaration.

    `refusals`: what no evolution mends, one clause each. `changes`: what evolving changes, to `schema`. `foreign`: what
    somebody else changed, or what left the declaration, and can stay as it is.
    """

    refusals: tuple[str, ...]
    changes: tuple[ColumnChange, ...]
    foreign: tuple[str, ...]
    schema: Schema

    def must_evolve(self, *, docs: bool) -> bool:
        """Whether the table has to change; for descriptions alone only with `docs`."""
        return any(docs or not change.is_doc for change in self.changes)


def judge_fit(shape: TableShape, table: Table, declared_before: Declared) -> Fit:
    """Compare the table with its declaration, knowing what was declared before."""
    comparison = _Comparison(table, declared_before)
    return comparison.run(shape)


def compare_schemas(before: Schema, after: Schema) -> tuple[ColumnChange, ...]:
    """What changed between two schemas of a table, by the ids of columns."""
    old, new = index_by_id(before), index_by_id(after)
    changes: list[ColumnChange] = []
    gone = [ColumnChange(str(before.find_column_name(i)), describe_field(old[i]), None) for i in old if i not in new]
    come = [ColumnChange(str(after.find_column_name(i)), None, describe_field(new[i])) for i in new if i not in old]
    for i in (i for i in old if i in new):
        changes += _list_changes(str(after.find_column_name(i)), old[i], new[i])
    return (*changes, *_outermost(gone), *_outermost(come))


def find_schema_change(metadata: TableMetadata, snapshot_id: int) -> SchemaChange | None:
    """What changed in the table's columns since the last commit of ours before this one; None: nothing, or it is the first.

    Whoever changed them, and in whichever run: that one may have died before it could tell.
    """
    snapshot = metadata.snapshot_by_id(snapshot_id)
    after = _schema_of(metadata, snapshot)
    before = snapshot
    while before is not None and after is not None:
        before = metadata.snapshot_by_id(before.parent_snapshot_id) if before.parent_snapshot_id is not None else None
        if before is not None and before.summary and LEDGER_KEY in before.summary.additional_properties:
            earlier = _schema_of(metadata, before)
            changes = compare_schemas(earlier, after) if earlier is not None and earlier is not after else ()
            return SchemaChange(changes, tuple(map(_describe_column, after.fields))) if changes else None
    return None


def _schema_of(metadata: TableMetadata, snapshot: Snapshot | None) -> Schema | None:
    if snapshot is None or snapshot.schema_id is None:
        return None
    return next((schema for schema in metadata.schemas if schema.schema_id == snapshot.schema_id), None)


def _describe_column(field: NestedField) -> TableColumn:
    return TableColumn(field.name, type_text(field.field_type), field.required, field.doc or "")


def _outermost(changes: Sequence[ColumnChange]) -> Iterator[ColumnChange]:
    """Without the members of what comes or goes as a whole."""
    names = {change.column for change in changes}
    for change in changes:
        parts = change.column.split(".")
        if not any(".".join(parts[:n]) in names for n in range(1, len(parts))):
            yield change


def _list_changes(name: str, before: NestedField, after: NestedField) -> Iterator[ColumnChange]:
    """The change of a field, if there is one; members of nested ones are told of by themselves."""
    pair = (before, after)
    if _is_nested(before.field_type):
        texts = ["required" if it.required else "optional" for it in pair]
    else:
        texts = [describe_field(it) for it in pair]
    if before.name != after.name:
        texts = [f"{it.name} {text}" for text, it in zip(texts, pair, strict=True)]
    is_doc = texts[0] == texts[1]
    if before.doc != after.doc:
        texts = [f"{text} {it.doc or ''!r}" for text, it in zip(texts, pair, strict=True)]
    if texts[0] != texts[1]:
        yield ColumnChange(name, texts[0], texts[1], is_doc)


class _Comparison:
    """One look at one table."""

    def __init__(self, table: Table, before: Declared) -> None:
        self._table, self._before = table, before
        self._is_new = not table.metadata.snapshots  # no row was ever there, so none can lack a value
        self._ids = count(table.metadata.last_column_id + 1)
        self._refusals: list[str] = []
        self._changes: list[ColumnChange] = []
        self._foreign: list[str] = []

    def run(self, shape: TableShape) -> Fit:
        declared, found = shape.schema, self._table.schema()
        fields = self._fields("", declared.fields, found.fields)
        self._refusals += _key_differences(declared, found)
        self._compare_partitions(partition_texts(shape.partition_spec, declared))
        if self._table.format_version != FORMAT_VERSION:
            self._refusals.append(
                f"Iceberg's format version {FORMAT_VERSION} is needed, the table has {self._table.format_version}"
            )
        schema = Schema(
            *fields,
            schema_id=max(schema.schema_id for schema in self._table.metadata.schemas) + 1,
            identifier_field_ids=found.identifier_field_ids,
        )
        return Fit(tuple(self._refusals), tuple(self._changes), tuple(self._foreign), schema)

    def _fields(self, at: str, declared: Sequence[NestedField], found: Sequence[NestedField]) -> list[NestedField]:
        wanted = {field.name: field for field in declared}
        kept = [self._field(f"{at}{other.name}", wanted.pop(other.name, None), other) for other in found]
        taken = {other.name.lower() for other in found}
        return kept + [new for field in wanted.values() for new in self._add(f"{at}{field.name}", field, taken)]

    def _add(self, name: str, field: NestedField, taken: set[str]) -> Iterator[NestedField]:
        text = describe_field(field)
        if name in self._before.columns:
            self._refusals.append(f"column {name} {text} is declared, and was dropped from the table{self._new_name(name)}")
        elif field.name.lower() in taken:
            self._refusals.append(f"column {name} {text} is declared, the table has it in other letter case")
        elif field.required and not self._is_new:
            self._refusals.append(f"column {name} {text} is declared, the table has no such column and its rows no value")
        else:
            self._changes.append(ColumnChange(name, None, text))
            fresh = assign_fresh_schema_ids(IcebergStruct(field), lambda: next(self._ids))
            yield from fresh.fields

    def _new_name(self, name: str) -> str:
        """Where a column of that name has gone, for the reader."""
        schema = self._table.schema()
        for older in self._table.metadata.schemas:
            lost = older.find_field(name).field_id if name in older.column_names else None
            if lost is not None and (now := schema.find_column_name(lost)) is not None and now != name:
                return f", or renamed: {now} {describe_field(schema.find_field(lost))} was {name} once"
        return ""

    def _field(self, name: str, declared: NestedField | None, found: NestedField) -> NestedField:
        if declared is None:
            return self._undeclared(name, found)
        kind = self._kind(name, declared.field_type, found.field_type)
        required = self._required(name, declared.required, found.required)
        doc = declared.doc or found.doc
        field = found.model_copy(update={"field_type": kind, "required": required, "doc": doc})
        self._changes += _list_changes(name, found, field)
        return field

    def _undeclared(self, name: str, found: NestedField) -> NestedField:
        text = describe_field(found)
        if not found.required:
            self._foreign.append(f"column {name} {text} is in the table, but not declared")
            return found
        if name not in self._before.columns:
            self._refusals.append(f"column {name} {text} is in the table, but not declared, so no row has its value")
            return found
        field = found.model_copy(update={"required": False})
        self._changes.append(ColumnChange(name, text, describe_field(field)))
        return field

    def _required(self, name: str, declared: bool, found: bool) -> bool:
        if declared and not found:
            if self._is_new:
                return True
            if self._before.columns.get(name, "").endswith(_REQUIRED):
                self._foreign.append(f"column {name} is declared required, the table has it optional")
            else:
                self._refusals.append(f"column {name} is declared required, the table has it optional: rows may lack it")
        return declared and found

    def _kind(self, name: str, declared: IcebergType, found: IcebergType) -> IcebergType:
        match declared, found:
            case IcebergStruct(), IcebergStruct():
                return IcebergStruct(*self._fields(f"{name}.", declared.fields, found.fields))
            case IcebergList(), IcebergList():
                element = self._field(f"{name}.element", declared.element_field, found.element_field)
                return IcebergList(found.element_id, element.field_type, element_required=element.required)
            case IcebergMap(), IcebergMap() if declared.key_type == found.key_type:
                value = self._field(f"{name}.value", declared.value_field, found.value_field)
                return IcebergMap(
                    found.key_id, found.key_type, found.value_id, value.field_type, value_required=value.required
                )
        if declared == found or is_widening(found, declared):
            return declared
        if is_widening(declared, found) and self._before.columns.get(name, "").removesuffix(_REQUIRED) == str(declared):
            self._foreign.append(f"column {name} is declared {declared}, the table has it as the wider {found}")
        else:
            lead = "can't be narrowed" if is_widening(declared, found) else "has no safe way there"
            self._refusals.append(
                f"column {name} is declared {type_text(declared)}, the table has {type_text(found)}, which {lead}"
            )
        return found

    def _compare_partitions(self, declared: list[str]) -> None:
        spec, schema = self._table.spec(), self._table.schema()
        found = partition_texts(spec, schema)
        if declared == found:
            return
        difference = f"declared partition_by {declared}, the table has {found}"
        columns = {field.field_id for field in schema.fields}
        can_write = all(f.source_id in columns and not isinstance(f.transform, UnknownTransform) for f in spec.fields)
        is_foreign = list(self._before.partition_by) == declared and self._before.columns
        (self._foreign if can_write and is_foreign else self._refusals).append(difference)


_REQUIRED = " required"


def partition_texts(spec: PartitionSpec, schema: Schema) -> list[str]:
    """A layout as text, one entry per partition field."""
    return [f"{field.transform}({schema.find_column_name(field.source_id)})" for field in spec.fields]


def _key_differences(declared: Schema, found: Schema) -> Iterator[str]:
    wanted = sorted(str(declared.find_column_name(i)) for i in declared.identifier_field_ids)
    there = sorted(str(found.find_column_name(i)) for i in found.identifier_field_ids)
    if wanted != there:
        yield f"declared key {wanted}, the table has {there}"


def is_widening(narrow: IcebergType, wide: IcebergType) -> bool:
    """Whether every value of one primitive type is one of the other, by Iceberg's rules."""
    match narrow, wide:
        case (IntegerType(), LongType()) | (FloatType(), DoubleType()):
            return True
        case DecimalType(), DecimalType():
            return narrow.scale == wide.scale and narrow.precision < wide.precision
    return False


def describe_field(field: NestedField) -> str:
    """Its type, and whether it is required."""
    return f"{type_text(field.field_type)}{_REQUIRED if field.required else ''}"


def _is_nested(kind: IcebergType) -> bool:
    return isinstance(kind, (IcebergStruct, IcebergList, IcebergMap))


def type_text(kind: IcebergType) -> str:
    """A type as people declare it."""
    match kind:
        case IcebergStruct():
            inner = ", ".join(f"{f.name}: {type_text(f.field_type)}" for f in kind.fields)
            return f"struct<{inner}>"
        case IcebergList():
            return f"list<{type_text(kind.element_type)}>"
        case IcebergMap():
            return f"map<{type_text(kind.key_type)}, {type_text(kind.value_type)}>"
        case _:
            return str(kind)
