"""Opens the catalog, loads tables, creates them once and brings them to their declarations.

Hides which catalog it is, and translates what catalogs and storages raise. Creates no snapshot.
"""

import re
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    BadRequestError,
    CommitFailedException,
    ForbiddenError,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    NotInstalledError,
    OAuthError,
    RESTError,
    TableAlreadyExistsError,
    UnauthorizedError,
)
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.update import (
    AddSchemaUpdate,
    AssertCurrentSchemaId,
    AssertDefaultSpecId,
    AssertLastAssignedFieldId,
    AssertRefSnapshotId,
    AssertTableUUID,
    SetCurrentSchemaUpdate,
    SetPropertiesUpdate,
    TableRequirement,
    TableUpdate,
)
from requests import codes
from requests.exceptions import HTTPError, RequestException
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from lakehouse_assets.model.changes import ColumnChange, join_changes
from lakehouse_assets.model.dropped import DROPPED_NAMESPACE
from lakehouse_assets.model.errors import (
    CatalogAccessError,
    CatalogUnavailableError,
    CommitConflictError,
    ConfigurationError,
    StorageError,
    TableDiffersError,
    TableMissingError,
    UnknownTableError,
)
from lakehouse_assets.model.ledger import LEDGER_KEY, Ledger
from lakehouse_assets.model.mistakes import nearest
from lakehouse_assets.model.slices import EVENT_TIME_COLUMN_KEY
from lakehouse_assets.model.watermark import WATERMARK_KEY
from lakehouse_assets.systems import metadata_cache, rest_patience
from lakehouse_assets.systems.evolution import DECLARED_KEY, Declared, Fit, judge_fit
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets.systems.schema import MODE_KEY, TableShape

# Ours where the declaration says nothing; each can be set in 'properties'.
DEFAULT_PROPERTIES = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
    "write.parquet.compression-level": "1",  # measured: level 3 costs 1.6 times the CPU for files of the same size
    "write.metadata.delete-after-commit.enabled": "true",  # one metadata file per commit would fill a disk in a week
    "write.metadata.previous-versions-max": "50",
    "history.expire.max-snapshot-age-ms": "3600000",  # 1 h: a commit every 10 s makes 360 in it, each writes all
    "history.expire.min-snapshots-to-keep": "10",
}

_ATTEMPTS = 20  # at bringing a table to its declaration while others commit
_LOCATION_DIGITS = 8  # hexadecimal
_SQL_TABLES = 2  # that PyIceberg's SQL catalog keeps
# PostgreSQL, "Error Codes": invalid authorisation, and insufficient privilege. While it connects, the driver keeps the code to
# itself, so the server's words have to do.
_SQL_REFUSALS = ("28000", "28P01", "42501")
_REFUSAL = re.compile(r'authentication failed|no password supplied|no pg_hba.conf entry|role ".*" does not exist')


