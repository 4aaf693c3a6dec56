"""Where the files of tables lie, and whether files of one may be another's too.

Hides what a catalog says of a table whose metadata can't be read. A place is shared where one location lies in another, however
they are spelled.
"""

from collections.abc import Set
from dataclasses import dataclass, field

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from lakehouse_assets.model.errors import LakehouseError, MetadataUnreadableError
from lakehouse_assets.systems.catalog import load_table
from lakehouse_assets.systems.neighbours import folder_of, list_everything, table_folders
from lakehouse_assets.systems.storage import is_inside, normalize


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
        return Place(folder_of(error.location), None, str(error))
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
