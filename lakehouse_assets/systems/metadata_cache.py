"""Keeps the cost of a commit from growing with the number of snapshots.

PyIceberg 0.12 parses the whole metadata file at every load and copies it whole, object by object, at every commit: 18 ms at 10
snapshots, 172 ms at 1,000. Metadata files never change once written, and the models in them are frozen and changed only by
making new lists, so a parsed file can be kept by its location, and a deep copy can share its parts; and a snapshot's own JSON,
of which all stand in every file that is written, is made once. Remove this module when PyIceberg does so.
"""

from collections import OrderedDict
from threading import Lock
from typing import Any

from pyiceberg.io import FileIO, InputFile
from pyiceberg.serializers import FromInputFile
from pyiceberg.table.metadata import TableMetadata, TableMetadataV1, TableMetadataV2
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.typedef import IcebergBaseModel

from lakehouse_assets.model.errors import MetadataUnreadableError
from lakehouse_assets.systems.file_cache import FileCache

_KEPT_BYTES = 64 * 1024 * 1024  # of metadata JSON; parsed objects take a few times as much

_KEPT_JSON_BYTES = 32 * 1024 * 1024
_NO_SNAPSHOTS = '"snapshots":[]'  # in a text it would have its quotes escaped

_snapshots = FileCache(_KEPT_JSON_BYTES)
_parse = FromInputFile.table_metadata


class _Cache:
    """Least recently used parsed metadata files, bounded by the bytes of their JSON."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: OrderedDict[str, tuple[int, TableMetadata]] = OrderedDict()
        self._bytes = 0

    def find(self, location: str) -> TableMetadata | None:
        with self._lock:
            if location not in self._kept:
                return None
            self._kept.move_to_end(location)
            return self._kept[location][1]

    def keep(self, location: str, metadata: TableMetadata, size_bytes: int) -> None:
        with self._lock:
            if location in self._kept:
                return
            self._kept[location] = (size_bytes, metadata)
            self._bytes += size_bytes
            while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
                _, (dropped_bytes, _) = self._kept.popitem(last=False)
                self._bytes -= dropped_bytes


_cache = _Cache()


def remember_metadata(location: str, metadata: TableMetadata) -> None:
    """Keep what a commit just wrote, so that the next load need not parse it."""
    _cache.keep(location, metadata, _size_bytes(metadata))


def read_logged(io: FileIO, location: str) -> TableMetadata | None:
    """A state that a table's log names; None where that file has gone, as those do that left a log."""
    try:
        return FromInputFile.table_metadata(io.new_input(location))
    except FileNotFoundError:
        return None
    except MetadataUnreadableError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def install() -> None:
    """Make PyIceberg use the cache in this process. Safe to repeat."""
    FromInputFile.table_metadata = staticmethod(_load)  # type: ignore[method-assign]
    for frozen in (TableMetadataV1, TableMetadataV2):
        frozen.__deepcopy__ = _copy  # type: ignore[method-assign,assignment]
        frozen.model_dump_json = _to_json  # type: ignore[method-assign,assignment]


def _load(input_file: InputFile, *args: Any, **kwargs: Any) -> TableMetadata:
    found = _cache.find(input_file.location)
    if found is None:
        try:
            found = _parse(input_file, *args, **kwargs)
        except (FileNotFoundError, ValueError) as error:
            raise MetadataUnreadableError(input_file.location, f"{type(error).__name__}: {error}") from error
        _cache.keep(input_file.location, found, _size_bytes(found))
    return found


def _size_bytes(metadata: TableMetadata) -> int:
    """About the size of its JSON: nearly all of it are snapshots, each with a ledger of some hundred bytes."""
    return 1024 * (1 + len(metadata.snapshots))


def _to_json(self: TableMetadata, **how: Any) -> str:
    """What PyIceberg makes of it, put together from what was made of its snapshots before."""
    if not self.snapshots or not how.keys() <= {"exclude_none"}:
        return IcebergBaseModel.model_dump_json(self, **how)
    others = IcebergBaseModel.model_dump_json(self.model_copy(update={"snapshots": []}), **how)
    before, after = others.split(_NO_SNAPSHOTS)
    spelling = str(how)
    snapshots = ",".join(_snapshot_json(snapshot, how, spelling) for snapshot in self.snapshots)
    return f'{before}"snapshots":[{snapshots}]{after}'


def _snapshot_json(snapshot: Snapshot, how: dict[str, Any], spelling: str) -> str:
    """Kept with the snapshot, so that no other object can be taken for it."""
    made: tuple[Snapshot, str] = _snapshots.load(
        (str(id(snapshot)), spelling), lambda: (snapshot, snapshot.model_dump_json(**how)), lambda part: len(part[1])
    )
    return made[1]


def _copy(self: TableMetadata, memo: dict[int, Any] | None = None) -> TableMetadata:
    return self.model_copy()


