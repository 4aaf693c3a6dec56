"""Which message a row is: topic partition and offset, read from the columns of a table of ours.

Hides that a table of one topic has no topic column, and the arithmetic on arrays of offsets.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from lakehouse_assets.model.columns import PositionColumns
from lakehouse_assets.model.offsets import RangeSet, TopicPartition, TopicRanges

Offsets = np.ndarray[tuple[int], np.dtype[np.int64]]
Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]

_NOWHERE = -1


def split_by_log(
    rows: pa.RecordBatch, columns: PositionColumns, first_topic: str
) -> Iterator[tuple[TopicPartition, Mask]]:
    """Each topic partition that occurs, and which rows are its; rows that others wrote are nobody's.

    `first_topic`: the ledger's, of rows that name none.
    """
    partitions = rows.column(columns.partition).fill_null(_NOWHERE).to_numpy(zero_copy_only=False)
    for topic, of_topic in _split_by_topic(rows, columns, first_topic):
        for p in np.unique(partitions[of_topic]).tolist():
            if p >= 0:
                yield TopicPartition(topic, int(p)), of_topic & (partitions == p)


def _split_by_topic(rows: pa.RecordBatch, columns: PositionColumns, first_topic: str) -> Iterator[tuple[str, Mask]]:
    if columns.topic is None:
        yield first_topic, np.ones(rows.num_rows, np.bool_)
        return
    topics = rows.column(columns.topic).fill_null(first_topic).dictionary_encode()
    codes = topics.indices.to_numpy(zero_copy_only=False)
    for code, topic in enumerate(topics.dictionary.to_pylist()):
        yield topic, codes == code


def read_offsets(rows: pa.RecordBatch, columns: PositionColumns) -> Offsets:
    """The offset of each row; -1 where it has none."""
    offsets: Offsets = rows.column(columns.offset).fill_null(_NOWHERE).to_numpy(zero_copy_only=False).astype(np.int64)
    return offsets


def rows_inside(rows: pa.RecordBatch, columns: PositionColumns, first_topic: str, ranges: TopicRanges) -> Mask:
    """For each row whether its message is in `ranges`."""
    offsets = read_offsets(rows, columns)
    inside = np.zeros(rows.num_rows, np.bool_)
    for log, mine in split_by_log(rows, columns, first_topic):
        inside |= mine & contains(ranges[log], offsets)
    return inside


def contains(held: RangeSet, offsets: Offsets) -> Mask:
    """For each offset whether it is in `held`."""
    edges = np.array(held.ranges, np.int64).reshape(-1)  # start, stop, start, stop, ...
    is_inside: Mask = np.searchsorted(edges, offsets, side="right") % 2 == 1
    return is_inside


def list_runs(offsets: Offsets) -> list[tuple[int, int]]:
    """Ascending offsets as `(start, stop)` of each run without a gap; empty for none."""
    edges = np.flatnonzero(np.diff(offsets) != 1) + 1
    return [(int(run[0]), int(run[-1]) + 1) for run in np.split(offsets, edges) if len(run)]


def outside(offsets: Offsets, held: RangeSet) -> Offsets:
    """The offsets that are not in `held`."""
    return offsets[~contains(held, offsets)]
