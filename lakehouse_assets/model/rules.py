"""The rules between the parts of a declaration: key, partition_by, properties and maintenance against the columns.

They look at what could be read of each part, so that one wrong column does not hide a wrong key.
"""

from collections.abc import Iterator, Sequence

from lakehouse_assets.model.columns import ICEBERG_NAMES
from lakehouse_assets.model.facts import ColumnFacts, PartitionFacts, SpecFacts
from lakehouse_assets.model.maintenance_rules import find_maintenance_mistakes
from lakehouse_assets.model.mistakes import Mistake, list_names, nearest
from lakehouse_assets.model.properties import find_property_mistake, read_named_column
from lakehouse_assets.model.property_aliases import (
    BUCKET_SOURCE,
    PROPERTY_ALIASES,
    find_alias_mistakes,
    read_bucket,
)
from lakehouse_assets.model.transforms import (
    TIME_TRANSFORMS,
    is_fitting,
    list_fitting_types,
    name_partition_field,
)
from lakehouse_assets.model.types import Primitive
from lakehouse_assets.model.upsert_rules import Finding, Location, find_upsert_mistakes

_TOPIC_KEYS = ("topic", "topics", "topic_pattern")
_EVENT_TIMES = (Primitive("timestamp"), Primitive("timestamptz"))
_SOURCE_KEYS = frozenset((*_TOPIC_KEYS, "format", "schema_file", "start"))


def find_spec_mistakes(facts: SpecFacts) -> Iterator[Finding]:
    """Every mistake between the parts, with its place in the declaration."""
    yield from _find_source_mistakes(facts.source_keys)
    if not facts.may_lack_columns:
        allowed = "schema: the columns, which may be left out only for Avro messages of one topic, or with a schema file"
        yield ("schema",), Mistake("no key 'schema'", allowed)
    yield from _find_column_mistakes(facts.columns)
    yield from find_upsert_mistakes(facts)
    yield from _find_key_mistakes(facts)
    yield from _find_event_time_mistakes(facts)
    yield from _find_partition_mistakes(facts)
    yield from _find_property_mistakes(facts)
    yield from find_maintenance_mistakes(facts)


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
        if column.name.lower() in ICEBERG_NAMES:
            allowed = f"names other than {', '.join(ICEBERG_NAMES)}: Iceberg keeps them, and engines refuse the table"
            yield ("schema", i, "name"), Mistake(repr(column.name), allowed)
        before = first.setdefault(column.name.lower(), i)
        if before != i:
            found = f"the column {column.name!r} a second time (first as schema[{before}])"
            yield ("schema", i, "name"), Mistake(found, "each column once, letter case aside")


def _find_event_time_mistakes(facts: SpecFacts) -> Iterator[Finding]:
    name, place = facts.event_column, ("event_time", "column")
    kinds = {column.name: column.type for column in facts.columns if column.name is not None}
    times = [column for column, kind in kinds.items() if kind in _EVENT_TIMES]
    if name is None:
        return
    if name not in kinds:
        if facts.are_columns_known:
            yield place, Mistake(f"the column {name!r}", f"a column with a time: {list_names(times)}", nearest(name, times))
    elif (kind := kinds[name]) is not None and kind not in _EVENT_TIMES:
        yield place, Mistake(f"{name!r} of type {kind}", "a column of type timestamp or timestamptz")


def _find_key_mistakes(facts: SpecFacts) -> Iterator[Finding]:
    by_name = {column.name: column for column in facts.columns if column.name is not None}
    for i, name in enumerate(facts.key or ()):
        if name is None:
            continue
        column = by_name.get(name)
        if name in (facts.key or ())[:i]:
            yield ("key", i), Mistake(f"{name!r} a second time", "each column once")
        elif column is None:
            if facts.are_columns_known:
                yield (
                    ("key", i),
                    Mistake(
                        f"the column {name!r}", f"columns of schema: {list_names(by_name)}", nearest(name, by_name)
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
    for place, field in _list_partition_fields(facts):
        column, transform, _ = field
        kind = kinds.get(column)
        if column not in kinds and facts.are_columns_known:
            yield (
                place,
                Mistake(
                    f"the column {column!r}", f"columns of the table: {list_names(kinds)}", nearest(column, kinds)
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


def _list_partition_fields(facts: SpecFacts) -> Iterator[tuple[Location, PartitionFacts]]:
    for i, field in enumerate(facts.partition_by):
        if field is not None:
            yield ("partition_by", i), field
    bucket = read_bucket(facts.properties)
    if bucket is not None and bucket not in facts.partition_by:
        yield ("properties", BUCKET_SOURCE), bucket


def _find_property_mistakes(facts: SpecFacts) -> Iterator[Finding]:
    names = [column.name for column in facts.columns if column.name is not None] + list(facts.metadata_columns)
    aliases = find_alias_mistakes(facts.properties, facts.partition_by)
    yield from ((("properties", name), mistake) for name, mistake in aliases)
    yield from _find_contradiction(facts)
    for name, value in facts.properties.items():
        if name in PROPERTY_ALIASES:
            continue
        mistake = find_property_mistake(name, value)
        column = read_named_column(name)
        if mistake is None and column and facts.are_columns_known and column.split(".")[0] not in names:
            prefix = name.removesuffix(column)
            near = nearest(column, names)
            mistake = Mistake(
                f"the column {column!r} in {name!r}",
                f"columns of the table: {list_names(names)}",
                f"{prefix}{near}" if near else None,
            )
        if mistake is not None:
            yield ("properties", name), mistake


def _find_contradiction(facts: SpecFacts) -> Iterator[Finding]:
    update, delete = (facts.properties.get(f"write.{verb}.mode") for verb in ("update", "delete"))
    if facts.mode == "upsert" and update and delete and update != delete:
        found = f"{delete!r} beside write.update.mode: {update}"
        yield ("properties", "write.delete.mode"), Mistake(found, "the same in both: one commit updates and deletes")

