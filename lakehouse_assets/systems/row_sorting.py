"""Sorts more rows than memory holds: by columns one after the other, or along a Z-order curve.

Rows gather until they are worth a run, which is sorted and put on disk in small batches. Of each batch the first key stays in
memory: these cut all runs into ranges that fit into memory, and range by range the rows are put together and sorted. Nulls come
last, before them what is not a number.
"""

import math
import tempfile
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_BATCH_ROWS: Final = 1024
_SPILLING = pa.ipc.IpcWriteOptions(compression="lz4")
_CURVE = "\0curve"  # a name that no column can have
_RANKS = 4096  # that a column has along the curve at most

Key = tuple[tuple[int, object], ...]
Codes = npt.NDArray[np.uint64]


class ZOrder:
    """Places of rows along a curve that treats several columns alike: rows near each other on it are near in all of them."""

    def __init__(self, sample: pa.Table, columns: Sequence[str]) -> None:
        """Where the values of `sample` are dense, the curve is as fine."""
        self._bits = min(64 // len(columns), 16)
        self._bounds: Mapping[str, pa.Array] = {name: _find_bounds(_plain(sample[name])) for name in columns}

    def place(self, rows: pa.Table) -> pa.Array:
        """A number for each row."""
        places = np.zeros(rows.num_rows, np.uint64)
        for at, (name, bounds) in enumerate(self._bounds.items()):
            codes = self._rank(_plain(rows[name]), bounds)
            for bit in range(self._bits):
                moved = (codes >> np.uint64(bit)) & np.uint64(1)
                places |= moved << np.uint64(bit * len(self._bounds) + len(self._bounds) - 1 - at)
        return pa.array(places)

    def _rank(self, values: pa.Array, bounds: pa.Array) -> Codes:
        """How far into the values of the sample each is, in as many bits as each column has; a null is behind all."""
        order = pc.sort_indices(pa.concat_arrays([bounds, values])).to_numpy()
        ranks = np.empty(len(order), np.uint64)
        ranks[order] = np.cumsum(order < len(bounds), dtype=np.uint64)
        ranks = ranks[len(bounds) :]
        ranks[values.is_null().to_numpy(zero_copy_only=False)] = len(bounds) + 1
        return ranks * np.uint64((1 << self._bits) - 1) // np.uint64(len(bounds) + 1)


class RowSorter:
    """Takes rows, and gives them back in order. A context manager: leaving deletes what is on disk."""

    def __init__(self, columns: Sequence[str], memory_bytes: int, curve: ZOrder | None = None) -> None:
        """With a `curve`, along it; `memory_bytes` bound the rows that are in memory as Arrow counts them, beside a copy."""
        self._names, self._limit, self._curve = [_CURVE] if curve is not None else list(columns), memory_bytes, curve
        self._waiting: list[pa.Table] = []
        self._waiting_bytes = 0
        self._runs: list[_Run] = []

    def __enter__(self) -> "RowSorter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        for run in self._runs:
            run.close()

    def add(self, rows: pa.Table) -> None:
        """Take rows of one schema.

        Raises:
            OSError: there is no room on the disk.
        """
        if self._curve is not None:
            rows = rows.append_column(_CURVE, self._curve.place(rows))
        self._waiting.append(rows)
        self._waiting_bytes += rows.nbytes
        if self._waiting_bytes >= self._limit:
            self._spill()

    def read(self) -> Iterator[pa.Table]:
        """All rows, in order, in pieces that are sorted one behind the other."""
        if self._runs and self._waiting:
            self._spill()
        waiting = [self._waiting] if self._waiting else []
        for pieces in self._ranges() if self._runs else waiting:
            rows = self._sort(pieces)
            yield rows.drop_columns([_CURVE]) if self._curve is not None else rows

    def _spill(self) -> None:
        rows, self._waiting, self._waiting_bytes = self._sort(self._waiting), [], 0
        self._runs.append(_Run(rows, self._names))

    def _sort(self, pieces: Sequence[pa.Table]) -> pa.Table:
        rows = pa.concat_tables(pieces).combine_chunks()
        keys = pa.table({name: _plain(rows[name]) for name in self._names})
        return rows.take(pc.sort_indices(keys, [(name, "ascending") for name in self._names]))

    def _ranges(self) -> Iterator[list[pa.Table]]:
        """Pieces of all runs that belong together, range after range."""
        firsts = sorted(key for run in self._runs for key in run.firsts)
        total_bytes = sum(run.size_bytes for run in self._runs)
        step = max(int(len(firsts) * self._limit / (total_bytes + 1)), 1)
        begins = [0] * len(self._runs)
        for bound, times in Counter(firsts[step::step]).items():
            stops = [run.find(bound) for run in self._runs]
            yield from self._cut(begins, stops)
            begins = stops
            if times > 1:  # a key of more rows than fit
                begins = [run.find(bound, behind=True) for run in self._runs]
                for run, first, stop in zip(self._runs, stops, begins, strict=True):
                    for begin in range(first, stop, step * _BATCH_ROWS):
                        yield [run.read(begin, min(begin + step * _BATCH_ROWS, stop))]
        yield from self._cut(begins, [run.rows for run in self._runs])

    def _cut(self, begins: Sequence[int], stops: Sequence[int]) -> Iterator[list[pa.Table]]:
        pieces = [run.read(begin, stop) for run, begin, stop in zip(self._runs, begins, stops, strict=True) if begin < stop]
        if pieces:
            yield pieces


class _Run:
    """Sorted rows on disk. `firsts` are the keys of the first rows of its batches.

    The file has no name any more while it is used, so that it goes however this process ends.
    """

    def __init__(self, rows: pa.Table, names: Sequence[str]) -> None:
        self.size_bytes, self.rows, self._names = rows.nbytes, rows.num_rows, names
        self._source = tempfile.TemporaryFile()  # noqa: SIM115 - it is read later, and closed by `close`
        with pa.ipc.new_file(self._source, rows.schema, options=_SPILLING) as file:
            for begin in range(0, rows.num_rows, _BATCH_ROWS):
                file.write_batch(rows.slice(begin, _BATCH_ROWS).combine_chunks().to_batches()[0])
        self.firsts = [_read_key(rows, row, names) for row in range(0, rows.num_rows, _BATCH_ROWS)]
        self._file = pa.ipc.open_file(self._source)

    def close(self) -> None:
        self._source.close()

    def find(self, bound: Key, *, behind: bool = False) -> int:
        """How many rows are before the first one that has this key, or the last one; or where these would be."""
        batch = (bisect_right if behind else bisect_left)(self.firsts, bound)
        if not batch:
            return 0
        rows = pa.Table.from_batches([self._file.get_batch(batch - 1)])
        low, high = 0, rows.num_rows
        while low < high:
            middle = (low + high) // 2
            key = _read_key(rows, middle, self._names)
            low, high = (middle + 1, high) if key < bound or (behind and key == bound) else (low, middle)
        return (batch - 1) * _BATCH_ROWS + low

    def read(self, begin: int, stop: int) -> pa.Table:
        """These rows."""
        batches = [self._file.get_batch(at) for at in range(begin // _BATCH_ROWS, math.ceil(stop / _BATCH_ROWS))]
        rows = pa.Table.from_batches(batches, self._file.schema)
        return rows.slice(begin % _BATCH_ROWS, stop - begin)


def _read_key(rows: pa.Table, row: int, names: Sequence[str]) -> Key:
    """The key of a row, as Python compares it."""
    return tuple(_rank_of(_plain(rows[name].slice(row, 1))[0].as_py()) for name in names)


def _rank_of(value: object) -> tuple[int, object]:
    if value is None:
        return 2, 0
    return (1, 0) if isinstance(value, float) and math.isnan(value) else (0, value)


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """One array, of a type that both Arrow and Python can sort: a uuid as its bytes, times as numbers."""
    array = column.combine_chunks()
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_temporal(array.type):
        array = array.view(pa.int32() if array.type.bit_width == 32 else pa.int64())
    return array


def _find_bounds(values: pa.Array) -> pa.Array:
    """Values of a sample that cut it into parts of about one size; each once, ascending."""
    ordered = pc.drop_null(values)
    ordered = ordered.take(pc.sort_indices(ordered))
    at = np.unique(np.linspace(0, len(ordered) - 1, min(_RANKS, len(ordered))).astype(np.int64))
    return pc.unique(ordered.take(pa.array(at)))
