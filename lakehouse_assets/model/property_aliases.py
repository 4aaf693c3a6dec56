"""Properties under which another platform's tables say what a declaration says elsewhere: its DDL can be taken over as it is.

They become Iceberg's own names, or fields of `partition_by`; none of them reaches the table.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lakehouse_assets.model.facts import PartitionFacts, read_properties
from lakehouse_assets.model.mistakes import Mistake, nearest
from lakehouse_assets.model.properties import ROW_CHANGE_MODES

_VERSION = "iceberg.format.version"
_SINK_MODE = "write.sink.mode"
BUCKET_SOURCE = "partition.bucket.source"
_BUCKET_COUNT = "partition.bucket.num"
_MODES = ("write.update.mode", "write.delete.mode", "write.merge.mode")
_MAX_BUCKETS = 2**31 - 1

PROPERTY_ALIASES = (_VERSION, _SINK_MODE, BUCKET_SOURCE, _BUCKET_COUNT)


def read_bucket(properties: Mapping[str, str]) -> PartitionFacts | None:
    """The partition field that the two bucket properties stand for; None where they don't say one."""
    column, count = properties.get(BUCKET_SOURCE), _read_count(properties.get(_BUCKET_COUNT, ""))
    return None if column is None or count is None else (column, "bucket", count)


def translate_properties(parts: Mapping[str, Any]) -> Mapping[str, Any]:
    """The declaration in Iceberg's words. What is wrong about an alias `find_alias_mistakes` tells."""
    properties = parts.get("properties")
    given = {name: value for name, value in read_properties(properties).items() if name in PROPERTY_ALIASES}
    if not given or not isinstance(properties, Mapping):
        return parts
    own = {name: value for name, value in properties.items() if name not in given}
    if _VERSION in given:
        own.setdefault("format-version", given[_VERSION])
    for name in _MODES if _SINK_MODE in given else ():
        own.setdefault(name, given[_SINK_MODE])
    translated = {**parts, "properties": own}
    bucket, fields = read_bucket(given), parts.get("partition_by", ())
    if bucket is not None and isinstance(fields, (list, tuple)):
        column, _, count = bucket
        written = f"bucket({count}, {column})"
        is_there = any(str(field).replace(" ", "") == written.replace(" ", "") for field in fields)
        translated["partition_by"] = list(fields) if is_there else [*fields, written]
    return translated


def find_alias_mistakes(
    properties: Mapping[str, str], partition_by: Sequence[PartitionFacts | None]
) -> Iterator[tuple[str, Mistake]]:
    """What is wrong with the aliases, by name; whether the bucket's column is one, others ask."""
    if properties.get(_VERSION, "2") != "2":
        yield _VERSION, Mistake(repr(properties[_VERSION]), "2")
    yield from _find_mode_mistakes(properties)
    for name, other in ((BUCKET_SOURCE, _BUCKET_COUNT), (_BUCKET_COUNT, BUCKET_SOURCE)):
        if name in properties and other not in properties:
            yield name, Mistake(f"{name} without {other}", f"both of them, or partition_by: [{_example(properties)}]")
    if _BUCKET_COUNT in properties and _read_count(properties[_BUCKET_COUNT]) is None:
        yield _BUCKET_COUNT, Mistake(repr(properties[_BUCKET_COUNT]), f"a whole number from 1 to {_MAX_BUCKETS}")
    if (bucket := read_bucket(properties)) is not None:
        column, transform, count = bucket
        for field in partition_by:
            if field is not None and field[:2] == (column, transform) and field[2] != count:
                found = f"{count} beside partition_by: bucket({field[2]}, {column})"
                yield _BUCKET_COUNT, Mistake(found, "the same number in both, or one of the two")


def _find_mode_mistakes(properties: Mapping[str, str]) -> Iterator[tuple[str, Mistake]]:
    mode = properties.get(_SINK_MODE)
    if mode is None:
        return
    if mode not in ROW_CHANGE_MODES:
        yield _SINK_MODE, Mistake(repr(mode), ", ".join(ROW_CHANGE_MODES), nearest(mode, ROW_CHANGE_MODES))
        return
    for name in _MODES[:2]:
        if properties.get(name, mode) != mode:
            yield _SINK_MODE, Mistake(f"{mode!r} beside {name}: {properties[name]}", "the same in both, or one of the two")


def _example(properties: Mapping[str, str]) -> str:
    return f"bucket({properties.get(_BUCKET_COUNT, '16')}, {properties.get(BUCKET_SOURCE, 'id')})"


def _read_count(text: str) -> int | None:
    is_number = text.isascii() and text.isdigit() and len(text) <= 10
    return int(text) if is_number and 1 <= int(text) <= _MAX_BUCKETS else None
