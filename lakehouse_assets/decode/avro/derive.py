"""The columns that an Avro schema gives to a table that declares none."""

from dataclasses import dataclass

from lakehouse_assets.decode.avro.plan import branch_of
from lakehouse_assets.decode.avro.schema import (
    VARIABLE_SCALE_DECIMAL,
    Array,
    Enum,
    Field,
    Map,
    Node,
    Record,
    Scalar,
    Union,
    parse_schema,
)
from lakehouse_assets.decode.decoded import BrokenSchema, LeftOut, derive_each
from lakehouse_assets.model.derived import DerivedColumn
from lakehouse_assets.model.schemas import RegisteredSchema
from lakehouse_assets.model.types import (
    MAX_DECIMAL_PRECISION,
    DataType,
    ListType,
    MapType,
    Primitive,
    StructField,
    StructType,
)

_NULL = Scalar("null")
_TYPES = {
    "boolean": "boolean", "int": "int", "long": "long", "float": "float", "double": "double", "bytes": "binary",
    "string": "string", "date": "date", "time-millis": "time", "time-micros": "time", "time-nanos": "time", "uuid": "uuid",
    "date-text": "date", "time-text": "time", "timestamp-text": "timestamp", "timestamptz-text": "timestamptz",
    "clock-text": "string",
}  # fmt: skip
_JOINED = [({"int", "long"}, "long"), ({"float", "double"}, "double"), ({"int", "float", "double"}, "double")]


def derive_columns(schema: RegisteredSchema, left_out: LeftOut = None) -> list[DerivedColumn]:
    """One column for each field; optional where null is allowed, or a default stands in for a message without it.

    `left_out`: see `derive_each`.

    Raises:
        BrokenSchema: the schema is none, is no record, or a field has no type that a column could have.
    """
    if schema.kind != "AVRO":
        raise BrokenSchema(f"it is a schema of {schema.kind}, expected AVRO")
    return _Deriver(are_local=False).columns(parse_schema(schema.text, schema.references), left_out)


def derive_row_columns(schema: RegisteredSchema, left_out: LeftOut = None) -> list[DerivedColumn]:
    """One column for each field of the rows in an envelope of Debezium's, where times with a zone are text, others numbers.

    Raises:
        BrokenSchema: as `derive_columns`, or it is no such envelope.
    """
    if schema.kind != "AVRO":
        raise BrokenSchema(f"it is a schema of {schema.kind}, expected AVRO")
    root = parse_schema(schema.text, schema.references)
    row = next((field.node for field in root.fields if field.name == "after"), None) if isinstance(root, Record) else None
    if row is None:
        raise BrokenSchema("it has no field 'after', expected Debezium's envelope")
    return _Deriver(are_local=True).columns(branch_of(row), left_out)


@dataclass(frozen=True, slots=True)
class _Deriver:
    """`are_local`: whether numbers of milliseconds and so on are of times without a zone."""

    are_local: bool

    def columns(self, root: Node | None, left_out: LeftOut) -> list[DerivedColumn]:
        """One for each field of a record."""
        if not isinstance(root, Record) or not root.fields:
            raise BrokenSchema("it is no record with fields")
        return derive_each(root.fields, lambda field: self._column(field, root), left_out)

    def _column(self, field: Field, root: Record) -> DerivedColumn:
        branches = field.node.branches if isinstance(field.node, Union) else (field.node,)
        is_optional = field.has_default or _NULL in branches
        return DerivedColumn(field.name, self._type(field.node, field.name, (root,)), not is_optional, field.doc)

    def _type(self, node: Node, place: str, inside: tuple[Record, ...]) -> DataType:
        match node:
            case Scalar():
                return self._scalar(node, place)
            case Enum():
                return Primitive("string")
            case Array(items):
                return ListType(self._type(items, f"{place}[]", inside))
            case Map(values):
                return MapType(Primitive("string"), self._type(values, f"{place}{{}}", inside))
            case Record(_, _, connect_name) if connect_name == VARIABLE_SCALE_DECIMAL:
                return Primitive("string")  # of its digits: no type has room for every scale
            case Record():
                if any(node is outer for outer in inside):
                    raise BrokenSchema(f"the field {place!r} contains itself, without end")
                if not node.fields:
                    raise BrokenSchema(f"the field {place!r} is a record without fields")
                members = (StructField(f.name, self._type(f.node, f"{place}.{f.name}", (*inside, node))) for f in node.fields)
                return StructType(tuple(members))
            case Union(branches):
                return _union([self._type(branch, place, inside) for branch in branches if branch != _NULL], place)

    def _scalar(self, node: Scalar, place: str) -> DataType:
        match node.logical or node.kind:
            case "decimal" if node.precision <= MAX_DECIMAL_PRECISION and node.scale <= MAX_DECIMAL_PRECISION:
                return Primitive("decimal", (node.precision or MAX_DECIMAL_PRECISION, node.scale))
            case "decimal":
                raise BrokenSchema(f"the field {place!r} has {node.precision} digits, expected at most {MAX_DECIMAL_PRECISION}")
            case "null":
                raise BrokenSchema(f"the field {place!r} is never anything but null")
            case "fixed" | "duration":
                return Primitive("fixed", (node.size,))
            case kind if kind.startswith("local-timestamp-"):
                return Primitive("timestamp")
            case "timestamp-millis" | "timestamp-micros" | "timestamp-nanos":
                return Primitive("timestamp" if node.is_local or self.are_local else "timestamptz")
            case kind:
                return Primitive(_TYPES[kind])


def _union(kinds: list[DataType], place: str) -> DataType:
    """The one type that holds them all."""
    different = set(kinds)
    if len(different) == 1:
        return kinds[0]
    names = {str(kind) for kind in different}
    for held, holder in _JOINED:
        if names and names <= held:
            return Primitive(holder)
    raise BrokenSchema(f"the field {place!r} is one of {', '.join(sorted(names)) or 'nothing'}, and no type holds them all")
