"""Proves that no key stands twice among the rows of a table. Reads the key's columns only, in bounded memory. Read-only.

Files whose partition values, as far as the key decides them, differ have no key in common, so such groups are looked at one
after the other. The keys of a group are gathered and counted exactly; where they don't fit into the memory given, the group is
read several times, each time for the keys of some hash values only. A key that stands often is gathered once, with its number.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import BinaryType, LongType

from lakehouse_assets.systems.catalog import catalog_errors
from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets.systems.file_rows import read_rows
from lakehouse_assets.systems.key_index import from_comparable, to_comparable
from lakehouse_assets.systems.live_files import LiveFile, list_files_with_deletes
from lakehouse_assets.systems.position_deletes import leave_out, read_deleted
from lakehouse_assets.systems.schema import build_file_schema
from lakehouse_assets.systems.snapshots import table_name

AUDIT_BYTES: Final = 128 * 1024 * 1024
MAX_EXAMPLES: Final = 10
_ROWS: Final = "rows"
_MOST_PASSES: Final = 1024
_HASHES: Final = 2**31 - 1  # Iceberg's bucket transform takes murmur3 modulo this at most


@dataclass(frozen=True, slots=True)
class KeyAudit:
    """What the live rows say. `examples`: some of the keys that stand more than once, by column, with `rows`, how often."""

    row_count: int = 0
    duplicate_keys: int = 0
    surplus_rows: int = 0
    examples: tuple[dict[str, object], ...] = ()

    def joined(self, other: "KeyAudit") -> "KeyAudit":
        """Both, of rows that have no key in common."""
        return KeyAudit(
            self.row_count + other.row_count,
            self.duplicate_keys + other.duplicate_keys,
            self.surplus_rows + other.surplus_rows,
            (self.examples + other.examples)[:MAX_EXAMPLES],
        )


def audit_keys(table: Table, key: Sequence[str], memory_bytes: int = AUDIT_BYTES) -> KeyAudit:
    """Count the keys that stand more than once in the table as it is now.

    Raises:
        StorageError: files could not be read, or hold what can't be read here.
    """
    audit = KeyAudit()
    with catalog_errors(table.catalog.name, f"look for keys that stand twice in {table_name(table)}"):
        files = list_files_with_deletes(table, table.metadata.current_snapshot())
        for group in _split_by_key(table, key, files):
            audit = audit.joined(_Group(table, tuple(key), group, memory_bytes).audit())
    return audit


def _split_by_key(table: Table, key: Sequence[str], files: Sequence[LiveFile]) -> list[list[LiveFile]]:
    """Groups of files that may have keys in common: by the partition fields that the key decides in every spec in use."""
    ids = {table.schema().find_field(name).field_id for name in key}
    decided = {
        spec_id: {(f.source_id, str(f.transform)): at for at, f in enumerate(spec.fields) if f.source_id in ids}
        for spec_id, spec in table.metadata.specs().items()
        if any(file.data.spec_id == spec_id for file in files)
    }
    common = sorted(set.intersection(*[set(fields) for fields in decided.values()])) if decided else []
    groups: dict[tuple[object, ...], list[LiveFile]] = {}
    for file in files:
        places = decided[file.data.spec_id]
        groups.setdefault(tuple(file.partition[places[field]] for field in common), []).append(file)
    return list(groups.values())


class _Group:
    """Files of a table that may have keys in common."""

    def __init__(self, table: Table, key: tuple[str, ...], files: Sequence[LiveFile], memory_bytes: int) -> None:
        self._table, self._key, self._files, self._memory_bytes = table, key, files, memory_bytes
        self._schema = table.schema().select(*key)
        self._names = [f"{at}" for at in range(len(key))]

    def audit(self) -> KeyAudit:
        passes = 1
        while (audit := self._audit_in(passes)) is None:
            passes *= 2
        return audit

    def _audit_in(self, passes: int) -> KeyAudit | None:
        """The audit, of the keys of one remainder of the hash after the other; None: those of one don't fit."""
        audit = KeyAudit()
        for remainder in range(passes):
            counted = self._count(passes, remainder)
            if counted is None:
                return None
            audit = audit.joined(self._judge(counted))
        return audit

    def _count(self, passes: int, remainder: int) -> pa.Table | None:
        """The keys of one remainder with the number of their rows; None: they don't fit."""
        gathered: list[pa.Table] = []
        held_bytes = 0
        for keys in self._read_keys():
            mine = keys if passes == 1 else keys.filter(pa.array(_hash(keys) % passes == remainder))
            gathered.append(mine.append_column(_ROWS, pa.repeat(pa.scalar(1, pa.int64()), mine.num_rows)))
            held_bytes += gathered[-1].nbytes
            if held_bytes > self._memory_bytes:
                gathered = [self._sum(gathered)]
                held_bytes = gathered[0].nbytes
                if 2 * held_bytes > self._memory_bytes and passes < _MOST_PASSES:
                    return None
        return self._sum(gathered)

    def _sum(self, counted: Sequence[pa.Table]) -> pa.Table:
        rows = pa.concat_tables(counted)
        if len(self._names) == 1 and _are_different(rows[self._names[0]]):
            return rows
        return rows.group_by(self._names).aggregate([(_ROWS, "sum")]).rename_columns([*self._names, _ROWS])

    def _judge(self, counted: pa.Table) -> KeyAudit:
        several = counted.filter(pc.greater(counted[_ROWS], 1))
        first = several.slice(0, MAX_EXAMPLES)
        schema = build_file_schema(self._schema)
        values = {
            name: from_comparable(first[at].combine_chunks(), schema.field(name).type).to_pylist()
            for name, at in zip(self._key, self._names, strict=True)
        }
        rows = first[_ROWS].to_pylist()
        surplus = (pc.sum(several[_ROWS]).as_py() or 0) - several.num_rows
        return KeyAudit(
            row_count=pc.sum(counted[_ROWS]).as_py() or 0,
            duplicate_keys=several.num_rows,
            surplus_rows=surplus,
            examples=tuple({name: values[name][at] for name in self._key} | {"rows": rows[at]} for at in range(len(rows))),
        )

    def _read_keys(self) -> Iterator[pa.Table]:
        """The keys of live rows, in comparable form, batch by batch."""
        cache = FileCache()
        for file in self._files:
            deleted = read_deleted(self._table, file, cache)
            for first, rows in read_rows(self._table, file.data, self._schema, cache):
                keys = pa.table([to_comparable(rows.column(name)) for name in self._key], names=self._names)
                yield leave_out(keys, first, deleted)


def _are_different(values: pa.ChunkedArray) -> bool:
    """Whether no value comes again: told several times faster than how often each does."""
    if pa.types.is_integer(values.type) and not values.null_count:
        ordered = np.sort(values.to_numpy())
        return not bool((ordered[1:] == ordered[:-1]).any())
    return bool(pc.count_distinct(values, mode="all").as_py() == len(values))


def _hash(keys: pa.Table) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Equal for equal keys, in 31 bits and more; what else it is does not matter."""
    hashes = np.zeros(keys.num_rows, np.int64)
    for column in keys.columns:
        kind = LongType() if pa.types.is_integer(column.type) else BinaryType()
        array = column.combine_chunks()
        if pa.types.is_decimal(column.type):
            array = array.cast(pa.string()).cast(pa.binary())
        hashes = hashes * 31 + BucketTransform(_HASHES).pyarrow_transform(kind)(array).to_numpy()
    return np.abs(hashes)
