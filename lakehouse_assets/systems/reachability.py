"""Which files a table reaches: all that somebody may still read through one of its snapshots.

A file is reached by what can be read: an entry of a manifest that says `deleted` reaches nothing. A manifest is read once,
however many snapshots share it. What snapshots reach that expired is told apart by what the others reach, never by how they
follow one another: history may have been rolled back or cut. Locations are compared normalized, because a table can name one
file in two ways.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import Final, TypeVar

from pyiceberg.io import FileIO
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from lakehouse_assets.systems.manifest_paths import read_file_paths, read_manifest_paths
from lakehouse_assets.systems.storage import normalize
from lakehouse_assets.systems.tombstones import TOMBSTONES_KEY

_THREADS: Final = 16  # an object store answers many at once
_AT_ONCE: Final = 64  # files whose content waits in memory to be looked at
_VERSION_HINT: Final = "metadata/version-hint.text"  # of tables whose catalog is a folder
_Content = TypeVar("_Content")
_Files = list[tuple[str, bool]]


@dataclass(frozen=True, slots=True)
class Reachable:
    """Locations as the table spells them.

    `metadata` are the current metadata file and those that it logs. `others` are statistics, what is remembered of deletions,
    and a version hint. Files of both may be missing without harm to a reader, but the current metadata file.
    """

    data: Set[str] = frozenset()
    deletes: Set[str] = frozenset()
    manifests: Set[str] = frozenset()
    lists: Set[str] = frozenset()
    metadata: Set[str] = frozenset()
    others: Set[str] = frozenset()

    @property
    def needed(self) -> Set[str]:
        """Those without which a snapshot can't be read."""
        return self.data | self.deletes | self.manifests | self.lists

    @property
    def all(self) -> Set[str]:
        """Every one of them."""
        return self.needed | self.metadata | self.others


def reach(
    source: Table | TableMetadata,
    io: FileIO,
    snapshot_ids: Collection[int] | None = None,
    known_manifests: Set[str] = frozenset(),
) -> Reachable:
    """What a table reaches; with `snapshot_ids`, only what these snapshots do.

    Manifests that are known already are neither read nor named. Only a table knows where its current metadata file is.

    Raises:
        OSError: a manifest or a list can't be read.
    """
    metadata = source.metadata if isinstance(source, Table) else source
    snapshots = [one for one in metadata.snapshots if snapshot_ids is None or one.snapshot_id in snapshot_ids]
    lists = {snapshot.manifest_list for snapshot in snapshots}
    manifests = _read_lists(io, lists) - known_manifests
    data, deletes = _read_files(io, manifests)
    beside = Reachable(others=notes_of(metadata, snapshots)) if snapshot_ids is not None else reach_beside(source)
    return replace(beside, data=data, deletes=deletes, manifests=manifests, lists=lists)


def reach_beside(source: Table | TableMetadata) -> Reachable:
    """What a table reaches without reading a manifest list: its metadata files, and what speaks of its snapshots."""
    metadata = source.metadata if isinstance(source, Table) else source
    files = {entry.metadata_file for entry in metadata.metadata_log}
    files |= {source.metadata_location} if isinstance(source, Table) else set()
    hint = f"{metadata.location.rstrip('/')}/{_VERSION_HINT}"
    return Reachable(metadata=files, others=notes_of(metadata, metadata.snapshots) | {hint})


def reached_only_by(gone: Sequence[Snapshot], notes: Set[str], kept: TableMetadata, io: FileIO) -> Reachable:
    """What snapshots reach that a table had, their notes among it, and those that it has now do not.

    Where a manifest of theirs is missing, somebody cleaned up before, and it reaches nothing.

    Raises:
        OSError: a manifest or a list can't be read.
    """
    lists = {snapshot.manifest_list for snapshot in gone}
    kept_lists = {snapshot.manifest_list for snapshot in kept.snapshots}
    kept_manifests = _read_lists(io, kept_lists)
    manifests = _read_lists(io, lists - kept_lists, may_be_missing=True) - kept_manifests
    data, deletes = _read_files(io, manifests, may_be_missing=True)
    found = Reachable(data, deletes, manifests, lists, others=notes)
    only = {normalize(location) for location in found.all}
    only.difference_update(map(normalize, chain(kept_lists, kept_manifests, notes_of(kept, kept.snapshots))))
    for files in _read_each(kept_manifests, partial(_list_files, io)):
        only.difference_update(normalize(location) for location, _ in files)
    sets = ({one for one in some if normalize(one) in only} for some in (data, deletes, manifests, lists, (), notes))
    return Reachable(*sets)


def notes_of(metadata: TableMetadata, snapshots: Iterable[Snapshot]) -> Set[str]:
    """Files beside the manifests that speak of snapshots: statistics, and what is remembered of deletions."""
    ids, named = set(), set()
    for snapshot in snapshots:
        ids.add(snapshot.snapshot_id)
        named.add(snapshot.summary.additional_properties.get(TOMBSTONES_KEY) if snapshot.summary is not None else None)
    statistics = (*metadata.statistics, *metadata.partition_statistics)
    return {one.statistics_path for one in statistics if one.snapshot_id in ids} | {location for location in named if location}


def _read_lists(io: FileIO, lists: Set[str], *, may_be_missing: bool = False) -> set[str]:
    return set(chain.from_iterable(_read_each(lists, partial(read_manifest_paths, io), may_be_missing=may_be_missing)))


def _read_files(io: FileIO, manifests: Set[str], *, may_be_missing: bool = False) -> tuple[set[str], set[str]]:
    """Data files, and files with deletes."""
    data: set[str] = set()
    deletes: set[str] = set()
    for files in _read_each(manifests, partial(_list_files, io), may_be_missing=may_be_missing):
        for location, is_data in files:
            (data if is_data else deletes).add(location)
    return data, deletes


def _list_files(io: FileIO, manifest: str) -> _Files:
    return list(read_file_paths(io, manifest))


def _read_each(
    locations: Iterable[str], read: Callable[[str], Sequence[_Content]], *, may_be_missing: bool = False
) -> Iterator[Sequence[_Content]]:
    def try_read(location: str) -> Sequence[_Content]:
        try:
            return read(location)
        except FileNotFoundError:
            if may_be_missing:
                return ()
            raise

    rest = iter(locations)
    with ThreadPoolExecutor(_THREADS) as pool:
        while window := list(islice(rest, _AT_ONCE)):
            yield from pool.map(try_read, window)
