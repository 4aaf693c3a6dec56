"""The data files that a snapshot reads, each with the delete files that apply to it."""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent, ManifestEntry
from pyiceberg.table import Table
from pyiceberg.table.delete_file_index import DeleteFileIndex
from pyiceberg.table.snapshots import Snapshot

from lakehouse_assets.model.errors import StorageError
from lakehouse_assets.model.merge_plan import Place
from lakehouse_assets.systems.manifests import read_entries
from lakehouse_assets.systems.partitioning import PartitionValues
from lakehouse_assets.systems.snapshots import table_name


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A data file, and the files of position deletes that apply to it."""

    data: DataFile
    deletes: tuple[DataFile, ...]

    @property
    def path(self) -> str:
        """Where it is."""
        return str(self.data.file_path)

    @property
    def partition(self) -> PartitionValues:
        """The values of its partition spec's fields, as manifests store them: PyIceberg reads a uuid as Python's."""
        values = self.data.partition
        return tuple(value.bytes if isinstance(value, UUID) else value for value in map(values.__getitem__, range(len(values))))

    @property
    def place(self) -> Place:
        """Its partition spec, and the values of its fields."""
        return self.data.spec_id, *self.partition


def list_files_with_deletes(table: Table, snapshot: Snapshot | None) -> list[LiveFile]:
    """What `snapshot` reads; nothing for none.

    Raises:
        StorageError: it holds deletes or data files that can't be read here.
    """
    data: list[ManifestEntry] = []
    deletes = DeleteFileIndex()
    for entry in _entries(table, snapshot):
        file = entry.data_file
        if file.file_format != FileFormat.PARQUET:
            raise _unreadable(table, file, f"a file of format {file.file_format.value}; only Parquet is read for a merge")
        if file.content == DataFileContent.EQUALITY_DELETES:
            raise _unreadable(table, file, "equality deletes, which another writer left; rewrite the table there first")
        if file.content == DataFileContent.POSITION_DELETES:
            deletes.add_delete_file(entry, partition_key=file.partition)
        else:
            data.append(entry)
    return [
        LiveFile(
            entry.data_file,
            tuple(deletes.for_data_file(entry.sequence_number or 0, entry.data_file, partition_key=entry.data_file.partition)),
        )
        for entry in data
    ]


def _entries(table: Table, snapshot: Snapshot | None) -> Iterator[ManifestEntry]:
    if snapshot is None:
        return
    manifests = snapshot.manifests(table.io)
    for content in (ManifestContent.DELETES, ManifestContent.DATA):
        for manifest in manifests:
            if manifest.content == content:
                yield from read_entries(table.io, manifest)


def _unreadable(table: Table, file: DataFile, found: str) -> StorageError:
    return StorageError(f"merge changes into {table_name(table)} with", str(file.file_path), f"found {found}")
