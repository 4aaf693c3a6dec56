"""Reads the live rows of many data files one after the other, in the columns of the table's files.

Hides that small files are fetched and decoded ahead, several at once, each with one request, because waiting is most of what
they cost on an object store; larger ones come piece by piece. What is read ahead is bounded, however many files there are.
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
_FETCHES: Final = 8  # at once: on an object store fetching is waiting
_DECODERS: Final = 2  # more than the processors would only need more memory


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

    def fetch(file: LiveFile) -> bytes:
        with table.io.new_input(file.path).open() as stream:
            return stream.read()

    def read(file: LiveFile, fetched: Future[bytes] | None) -> SourceRows:
        deleted = read_deleted(table, file, cache)
        pieces = _read_pieces(table, file, deleted, schema, cache, fetched.result() if fetched is not None else None)
        return SourceRows(file, deleted, pieces if fetched is None else list(pieces))

    waiting = deque(files)
    ahead: deque[Future[SourceRows]] = deque()
    sizes: deque[int] = deque()
    with ThreadPoolExecutor(_FETCHES, "fetch") as fetching, ThreadPoolExecutor(_DECODERS, "decode") as decoding:
        try:
            while waiting or ahead:
                while waiting and len(ahead) < _FETCHES and (not ahead or sum(sizes) < _AHEAD_BYTES):
                    file = waiting.popleft()
                    sizes.append(file.data.file_size_in_bytes)
                    fetched = fetching.submit(fetch, file) if sizes[-1] <= _AHEAD_BYTES else None
                    ahead.append(decoding.submit(read, file, fetched))
                yield ahead.popleft().result()
                sizes.popleft()
        finally:
            fetching.shutdown(cancel_futures=True)
            decoding.shutdown(cancel_futures=True)


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
            return range(first, footer.num_row_groups, _DECODERS)

        found = RowChecksum()
        for _, batch in read_rows(table, file, table.schema(), cache, choose, use_threads=False):
            found += RowChecksum.of(conform(pa.Table.from_batches([batch]), schema))
        return found

    with ThreadPoolExecutor(_DECODERS, thread_name_prefix="proof") as threads:
        return sum(threads.map(read, ((file, first) for file in files for first in range(_DECODERS))), RowChecksum())


def _read_pieces(
    table: Table, file: LiveFile, deleted: Positions, schema: pa.Schema, cache: FileCache, content: bytes | None
) -> Iterator[pa.Table]:
    rows = read_rows(table, file.data, table.schema(), cache, content=content, use_threads=content is None)
    for first, batch in rows:
        yield conform(leave_out(pa.Table.from_batches([batch]), first, deleted), schema)
