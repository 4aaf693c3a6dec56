"""Finds files in a table's place that it knows nothing of.

What lies there is listed first, what the table reaches is looked up afterwards: a file that a commit brings in between is
reached then. And the listing is believed only if every file is in it that the table needs and had before: a wrong place,
another spelling of it, or a part of a listing would make orphans of everything else.
"""

from collections.abc import Set
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from pyiceberg.table import Table

from lakehouse_assets.model.errors import ListingIncompleteError
from lakehouse_assets.systems.neighbours import table_folders
from lakehouse_assets.systems.reachability import reach, reach_beside
from lakehouse_assets.systems.snapshots import table_name
from lakehouse_assets.systems.storage import StoredFile, is_inside, list_files, normalize

_HIDDEN: Final = ("_", ".")


@dataclass(frozen=True, slots=True)
class Listing:
    """The files in a table's place, by their normalized location.

    `old` may go if the table knows nothing of them. `young` may be of a commit on its way; so may be those of which the storage
    does not say when they were written. `hidden` have names that other programs give to what is theirs, as `_delta_log`.
    """

    table: Table
    folders: tuple[str, ...]
    old: dict[str, StoredFile] = field(default_factory=dict)
    young: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)

    @property
    def count(self) -> int:
        """How many files there are."""
        return len(self.old) + len(self.young) + len(self.hidden)

    def __contains__(self, location: str) -> bool:
        return location in self.old or location in self.young or location in self.hidden


def list_place(table: Table, written_before_ms: int) -> Listing:
    """List what lies in a table's place; old is what was written before that time.

    Raises:
        StorageError: it can't be listed.
    """
    listing = Listing(table, table_folders(table))
    for folder in listing.folders:
        for file in list_files(table.io, folder):
            location = normalize(file.location)
            if _is_hidden(file.location.removeprefix(folder.rstrip("/"))):
                listing.hidden.add(location)
            elif file.modified_ms is None or file.modified_ms >= written_before_ms:
                listing.young.add(location)
            else:
                listing.old[location] = file
    return listing


@dataclass(slots=True)
class Orphans:
    """Files that a table did not know when it was last looked at, by their normalized location."""

    files: dict[str, StoredFile]
    young_count: int
    _snapshot_ids: set[int]
    _manifests: set[str]

    @classmethod
    def find(cls, listing: Listing, table: Table) -> "Orphans":
        """What of the listing the table, loaded after it, knows nothing of.

        Raises:
            ListingIncompleteError: files are not in the listing that the table needed then and needs now.
            OSError: manifests can't be read.
        """
        then, now = _ids(listing.table), _ids(table)
        needed = reach(table, table.io, then & now)
        _refuse_incomplete(listing, needed.needed, table)
        since = reach(table, table.io, now - then, needed.manifests)
        reached = set(map(normalize, chain(needed.all, since.all, reach_beside(table).all)))
        files = {location: listing.old[location] for location in sorted(listing.old.keys() - reached)}
        return cls(files, len(listing.young - reached), now, {*needed.manifests, *since.manifests})

    def forget_known(self, table: Table) -> None:
        """Leave out what the table has come to know since.

        Raises:
            OSError: manifests can't be read.
        """
        since = reach(table, table.io, _ids(table) - self._snapshot_ids, self._manifests)
        for location in chain(since.all, reach_beside(table).all):
            self.files.pop(normalize(location), None)
        self._snapshot_ids |= _ids(table)
        self._manifests |= since.manifests


def _refuse_incomplete(listing: Listing, needed: Set[str], table: Table) -> None:
    """Every file that was there before the listing must be in it, unless it lies in quite another place."""
    folders = [normalize(folder) for folder in listing.folders]
    has_metadata = listing.table.metadata_location in reach_beside(table).metadata
    expected = needed | ({listing.table.metadata_location} if has_metadata else set())
    missing = [one for one in expected if normalize(one) not in listing and _is_meant(normalize(one), folders)]
    if missing:
        raise ListingIncompleteError(table_name(table), listing.folders, len(missing), listing.count, min(missing))


def _is_meant(location: str, folders: list[str]) -> bool:
    """Whether it lies in one of these folders, or would if it named its storage as they do."""
    return any(is_inside(_path(location), _path(folder)) for folder in folders)


def _path(location: str) -> str:
    return "/" + location.partition("://")[2].partition("/")[2]


def _is_hidden(below: str) -> bool:
    """By Hadoop's custom; a folder of a partition is named after a column, which may begin so too."""
    return any(part.startswith(_HIDDEN) and "=" not in part for part in below.split("/"))


def _ids(table: Table) -> set[int]:
    return {snapshot.snapshot_id for snapshot in table.metadata.snapshots}
