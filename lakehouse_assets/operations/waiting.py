"""How many messages wait for a table, seen from outside of its runs.

Control records of transactions, what these aborted, what log compaction left out and tombstones of an append table take
offsets, and no row will come of them. At the end of a log nothing but a look into it tells them from messages.
"""

import time
from dataclasses import replace

import numpy as np

from lakehouse_assets.model.offsets import NO_OFFSETS, TopicPartition, TopicRanges
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.status import TableStatus, read_status
from lakehouse_assets.operations.systems import Systems

_FEW_OFFSETS = 1000  # of one topic partition; more are behind, whatever they are
_READ_SECONDS, _LONGEST_SECONDS = 1.0, 5.0


def read_waiting(systems: Systems, spec: TableSpec) -> TableStatus:
    """As `read_status`, but what is missing of a log begins with a message that is to become a row. Reads up to there.

    Raises:
        LakehouseError: as `read_status`.
    """
    status = read_status(systems, spec)
    return replace(status, missing=status.missing - _find_rowless(systems, spec, status.missing))


def _find_rowless(systems: Systems, spec: TableSpec, missing: TopicRanges) -> TopicRanges:
    """Of the missing offsets, those before the first message in each topic partition that lacks few."""
    alone = {log: held.ranges[0] for log, held in missing.partitions.items() if len(held.ranges) == 1}
    few = {log: r for log, r in alone.items() if r.stop - r.start <= _FEW_OFFSETS}
    if not few:
        return NO_OFFSETS
    first: dict[TopicPartition, int] = {}
    deadline = time.monotonic() + _LONGEST_SECONDS
    with systems.source.reader(spec.table, {log: (r.start, r.stop) for log, r in few.items()}) as reader:
        while not reader.is_finished and first.keys() != few.keys() and time.monotonic() < deadline:
            batch = reader.read(_READ_SECONDS, _FEW_OFFSETS)
            has_value = np.fromiter((value is not None for value in batch.values), bool, len(batch))
            for log, mine in batch.by_log():
                offsets = batch.offsets[mine & (has_value | spec.is_upsert)]
                if len(offsets):
                    first.setdefault(log, int(offsets[0]))
        ends = {log: first.get(log, reader.next_offsets[log]) for log in few}
    return TopicRanges.of({log: [(r.start, ends[log])] for log, r in few.items() if ends[log] > r.start})
