"""Files of position deletes: which rows of a data file are gone.

Ours are for one data file each, so that readers open only those of the files they read, and so that one can be replaced by a
larger one without touching other files. Those of others may be for a whole partition; they are read, and left as they are.
"""

import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table

from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets.systems.live_files import PATH_ID, LiveFile, target_path

Positions = npt.NDArray[np.int64]

NO_POSITIONS: Final[Positions] = np.empty(0, np.int64)
_POSITION_ID: Final = 2147483545  # Iceberg spec, "Position Delete Files"
_BATCH_ROWS: Final = 256 * 1024
_THREADS: Final = 4  # on an object store, reading small files is waiting
_PATHS = pa.dictionary(pa.int32(), pa.string())  # in memory; in the file it is a string
_SCHEMA = pa.schema(
    [
        pa.field("file_path", _PATHS, nullable=False, metadata={"PARQUET:field_id": str(PATH_ID)}),
        pa.field("pos", pa.int64(), nullable=False, metadata={"PARQUET:field_id": str(_POSITION_ID)}),
    ]
)


def is_of_one_file(deletes: DataFile) -> bool:
    """Whether the delete file is for one data file only, as its bounds say."""
    return target_path(deletes) is not None


def read_deleted(table: Table, file: LiveFile, cache: FileCache) -> Positions:
    """Positions of the rows of a data file that are deleted, ascending, each once."""
    pieces = [_read_positions(table, deletes, cache).get(file.path, NO_POSITIONS) for deletes in file.deletes]
    return pieces[0] if len(pieces) == 1 else _join(pieces)


def read_deleted_of(table: Table, files: Sequence[LiveFile]) -> dict[str, Positions]:
    """What `read_deleted` says of each of several data files, by path. Each delete file is read once, batch by batch."""
    wanted: dict[str, tuple[DataFile, list[str]]] = {}
    for file in files:
        for deletes in file.deletes:
            wanted.setdefault(deletes.file_path, (deletes, []))[1].append(file.path)
    found: dict[str, list[Positions]] = {}
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="deletes") as threads:
        for mine in threads.map(lambda one: _gather(table, one[0], set(one[1])), wanted.values()):
            for path, positions in mine.items():
                found.setdefault(path, []).append(positions)
    return {file.path: _join(found.get(file.path, [])) for file in files}


def new_location(table: Table) -> str:
    """Where a delete file may be written."""
    return table.location_provider().new_data_location(f"{uuid.uuid4().hex}-deletes.parquet")


def write_deletes(table: Table, file: DataFile, positions: Positions, location: str) -> DataFile:
    """Write a delete file for these positions of a data file, ascending; describe it. No snapshot names it yet."""
    path = str(file.file_path)
    one_path = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(positions), np.int32)), pa.array([path]))
    rows = pa.Table.from_arrays([one_path, pa.array(positions)], schema=_SCHEMA)
    with table.io.new_output(location).create() as stream:
        with pq.ParquetWriter(stream, _SCHEMA, compression="zstd", use_dictionary=["file_path"], store_schema=False) as writer:
            writer.write_table(rows)
        size_bytes = stream.tell()
    first, last = (int(at).to_bytes(8, "little", signed=True) for at in (positions[0], positions[-1]))
    described = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=location,
        file_format=FileFormat.PARQUET,
        partition=file.partition,
        record_count=len(positions),
        file_size_in_bytes=size_bytes,
        column_sizes=None,
        value_counts={PATH_ID: len(positions), _POSITION_ID: len(positions)},
        null_value_counts={PATH_ID: 0, _POSITION_ID: 0},
        nan_value_counts=None,
        lower_bounds={PATH_ID: path.encode(), _POSITION_ID: first},
        upper_bounds={PATH_ID: path.encode(), _POSITION_ID: last},
        split_offsets=None,
        equality_ids=None,
        sort_order_id=None,
        key_metadata=None,
    )
    described.spec_id = file.spec_id  # from_args drops the argument of that name silently
    return described


def join_positions(one: Positions, other: Positions) -> Positions:
    """Both, ascending, each once."""
    return _join([one, other])


def count_inside(deleted: Positions, file: DataFile) -> int:
    """How many rows of a data file are deleted. Others may have deleted more than it has: a file is dropped by this number."""
    return int(np.searchsorted(deleted, file.record_count))


def without(positions: Positions, deleted: Positions) -> "npt.NDArray[np.bool_]":
    """For each of ascending positions whether it is not among the deleted ones."""
    if not len(deleted):
        return np.ones(len(positions), np.bool_)
    at = np.minimum(np.searchsorted(deleted, positions), len(deleted) - 1)
    is_left: npt.NDArray[np.bool_] = deleted[at] != positions
    return is_left


def leave_out(rows: pa.Table, first: int, deleted: Positions) -> pa.Table:
    """Rows of a data file, of which the first has this position, without the deleted ones."""
    begin, stop = np.searchsorted(deleted, [first, first + rows.num_rows])
    if begin == stop:
        return rows
    lives = np.ones(rows.num_rows, np.bool_)
    lives[deleted[begin:stop] - first] = False
    return rows.filter(pa.array(lives))


def _join(pieces: Sequence[Positions]) -> Positions:
    """All of them, ascending, each once."""
    return np.unique(np.concatenate([NO_POSITIONS, *pieces]))


def _read_positions(table: Table, deletes: DataFile, cache: FileCache) -> dict[str, Positions]:
    """Positions by data file, ascending."""
    size = lambda by_path: sum(found.nbytes for found in by_path.values())  # noqa: E731
    return cache.load(("deletes", deletes.file_path), lambda: _gather(table, deletes), size)


def _gather(table: Table, deletes: DataFile, paths: set[str] | None = None) -> dict[str, Positions]:
    """Positions by data file, ascending; those of these paths only."""
    found: dict[str, list[Positions]] = {}
    for path, positions in _stream(table, deletes):
        if paths is None or path in paths:
            found.setdefault(path, []).append(positions)
    return {path: _join(pieces) for path, pieces in found.items()}


def _stream(table: Table, deletes: DataFile) -> Iterator[tuple[str, Positions]]:
    """The positions of a delete file, as they come."""
    only = target_path(deletes)
    with table.io.new_input(deletes.file_path).open() as stream:
        schema = pq.read_schema(stream)
        path, position = (_name_of(schema, field_id) for field_id in (PATH_ID, _POSITION_ID))
        parquet = pq.ParquetFile(stream, read_dictionary=[path])
        for batch in parquet.iter_batches(_BATCH_ROWS, columns=[position] if only is not None else [path, position]):
            found = batch.column(position).to_numpy()
            if only is not None:
                yield only, found
                continue
            codes = batch.column(path).indices.to_numpy()
            order = np.argsort(codes, kind="stable")
            edges = np.flatnonzero(np.diff(codes[order])) + 1
            for part in np.split(order, edges) if len(order) else ():
                yield batch.column(path).dictionary[int(codes[part[0]])].as_py(), found[part]


def _name_of(schema: pa.Schema, field_id: int) -> str:
    """The column of this field id; of writers that leave ids out, the one of the name that the specification gives."""
    for field in schema:
        if (field.metadata or {}).get(b"PARQUET:field_id") == str(field_id).encode():
            return str(field.name)
    return "file_path" if field_id == PATH_ID else "pos"
