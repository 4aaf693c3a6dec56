"""Finds the rows that files of equality deletes take out, as Flink and others leave them.

Hides the rules of the Iceberg specification ("Equality Delete Files", "Scan Planning"): a delete is for rows of a lower data
sequence number, in its partition or everywhere; a null equals a null, and what is not a number itself; columns are found by
their ids, whatever they are called or were widened to since; a column that is dropped by now still counts, and one that a data
file is too old to have is null there. Of data files only these columns are read, of delete files as much at a time as fits.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema, prune_columns
from pyiceberg.table import Table
from pyiceberg.types import DoubleType, FloatType, NestedField, PrimitiveType, StructType

from lakehouse_assets.model.errors import StorageError
from lakehouse_assets.model.merge_plan import Place
from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets.systems.file_rows import read_rows, row_group_starts
from lakehouse_assets.systems.key_index import KeyIndex, read_bound, to_comparable
from lakehouse_assets.systems.live_files import EVERYWHERE, DeleteFile, LiveFile
from lakehouse_assets.systems.position_deletes import NO_POSITIONS, Positions, join_positions
from lakehouse_assets.systems.snapshots import table_name

KEY_BYTES: Final = 64 * 1024 * 1024
_BYTES_PER_VALUE, _UNPACKED = 96, 4  # what a key takes in memory, looked for in several threads; how much more than in its file
_BLOCK_ROWS: Final = 512 * 1024  # each look for many keys begins with a table of them, so it is for many rows
_THREADS: Final = 4  # on an object store, most of it is waiting
_SEQUENCE: Final = "#"
_Sequences = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Part:
    """Some rows of a delete file."""

    deletes: DeleteFile
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class _Group:
    """Delete files of one place that compare the same columns, in parts that fit into memory."""

    columns: "_Columns"
    newest: int
    batches: list[list[_Part]]


class EqualityDeletes:
    """The equality deletes of a table, which are for those of its data files that `find` is given."""

    def __init__(self, table: Table, deletes: Sequence[DeleteFile], key_bytes: int = KEY_BYTES) -> None:
        """About twice `key_bytes` are held, beside the positions that are found.

        Raises:
            StorageError: a delete file says nothing of its columns, or compares what can't be compared.
        """
        self._table = table
        self._cache = FileCache(key_bytes)  # most often all deletes of a place fit, and data files come in many calls
        groups: dict[tuple[Place, tuple[int, ...]], list[DeleteFile]] = {}
        for one in deletes:
            groups.setdefault((one.scope, tuple(sorted(set(one.file.equality_ids or ())))), []).append(one)
        self._groups: dict[Place, list[_Group]] = {}
        for (scope, ids), members in groups.items():
            columns = _Columns.of(table, ids, members[0].path)
            newest = max(one.sequence_number for one in members)
            group = _Group(columns, newest, list(_split(members, len(ids), key_bytes)))
            self._groups.setdefault(scope, []).append(group)

    def find(self, files: Sequence[LiveFile]) -> dict[str, Positions]:
        """Positions of the rows that are deleted in each data file, by its path, ascending; those deleted before too.

        Raises:
            StorageError: files could not be read.
        """
        found: dict[str, Positions] = {}
        by_scope: dict[Place, list[LiveFile]] = {EVERYWHERE: list(files)}
        for file in files:
            by_scope.setdefault(file.scope, []).append(file)
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="equality") as threads:
            for scope, members in by_scope.items():
                for group in self._groups.get(scope, ()):
                    meant = [file for file in members if file.sequence_number < group.newest]
                    for batch in group.batches if meant else ():
                        keys = self._load(group, batch)
                        for file, positions in zip(meant, threads.map(keys.find, meant), strict=True):
                            if len(positions):
                                found[file.path] = join_positions(found.get(file.path, NO_POSITIONS), positions)
        return found

    def _load(self, group: _Group, batch: Sequence[_Part]) -> "_Keys":
        name = ("keys", *(text for part in batch for text in (part.deletes.path, str(part.start))))
        return self._cache.load(name, lambda: _Keys.read(self._table, group.columns, batch), lambda keys: keys.size_bytes)


def _split(members: Sequence[DeleteFile], columns: int, key_bytes: int) -> Iterator[list[_Part]]:
    """Parts of delete files, as many together as fit."""
    batch: list[_Part] = []
    left = key_bytes
    for one in sorted(members, key=lambda one: one.sequence_number):
        rows = int(one.file.record_count)
        row_bytes = max(_BYTES_PER_VALUE * columns, _UNPACKED * one.file.file_size_in_bytes // max(rows, 1))
        start = 0
        while start < rows:
            if batch and left < row_bytes:
                yield batch
                batch, left = [], key_bytes
            stop = min(rows, start + max(left // row_bytes, 1))
            batch.append(_Part(one, start, stop))
            left -= (stop - start) * row_bytes
            start = stop
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns that are compared: how they are read, and each one's way to it from a column of the file, and its type."""

    schema: Schema
    ids: tuple[int, ...]
    paths: list[tuple[int, ...]]
    kinds: list[PrimitiveType]

    @classmethod
    def of(cls, table: Table, ids: tuple[int, ...], location: str) -> "_Columns":
        fields: list[NestedField] = []
        paths: list[tuple[int, ...]] = []
        kinds: list[PrimitiveType] = []
        for one in ids:
            schema = _newest_schema_with(table, one)
            kind = schema.find_type(one) if schema is not None else None
            if schema is None or not isinstance(kind, PrimitiveType):
                reason = f"{location} compares the column of id {one}, which is {kind or 'in no schema of the table'}"
                raise StorageError("read the equality deletes of", table_name(table), reason)
            # Columns are found by id: two may have had the same name, one after the other.
            top = prune_columns(schema, {one}, select_full_types=False).fields[0]
            path, step = [len(fields)], top.field_type
            while isinstance(step, StructType):
                path.append(0)
                step = step.fields[0].field_type
            fields.append(top.model_copy(update={"name": f"{one}", "required": False}))
            paths.append(tuple(path))
            kinds.append(kind)
        if not ids:
            reason = f"{location} does not say which columns it compares"
            raise StorageError("read the equality deletes of", table_name(table), reason)
        return cls(Schema(*fields), ids, paths, kinds)

    def comparable(self, rows: pa.RecordBatch) -> list[pa.Array]:
        """The values of each, in the form in which they are compared."""
        columns = []
        for first, *further in self.paths:
            column = rows.column(first)
            for step in further:
                column = pc.struct_field(column, step)
            columns.append(to_comparable(column))
        return columns


