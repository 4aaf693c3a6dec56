"""Rows as people hold them in Python: pandas, Polars, Arrow and DuckDB, from and to streams of Arrow batches.

Hides which library has which types. None is imported before somebody names one of its types or gives one of its values. Types
survive both ways: pandas gets Arrow's own (whole numbers stay whole beside nulls, decimals exact, times in their zone).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from lakehouse_assets.model.errors import HandOverError
from lakehouse_assets.systems.scanning import TableDataset

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import polars as pl

Relate = Callable[[str, TableDataset], "duckdb.DuckDBPyRelation"]
_BATCH_ROWS: Final = 64 * 1024
FRAME_NAMES: Final = (
    "pandas.DataFrame", "polars.DataFrame", "polars.LazyFrame", "pyarrow.Table", "pyarrow.RecordBatchReader",
    "duckdb.DuckDBPyRelation",
)  # fmt: skip


def name_frame(kind: object) -> str:
    """A type by the name under which people import it, as `pandas.DataFrame`, wherever its library defines it."""
    module = str(getattr(kind, "__module__", "")).split(".")[0].removeprefix("_")
    return f"{module}.{getattr(kind, '__name__', kind)}"


def read_frame(table: str, kind: object, dataset: TableDataset, relate: Relate) -> Any:
    """The rows of a dataset as a value of a type. Lazy ones and streams are read when somebody asks them for rows.

    `relate` makes a relation of DuckDB of it, which belongs to a connection.

    Raises:
        HandOverError: it is no type that rows can be handed over as.
        StorageError
    """
    match name_frame(kind):
        case "pyarrow.RecordBatchReader":
            return dataset.scanner().to_reader()
        case "pyarrow.Table":
            return dataset.scanner().to_reader().read_all()
        case "pandas.DataFrame":
            return _to_pandas(dataset.scanner().to_reader().read_all())
        case "polars.DataFrame":
            return _to_polars(dataset.scanner().to_reader().read_all())
        case "polars.LazyFrame":
            return _scan_polars(dataset)
        case "duckdb.DuckDBPyRelation":
            return relate(table, dataset)
    expected = f"an input that is annotated with one of {', '.join(FRAME_NAMES)}"
    raise HandOverError(table, f"the type {name_frame(kind)}", expected)


def open_frame(asset: str, value: Any) -> pa.RecordBatchReader:
    """The rows of a value as a stream, read once.

    Raises:
        HandOverError: it holds no rows.
    """
    match name_frame(type(value)):
        case "pyarrow.RecordBatchReader":
            return value
        case "pyarrow.Table" | "pyarrow.RecordBatch":
            table = value if isinstance(value, pa.Table) else pa.Table.from_batches([value])
            return table.to_reader(max_chunksize=_BATCH_ROWS)
        case "pandas.DataFrame":
            return _from_pandas(value).to_reader(max_chunksize=_BATCH_ROWS)
        case "polars.DataFrame":
            return value.to_arrow().to_reader(max_chunksize=_BATCH_ROWS)
        case "polars.LazyFrame":
            return _stream_polars(value)
        case "duckdb.DuckDBPyRelation":
            return value.to_arrow_reader(_BATCH_ROWS)
    found = "nothing" if value is None else f"a value of the type {name_frame(type(value))}"
    hint = "; one that writes nothing is annotated with -> None" if value is None else ""
    raise HandOverError(asset, found, f"one of {', '.join(FRAME_NAMES)}{hint}")


def fit_to(rows: pa.RecordBatchReader, table: pa.Schema) -> pa.RecordBatchReader:
    """Give columns the type that they have in a table, where a library only left it open.

    That is so without any value, of fewer decimal places, and of bytes that are all of one length.

    What else differs stays: whether a table can follow is decided where it is written.
    """
    wanted = {field.name: field.type for field in table}
    schema = pa.schema([pa.field(it.name, _choose(it.type, wanted.get(it.name))) for it in rows.schema])
    if schema == rows.schema.remove_metadata():
        return rows
    return pa.RecordBatchReader.from_batches(schema, (batch.cast(schema) for batch in rows))


def _choose(found: pa.DataType, wanted: pa.DataType | None) -> pa.DataType:
    if wanted is None:
        return found
    is_binary = pa.types.is_binary(found) or pa.types.is_large_binary(found) or pa.types.is_binary_view(found)
    if pa.types.is_null(found) or (is_binary and pa.types.is_fixed_size_binary(wanted)):
        return wanted
    if pa.types.is_decimal(found) and pa.types.is_decimal(wanted) and found.scale < wanted.scale:
        whole = max(found.precision - found.scale, wanted.precision - wanted.scale)
        return pa.decimal128(min(whole + wanted.scale, 38), wanted.scale)
    return found


def _to_pandas(rows: pa.Table) -> "pd.DataFrame":
    import pandas as pd

    frame: pd.DataFrame = rows.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def _from_pandas(frame: "pd.DataFrame") -> pa.Table:
    """An index with names, as `groupby` leaves it, holds columns; one without is a count of rows."""
    named = frame.reset_index() if any(name is not None for name in frame.index.names) else frame
    return pa.Table.from_pandas(named, preserve_index=False).replace_schema_metadata()


def _to_polars(rows: pa.Table) -> "pl.DataFrame":
    import polars as pl

    return pl.DataFrame(rows)


def _scan_polars(dataset: TableDataset) -> "pl.LazyFrame":
    import polars as pl
    from polars.io.plugins import register_io_source

    def read(
        columns: list[str] | None, predicate: "pl.Expr | None", row_limit: int | None, _batch_rows: int | None
    ) -> Iterator["pl.DataFrame"]:
        for batch in dataset.scanner(columns).to_reader():
            frame = _to_polars(pa.Table.from_batches([batch]))
            if row_limit is not None:
                frame = frame.head(row_limit)
                row_limit -= len(frame)
            yield frame if predicate is None else frame.filter(predicate)
            if row_limit == 0:
                return

    schema: Mapping[str, pl.DataType] = _to_polars(dataset.schema.empty_table()).schema
    return register_io_source(read, schema=dict(schema))


def _stream_polars(frame: "pl.LazyFrame") -> pa.RecordBatchReader:
    import polars as pl

    schema = pl.DataFrame(schema=frame.collect_schema()).to_arrow().schema
    frames = frame.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=False, lazy=True, engine="streaming")
    batches = (batch for part in frames for batch in part.to_arrow().cast(schema).to_batches())
    return pa.RecordBatchReader.from_batches(schema, batches)
