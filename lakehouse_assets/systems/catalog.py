"""Opens the catalog, loads tables, creates a table once, and translates what catalogs and storages raise.

Hides which catalog it is. Creates no snapshot.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    ForbiddenError,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    OAuthError,
    RESTError,
    TableAlreadyExistsError,
    UnauthorizedError,
)
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.update import AssertRefSnapshotId, AssertTableUUID, SetPropertiesUpdate
from requests.exceptions import RequestException
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from lakehouse_assets.model.errors import (
    CatalogAccessError,
    CatalogUnavailableError,
    StorageError,
    TableDiffersError,
)
from lakehouse_assets.model.ledger import LEDGER_KEY, Ledger
from lakehouse_assets.systems import metadata_cache, rest_patience
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets.systems.schema import TableShape, list_differences

# Ours where the declaration says nothing; each can be set in 'properties'.
DEFAULT_PROPERTIES = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
    "write.parquet.compression-level": "1",  # measured: level 3 costs 1.6 times the CPU for files of the same size
    "write.metadata.delete-after-commit.enabled": "true",  # one metadata file per commit would fill a disk in a week
    "write.metadata.previous-versions-max": "50",
}

_SQL_TABLES = 2  # that PyIceberg's SQL catalog keeps


def open_catalog(name: str, properties: Mapping[str, str]) -> Catalog:
    """Connect. Empty `properties`: PyIceberg's own configuration for that name is used.

    Raises:
        CatalogUnavailableError, CatalogAccessError: the catalog did not answer, or refused.
    """
    metadata_cache.install()
    rest_patience.install()
    with catalog_errors(name, f"open the catalog {name!r}"):
        for _ in range(_SQL_TABLES):
            # Those who open a new SQL catalog at once all create its tables; a loser finds the winner's and looks again.
            with suppress(SQLAlchemyError):
                return load_catalog(name, **properties)
        return load_catalog(name, **properties)


@contextmanager
def catalog_errors(catalog: str, action: str) -> Iterator[None]:
    """Translate what a catalog or its storage raises into the platform's tree; NoSuchTableError passes."""
    try:
        yield
    except (UnauthorizedError, ForbiddenError, OAuthError) as error:
        raise CatalogAccessError(catalog, action, _first_line(error)) from error
    except (RESTError, RequestException, SQLAlchemyError, ConnectionError, TimeoutError) as error:
        raise CatalogUnavailableError(catalog, action, _first_line(error)) from error
    except OSError as error:
        raise StorageError(action, "through the storage of the catalog", _first_line(error)) from error


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"


def load_table(catalog: Catalog, name: str) -> Table | None:
    """The table as it is now; None where there is none of that name. Read-only."""
    with catalog_errors(catalog.name, f"load {name}"):
        try:
            return catalog.load_table(name)
        except NoSuchTableError:
            return None


def list_tables(catalog: Catalog) -> list[str]:
    """The name of every table, `namespace.name`, sorted."""
    with catalog_errors(catalog.name, f"list the tables of {catalog.name!r}"):
        return sorted(".".join(table) for namespace in catalog.list_namespaces() for table in catalog.list_tables(namespace))


def ensure_table(
    catalog: Catalog, shape: TableShape, first_ledger: Callable[[], Ledger]
) -> tuple[Table, Ledger]:
    """Load the table, or create it on first use; safe to repeat and to race.

    `first_ledger` is asked only where the table is new or empty without ledger; its answer is stored with the table itself,
    so that a beginning once chosen (`latest`, a time) stays.

    Raises:
        TableDiffersError: the table is not what the declaration says.
        LedgerMissingError, LedgerLostError, TableReplacedError: from `read_ledger`.
        CatalogUnavailableError, StorageError
    """
    table = load_table(catalog, shape.name) or _create_table(catalog, shape, first_ledger())
    if differences := list_differences(shape, table):
        raise TableDiffersError(shape.name, differences)
    with catalog_errors(catalog.name, f"read the ledger of {shape.name}"):
        ledger = read_ledger(table)
    changes = {key: text for key, text in shape.properties.items() if table.properties.get(key) != text}
    if ledger is not None and not changes:
        return table, ledger
    if ledger is None:
        changes = {**DEFAULT_PROPERTIES, **table.properties, **changes, LEDGER_KEY: first_ledger().to_json()}
    _set_properties(catalog, table, changes)
    return ensure_table(catalog, shape, first_ledger)


def _create_table(catalog: Catalog, shape: TableShape, ledger: Ledger) -> Table:
    properties = {**DEFAULT_PROPERTIES, **shape.properties, LEDGER_KEY: ledger.to_json()}
    with catalog_errors(catalog.name, f"create {shape.name}"):
        # The second is the SQL catalog's, of two that race; the namespace is there, which is all that is wanted.
        with suppress(NamespaceAlreadyExistsError, IntegrityError):
            catalog.create_namespace(shape.name.rpartition(".")[0])
        try:
            return catalog.create_table(
                shape.name, shape.schema, partition_spec=shape.partition_spec, properties=properties
            )
        except TableAlreadyExistsError:
            return catalog.load_table(shape.name)  # another run was first: use its table


def _set_properties(catalog: Catalog, table: Table, properties: Mapping[str, str]) -> None:
    """Without a snapshot, provided that the table is in the state in which it was looked at.

    A first ledger may be put into a table only while that has no rows.
    """
    head = table.metadata.current_snapshot()
    # Refused: somebody else changed it first; the caller looks again.
    with catalog_errors(catalog.name, "set properties of " + ".".join(table.name())), suppress(CommitFailedException):
        catalog.commit_table(
            table,
            (
                AssertTableUUID(uuid=table.metadata.table_uuid),
                AssertRefSnapshotId.model_validate({"ref": MAIN_BRANCH, "snapshot-id": head.snapshot_id if head else None}),
            ),
            (SetPropertiesUpdate(updates=dict(properties)),),
        )