def _newest_schema_with(table: Table, field_id: int) -> Schema | None:
    """The schema that says what a column is: the current one, or the last that had it."""
    others = sorted(table.metadata.schemas, key=lambda schema: schema.schema_id, reverse=True)
    return next((schema for schema in (table.schema(), *others) if field_id in schema.field_ids), None)


@dataclass(slots=True)
class _Alike:
    """Keys that are null in the same columns. `sequences` says of each key by its number when it was deleted last."""

    is_null: tuple[bool, ...]
    index: KeyIndex | None  # of the other columns; None: there are none
    sequences: _Sequences


@dataclass(slots=True)
class _Keys:
    """Keys that are deleted; each is there once, with the newest of the sequence numbers of its deletes."""

    table: Table
    columns: _Columns
    alike: list[_Alike]
    size_bytes: int
    _footers: FileCache = field(default_factory=FileCache)

    @classmethod
    def read(cls, table: Table, columns: _Columns, parts: Sequence[_Part]) -> "_Keys":
        """Read parts of delete files."""
        names = [str(one) for one in columns.ids]
        pieces = [rows for part in parts for rows in _read_part(table, columns, part)]
        keys = pa.concat_tables(pieces) if pieces else None
        if keys is None or not keys.num_rows:
            return cls(table, columns, [], 0)
        keys = keys.group_by(names, use_threads=False).aggregate([(_SEQUENCE, "max")]).rename_columns([*names, _SEQUENCE])
        size_bytes = max(_BYTES_PER_VALUE * len(names) * keys.num_rows, keys.nbytes)
        return cls(table, columns, _split_by_nulls(keys), size_bytes)

    def find(self, file: LiveFile) -> Positions:
        """Where they stand in a data file, ascending."""
        chosen = [(one, keys) for one in self.alike for keys in [self._choose(one, file.data)] if keys is not _NOWHERE]
        if not chosen:
            return NO_POSITIONS
        found = [NO_POSITIONS]
        for first, values in self._read_blocks(file.data):
            found += [first + _find(one, keys, values, file.sequence_number) for one, keys in chosen]
        return np.sort(np.concatenate(found), kind="stable")  # a row has one key, so it is there once

    def _read_blocks(self, data: DataFile) -> Iterator[tuple[int, list[pa.Array]]]:
        """The columns in comparable form, with the position of the first row of each block."""
        begin, waiting = 0, list[list[pa.Array]]()
        for first, rows in read_rows(self.table, data, self.columns.schema, self._footers):
            if first + rows.num_rows - begin > _BLOCK_ROWS and waiting:
                yield begin, [pa.concat_arrays(pieces) for pieces in zip(*waiting, strict=True)]
                begin, waiting = first, []
            waiting.append(self.columns.comparable(rows))
        if waiting:
            yield begin, [pa.concat_arrays(pieces) for pieces in zip(*waiting, strict=True)]

    def _choose(self, alike: _Alike, data: DataFile) -> "KeyIndex | None":
        """Those keys that may stand in a data file by its bounds."""
        nulls, count = data.null_value_counts or {}, data.record_count
        bounds: list[tuple[Any, Any] | None] = []
        for field_id, kind, is_null in zip(self.columns.ids, self.columns.kinds, alike.is_null, strict=True):
            if (is_null and nulls.get(field_id) == 0) or (not is_null and nulls.get(field_id) == count):
                return _NOWHERE
            if not is_null:
                bounds.append(_bounds(data, field_id, kind))
        if alike.index is None:
            return None
        keys = alike.index.between(bounds)
        return keys if len(keys) else _NOWHERE


