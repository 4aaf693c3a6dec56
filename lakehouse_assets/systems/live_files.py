"""The data files that a snapshot reads, each with the delete files that apply to it.

Hides which delete file applies to which data file (Iceberg spec, "Scan Planning"): position deletes to files of their own or a
lower data sequence number, by path where their bounds say one, else in their partition; equality deletes to files of a lower
one, in their partition, or everywhere if their partition spec has no fields.
"""

import math
import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent, ManifestEntry
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.transforms import VoidTransform

from lakehouse_assets.model.errors import StorageError
from lakehouse_assets.model.merge_plan import Place
from lakehouse_assets.systems.manifests import read_entries
from lakehouse_assets.systems.partitioning import PartitionValues
from lakehouse_assets.systems.snapshots import table_name

PATH_ID: Final = 2147483546  # Iceberg spec, "Position Delete Files"
EVERYWHERE: Final[Place] = ()


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A data file, and the files of position deletes that apply to it."""

    data: DataFile
    deletes: tuple[DataFile, ...]
    sequence_number: int = 0
    has_equality_deletes: bool = False

    @property
    def path(self) -> str:
        """Where it is."""
        return str(self.data.file_path)

    @property
    def partition(self) -> PartitionValues:
        """The values of its partition spec's fields, as manifests store them: PyIceberg reads a uuid as Python's."""
        return _partition(self.data)

    @property
    def place(self) -> Place:
        """Its partition spec, and the values of its fields."""
        return self.data.spec_id, *self.partition

    @property
    def scope(self) -> Place:
        """Its place in a form in which it equals that of delete files beside it: not a number is one value."""
        return _scope(self.data)


@dataclass(frozen=True, slots=True)
class DeleteFile:
    """A file of deletes. `scope`: the place in which it applies, or EVERYWHERE; `applies_to`: to how many live data files."""

    file: DataFile
    sequence_number: int
    scope: Place
    applies_to: int

    @property
    def path(self) -> str:
        """Where it is."""
        return str(self.file.file_path)

    @property
    def is_equality(self) -> bool:
        """Whether it names rows by their values."""
        return bool(self.file.content == DataFileContent.EQUALITY_DELETES)


@dataclass(frozen=True, slots=True)
class LiveFiles:
    """What a snapshot reads."""

    data: list[LiveFile]
    deletes: list[DeleteFile]


def list_files_with_deletes(table: Table, snapshot: Snapshot | None) -> list[LiveFile]:
    """The data files that `snapshot` reads, of which nothing is deleted but by position; nothing for none.

    Raises:
        StorageError: it holds deletes or data files that can't be read here.
    """
    live = list_live(table, snapshot)
    for deletes in live.deletes:
        if deletes.is_equality:
            remedy = f"`lakehouse compact {table_name(table)}` turns them into position deletes"
            raise _unreadable(table, deletes.file, f"equality deletes, which another writer left; {remedy}")
    return live.data


def list_live(table: Table, snapshot: Snapshot | None) -> LiveFiles:
    """What `snapshot` reads; nothing for none.

    Raises:
        StorageError: it holds files of another format than Parquet.
    """
    data: list[ManifestEntry] = []
    deletes = _Deletes(table)
    for entry in _entries(table, snapshot):
        file = entry.data_file
        if file.file_format != FileFormat.PARQUET:
            raise _unreadable(table, file, f"a file of format {file.file_format.value}; only Parquet is read here")
        if file.content == DataFileContent.DATA:
            data.append(entry)
        else:
            deletes.add(entry)
    files = [deletes.apply(entry.data_file, entry.sequence_number or 0) for entry in data]
    return LiveFiles(files, deletes.count(files))


def target_path(deletes: DataFile) -> str | None:
    """The one data file that a file of position deletes is for, if its bounds say so."""
    lower, upper = (deletes.lower_bounds or {}).get(PATH_ID), (deletes.upper_bounds or {}).get(PATH_ID)
    return bytes(lower).decode() if lower is not None and lower == upper else None


@dataclass(slots=True)
class _Deletes:
    """The delete files of a snapshot by what they may apply to."""

    table: Table
    _by_path: dict[str, list[ManifestEntry]] = field(default_factory=dict)
    _by_scope: dict[Place, list[ManifestEntry]] = field(default_factory=dict)
    _equality: dict[Place, list[ManifestEntry]] = field(default_factory=dict)
    _newest_equality: dict[Place, int] = field(default_factory=dict)

    def add(self, entry: ManifestEntry) -> None:
        file = entry.data_file
        if file.content == DataFileContent.EQUALITY_DELETES:
            fields = self.table.metadata.specs()[file.spec_id].fields
            is_global = all(isinstance(one.transform, VoidTransform) for one in fields)
            scope = EVERYWHERE if is_global else _scope(file)
            self._equality.setdefault(scope, []).append(entry)
            self._newest_equality[scope] = max(self._newest_equality.get(scope, 0), _sequence(entry))
        elif (path := target_path(file)) is not None:
            self._by_path.setdefault(path, []).append(entry)
        else:
            self._by_scope.setdefault(_scope(file), []).append(entry)

    def apply(self, data: DataFile, sequence_number: int) -> LiveFile:
        scope, path = _scope(data), str(data.file_path)
        shared = [entry for entry in self._by_scope.get(scope, ()) if _may_name(entry.data_file, path)]
        chosen = [one for one in (*self._by_path.get(path, ()), *shared) if _sequence(one) >= sequence_number]
        newest = max(self._newest_equality.get(scope, 0), self._newest_equality.get(EVERYWHERE, 0))
        deletes = tuple(one.data_file for one in sorted(chosen, key=_sequence))
        return LiveFile(data, deletes, sequence_number, has_equality_deletes=newest > sequence_number)

    def count(self, files: Sequence[LiveFile]) -> list[DeleteFile]:
        """Every delete file, with how many of the data files it applies to."""
        counts: dict[str, int] = {}
        numbers: dict[Place, list[int]] = {}
        for file in files:
            for deletes in file.deletes:
                counts[deletes.file_path] = counts.get(deletes.file_path, 0) + 1
            for scope in (EVERYWHERE, file.scope) if self._equality else ():
                numbers.setdefault(scope, []).append(file.sequence_number)
        for group in numbers.values():
            group.sort()
        found = [
            DeleteFile(entry.data_file, _sequence(entry), scope, bisect_left(numbers.get(scope, []), _sequence(entry)))
            for scope, entries in self._equality.items()
            for entry in entries
        ]
        for entries in (*self._by_path.values(), *self._by_scope.values()):
            found += [
                DeleteFile(file, _sequence(entry), _scope(file), counts.get(file.file_path, 0))
                for entry in entries
                for file in [entry.data_file]
            ]
        return found


def _sequence(entry: ManifestEntry) -> int:
    return entry.sequence_number or 0


def _partition(file: DataFile) -> PartitionValues:
    values = file.partition
    return tuple(value.bytes if isinstance(value, UUID) else value for value in map(values.__getitem__, range(len(values))))


def _scope(file: DataFile) -> Place:
    return file.spec_id, *(_bits(value) if isinstance(value, float) else value for value in _partition(file))


def _bits(value: float) -> bytes:
    return struct.pack("<d", math.nan if math.isnan(value) else value)


def _may_name(deletes: DataFile, path: str) -> bool:
    """Whether the bounds of a delete file leave a path; a writer may have cut them short."""
    lower, upper = (deletes.lower_bounds or {}).get(PATH_ID), (deletes.upper_bounds or {}).get(PATH_ID)
    if lower is None or upper is None:
        return True
    wanted = path.encode()
    return bool(lower <= wanted and (wanted <= upper or wanted.startswith(upper)))


def _entries(table: Table, snapshot: Snapshot | None) -> Iterator[ManifestEntry]:
    if snapshot is None:
        return
    manifests = snapshot.manifests(table.io)
    for content in (ManifestContent.DELETES, ManifestContent.DATA):
        for manifest in manifests:
            if manifest.content == content:
                yield from read_entries(table.io, manifest)


def _unreadable(table: Table, file: DataFile, found: str) -> StorageError:
    return StorageError(f"read the rows of {table_name(table)} with", str(file.file_path), f"found {found}")
