"""Reads the live rows of many data files one after the other, in the columns of the table's files.

Hides that small files are opened and decoded ahead, several at once, because opening is most of what they cost; larger ones
come piece by piece. What is read ahead is bounded, however many files there are.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets.systems.file_rows import read_rows
from lakehouse_assets.systems.live_files import LiveFile
from lakehouse_assets.systems.parquet import conform
from lakehouse_assets.systems.position_deletes import Positions, leave_out, read_deleted
from lakehouse_assets.systems.row_checksum import RowChecksum
from lakehouse_assets.systems.schema import build_file_schema

_AHEAD_BYTES: Final = 8 * 1024 * 1024  # of files, which are several times as large in memory
_PARTS = 2  # in which a file is read back; more than the cores would need more memory
_THREADS = 4  # more than cores: on an object store opening is waiting


@dataclass(frozen=True, slots=True)
class SourceRows:
    """A data file, the positions of its rows that are deleted, and the others in their order."""

    file: LiveFile
    deleted: Positions
    pieces: Iterable[pa.Table]


def read_sources(table: Table, files: Sequence[LiveFile], cache: FileCache) -> Iterator[SourceRows]:
    """Each file with its rows, which are read before the next one is asked for.

    Raises:
        StorageError: what stands in a file is not what the table's schema says.
        OSError: a file could not be read.
    """
    schema = build_file_schema(table.schema())

    def read(file: LiveFile) -> SourceRows:
        deleted = read_deleted(table, file, cache)
        pieces = _read_pieces(table, file, deleted, schema, cache)
        return SourceRows(file, deleted, list(pieces) if file.data.file_size_in_bytes <= _AHEAD_BYTES else pieces)

    waiting = deque(files)
    ahead: deque[Future[SourceRows]] = deque()
    sizes: deque[int] = deque()
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="sources") as threads:
        try:
            while waiting or ahead:
                while waiting and len(ahead) <= _THREADS and (not ahead or sum(sizes) < _AHEAD_BYTES):
                    file = waiting.popleft()
                    sizes.append(file.data.file_size_in_bytes)
                    ahead.append(threads.submit(read, file))
                yield ahead.popleft().result()
                sizes.popleft()
        finally:
            threads.shutdown(cancel_futures=True)


def read_checksum(table: Table, files: Sequence[DataFile], cache: FileCache) -> RowChecksum:
    """Of all rows of these files, of which nothing is deleted; several row groups at once.

    Raises:
        StorageError: what stands in a file is not what the table's schema says.
        OSError: a file could not be read.
    """
    schema = build_file_schema(table.schema())

    def read(part: tuple[DataFile, int]) -> RowChecksum:
        file, first = part

        def choose(footer: pq.FileMetaData, _: Schema) -> Sequence[int]:
            return range(first, footer.num_row_groups, _PARTS)

        found = RowChecksum()
        for _, batch in read_rows(table, file, table.schema(), cache, choose):
            found += RowChecksum.of(conform(pa.Table.from_batches([batch]), schema))
        return found

    with ThreadPoolExecutor(_PARTS, thread_name_prefix="proof") as threads:
        return sum(threads.map(read, ((file, first) for file in files for first in range(_PARTS))), RowChecksum())


def _read_pieces(
    table: Table, file: LiveFile, deleted: Positions, schema: pa.Schema, cache: FileCache
) -> Iterator[pa.Table]:
    for first, batch in read_rows(table, file.data, table.schema(), cache):
        yield conform(leave_out(pa.Table.from_batches([batch]), first, deleted), schema)
