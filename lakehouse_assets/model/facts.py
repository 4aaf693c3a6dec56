"""What can be read of a declaration that may be wrong anywhere: rules between its parts look at it.

Hides what people may hand over: text or Python's values, keys by name or by alias, nonsense.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from lakehouse_assets.model import fields
from lakehouse_assets.model.column_spec import ColumnSpec
from lakehouse_assets.model.columns import MARK_COLUMNS, METADATA_COLUMNS, SOURCE_COLUMNS, TOPIC_COLUMNS
from lakehouse_assets.model.event_time_spec import EventTimeSpec
from lakehouse_assets.model.layout_spec import PartitionFieldSpec
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.model.source_spec import CHANGE_FORMATS, FORMATS_WITH_SCHEMA, SourceFormat, SourceSpec
from lakehouse_assets.model.types import DataType

Value = TypeVar("Value")
PartitionFacts = tuple[str, str, int | None]  # column, transform, parameter

_BESIDE_THE_VALUE = ("from_key", "from_header", "expr")


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """What could be read of a declared column; None where it could not be.

    `beside`: its key that says that the value does not hold it.
    """

    name: str | None
    type: DataType | None
    required: bool | None
    beside: str | None = None


@dataclass(frozen=True, slots=True)
class SpecFacts:
    """What could be read of a declaration; positions are kept, None stands for what could not be read.

    `given`: the keys that are there. `mode` and `format` are their defaults where they are not.
    """

    given: frozenset[str]
    source_keys: frozenset[str] | None
    format: str | None
    mode: str | None
    columns: Sequence[ColumnFacts]
    key: Sequence[str | None] | None
    marks_deletes: bool
    keeps_change_log: bool
    partition_by: Sequence[PartitionFacts | None]
    properties: Mapping[str, str]
    event_column: str | None
    sort_by: Sequence[str | None] = ()
    is_zorder: bool = False
    may_lack_columns: bool = True

    @property
    def is_change_stream(self) -> bool:
        """Whether messages are the changes of a database's rows."""
        return self.format in CHANGE_FORMATS

    @property
    def metadata_columns(self) -> Mapping[str, DataType]:
        """The columns that the platform adds."""
        has_several = self.source_keys is not None and "topic" not in self.source_keys
        columns = (TOPIC_COLUMNS if has_several else {}) | METADATA_COLUMNS
        columns |= (SOURCE_COLUMNS if self.is_change_stream else {}) | (MARK_COLUMNS if self.marks_deletes else {})
        return {name: kind for name, (kind, _) in columns.items()}

    @property
    def are_columns_known(self) -> bool:
        """Whether a name that is not among the columns is surely wrong."""
        return bool(self.columns) and all(column.name is not None for column in self.columns)


def read_facts(data: object) -> SpecFacts:
    """Never raises."""
    parts = data if isinstance(data, Mapping) else {}
    source = parts.get("source")
    if isinstance(source, SourceSpec):
        source = source.model_dump()
    given = source if isinstance(source, Mapping) else {}
    event_time = parts.get("event_time")
    if isinstance(event_time, EventTimeSpec):
        event_time = event_time.model_dump()
    event_column = event_time.get("column") if isinstance(event_time, Mapping) else None
    maintenance = parts.get("maintenance")
    if isinstance(maintenance, MaintenanceSpec):
        maintenance = maintenance.model_dump()
    upkeep = maintenance if isinstance(maintenance, Mapping) else {}
    kind = given.get("format", "json")
    has_schema = kind in FORMATS_WITH_SCHEMA and bool(given.get("topic") or given.get("schema_file"))
    mode = parts.get("mode", "append")
    return SpecFacts(
        given=frozenset(key for key in parts if isinstance(key, str)),
        source_keys=frozenset(key for key, value in source.items() if value) if isinstance(source, Mapping) else None,
        format=kind if isinstance(source, Mapping) and kind in get_args(SourceFormat) else None,
        mode=mode if mode in ("append", "upsert") else None,
        columns=[_read_column(column) for column in _items(parts.get("schema", parts.get("columns")))],
        key=_read_names(parts.get("key", ())),
        marks_deletes=parts.get("on_delete") == "mark",
        keeps_change_log=parts.get("keep_change_log") is True,
        partition_by=[_read_partition_field(field) for field in _items(parts.get("partition_by"))],
        properties=read_properties(parts.get("properties")),
        event_column=event_column if isinstance(event_column, str) else None,
        sort_by=_read_names(upkeep.get("sort_by", ())) or (),
        is_zorder=upkeep.get("sort_order") == "zorder",
        may_lack_columns=has_schema or not parts.keys().isdisjoint({"schema", "columns"}),
    )


def read_properties(properties: object) -> Mapping[str, str]:
    """Those properties whose values are some."""
    pairs = properties.items() if isinstance(properties, Mapping) else ()
    values = {str(name): _try(fields.read_property_value, value) for name, value in pairs}
    return {name: value for name, value in values.items() if value is not None}


def _read_column(column: object) -> ColumnFacts:
    if isinstance(column, ColumnSpec):
        beside = next((key for key in _BESIDE_THE_VALUE if getattr(column, key) is not None), None)
        return ColumnFacts(column.name, column.type, column.required, beside)
    parts = column if isinstance(column, Mapping) else {}
    name, required = parts.get("name"), parts.get("required", False)
    return ColumnFacts(
        name if isinstance(name, str) else None,
        _try(fields.read_data_type, parts.get("type")),
        required if isinstance(required, bool) else None,
        next((key for key in _BESIDE_THE_VALUE if parts.get(key) is not None), None),
    )


def _read_partition_field(field: object) -> PartitionFacts | None:
    read = _try(PartitionFieldSpec.read, field)
    return (read.column, read.transform, read.parameter) if read else None


def _read_names(value: object) -> Sequence[str | None] | None:
    if not isinstance(value, (list, tuple)):
        return None
    return [name if isinstance(name, str) else None for name in value]


def _items(value: object) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _try(read: Callable[[object], Value], value: object) -> Value | None:
    try:
        return read(value)
    except ValueError:
        return None
