"""Computes tables by SQL: a slice of event time after the other, each from its slice of the inputs.

Inputs are read at snapshots that are pinned when a run begins. A table that says when its rows happened is read as the slice,
others as a whole. What is computed is streamed into files, so memory is DuckDB's limit and a buffer, whatever the inputs hold.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog import Catalog

from lakehouse_assets.model.errors import LakehouseError, ResultTypeError
from lakehouse_assets.model.slices import EVENT_TIME_COLUMN_KEY, TimeSlice
from lakehouse_assets.model.sql_table_spec import InputSpec, SqlTableSpec
from lakehouse_assets.operations.engine import create_view, engine_errors, open_engine
from lakehouse_assets.operations.folding_slices import Folding, code_of, fold_query, plan_folding
from lakehouse_assets.operations.retrying import retry_transient
from lakehouse_assets.operations.slice_writing import ADDED, FOLDED, SliceReport, replace_slice
from lakehouse_assets.operations.table_views import TableView, find_complete_until, open_view
from lakehouse_assets.statements import parse_statement
from lakehouse_assets.systems.scanning import TableDataset

_BATCH_ROWS = 20 * 2048  # of DuckDB's vectors


@dataclass(frozen=True, slots=True)
class Pinned:
    """An input as one run reads it: in one state, and for each slice whole or as that slice."""

    whole: TableView
    is_sliced: bool

    def view(self, within: TimeSlice | None) -> TableView:
        """What is read of it for a slice."""
        return replace(self.whole, within=within) if self.is_sliced else self.whole


def run_sql(
    catalog: Catalog,
    spec: SqlTableSpec,
    keys: Sequence[str],
    *,
    run_id: str,
    stop: Callable[[], bool],
    on_slice: Callable[[str, SliceReport], None],
    on_retry: Callable[[LakehouseError, float], None],
) -> list[str]:
    """Compute the slices of `keys`, one snapshot each, oldest first; return the keys done, all unless `stop()`.

    A table that is computed as a whole has the key "". `on_slice` hears of each slice when it has landed.

    Raises:
        QueryError: DuckDB does not accept the SQL, or fails.
        UnknownTableError: an input is not there.
        LakehouseError: of the tree.
    """
    computing = _Computing(catalog, spec, run_id)
    done: list[str] = []
    for key in sorted(keys):
        if stop():
            break
        on_slice(key, retry_transient(partial(computing.compute, key), stop, on_retry))
        done.append(key)
    return done


def pin_inputs(catalog: Catalog, spec: SqlTableSpec) -> Mapping[str, Pinned]:
    """The inputs as they are now, or as of what the declaration says.

    Raises:
        UnknownTableError, SnapshotMissingError, CatalogUnavailableError, CatalogAccessError, StorageError
    """
    return {name: _pin(catalog, spec, spec.input(name)) for name in parse_statement(spec.sql).tables}


def _pin(catalog: Catalog, spec: SqlTableSpec, declared: InputSpec) -> Pinned:
    whole = open_view(catalog, declared.table, as_of=declared.as_of)
    has_times = spec.event_time is not None and EVENT_TIME_COLUMN_KEY in whole.table.properties
    return Pinned(whole, has_times and not declared.whole)


class _Computing:
    """One run of one table."""

    def __init__(self, catalog: Catalog, spec: SqlTableSpec, run_id: str) -> None:
        self._catalog, self._spec, self._run_id = catalog, spec, run_id
        self._statement = parse_statement(spec.sql)
        self._pinned: Mapping[str, Pinned] = {}

    def compute(self, key: str) -> SliceReport:
        """One slice. What failed is tried again with inputs that are pinned anew: the old ones may be what it failed for."""
        clock = self._spec.clock
        within = TimeSlice(*clock.window_ms(key)) if clock is not None else None
        pinned = self._pinned or pin_inputs(self._catalog, self._spec)
        self._pinned = {}
        report = self._replace(pinned, within)
        self._pinned = pinned
        return report

    def _replace(self, pinned: Mapping[str, Pinned], within: TimeSlice | None) -> SliceReport:
        views = {name: one.view(within) for name, one in pinned.items()}
        datasets = {name: view.open() for name, view in views.items()}
        write = partial(
            replace_slice, self._catalog, self._spec.derived, within, inputs=[view.state for view in views.values()],
            complete_until_ms=find_complete_until(list(views.values())), run_id=self._run_id, code=code_of(self._spec),
        )  # fmt: skip
        why_not = ""
        if self._spec.incremental and within is not None:
            folding = self._plan_folding(pinned, within)
            why_not = f"computed whole: {folding if isinstance(folding, str) else 'its sums hang on the order of numbers'}"
            if not isinstance(folding, str) and (report := self._fold(pinned, folding, within, write)) is not None:
                return replace(report, folding=ADDED if folding.addition.keeps else FOLDED)
        with open_engine(self._spec.memory_limit) as engine:
            self._show(engine, datasets)
            report = write(rows=self._query(engine, self._spec.sql, list(datasets.values()), within))
        return replace(report, folding=why_not)

    def _plan_folding(self, pinned: Mapping[str, Pinned], within: TimeSlice) -> Folding | str:
        (one,) = pinned.values()
        if not one.is_sliced:
            return f"{one.whole.state.table} does not say when its rows happened"
        return plan_folding(self._catalog, self._spec, self._statement, one.whole.table, one.whole.state, within)

    def _fold(
        self, pinned: Mapping[str, Pinned], folding: Folding, within: TimeSlice, write: Callable[..., SliceReport]
    ) -> SliceReport | None:
        """The slice from what it holds and what was added; None where that would not be exact."""
        datasets = [folding.added, folding.before]
        with open_engine(self._spec.memory_limit) as engine:
            self._show(engine, dict.fromkeys(pinned, folding.added))
            with engine_errors(self._catalog, datasets):
                sql = fold_query(engine, self._spec, folding, self._bounds(within))
            if sql is None:
                return None
            return write(rows=self._query(engine, sql, datasets, within), addition=folding.addition)

    def _show(self, engine: duckdb.DuckDBPyConnection, datasets: Mapping[str, TableDataset]) -> None:
        with engine_errors(self._catalog, list(datasets.values())):
            for name, dataset in datasets.items():
                namespace, _, table = name.partition(".")
                create_view(engine, namespace, table, dataset)

    def _bounds(self, within: TimeSlice | None) -> dict[str, object]:
        """The parameters that the query has."""
        bounds = {"slice_start": within.start, "slice_end": within.stop} if within is not None else {}
        return {name: bounds[name] for name in self._statement.parameters}

    def _query(
        self, engine: duckdb.DuckDBPyConnection, sql: str, datasets: Sequence[TableDataset], within: TimeSlice | None
    ) -> pa.RecordBatchReader:
        with engine_errors(self._catalog, datasets):
            engine.execute("SET lock_configuration = true")
            result = engine.execute(sql, self._bounds(within))
            large = [str(column[0]) for column in result.description or () if column[1] == "HUGEINT"]
            reader = result.to_arrow_reader(_BATCH_ROWS)
        schema = pa.schema([field.with_type(pa.int64()) if field.name in large else field for field in reader.schema])
        return pa.RecordBatchReader.from_batches(schema, self._read(reader, schema, datasets))

    def _read(
        self, reader: pa.RecordBatchReader, schema: pa.Schema, datasets: Sequence[TableDataset]
    ) -> Iterator[pa.RecordBatch]:
        batches = iter(reader)
        while True:
            with engine_errors(self._catalog, datasets):
                batch = next(batches, None)
            if batch is None:
                return
            yield _narrow(self._spec.table, batch, schema)


def _narrow(table: str, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Sums of whole numbers are wider in DuckDB than any type of Iceberg; as long they are what people mean."""
    columns = []
    for i, field in enumerate(schema):
        try:
            columns.append(pc.cast(batch.column(i), field.type))
        except pa.ArrowInvalid as error:
            found = f"larger than a long holds ({error})"
            raise ResultTypeError(table, field.name, found, "CAST(... AS DECIMAL(38, 0))") from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)
