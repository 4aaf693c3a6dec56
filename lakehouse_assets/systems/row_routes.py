"""Remembers where each row of rewritten data files went, so that rows deleted meanwhile are deleted there as well.

Rows keep their order: those of a source file follow each other in the files of the partition that they went into. So a row's
place follows from the number of live rows before it, and nothing is kept for single rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets.systems.file_rows import read_rows
from lakehouse_assets.systems.live_files import LiveFile
from lakehouse_assets.systems.partitioning import Partitioner, PartitionValues
from lakehouse_assets.systems.position_deletes import NO_POSITIONS, Positions, leave_out, without

_POSITION = "\0position"  # a name that no column can have


@dataclass(slots=True)
class RowRoutes:
    """Of the source files of one group, in the order in which they were read."""

    _counts: dict[PartitionValues, int] = field(default_factory=dict)
    _begins: dict[str, dict[PartitionValues, int]] = field(default_factory=dict)  # by source: the number of rows before its own

    def add(self, source: str, partition: PartitionValues, rows: int) -> None:
        """The next live rows of a source went into this partition."""
        before = self._counts.get(partition, 0)
        self._begins.setdefault(source, {}).setdefault(partition, before)
        self._counts[partition] = before + rows

    def find(
        self,
        table: Table,
        source: LiveFile,
        gone: Positions,
        deleted: Positions,
        outputs: Mapping[PartitionValues, Sequence[DataFile]],
        cache: FileCache,
    ) -> Iterator[tuple[DataFile, Positions]]:
        """Where rows of a source are now: output files, and positions in them, ascending.

        `gone` are the rows that did not go anywhere, `deleted` the ones that are looked for; others count for nothing.
        """
        begins = self._begins.get(source.path, {})
        deleted = deleted[: np.searchsorted(deleted, source.data.record_count)]
        deleted = deleted[without(deleted, gone)]
        if not len(deleted):
            return
        if len(begins) == 1:
            ((partition, begin),) = begins.items()
            places = {partition: begin + deleted - np.searchsorted(gone, deleted)}
        else:
            places = _find_among_several(table, source, gone, deleted, begins, cache)
        for partition, numbers in places.items():
            first = 0
            for output in outputs[partition]:
                begin, stop = np.searchsorted(numbers, [first, first + output.record_count])
                if begin < stop:
                    yield output, numbers[begin:stop] - first
                first += output.record_count


def _find_among_several(
    table: Table,
    source: LiveFile,
    gone: Positions,
    deleted: Positions,
    begins: Mapping[PartitionValues, int],
    cache: FileCache,
) -> dict[PartitionValues, Positions]:
    """For each partition the numbers of the deleted rows there. The source is split once more, its partition columns alone."""
    spec, schema = table.spec(), table.schema()
    names = {schema.find_field(field.source_id).name for field in spec.fields}
    partitioner = Partitioner(spec, schema)
    numbers: dict[PartitionValues, list[Positions]] = {}
    counts = dict(begins)
    for first, batch in read_rows(table, source.data, schema.select(*names), cache):
        rows = pa.Table.from_batches([batch])
        positions = pa.array(np.arange(first, first + rows.num_rows))
        for partition, part in partitioner.split(leave_out(rows.append_column(_POSITION, positions), first, gone)):
            found = np.flatnonzero(~without(part[_POSITION].to_numpy(), deleted))
            numbers.setdefault(partition, []).append(found + counts[partition])
            counts[partition] += part.num_rows
    return {partition: np.concatenate([NO_POSITIONS, *pieces]) for partition, pieces in numbers.items()}
