"""Computes a slice again from what it holds and the rows that were added to its input since, where that is the same.

It is not where the input had anything but rows added, where the query is another one than it was, or where sums are of numbers
whose order matters; then why is said, and the slice is computed whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import duckdb
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from lakehouse_assets.expressions import quote
from lakehouse_assets.folding import Fold, find_fold
from lakehouse_assets.model.slice_notes import InputState
from lakehouse_assets.model.slices import TimeSlice
from lakehouse_assets.model.sql_table_spec import SqlTableSpec
from lakehouse_assets.operations.engine import create_view
from lakehouse_assets.operations.slice_writing import Addition, read_notes
from lakehouse_assets.statements import Statement
from lakehouse_assets.systems.added_files import find_added
from lakehouse_assets.systems.catalog import load_table
from lakehouse_assets.systems.scanning import TableDataset

_INEXACT = ("FLOAT", "DOUBLE")
_BEFORE = "lakehouse before"  # a schema for what the slice holds; no table's namespace has a blank


@dataclass(frozen=True, slots=True)
class Folding:
    """How a slice is computed again: from `added`, and from what the table holds of it, `before`."""

    fold: Fold
    added: TableDataset
    before: TableDataset

    @property
    def addition(self) -> Addition:
        """What the result is of: rows beside the old ones, or in their place."""
        return Addition(self.before.snapshot_id, keeps=self.fold.functions is None)


def code_of(spec: SqlTableSpec) -> str:
    """What tells one query from another, for a table that is folded: of an hour that was a day, nothing can be folded."""
    if not spec.incremental or spec.event_time is None or spec.clock is None:
        return ""
    return sha256(f"{spec.event_time.column} {spec.clock.every} {spec.sql}".encode()).hexdigest()[:16]


def plan_folding(
    catalog: Catalog, spec: SqlTableSpec, statement: Statement, read: Table, state: InputState, within: TimeSlice
) -> Folding | str:
    """How a slice is folded; or why it has to be computed whole.

    Raises:
        StorageError, CatalogUnavailableError, CatalogAccessError
    """
    table, fold = load_table(catalog, spec.table), find_fold(statement)
    notes = read_notes(table).within(within) if table is not None else []
    if table is None or fold is None or len(notes) != 1:
        return "it is computed for the first time, or was by others"
    (note,) = notes
    if note.code != code_of(spec):
        return "it was computed by another query, or as a slice of another length"
    known = next((one for one in note.inputs if one.table == state.table and one.table_uuid == state.table_uuid), None)
    if known is None or known.snapshot_id is None:
        return f"it was computed from another table {state.table}, or before that had rows"
    found = find_added(read, known.snapshot_id)
    if isinstance(found, str):
        return found
    return Folding(fold, TableDataset(read, within=within, only=found), TableDataset(table, within=within))


def fold_query(
    engine: duckdb.DuckDBPyConnection, spec: SqlTableSpec, folding: Folding, bounds: Mapping[str, object]
) -> str | None:
    """The query that puts the slice together, over a view of what it holds; None where it can't be told exactly."""
    functions = folding.fold.functions
    if functions is None:
        return spec.sql
    engine.execute(f"SELECT * FROM ({_inner(spec.sql)}) LIMIT 0", bounds)
    columns = [(str(name), str(kind)) for name, kind, *_ in engine.description or ()]
    named = list(zip(columns, functions, strict=True)) if len(columns) == len(functions) else []
    held = {field.name for field in folding.before.schema}
    is_exact = all(function != "sum" or kind not in _INEXACT for (_, kind), function in named)
    if not named or None not in functions or not is_exact or any(name not in held for name, _ in columns):
        return None
    create_view(engine, _BEFORE, spec.name, folding.before)
    return _merge(spec.sql, f"{quote(_BEFORE)}.{quote(spec.name)}", [name for name, _ in columns], functions)


def _merge(sql: str, before: str, columns: Sequence[str], functions: Sequence[str | None]) -> str:
    names = [quote(name) for name in columns]
    results = [
        name if function is None else f"{function}({name}) AS {name}" for name, function in zip(names, functions, strict=True)
    ]
    keys = ", ".join(name for name, function in zip(names, functions, strict=True) if function is None)
    rows = f"SELECT {', '.join(names)} FROM {before} UNION ALL BY NAME FROM ({_inner(sql)})"
    return f"SELECT {', '.join(results)} FROM ({rows}) GROUP BY {keys}"


def _inner(sql: str) -> str:
    return f"{sql.strip().rstrip(';')}\n"  # a comment may end it