_NOWHERE: Final = KeyIndex([pa.array([], pa.int64())], np.empty(0, np.int64))


def _read_part(table: Table, columns: _Columns, part: _Part) -> Iterator[pa.Table]:
    """Keys of some rows of a delete file, in comparable form, with its sequence number."""

    def choose(footer: pq.FileMetaData, own: Schema) -> list[int]:
        if lacking := set(columns.ids) - own.field_ids:
            reason = f"it compares columns of the ids {sorted(lacking)}, which are not in it"
            raise StorageError("read the equality deletes", part.deletes.path, reason)
        starts = row_group_starts(footer)
        return [at for at in range(footer.num_row_groups) if starts[at] < part.stop and starts[at + 1] > part.start]

    names = [*(str(one) for one in columns.ids), _SEQUENCE]
    for first, rows in read_rows(table, part.deletes.file, columns.schema, FileCache(), choose):
        begin, stop = max(part.start - first, 0), min(part.stop - first, rows.num_rows)
        if begin < stop:
            values = columns.comparable(rows.slice(begin, stop - begin))
            yield pa.table([*values, pa.repeat(pa.scalar(part.deletes.sequence_number, pa.int64()), stop - begin)], names)


def _split_by_nulls(keys: pa.Table) -> list[_Alike]:
    *columns, sequences = (column.combine_chunks() for column in keys.columns)
    which = pa.array(np.zeros(keys.num_rows, np.int64))
    for column in columns:
        if column.null_count:
            told_apart = pc.add(pc.multiply(which, 2), column.is_null().cast(pa.int64()))
            which = told_apart.dictionary_encode().indices.cast(pa.int64())  # so that any number of columns fits
    alike = []
    for number in pc.unique(which).to_pylist():
        mine = pc.equal(which, number)
        parts = [column.filter(mine) for column in columns]
        is_null = tuple(part.null_count > 0 for part in parts)
        held = [part for part, null in zip(parts, is_null, strict=True) if not null]
        times = sequences.filter(mine).to_numpy()
        alike.append(_Alike(is_null, KeyIndex(held, np.arange(len(times))) if held else None, times))
    return alike


def _find(alike: _Alike, keys: KeyIndex | None, values: Sequence[pa.Array], sequence_number: int) -> Positions:
    """Which rows have a key that was deleted after the rows' sequence number."""
    mask = np.ones(len(values[0]), np.bool_)
    for column, null in zip(values, alike.is_null, strict=True):
        if null:
            mask &= column.is_null().to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(mask)
    if keys is None:
        return rows if alike.sequences[0] > sequence_number else NO_POSITIONS
    held = [column for column, null in zip(values, alike.is_null, strict=True) if not null]
    if len(rows) < len(mask):
        held = [column.take(pa.array(rows)) for column in held]
    at, numbers = keys.find(held)
    return rows[at[alike.sequences[numbers] > sequence_number]]


def _bounds(data: DataFile, field_id: int, kind: PrimitiveType) -> tuple[Any, Any] | None:
    low, high = (data.lower_bounds or {}).get(field_id), (data.upper_bounds or {}).get(field_id)
    if low is None or high is None or isinstance(kind, FloatType | DoubleType):
        return None
    return read_bound(kind, low), read_bound(kind, high)
