"""The rules between the parts of a declaration: key, partition_by and properties against the columns.

They look at what could be read of each part, so that one wrong column does not hide a wrong key.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lakehouse_assets.model.columns import METADATA_COLUMNS, TOPIC_COLUMNS
from lakehouse_assets.model.mistakes import Mistake, nearest
from lakehouse_assets.model.properties import find_property_mistake, read_named_column
from lakehouse_assets.model.transforms import (
    TIME_TRANSFORMS,
    is_fitting,
    list_fitting_types,
    name_partition_field,
)
from lakehouse_assets.model.types import DataType, Primitive

_TOPIC_KEYS = ("topic", "topics", "topic_pattern")
_SOURCE_KEYS = frozenset((*_TOPIC_KEYS, "format", "schema_file", "start"))

Location = tuple[str | int, ...]
Finding = tuple[Location, Mistake]


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """What could be read of a declared column; None where it could not be."""

    name: str | None
    type: DataType | None
    required: bool | None


PartitionFacts = tuple[str, str, int | None]  # column, transform, parameter


@dataclass(frozen=True, slots=True)
class SpecFacts:
    """What could be read of a declaration; positions are kept, None stands for what could not be read."""

    source_keys: frozenset[str] | None
    columns: Sequence[ColumnFacts]
    key: Sequence[str | None]
    partition_by: Sequence[PartitionFacts | None]
    properties: Mapping[str, str]
    may_lack_columns: bool = True

    @property
    def metadata_columns(self) -> Mapping[str, DataType]:
        """The columns that the platform adds."""
        has_several = self.source_keys is not None and "topic" not in self.source_keys
        return {name: kind for name, (kind, _) in ((TOPIC_COLUMNS if has_several else {}) | METADATA_COLUMNS).items()}

    @property
    def are_columns_known(self) -> bool:
        """Whether a name that is not among the columns is surely wrong."""
        return bool(self.columns) and all(column.name is not None for column in self.columns)


def find_spec_mistakes(facts: SpecFacts) -> Iterator[Finding]:
    """Every mistake between the parts, with its place in the declaration."""
    yield from _find_source_mistakes(facts.source_keys)
    if not facts.may_lack_columns:
        allowed = "schema: the columns, which may be left out only for Avro messages of one topic, or with a schema file"
        yield ("schema",), Mistake("no key 'schema'", allowed)
    yield from _find_column_mistakes(facts.columns)
    yield from _find_key_mistakes(facts)
    yield from _find_partition_mistakes(facts)
    yield from _find_property_mistakes(facts)


def _find_source_mistakes(keys: frozenset[str] | None) -> Iterator[Finding]:
    if keys is None:
        return
    given = [key for key in _TOPIC_KEYS if key in keys]
    # Where a key is unknown, it is most likely the one that is missing here, and reported itself.
    if len(given) > 1 or (not given and keys <= _SOURCE_KEYS):
        yield ("source",), Mistake(" and ".join(given) or "no topic", f"exactly one of {', '.join(_TOPIC_KEYS)}")


def _find_column_mistakes(columns: Sequence[ColumnFacts]) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for i, column in enumerate(columns):
        if column.name is None:
            continue
        before = first.setdefault(column.name.lower(), i)
        if before != i:
            found = f"the column {column.name!r} a second time (first as schema[{before}])"
            yield ("schema", i, "name"), Mistake(found, "each column once, letter case aside")


def _find_key_mistakes(facts: SpecFacts) -> Iterator[Finding]:
    by_name = {column.name: column for column in facts.columns if column.name is not None}
    for i, name in enumerate(facts.key):
        if name is None:
            continue
        column = by_name.get(name)
        if name in facts.key[:i]:
            yield ("key", i), Mistake(f"{name!r} a second time", "each column once")
        elif column is None:
            if facts.are_columns_known:
                yield (
                    ("key", i),
                    Mistake(
                        f"the column {name!r}", f"columns of schema: {_list(by_name)}", nearest(name, by_name)
                    ),
                )
        else:
            yield from ((("key", i), mistake) for mistake in _key_column_mistakes(column))


def _key_column_mistakes(column: ColumnFacts) -> Iterator[Mistake]:
    if column.required is False:
        yield Mistake(
            f"{column.name!r}, which is optional", "columns with required: true, because a key names a row"
        )
    if column.type is not None and (
        not isinstance(column.type, Primitive) or column.type.name in ("float", "double")
    ):
        yield Mistake(
            f"{column.name!r} of type {column.type}",
            "columns of a primitive type other than float and double",
        )


def _find_partition_mistakes(facts: SpecFacts) -> Iterator[Finding]:
    declared = {column.name: column.type for column in facts.columns if column.name is not None}
    kinds = declared | dict(facts.metadata_columns)
    taken = {name.lower(): f"the column {name!r}" for name in kinds}
    seen: dict[str, str] = {}
    for i, field in enumerate(facts.partition_by):
        if field is None:
            continue
        column, transform, parameter = field
        place: Location = ("partition_by", i)
        kind = kinds.get(column)
        if column not in kinds and facts.are_columns_known:
            yield (
                place,
                Mistake(
                    f"the column {column!r}", f"columns of the table: {_list(kinds)}", nearest(column, kinds)
                ),
            )
        elif kind is not None and not is_fitting(transform, kind):
            fitting = ", ".join(list_fitting_types(transform))
            yield place, Mistake(f"{transform} of {column!r}, which is {kind}", f"{transform} of {fitting}")
        name = name_partition_field(*field)
        sort = (
            f"{column}:time" if transform in TIME_TRANSFORMS else name
        )  # Iceberg's own rule for what is redundant
        if sort in seen:
            found = f"{name!r} beside {seen[sort]!r}"
            yield place, Mistake(found, "each transform of a column once, and one of year, month, day, hour")
        elif transform != "identity" and name.lower() in taken:
            yield (
                place,
                Mistake(
                    f"a partition field {name!r} beside {taken[name.lower()]}",
                    "names that nothing else bears",
                ),
            )
        seen[sort] = name


def _find_property_mistakes(facts: SpecFacts) -> Iterator[Finding]:
    names = [column.name for column in facts.columns if column.name is not None] + list(facts.metadata_columns)
    for name, value in facts.properties.items():
        mistake = find_property_mistake(name, value)
        column = read_named_column(name)
        if mistake is None and column and facts.are_columns_known and column.split(".")[0] not in names:
            prefix = name.removesuffix(column)
            near = nearest(column, names)
            mistake = Mistake(
                f"the column {column!r} in {name!r}",
                f"columns of the table: {_list(names)}",
                f"{prefix}{near}" if near else None,
            )
        if mistake is not None:
            yield ("properties", name), mistake


def _list(names: Sequence[str] | Mapping[str, object]) -> str:
    shown = list(names)[:12]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")