def open_catalog(name: str, properties: Mapping[str, str]) -> Catalog:
    """Connect. Empty `properties`: PyIceberg's own configuration for that name is used.

    Raises:
        CatalogUnavailableError, CatalogAccessError: the catalog did not answer, or refused.
        ConfigurationError: it needs a package that is not installed.
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
    except (ImportError, NotInstalledError) as error:
        allowed = "what PyIceberg's documentation names for this kind of catalog or database, installed"
        raise ConfigurationError(f"for the catalog {catalog!r}", _first_line(error.__cause__ or error), allowed) from error
    except (UnauthorizedError, ForbiddenError, OAuthError) as error:
        raise CatalogAccessError(catalog, action, _first_line(error)) from error
    except (RESTError, RequestException, SQLAlchemyError, ConnectionError, TimeoutError) as error:
        if _is_refused(error):
            raise CatalogAccessError(catalog, action, _first_line(error)) from error
        raise CatalogUnavailableError(catalog, action, _first_line(error)) from error
    except OSError as error:
        raise StorageError(action, "through the storage of the catalog", _first_line(error)) from error


def _is_refused(error: BaseException) -> bool:
    if not isinstance(error, DBAPIError):
        return False
    return getattr(error.orig, "pgcode", None) in _SQL_REFUSALS or _REFUSAL.search(_first_line(error)) is not None


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"


def load_table(catalog: Catalog, name: str) -> Table | None:
    """The table as it is now; None where there is none of that name. Read-only."""
    with catalog_errors(catalog.name, f"load {name}"):
        try:
            return catalog.load_table(name)
        except NoSuchTableError:
            return None


def require_table(catalog: Catalog, name: str) -> Table:
    """The table as it is now. Read-only.

    Raises:
        TableMissingError: there is none of that name.
        CatalogUnavailableError, CatalogAccessError, StorageError
    """
    table = load_table(catalog, name)
    if table is None:
        raise TableMissingError(name)
    return table


def send_commit(
    catalog: Catalog, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
) -> CommitTableResponse:
    """Ask once for a change of a table. Whatever it may end with passes as the catalog raises it.

    Raises:
        NoSuchTableError: it is gone, so nothing was done; of a REST catalog too, for whose answer PyIceberg has no word.
    """
    try:
        return catalog.commit_table(table, requirements, updates)
    except RESTError as error:
        refusal = error.__cause__
        if isinstance(refusal, HTTPError) and refusal.response is not None and refusal.response.status_code == codes.not_found:
            raise NoSuchTableError(str(error)) from error
        raise


def find_table(catalog: Catalog, name: str, declared: Collection[str] = ()) -> Table:
    """The table that somebody names, as it is now. Read-only. Those of `declared` may not be there yet.

    Raises:
        UnknownTableError: there is none of that name; it says which is nearest.
        CatalogUnavailableError, CatalogAccessError, StorageError
    """
    namespace, _, last = name.rpartition(".")
    table = load_table(catalog, name) if namespace else None
    if table is not None:
        return table
    known = list_tables(catalog)
    suggestion = nearest(name, known) or next((other for other in known if other.endswith(f".{last}")), None)
    raise UnknownTableError(name, known, suggestion, catalog=catalog.name, is_declared=name in declared)


def list_tables(catalog: Catalog) -> list[str]:
    """The name of every table, `namespace.name`, sorted; dropped ones are none."""
    with catalog_errors(catalog.name, f"list the tables of {catalog.name!r}"):
        namespaces = [one for one in catalog.list_namespaces() if one != (DROPPED_NAMESPACE,)]
        return sorted(".".join(table) for namespace in namespaces for table in catalog.list_tables(namespace))


def ensure_table(
    catalog: Catalog, shape: TableShape, first_ledger: Callable[[], Ledger], *, judged_before: bool = False
) -> tuple[Table, Ledger]:
    """Load the table, or create it on first use, and bring it to its declaration; safe to repeat and to race.

    `first_ledger` is asked only where the table is new or empty without ledger; its answer is stored with the table itself,
    so that a beginning once chosen (`latest`, a time) stays. With `judged_before`, this run brought the table to its
    declaration already: what differs since then is somebody else's, perhaps of a newer declaration, and stays.

    Raises:
        TableDiffersError: no safe change brings the table to the declaration, or `shape.on_change` forbids it.
        LedgerMissingError, LedgerLostError, TableReplacedError: from `read_ledger`.
        CommitConflictError: others changed the table each time that it was looked at.
        CatalogUnavailableError, StorageError
    """
    for _ in range(_ATTEMPTS):
        table = load_table(catalog, shape.name) or create_table(catalog, shape, {LEDGER_KEY: first_ledger().to_json()})
        has_evolved = judged_before and shape.on_change == "evolve"
        fit = judge_fit(shape, table, Declared.of(shape) if has_evolved else Declared.read(table))
        refuse_misfit(shape, fit)
        _refuse_other_kind(shape, table)
        with catalog_errors(catalog.name, f"read the ledger of {shape.name}"):
            ledger = read_ledger(table)
        properties = {} if judged_before else list_property_changes(shape, table)
        if ledger is None:
            properties = {**DEFAULT_PROPERTIES, **table.properties, **properties, LEDGER_KEY: first_ledger().to_json()}
        schema = fit.schema if shape.on_change == "evolve" and fit.must_evolve(docs=not judged_before) else None
        if ledger is not None and not properties and schema is None:
            return table, ledger
        alter_table(catalog, table, schema, properties)
    raise CommitConflictError(shape.name, f"others changed the table in {_ATTEMPTS} attempts to bring it to its declaration")


def plan_changes(catalog: Catalog, shape: TableShape) -> tuple[ColumnChange, ...]:
    """What `ensure_table` would change in the columns of a table that is there. Read-only.

    Raises:
        TableDiffersError: as `ensure_table` would.
        CatalogUnavailableError
    """
    table = load_table(catalog, shape.name)
    if table is None:
        return ()
    fit = judge_fit(shape, table, Declared.read(table))
    refuse_misfit(shape, fit)
    _refuse_other_kind(shape, table)
    return fit.changes if shape.on_change == "evolve" else ()


def refuse_misfit(shape: TableShape, fit: Fit) -> None:
    """Raise if a table can't become what its declaration says, or may not.

    Raises:
        TableDiffersError
    """
    if fit.refusals:
        raise TableDiffersError(shape.name, fit.refusals)
    structural = [change for change in fit.changes if not change.is_doc]
    if shape.on_change == "fail" and (structural or fit.foreign):
        raise TableDiffersError(shape.name, [*map(str, structural), *fit.foreign], join_changes(structural))


def _refuse_other_kind(shape: TableShape, table: Table) -> None:
    """Raise if the table was filled in another way, which stays in it.

    Rows may have come in another mode: a key may stand twice, or changes be missing. Or its watermark, which never goes back,
    is of the times in another column.
    """
    there, declared = (properties.get(MODE_KEY, "append") for properties in (table.properties, shape.properties))
    if there != declared and table.metadata.current_snapshot() is not None:
        raise TableDiffersError(shape.name, [f"its rows came by mode {there}, and the declaration says {declared}"])
    old, new = (properties.get(EVENT_TIME_COLUMN_KEY) for properties in (table.properties, shape.properties))
    if old and new and old != new and WATERMARK_KEY in table.properties:
        raise TableDiffersError(shape.name, [f"its watermark is of the column {old!r}, and the declaration says {new!r}"])


def list_property_changes(shape: TableShape, table: Table) -> dict[str, str]:
    """What the declaration says of properties and the table does not have so."""
    wanted = dict(shape.properties)
    if shape.on_change == "evolve":
        wanted[DECLARED_KEY] = Declared.of(shape).to_json()
    return {key: text for key, text in wanted.items() if table.properties.get(key) != text}


def create_table(catalog: Catalog, shape: TableShape, others: Mapping[str, str] | None = None) -> Table:
    """A new table, with other properties besides those of its shape; the one that somebody else made first, if somebody did.

    Raises:
        CatalogUnavailableError, CatalogAccessError, StorageError
    """
    properties = {**DEFAULT_PROPERTIES, **shape.properties, DECLARED_KEY: Declared.of(shape).to_json(), **(others or {})}
    with catalog_errors(catalog.name, f"create {shape.name}"):
        # The second is the SQL catalog's, of two that race; the namespace is there, which is all that is wanted.
        with suppress(NamespaceAlreadyExistsError, IntegrityError):
            catalog.create_namespace(shape.name.rpartition(".")[0])
        create = partial(
            catalog.create_table, shape.name, shape.schema, partition_spec=shape.partition_spec, properties=properties
        )
        try:
            # What was dropped under this name has files where the catalog would put this one's.
            default = catalog.create_table_transaction(shape.name, shape.schema).table_metadata.location
            try:
                return create(location=f"{default}-{uuid.uuid4().hex[:_LOCATION_DIGITS]}")
            except (BadRequestError, ForbiddenError):
                return create()  # a server that lets nobody choose, for it chooses so that no two tables share a place
        except TableAlreadyExistsError:
            return catalog.load_table(shape.name)  # another run was first: use its table


def alter_table(catalog: Catalog, table: Table, schema: Schema | None, properties: Mapping[str, str]) -> None:
    """Change columns and properties in one step, without a snapshot, if the table still is as it was looked at.

    A first ledger may be put into a table only while that has no rows, and a schema was judged against this one.
    """
    metadata = table.metadata
    head = metadata.current_snapshot()
    updates: list[TableUpdate] = [SetPropertiesUpdate(updates=dict(properties))] if properties else []
    if schema is not None:
        # A schema that the table had once can't be added again: it is found by what it says.
        same = next((older.schema_id for older in metadata.schemas if older == schema), None)
        if same is None:
            updates.append(AddSchemaUpdate(schema=schema))
        updates.append(SetCurrentSchemaUpdate.model_validate({"schema-id": -1 if same is None else same}))
    # Refused: somebody else changed it first; the caller looks again.
    with catalog_errors(catalog.name, "alter " + ".".join(table.name())), suppress(CommitFailedException):
        catalog.commit_table(
            table,
            (
                AssertTableUUID(uuid=metadata.table_uuid),
                AssertRefSnapshotId.model_validate({"ref": MAIN_BRANCH, "snapshot-id": head.snapshot_id if head else None}),
                AssertCurrentSchemaId.model_validate({"current-schema-id": metadata.current_schema_id}),
                AssertLastAssignedFieldId.model_validate({"last-assigned-field-id": metadata.last_column_id}),
                AssertDefaultSpecId.model_validate({"default-spec-id": metadata.default_spec_id}),
            ),
            tuple(updates),
        )
