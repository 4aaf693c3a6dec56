"""The Spark session that the process has, asked in SQL for Iceberg's own procedures: for tables too large for one machine.

Hides how a session is found and how a table is named there. What Spark commits is what any other engine commits: the ledger
stays in the table's properties, and whoever asked compares rows and ledger before and after.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final, Protocol

from pyiceberg.table import Table

from lakehouse_assets.model.errors import ConfigurationError, SparkError
from lakehouse_assets.systems.snapshots import table_name

CATALOG_PROPERTY: Final = "spark-catalog"  # of PyIceberg's catalog, where Spark knows that by another name
_UNSET = "<undefined>"  # what Spark says of a setting that has no value
_CONFLICTS = ("ValidationException", "CommitFailedException", "rewrite commits failed")


class Session(Protocol):
    """What is asked of a Spark session; PySpark's have it, on this machine or through Spark Connect."""

    def sql(self, statement: str) -> Any:
        """A frame, whose `collect()` gives rows by the names of their columns."""


class SparkConflictError(Exception):
    """Spark could not commit because the table moved; nothing of it landed, or not all of it. For callers to report."""


def find_session() -> Session:
    """The active session, or the one that the process's settings make: `SPARK_REMOTE`, `spark-defaults.conf`, `spark-submit`.

    Raises:
        ConfigurationError: PySpark is not installed, or makes none.
    """
    allowed = "a process with pyspark and a session, or a SPARK_REMOTE that answers; or maintenance.engine: python"
    try:
        builder = import_module("pyspark.sql").SparkSession.builder
    except ImportError as error:
        raise ConfigurationError("maintenance.engine", "spark, and no package pyspark", allowed) from error
    try:
        session: Session = builder.getOrCreate()
    except Exception as error:  # noqa: BLE001 - each way to a session has exceptions of its own
        raise ConfigurationError("maintenance.engine", f"spark, and no session ({_first_line(error)})", allowed) from error
    return session


class SparkTable:
    """A table of ours as a Spark session sees it."""

    def __init__(self, session: Session, table: Table) -> None:
        """Make sure that it is the same table.

        Raises:
            ConfigurationError: the session does not know our catalog, or means another by its name.
            SparkError
        """
        self._session, self._table = session, table
        catalog = table.catalog.properties.get(CATALOG_PROPERTY, table.catalog.name)
        self._catalog = _quote(catalog)
        self._name = ".".join((self._catalog, *map(_quote, table.name())))
        setting = f"spark.sql.catalog.{catalog}"
        if self._ask(f"SET {setting}")[0]["value"] == _UNSET:
            allowed = f"an Iceberg catalog; one of another name is what {CATALOG_PROPERTY!r} says of {table.catalog.name!r}"
            raise ConfigurationError(setting, "no value in the Spark session", allowed)
        self._ask(f"REFRESH TABLE {self._name}")
        known = [row["file"] for row in self._ask(f"SELECT file FROM {self._name}.metadata_log_entries")]
        if table.metadata_location not in known:
            found = f"a catalog whose {table_name(table)} was never at {table.metadata_location}"
            raise ConfigurationError(setting, found, f"the catalog that PyIceberg knows as {table.catalog.name!r}")

    def call(
        self, procedure: str, options: Mapping[str, object], arguments: Mapping[str, str] | None = None
    ) -> Mapping[str, int]:
        """Run one of Iceberg's procedures on the table; the figures that it answers.

        Raises:
            SparkConflictError: others changed what it was to replace.
            SparkError
        """
        pairs = ", ".join(f"{_text(name)}, {_text(str(value))}" for name, value in options.items())
        given = {"table": ".".join(map(_quote, self._table.name())), **(arguments or {})}
        words = [f"{name} => {_text(value)}" for name, value in given.items()] + [f"options => map({pairs})"]
        (row,) = self._ask(f"CALL {self._catalog}.system.{procedure}({', '.join(words)})")
        return dict(row if isinstance(row, Mapping) else row.asDict())

    def count_rows(self, snapshot_id: int) -> int:
        """What a snapshot holds, deletes of every kind applied.

        Raises:
            SparkError
        """
        return int(self._ask(f"SELECT count(*) AS n FROM {self._name} VERSION AS OF {snapshot_id}")[0]["n"])

    def _ask(self, statement: str) -> Sequence[Any]:
        try:
            rows: Sequence[Any] = self._session.sql(statement).collect()
        except Exception as error:  # noqa: BLE001 - Spark's own, Py4J's, Spark Connect's: they share no base
            if any(word in str(error) for word in _CONFLICTS):
                raise SparkConflictError(_first_line(error)) from error
            remedy = "See Spark's log; what it committed stays, what it wrote for nothing is removed with the orphans"
            raise SparkError(table_name(self._table), _first_line(error), remedy) from error
        return rows


def sort_words(columns: Sequence[str], order: str) -> str:
    """The columns as the procedure wants them."""
    names = [_quote(column) for column in columns]
    return f"zorder({', '.join(names)})" if order == "zorder" else ", ".join(f"{name} ASC NULLS FIRST" for name in names)


def _quote(name: str) -> str:
    return f"`{name.replace('`', '``')}`"


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
