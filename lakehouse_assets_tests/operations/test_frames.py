"""Rows of real tables in pandas, Polars, Arrow and DuckDB, and back, judged by DuckDB's own reader."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from lakehouse_assets.model.derived_table import DerivedTable
from lakehouse_assets.model.errors import HandOverError
from lakehouse_assets.model.slices import EVENT_TIME_COLUMN_KEY, SliceClock, TimeSlice
from lakehouse_assets.operations.frames import name_frame
from lakehouse_assets.operations.table_views import open_view
from lakehouse_assets.operations.writing_frames import write_frame
from lakehouse_assets.orchestration.steps import StepEngine
from lakehouse_assets_tests import judge

START = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
FIRST = TimeSlice.between(START + HOUR, START + 2 * HOUR)
DERIVED = DerivedTable("dm.delays", "at", SliceClock("hour", START))
KINDS = [pd.DataFrame, pl.DataFrame, pl.LazyFrame, pa.Table, pa.RecordBatchReader, duckdb.DuckDBPyRelation]
EVERY_TYPE = {
    "carrier": pa.array(["AA", None, "Zoë"], pa.string()),
    "whole": pa.array([2**53 + 1, None, 3], pa.int64()),
    "small": pa.array([1, None, 3], pa.int32()),
    "share": pa.array([0.5, None, -1e300]),
    "is_late": pa.array([True, None, False]),
    "price": pa.array([Decimal("1.50"), None, Decimal("123456789012345678.90")], pa.decimal128(20, 2)),
    "local": pa.array([datetime(1999, 1, 1), None, datetime(2026, 3, 29, 2, 30, 0, 1)], pa.timestamp("us")),
    "day": pa.array([datetime(1600, 1, 1).date(), None, datetime(2026, 1, 1).date()], pa.date32()),
    "clock": pa.array([datetime(1999, 1, 1, 1, 2, 3, 4).time(), None, None], pa.time64("us")),
    "raw": pa.array([b"\x00\xff", None, b""], pa.binary()),
    "who": pa.array([{"id": 7, "tags": ["a", None]}, None, {"id": None, "tags": None}], pa.struct([("id", pa.int32()), ("tags", pa.list_(pa.string()))])),
    "stops": pa.array([[START, None], [], None], pa.list_(pa.timestamp("us", "UTC"))),
    "counts": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
}



def make_flights(catalog: Catalog, *commits: pa.Table) -> Table:
    catalog.create_namespace("ods")
    table = catalog.create_table("ods.flights", commits[0].schema, properties={EVENT_TIME_COLUMN_KEY: "at"})
    for rows in commits:
        table.append(rows)
    return table


def flights(*hours: float, **columns: pa.Array) -> pa.Table:
    times = pa.array([START + hour * HOUR for hour in hours], pa.timestamp("us", "UTC"))
    return pa.table({"at": times, "number": pa.array(range(len(hours)), pa.int64())} | columns)


def write(catalog: Catalog, value: Any, within: TimeSlice | None = FIRST) -> int:
    return write_frame(catalog, DERIVED, within, value, []).row_count


@pytest.mark.parametrize("kind", KINDS, ids=name_frame)
def test_a_slice_goes_to_every_library_and_back_with_every_type(catalog: Catalog, kind: type) -> None:
    table = make_flights(catalog, flights(0.5, 2, 2.5, **EVERY_TYPE), flights(1, 1.5, 1.999, **EVERY_TYPE))
    engine = StepEngine()

    value = open_view(catalog, "ods.flights", FIRST).read(kind, engine.relate)
    assert isinstance(value, kind)
    assert write(catalog, value) == 3

    made = catalog.load_table("dm.delays")
    (types, expected) = ({field.name: str(field.field_type) for field in one.schema().fields} for one in (made, table))
    assert types == expected
    within = f"epoch_ms(\"at\") BETWEEN {FIRST.start_ms} AND {FIRST.stop_ms - 1}"
    found, wanted = (judge.query(one, f"SELECT * FROM {{table}} WHERE {within} ORDER BY number") for one in (made, table))
    assert found == wanted


@pytest.mark.parametrize("kind", KINDS, ids=name_frame)
def test_a_slice_without_rows_takes_the_place_of_what_was_there(catalog: Catalog, kind: type) -> None:
    make_flights(catalog, flights(2, 2.5, 2.75, **EVERY_TYPE))
    write(catalog, flights(1, 1.1, 1.2, **EVERY_TYPE))
    engine = StepEngine()

    write(catalog, open_view(catalog, "ods.flights", FIRST).read(kind, engine.relate))

    assert judge.query(catalog.load_table("dm.delays"), "SELECT count(*) FROM {table}") == [(0,)]


def test_a_lazy_frame_reads_only_the_columns_and_rows_that_it_needs(catalog: Catalog) -> None:
    make_flights(catalog, flights(1, 1.5, 1.75, **EVERY_TYPE))
    frame: pl.LazyFrame = open_view(catalog, "ods.flights", FIRST).read(pl.LazyFrame, StepEngine().relate)

    assert frame.filter(pl.col("number") > 0).select("carrier").collect().rows() == [(None,), ("Zoë",)]
    assert frame.head(1).select("whole").collect().rows() == [(2**53 + 1,)]


def test_an_index_that_has_a_name_becomes_a_column_and_one_without_does_not(catalog: Catalog) -> None:
    frame = flights(1, 1.25, 1.5).to_pandas()

    write(catalog, frame.groupby("at").agg(count=("number", "size"))[lambda it: it["count"] == 1])
    write(catalog, frame.rename(columns={"number": "count"})[1:])

    assert judge.query(catalog.load_table("dm.delays"), "SELECT count FROM {table} ORDER BY ALL") == [(1,), (2,)]


def test_a_column_keeps_its_type_where_a_library_leaves_it_open(catalog: Catalog) -> None:
    prices = pa.array([Decimal("1.25"), Decimal("100.00")], pa.decimal128(9, 2))
    write(catalog, flights(1, 1.5, price=prices, key=pa.array([b"ab", b"cd"], pa.binary(2))))
    frame = flights(1, 1.5).to_pandas()

    for values, expected in (([None, None], [None, None]), ([Decimal("3.5"), None], [Decimal("3.50"), None])):
        write(catalog, frame.assign(price=pd.Series(values, dtype=object), key=pd.Series([b"ab", None], dtype=object)))
        found = judge.query(catalog.load_table("dm.delays"), "SELECT price, key FROM {table} ORDER BY number")
        assert found == list(zip(expected, [b"ab", None], strict=True))


def test_rows_that_pandas_counts_in_nanoseconds_are_written_where_nothing_is_lost(catalog: Catalog) -> None:
    frame = flights(1, 1.5).to_pandas().assign(at=lambda it: it["at"].astype("datetime64[ns, UTC]"))

    assert write(catalog, frame) == 2


@pytest.mark.parametrize(("value", "found"), [(None, "nothing"), ([1], "builtins.list"), (pd.Series([1]), "pandas.Series")], ids=str)
def test_what_holds_no_rows_is_refused(catalog: Catalog, value: object, found: str) -> None:
    with pytest.raises(HandOverError, match=f"found .*{found}.*, expected one of pandas.DataFrame"):
        write(catalog, value)
