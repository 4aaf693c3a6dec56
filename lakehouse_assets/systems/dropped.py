"""Dropped tables in the catalog: a namespace of their own, into which and out of which they are renamed.

Hides how catalogs answer a rename. It is one step of the catalog: of two that move a table at once, one does, and the other
finds that it is not there; a commit of somebody who loaded the table before is refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import (
    BadRequestError,
    NamespaceAlreadyExistsError,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from sqlalchemy.exc import IntegrityError

from lakehouse_assets.model.dropped import DROPPED_NAMESPACE, DroppedTable
from lakehouse_assets.model.errors import DropImpossibleError, LakehouseError, TableMissingError
from lakehouse_assets.systems.catalog import catalog_errors


def list_dropped(catalog: Catalog, original: str | None = None) -> list[DroppedTable]:
    """Every dropped table, or those that were known as `original`; the newest first."""
    found = (DroppedTable.parse(name) for name in _names(catalog, DROPPED_NAMESPACE))
    tables = [one for one in found if one is not None and original in (None, one.original)]
    return sorted(tables, key=lambda one: (one.dropped_ms, one.original), reverse=True)


def is_listed(catalog: Catalog, name: str) -> bool:
    """Whether the catalog has a table of that name, though what it is may not be readable."""
    namespace, _, own = name.rpartition(".")
    return bool(namespace) and own in _names(catalog, namespace)


def _names(catalog: Catalog, namespace: str) -> list[str]:
    with catalog_errors(catalog.name, f"list the tables of {namespace}"), suppress(NoSuchNamespaceError):
        return [table[-1] for table in catalog.list_tables(namespace)]
    return []


def unlist(catalog: Catalog, name: str, dropped: DroppedTable) -> DroppedTable:
    """Let a table bear the name of `dropped`, from now on; where that is taken, that of the next second that is free.

    Raises:
        TableMissingError: there is no such table.
        DropImpossibleError: its namespace can't be told in the name, or the catalog can't rename.
        CatalogUnavailableError, CatalogAccessError
    """
    if not dropped.can_be_named:
        raise DropImpossibleError(dropped.original, "the name of its namespace can't be told in that of a dropped table")
    while True:
        try:
            rename(catalog, name, dropped.full_name)
        except TableAlreadyExistsError:
            dropped = replace(dropped, dropped_ms=dropped.dropped_ms + 1000)
        else:
            return dropped


def rename(catalog: Catalog, source: str, target: str) -> None:
    """Give a table another name, in a namespace that is created if it is not there.

    Raises:
        TableMissingError: there is none of the old name.
        TableAlreadyExistsError: there is one of the new name.
        DropImpossibleError: the catalog does not do it.
        CatalogUnavailableError, CatalogAccessError
    """
    try:
        with catalog_errors(catalog.name, f"rename {source} to {target}"), _refusals(source):
            try:
                catalog.rename_table(source, target)
            except NoSuchNamespaceError:
                # The second is the SQL catalog's, of two that race.
                with suppress(NamespaceAlreadyExistsError, IntegrityError):
                    catalog.create_namespace(target.rpartition(".")[0])
                catalog.rename_table(source, target)
    except NoSuchTableError as error:
        raise TableMissingError(source) from error
    except DropImpossibleError:
        raise
    except LakehouseError:
        # The answer may have been lost, and PyIceberg reads a table once it is renamed, which may fail by itself.
        if is_listed(catalog, source) or not is_listed(catalog, target):
            raise


@contextmanager
def _refusals(table: str) -> Iterator[None]:
    try:
        yield
    except (NotImplementedError, BadRequestError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DropImpossibleError(table, f"the catalog does not rename it ({reason})") from error


def forget(catalog: Catalog, name: str) -> None:
    """Take a table out of the catalog, and no file with it. Safe to repeat."""
    with catalog_errors(catalog.name, f"drop {name}"), suppress(NoSuchTableError):
        catalog.drop_table(name)
