"""Whose files lie where: nothing is deleted by its place while another table's files lie in the same one.

Hides what a catalog says of a table whose metadata can't be read. A place is shared where one location lies in another, however
they are spelled.
"""

import re
import time
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.typedef import Identifier

from lakehouse_assets.model.errors import LakehouseError, MetadataUnreadableError, SharedLocationError
from lakehouse_assets.systems.catalog import catalog_errors, load_table
from lakehouse_assets.systems.snapshots import table_name
from lakehouse_assets.systems.storage import is_inside, normalize

_REMEMBERED_SECONDS: Final = 600.0
_ELSEWHERE: Final = ("write.data.path", "write.metadata.path")
_METADATA_FILE = re.compile(r"(.+)/metadata/[^/]+\.metadata\.json")

_remembered: WeakKeyDictionary[Catalog, dict[Identifier, tuple[float, tuple[str, ...]]]] = WeakKeyDictionary()


def table_folders(table: Table) -> tuple[str, ...]:
    """Where its files lie, as it spells it: its location, and where else its properties put files; none within another."""
    named = (table.location(), *(table.properties[name] for name in _ELSEWHERE if name in table.properties))
    folders: dict[str, str] = {}
    for folder in sorted(named, key=lambda one: len(normalize(one))):
        if not any(is_inside(normalize(folder), other) for other in folders):
            folders[normalize(folder)] = folder
    return tuple(folders.values())


def _table_location(metadata_file: str) -> str | None:
    """The location of the table of a metadata file that can't be read; None where it does not lie as usual."""
    found = _METADATA_FILE.fullmatch(metadata_file)
    return found[1] if found else None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a table lies.

    Attributes:
        location: None where nobody knows.
        table: None where its metadata can't be read.
        problem: Why not.
    """

    location: str | None
    table: Table | None = None
    problem: str = ""


def locate(catalog: Catalog, name: str) -> Place | None:
    """Where a table lies, as well as that can be told; None where there is none of that name. Read-only.

    Raises:
        CatalogUnavailableError, CatalogAccessError, StorageError: nothing is said of the table.
    """
    try:
        table = load_table(catalog, name)
    except MetadataUnreadableError as error:
        return Place(_table_location(error.location), None, str(error))
    return Place(table.location(), table) if table is not None else None


@dataclass(slots=True)
class Neighbours:
    """Every place where tables of a catalog lie, by the tables' names; `unknown` are those of which nobody knows."""

    unknown: dict[str, str] = field(default_factory=dict)
    _folders: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, catalog: Catalog) -> "Neighbours":
        """Of every table, dropped ones too."""
        found = cls()
        for name in map(".".join, list_everything(catalog)):
            try:
                place = locate(catalog, name)
            except LakehouseError as error:
                found.unknown[name] = str(error)
                continue
            if place is None:
                continue  # it was dropped meanwhile
            if place.location is None:
                found.unknown[name] = place.problem
                continue
            for folder in table_folders(place.table) if place.table is not None else (place.location,):
                found._folders.setdefault(normalize(folder), set()).add(name)
        return found

    def sharing(self, location: str, own: Set[str]) -> str | None:
        """A table, but those of the names `own`, that lies in this place, around it, or within it."""
        mine = normalize(location)
        within = (name for folder, names in self._folders.items() if is_inside(folder, mine) for name in names - own)
        return self.owning(location, own) or next(within, None)

    def owning(self, location: str, own: Set[str]) -> str | None:
        """A table, but those of the names `own`, in whose place a file lies."""
        folder = normalize(location)
        while folder:
            if others := self._folders.get(folder, set()) - own:
                return min(others)
            folder = folder.rpartition("/")[0]
        return None


def refuse_shared_location(catalog: Catalog, table: Table, action: str) -> None:
    """Look at every other table of the catalog, dropped ones too.

    Asking each table of a large catalog takes long, so what they answer is remembered for a while. That is safe for whoever
    deletes nothing younger than that.

    Raises:
        SharedLocationError: files of one lie, or may come to lie, where this one's do.
        LakehouseError: of the tree; the catalog does not say.
    """
    mine = [normalize(folder) for folder in table_folders(table)]
    for other in list_everything(catalog):
        if other != table.name():
            for folder in _folders_of(catalog, other):
                if any(is_inside(folder, own) or is_inside(own, folder) for own in mine):
                    raise SharedLocationError(action, table_name(table), table.location(), ".".join(other), folder)


def _folders_of(catalog: Catalog, name: Identifier) -> tuple[str, ...]:
    """Normalized; none, where it is no table of Iceberg's, or gone."""
    known = _remembered.setdefault(catalog, {})
    until, folders = known.get(name, (0.0, ()))
    if time.monotonic() < until:
        return folders
    with catalog_errors(catalog.name, f"load {'.'.join(name)}"):
        try:
            folders = tuple(normalize(folder) for folder in table_folders(catalog.load_table(name)))
        except NoSuchTableError:
            return ()
        except MetadataUnreadableError as error:
            # A broken table must not keep all others from being looked after, if it can be told where it lies.
            if (folder := _table_location(error.location)) is None:
                raise
            folders = (normalize(folder),)
    known[name] = time.monotonic() + _REMEMBERED_SECONDS, folders
    return folders


def list_everything(catalog: Catalog) -> list[Identifier]:
    """Every table of every namespace, those within others too; dropped ones as well."""
    with catalog_errors(catalog.name, f"list the tables of {catalog.name!r}"):
        return sorted({name for namespace in _list_namespaces(catalog, ()) for name in _list_tables(catalog, namespace)})


def _list_namespaces(catalog: Catalog, parent: Identifier) -> Iterator[Identifier]:
    """Those in a namespace, and in these."""
    try:
        found = catalog.list_namespaces(parent)
    except NoSuchNamespaceError:  # also where a catalog knows none within others
        return
    for namespace in found:
        if len(namespace) > len(parent):
            yield namespace
            yield from _list_namespaces(catalog, namespace)


def _list_tables(catalog: Catalog, namespace: Identifier) -> list[Identifier]:
    try:
        return catalog.list_tables(namespace)
    except NoSuchNamespaceError:
        return []
