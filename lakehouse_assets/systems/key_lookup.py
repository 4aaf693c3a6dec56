"""Finds where the live rows of given keys stand in a table, reading as little of it as that takes.

A file is looked into only if its partition values, computed from the keys with its own partition spec, and its bounds leave any
of the keys; of a file, the row groups whose statistics do; of those, the key's columns, batch by batch.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import UnknownTransform, VoidTransform

from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets.systems.file_rows import read_rows
from lakehouse_assets.systems.key_index import Indices, KeyIndex, read_bound, to_comparable
from lakehouse_assets.systems.live_files import LiveFile
from lakehouse_assets.systems.partitioning import Partitioner, PartitionValues
from lakehouse_assets.systems.position_deletes import (
    NO_POSITIONS,
    Positions,
    count_inside,
    read_deleted,
    without,
)

_NUMBER = "#"  # no column bears this name
_KEY_BYTES = 12  # what a value takes in the cache, roughly
_THREADS = 4  # on an object store, most of a lookup is waiting
_BATCH_ROWS = 256 * 1024
_RAW_INTEGERS = (pa.int32(), pa.int64(), pa.date32(), pa.time64("us"), pa.timestamp("us"), pa.timestamp("us", tz="UTC"))
_RAW_BYTES = (pa.string(), pa.binary())


@dataclass(frozen=True, slots=True)
class Hits:
    """Live rows of one data file that have one of the keys: their positions, ascending, and which key each has.

    `deleted_rows` is how many of the file's rows were deleted before.
    """

    file: LiveFile
    positions: Positions
    keys: Indices
    deleted_rows: int

    def only(self, wanted: "npt.NDArray[np.bool_]") -> "Hits":
        """Those of the wanted keys."""
        mine = wanted[self.keys]
        return replace(self, positions=self.positions[mine], keys=self.keys[mine])


class KeyLookup:
    """Some keys, and the files in which they are looked for."""

    def __init__(self, table: Table, keys: pa.Table, cache: FileCache) -> None:
        """`keys` are columns of the table's schema, without nulls; each key is there once."""
        self._table, self._keys, self._cache = table, keys, cache
        schema = table.schema()
        self._fields = [schema.find_field(name) for name in keys.column_names]
        self._schema = schema.select(*keys.column_names)
        self._comparable = {name: to_comparable(keys.column(name)) for name in keys.column_names}
        self._cached: set[str] = set()
        self._by_partition: dict[int, tuple[list[int], dict[PartitionValues, KeyIndex]]] = {}

    def find(self, files: Sequence[LiveFile]) -> Iterator[Hits]:
        """The files that have live rows of the keys, and where."""
        looked_into = [(file, keys) for file in files if (keys := self._keys_for(file)) is not None and len(keys)]
        self._choose_cached([file.data for file, _ in looked_into])
        if not looked_into:
            return
        with ThreadPoolExecutor(min(_THREADS, len(looked_into)), thread_name_prefix="lookup") as threads:
            for hits in threads.map(lambda one: self._find_in(*one), looked_into):
                if len(hits.positions):
                    yield hits

    def _find_in(self, file: LiveFile, keys: KeyIndex) -> Hits:
        positions, numbers = self._look_into(file.data, keys)
        if not len(positions):
            return Hits(file, positions, numbers, 0)
        deleted = read_deleted(self._table, file, self._cache)
        lives = without(positions, deleted)
        return Hits(file, positions[lives], numbers[lives], count_inside(deleted, file.data))

    def _choose_cached(self, files: Sequence[DataFile]) -> None:
        """Of the smallest files, which are read again and again, as many as leave half of the cache to what else there is."""
        total_bytes = 0
        for file in sorted(files, key=lambda file: int(file.record_count)):
            total_bytes += file.record_count * _KEY_BYTES * len(self._fields)
            if 2 * total_bytes > self._cache.capacity_bytes:
                break
            self._cached.add(file.file_path)

    def _keys_for(self, file: LiveFile) -> KeyIndex | None:
        """Keys that may stand in a file, as its partition values and bounds say."""
        spec_id = file.data.spec_id
        if spec_id not in self._by_partition:
            self._by_partition[spec_id] = self._split(self._table.metadata.specs()[spec_id])
        places, groups = self._by_partition[spec_id]
        values = file.partition
        keys = groups.get(tuple(values[place] for place in places))
        return None if keys is None else keys.between([self._bounds(file.data, field.field_id) for field in self._fields])

    def _split(self, spec: PartitionSpec) -> tuple[list[int], dict[PartitionValues, KeyIndex]]:
        """Which fields of a partition spec the key decides, and the keys by the values of these."""
        ids = {field.field_id for field in self._fields}
        decided = [
            (place, field)
            for place, field in enumerate(spec.fields)
            if field.source_id in ids and not isinstance(field.transform, VoidTransform | UnknownTransform)
        ]
        partitioner = Partitioner(PartitionSpec(*[field for _, field in decided]), self._table.schema())
        numbered = self._keys.append_column(_NUMBER, pa.array(np.arange(self._keys.num_rows)))
        groups = {}
        for values, part in partitioner.split(numbered):
            numbers = part.column(_NUMBER).to_numpy()
            columns = [column.take(pa.array(numbers)) for column in self._comparable.values()]
            groups[values] = KeyIndex(columns, numbers)
        return [place for place, _ in decided], groups

    def _bounds(self, file: DataFile, field_id: int) -> tuple[Any, Any] | None:
        low, high = (file.lower_bounds or {}).get(field_id), (file.upper_bounds or {}).get(field_id)
        if low is None or high is None:
            return None
        kind: Any = self._table.schema().find_field(field_id).field_type
        return read_bound(kind, low), read_bound(kind, high)

    def _look_into(self, file: DataFile, keys: KeyIndex) -> tuple[Positions, Indices]:
        found = [
            (first + at, numbers)
            for first, columns in self._read_keys(file, keys)
            for at, numbers in [keys.find(columns)]
            if len(at)
        ]
        if not found:
            return NO_POSITIONS, NO_POSITIONS
        return np.concatenate([at for at, _ in found]), np.concatenate([numbers for _, numbers in found])

    def _read_keys(self, file: DataFile, keys: KeyIndex) -> Iterator[tuple[int, list[pa.Array]]]:
        """The key's columns in comparable form, with the position of the first row of each batch."""
        if file.file_path not in self._cached:
            yield from self._stream_keys(file, keys)
            return
        ids = [str(field.field_id) for field in self._fields]
        name = ("keys", file.file_path, str(self._table.metadata.current_schema_id), *ids)
        yield 0, self._cache.load(name, lambda: self._read_all_keys(file), lambda read: sum(column.nbytes for column in read))

    def _read_all_keys(self, file: DataFile) -> list[pa.Array]:
        batches = [rows for _, rows in read_rows(self._table, file, self._schema, self._cache, batch_rows=_BATCH_ROWS)]
        rows = pa.Table.from_batches(batches)
        return [to_comparable(rows.column(name)) for name in self._keys.column_names]

    def _stream_keys(self, file: DataFile, keys: KeyIndex) -> Iterator[tuple[int, list[pa.Array]]]:
        def may_have_keys(footer: pq.FileMetaData, own: Schema) -> list[int]:
            bounds = [_group_bounds(footer, own, field.field_id) for field in self._fields]
            return [group for group in range(footer.num_row_groups) if len(keys.between([of[group] for of in bounds]))]

        for first, rows in read_rows(self._table, file, self._schema, self._cache, may_have_keys, _BATCH_ROWS):
            yield first, [to_comparable(rows.column(name)) for name in self._keys.column_names]


def _group_bounds(footer: pq.FileMetaData, own: Schema, field_id: int) -> list[tuple[Any, Any] | None]:
    """Least and largest value of a column in each row group, in comparable form; None where nothing is known."""
    unknown: list[tuple[Any, Any] | None] = [None] * footer.num_row_groups
    name = own.find_column_name(field_id)
    if name is None or footer.num_row_groups == 1:  # of the only one, the file's bounds have said it
        return unknown
    arrow = footer.schema.to_arrow_schema()
    at = arrow.get_field_index(name)
    if at < 0 or arrow.field(at).type not in (*_RAW_INTEGERS, *_RAW_BYTES):
        return unknown
    leaf = next(i for i in range(len(footer.schema)) if footer.schema.column(i).path == name)
    statistics = [footer.row_group(group).column(leaf).statistics for group in range(footer.num_row_groups)]
    return [(one.min_raw, one.max_raw) if one is not None and one.has_min_max else None for one in statistics]
