"""Writes staged data files: large, few, in bounded memory. Knows Parquet and FileIO, nothing of snapshots.

Rows are buffered per partition value until a row group is worth writing; all buffers together stay under a bound. Files grow
row group by row group up to the target size. A row group is encoded in a thread beside the caller, who goes on reading; never
two at once. What is written here is seen by nobody until a commit names it.
"""

import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io import FileIO, OutputStream
from pyiceberg.table import Table
from pyiceberg.table.locations import LocationProvider

from lakehouse_assets.model.errors import StorageError
from lakehouse_assets.systems.partitioning import Partitioner, PartitionValues
from lakehouse_assets.systems.schema import Base, build_file_schema

ROW_GROUP_ROWS = 128 * 1024  # measured: larger ones read no faster, and reading waits longer for them to be encoded
MAX_OPEN_FILES = 64
LEAST_SHARE = 0.75  # of the target size, that a file is worth beginning for
_SAMPLE_ROWS = 16 * 1024
_SAMPLE_BYTES = 32 * 1024 * 1024  # counting what differs copies it
_DICTIONARY_RATIO = 0.1  # measured: dictionaries on nearly unique strings cost 1.6 times the CPU for no smaller file
_DEFAULT_TARGET_FILE_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A finished data file that no snapshot names yet. `footer` is Parquet's own, for the statistics."""

    base: Base
    location: str
    partition: PartitionValues
    footer: pq.FileMetaData
    size_bytes: int
    row_count: int


@dataclass(frozen=True, slots=True)
class WriteSettings:
    """How files are written; `buffer_bytes` bounds the rows in memory as Arrow counts them, those being encoded too."""

    codec: str
    level: int | None
    target_file_bytes: int
    buffer_bytes: int
    row_group_rows: int = ROW_GROUP_ROWS

    @classmethod
    def of(cls, properties: Mapping[str, str], buffer_bytes: int) -> "WriteSettings":
        """Read Iceberg's own table properties."""
        level = properties.get("write.parquet.compression-level")
        codec = properties.get("write.parquet.compression-codec", "zstd")
        return cls(
            codec="none" if codec == "uncompressed" else codec,
            level=int(level) if level is not None and codec in {"zstd", "gzip", "brotli"} else None,
            target_file_bytes=int(properties.get("write.target-file-size-bytes", _DEFAULT_TARGET_FILE_BYTES)),
            buffer_bytes=buffer_bytes,
        )


class _OpenFile:
    """One data file being written."""

    def __init__(
        self,
        io: FileIO,
        base: Base,
        location: str,
        partition: PartitionValues,
        schema: pa.Schema,
        settings: WriteSettings,
    ) -> None:
        self.location, self.partition, self._base = location, partition, base
        self._io, self._schema, self._settings = io, schema, settings
        self._stream: OutputStream | None = None
        self._writer: pq.ParquetWriter | None = None
        self._rows = 0

    def write(self, rows: pa.Table) -> None:
        if self._writer is None:
            self._stream = self._io.new_output(self.location).create()
            self._writer = pq.ParquetWriter(
                self._stream,
                self._schema,
                compression=self._settings.codec,
                compression_level=self._settings.level,
                use_dictionary=_dictionary_columns(rows),
                store_schema=False,
            )
        self._writer.write_table(rows, row_group_size=max(rows.num_rows, 1))
        self._rows += rows.num_rows

    def is_full(self, rows_to_come: int | None) -> bool:
        """Whether the next rows go into another file."""
        size_bytes, target = self._stream.tell() if self._stream is not None else 0, self._settings.target_file_bytes
        if size_bytes < target or rows_to_come is None:
            return size_bytes >= target
        return rows_to_come * size_bytes >= LEAST_SHARE * target * self._rows

    def close(self) -> StagedFile:
        assert self._writer is not None  # noqa: S101 - a file is opened by its first rows
        assert self._stream is not None  # noqa: S101
        self._writer.close()
        size_bytes = self._stream.tell()
        self._stream.close()
        return StagedFile(self._base, self.location, self.partition, self._writer.writer.metadata, size_bytes, self._rows)

    def abandon(self) -> None:
        # What fails here (a full disk, say) does not matter any more: the file is given up.
        if self._writer is not None:
            with suppress(OSError, pa.ArrowException):
                self._writer.close()
        if self._stream is not None:
            with suppress(OSError, pa.ArrowException):
                self._stream.close()


