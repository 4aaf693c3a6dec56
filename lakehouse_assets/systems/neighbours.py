"""Whose files lie where: nothing is deleted by its place while another table's files lie in the same one.

Asking each table of a large catalog takes long, so what they answer is remembered for a while. That is safe for whoever deletes
nothing younger than that.
"""

import re
import time
from collections.abc import Iterator
from typing import Final
from weakref import WeakKeyDictionary

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.typedef import Identifier

from lakehouse_assets.model.errors import MetadataUnreadableError, SharedLocationError
from lakehouse_assets.systems.catalog import catalog_errors
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


def folder_of(metadata_file: str) -> str | None:
    """The location of the table of a metadata file that can't be read; None where it does not lie as usual."""
    found = _METADATA_FILE.fullmatch(metadata_file)
    return found[1] if found else None


def refuse_shared_location(catalog: Catalog, table: Table, action: str) -> None:
    """Look at every other table of the catalog, dropped ones too.

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
            if (folder := folder_of(error.location)) is None:
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
