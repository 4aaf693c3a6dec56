"""Remembers which rows were deleted, where an older change of a deleted row may still come from another log.

A deleted row is nowhere in a table, so nothing there would tell that a change which comes late is older than the deletion. So
the last deletions of a table of several logs stand in a file beside it, which the snapshot's summary names: the key of each,
and what says when it was. Only the newest are kept: those of a day, and of these so many that commits never cost more for it.
"""

import uuid
from collections.abc import Sequence
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.table import Table

from lakehouse_assets.model.columns import KAFKA_TIMESTAMP
from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets.systems.key_index import KeyIndex, to_comparable
from lakehouse_assets.systems.row_order import is_newer, order_columns
from lakehouse_assets.systems.schema import build_file_schema
from lakehouse_assets.systems.snapshots import ancestors

Mask = npt.NDArray[np.bool_]

TOMBSTONES_KEY: Final = "lakehouse.tombstones"
KEPT_TOMBSTONES: Final = 100_000
KEPT_MS: Final = 24 * 3600 * 1000  # by Kafka's stamps; logs of one source are not read a day apart
_LOOKED_AT: Final = 100  # snapshots, to find the last one of ours


class Tombstones:
    """The deletions that a table remembers, at most one of each key."""

    def __init__(self, table: Table, key: Sequence[str], cache: FileCache) -> None:
        """Those of the table as it is now."""
        self._table, self._key = table, tuple(key)
        self._schema = build_file_schema(table.schema().select(*key, *order_columns(table.schema())))
        self.location = _find(table)
        self.next_location = table.location_provider().new_metadata_location(f"tombstones-{uuid.uuid4().hex}.parquet")
        self._rows = self._schema.empty_table() if self.location is None else self._load(self.location, cache)

    def find_stale(self, changes: pa.Table) -> Mask:
        """Which changes are older than the deletion of their key. `changes` have the table's columns, each key once."""
        stale = np.zeros(changes.num_rows, np.bool_)
        if self._rows.num_rows and changes.num_rows:
            places, mine = _match(changes, self._rows, self._key)
            order = list(order_columns(self._table.schema()))
            newer = is_newer(self._rows.select(order).take(pa.array(places)), changes.select(order).take(pa.array(mine)))
            stale[mine[newer]] = True
        return stale

    def write(self, changes: pa.Table, deletes: Mask) -> str | None:
        """Remember deletions, forget what these changes decide anew, and write that to `next_location`, which is returned.

        Where nothing changes, what was there stays, and its location is returned; None: there is nothing to remember.
        """
        replaced = np.zeros(self._rows.num_rows, np.bool_)
        if self._rows.num_rows and changes.num_rows:
            replaced[_match(changes, self._rows, self._key)[0]] = True
        if not replaced.any() and not deletes.any():
            return self.location
        new = changes.filter(pa.array(deletes)).select(self._schema.names).cast(self._schema)
        rows = _newest(pa.concat_tables([self._rows.filter(pa.array(~replaced)), new]))
        if not rows.num_rows:
            return None
        with self._table.io.new_output(self.next_location).create() as stream:
            pq.write_table(rows, stream, compression="zstd", store_schema=False)
        return self.next_location

    def _load(self, location: str, cache: FileCache) -> pa.Table:
        name = ("tombstones", location, str(self._table.metadata.current_schema_id))
        rows: pa.Table = cache.load(name, lambda: self._read(location), lambda read: int(read.nbytes))
        return rows

    def _read(self, location: str) -> pa.Table:
        """The rows in the columns that the table has now, found by field id. A file that somebody removed says nothing."""
        try:
            with self._table.io.new_input(location).open() as stream:
                rows = pq.read_table(stream)
        except FileNotFoundError:
            return self._schema.empty_table()
        held = {(field.metadata or {}).get(b"PARQUET:field_id"): at for at, field in enumerate(rows.schema)}
        columns = []
        for field in self._schema:
            at = held.get(field.metadata[b"PARQUET:field_id"])
            if at is None and field.name in self._key:
                return self._schema.empty_table()
            columns.append(pa.nulls(rows.num_rows, field.type) if at is None else rows.column(at).cast(field.type))
        return pa.Table.from_arrays(columns, schema=self._schema)


def carried_notes(table: Table) -> dict[str, str]:
    """What the summary of a snapshot says that leaves the rows as they are, so that the deletions stay remembered."""
    location = _find(table)
    return {} if location is None else {TOMBSTONES_KEY: location}


def _find(table: Table) -> str | None:
    """The file that the newest snapshot of ours names."""
    for snapshot in islice(ancestors(table, table.metadata.current_snapshot()), _LOOKED_AT):
        named = snapshot.summary.additional_properties.get(TOMBSTONES_KEY) if snapshot.summary is not None else None
        if named is not None:
            return named or None
    return None


def _match(
    changes: pa.Table, rows: pa.Table, key: Sequence[str]
) -> "tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]":
    """Places of rows that have the key of a change, and which change that is."""
    index = KeyIndex([to_comparable(changes.column(name)) for name in key], np.arange(changes.num_rows))
    return index.find([to_comparable(rows.column(name)) for name in key])


def _newest(rows: pa.Table) -> pa.Table:
    """Without those that are a day older than the last one, and not more than are kept."""
    stamps = rows.column(KAFKA_TIMESTAMP).cast(pa.int64())
    last = pc.max(stamps).as_py()
    if last is not None:
        rows = rows.filter(pc.fill_null(pc.greater_equal(stamps, last - KEPT_MS * 1000), True))
    if rows.num_rows > KEPT_TOMBSTONES:
        order = pc.sort_indices(rows.select([KAFKA_TIMESTAMP]), sort_keys=[(KAFKA_TIMESTAMP, "descending")])
        rows = rows.take(order.slice(0, KEPT_TOMBSTONES))
    return rows