class StagingWriter:
    """Writes rows into data files of one table; `finish` gives the files and makes the writer ready for the next commit.

    Whoever makes one calls `abandon` in the end, which also ends its thread.
    """

    def __init__(
        self,
        io: FileIO,
        base: Base,
        locations: LocationProvider,
        schema: pa.Schema,
        partitioner: Partitioner,
        settings: WriteSettings,
        expected_rows: int | None = None,
    ) -> None:
        """With `expected_rows` no file ends where the rows to come are too few for a file of their own."""
        self._io, self._base, self._locations, self._schema = io, base, locations, schema
        self._partitioner, self._settings = partitioner, settings
        self._buffers: dict[PartitionValues, list[pa.Table]] = {}
        self._buffered_bytes: dict[PartitionValues, int] = {}
        # Files belong to the thread while a row group is with it, to the caller otherwise.
        self._open: dict[PartitionValues, _OpenFile] = {}
        self._closed: list[StagedFile] = []
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="parquet")
        self._encoding: Future[None] | None = None
        self._encoding_bytes = 0
        self._rows_to_come = expected_rows

    def add(self, rows: pa.Table) -> None:
        """Take rows. Columns are matched by name; what the rows lack is null in the table, what is narrower is widened.

        Raises:
            StorageError: a file could not be written; perhaps for rows of an earlier call.
        """
        for partition, part in self._partitioner.split(conform(rows, self._schema)):
            self.put(partition, part)

    def put(self, partition: PartitionValues, rows: pa.Table) -> None:
        """Take rows of one partition, with the columns of a file.

        Raises:
            StorageError: a file could not be written; perhaps for rows of an earlier call.
        """
        self._buffers.setdefault(partition, []).append(rows)
        self._buffered_bytes[partition] = self._buffered_bytes.get(partition, 0) + rows.nbytes
        if sum(piece.num_rows for piece in self._buffers[partition]) >= self._settings.row_group_rows:
            self._flush(partition)
        while sum(self._buffered_bytes.values()) + self._encoding_bytes > self._settings.buffer_bytes:
            if self._encoding is not None:
                self._settle()
            else:
                self._flush(max(self._buffered_bytes, key=self._buffered_bytes.__getitem__))

    def finish(self) -> list[StagedFile]:
        """Write what is buffered, close every file and hand them over.

        Raises:
            StorageError: a file could not be written.
        """
        for partition in list(self._buffers):
            self._flush(partition)
        self._settle()
        for partition in list(self._open):
            self._close(partition)
        staged, self._closed = self._closed, []
        return staged

    def abandon(self) -> None:
        """Give up what was not handed over: files are closed and deleted where possible. No more rows are taken."""
        self._thread.shutdown(wait=True)
        locations = [file.location for file in self._closed] + [file.location for file in self._open.values()]
        for file in self._open.values():
            file.abandon()
        self._buffers, self._buffered_bytes, self._open, self._closed = {}, {}, {}, []
        delete_staged(self._io, locations)

    def _flush(self, partition: PartitionValues) -> None:
        self._settle()
        pieces = self._buffers.pop(partition)
        self._encoding_bytes = self._buffered_bytes.pop(partition)
        self._encoding = self._thread.submit(self._write, partition, pieces)

    def _settle(self) -> None:
        """Wait for the row group that is being encoded; its error is raised here."""
        encoding, self._encoding, self._encoding_bytes = self._encoding, None, 0
        if encoding is not None:
            encoding.result()

    def _write(self, partition: PartitionValues, pieces: list[pa.Table]) -> None:
        rows = pa.concat_tables(pieces)
        try:
            file = self._open.get(partition) or self._open_file(partition)
            file.write(rows)
            if self._rows_to_come is not None:
                self._rows_to_come -= rows.num_rows
            if file.is_full(self._rows_to_come):
                self._close(partition)
        except OSError as error:
            raise StorageError("write a data file under", self._locations.table_location, str(error)) from error

    def _open_file(self, partition: PartitionValues) -> _OpenFile:
        if len(self._open) >= MAX_OPEN_FILES:
            self._close(next(iter(self._open)))
        location = self._locations.new_data_location(f"{uuid.uuid4().hex}.parquet")
        self._open[partition] = _OpenFile(self._io, self._base, location, partition, self._schema, self._settings)
        return self._open[partition]

    def _close(self, partition: PartitionValues) -> None:
        try:
            self._closed.append(self._open[partition].close())
            del self._open[partition]  # not before: what could not be closed is to be deleted in the end
        except OSError as error:
            raise StorageError("finish a data file under", self._locations.table_location, str(error)) from error


def build_writer(
    table: Table, buffer_bytes: int, expected_rows: int | None = None, row_group_rows: int = ROW_GROUP_ROWS
) -> StagingWriter:
    """A writer of data files for the table as it is now."""
    return StagingWriter(
        table.io,
        Base.of(table),
        table.location_provider(),
        build_file_schema(table.schema()),
        Partitioner(table.spec(), table.schema()),
        replace(WriteSettings.of(table.properties, buffer_bytes), row_group_rows=row_group_rows),
        expected_rows,
    )


def conform(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows with the columns of a file: what they lack is null, what is narrower is widened."""
    names = set(rows.column_names)
    if lost := names - set(schema.names):
        raise ValueError(f"rows have columns {sorted(lost)}, which the table has not")
    columns = [
        rows.column(field.name).cast(field.type) if field.name in names else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def delete_staged(io: FileIO, locations: Iterable[str]) -> None:
    """Delete files that certainly no snapshot names. What can't be deleted stays as an orphan, which costs only space."""
    for location in locations:
        try:
            io.delete(location)
        except OSError:
            continue


def _dictionary_columns(rows: pa.Table) -> list[str]:
    """Columns in which values repeat enough for a dictionary to pay, judged by the first rows of a file."""
    sample = rows.slice(0, min(_SAMPLE_ROWS, rows.num_rows * _SAMPLE_BYTES // (rows.nbytes + 1) + 1))
    limit = sample.num_rows * _DICTIONARY_RATIO
    return [
        field.name
        for field in rows.schema
        if not pa.types.is_nested(field.type) and not pa.types.is_boolean(field.type)
        and not isinstance(field.type, pa.BaseExtensionType)
        and pc.count_distinct(sample.column(field.name)).as_py() <= limit
    ]  # fmt: skip
