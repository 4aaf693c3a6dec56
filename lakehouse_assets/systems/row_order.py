"""Which of two changes of one row is newer, where they stand in several logs.

Within a topic partition the offset says it. Between two, the position in the source's own log does, where both changes have
one, else Kafka's timestamp, where both have one; else, and between equals, what comes in is newer than what is there.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import LongType

from lakehouse_assets.model.columns import (
    KAFKA_OFFSET,
    KAFKA_PARTITION,
    KAFKA_TIMESTAMP,
    KAFKA_TOPIC,
    SOURCE_POSITION,
)
from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets.systems.file_rows import read_at
from lakehouse_assets.systems.key_lookup import Hits

Mask = npt.NDArray[np.bool_]

_ORDER_COLUMNS: Final = (KAFKA_TOPIC, KAFKA_PARTITION, KAFKA_OFFSET, KAFKA_TIMESTAMP, SOURCE_POSITION)


def find_stale(table: Table, changes: pa.Table, hits: Iterable[Hits], cache: FileCache) -> Mask:
    """Which changes are older than the live row of their key. `changes` have the table's columns; `hits` number them."""
    names = order_columns(table.schema())
    schema, incoming = table.schema().select(*names), changes.select(names)
    stale = np.zeros(changes.num_rows, np.bool_)
    for found in hits:
        mine = incoming.take(pa.array(found.keys))
        if not _is_older(table, found.file.data, mine):
            live = read_at(table, found.file.data, schema, found.positions, cache)
            stale[found.keys[is_newer(live, mine)]] = True
    return stale


def order_columns(schema: Schema) -> list[str]:
    """The columns of a table that say which change is newer."""
    return [name for name in _ORDER_COLUMNS if name in schema.column_names]


def is_newer(live: pa.Table, incoming: pa.Table) -> Mask:
    """For each pair whether the live row is newer than the change."""
    newer = _compare(live, incoming, KAFKA_TIMESTAMP, np.zeros(live.num_rows, np.bool_))
    newer = _compare(live, incoming, SOURCE_POSITION, newer)
    same_log = _are_equal(live, incoming, [name for name in (KAFKA_TOPIC, KAFKA_PARTITION) if name in live.column_names])
    return np.where(same_log, _compare(live, incoming, KAFKA_OFFSET, newer), newer)


def are_same_message(live: pa.Table, incoming: pa.Table) -> Mask:
    """For each pair whether it is one change, in the table already."""
    names = (KAFKA_TOPIC, KAFKA_PARTITION, KAFKA_OFFSET)
    return _are_equal(live, incoming, [name for name in names if name in live.column_names])


def _are_equal(live: pa.Table, incoming: pa.Table, names: Sequence[str]) -> Mask:
    equal = np.ones(live.num_rows, np.bool_)
    for name in names:
        # A row of one topic's time has none where there are several now: then it is not known to be the same.
        equal &= pc.fill_null(pc.equal(live[name], incoming[name]), False).to_numpy()
    return equal


def _compare(live: pa.Table, incoming: pa.Table, name: str, otherwise: Mask) -> Mask:
    if name not in live.column_names:
        return otherwise
    greater = pc.greater(live[name], incoming[name])
    return np.where(greater.is_valid().to_numpy(), pc.fill_null(greater, False).to_numpy(), otherwise)


def _is_older(table: Table, file: DataFile, incoming: pa.Table) -> bool:
    """Whether bounds say that every row of a file is older than each of these changes, which nearly always is so."""
    names = [name for name in (SOURCE_POSITION, KAFKA_TIMESTAMP) if name in incoming.column_names]
    at_most = {name: _upper_bound(table, file, name) for name in names}
    if any(upper is None for upper in at_most.values()):
        return False
    return all(_least(incoming, name) >= upper for name, upper in at_most.items() if upper is not None)


def _least(incoming: pa.Table, name: str) -> int:
    least = pc.min(incoming[name].cast(pa.int64())).as_py()
    return 2**63 if least is None else int(least)


def _upper_bound(table: Table, file: DataFile, name: str) -> int | None:
    """The largest value of a column in a file; below all others if it has none; None where nothing is known."""
    field_id = table.schema().find_field(name).field_id
    if (file.null_value_counts or {}).get(field_id) == file.record_count:
        return -(2**63)
    upper = (file.upper_bounds or {}).get(field_id)
    return None if upper is None else int(from_bytes(LongType(), upper))
