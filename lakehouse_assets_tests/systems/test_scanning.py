"""Slices and snapshots of tables as Arrow datasets, judged by DuckDB's own reader of Iceberg."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.transforms import DayTransform
from pyiceberg.types import LongType

from lakehouse_assets.model.errors import NoEventTimeError
from lakehouse_assets.model.slices import EVENT_TIME_COLUMN_KEY, TimeSlice
from lakehouse_assets.systems.scanning import TableDataset
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.foreign_deletes import delete_rows

START = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def make_rows(*hours: float | None, zone: str | None = "UTC") -> pa.Table:
    times = [None if hour is None else START + hour * HOUR for hour in hours]
    kind = pa.timestamp("us", zone)
    return pa.table({"at": pa.array(times, pa.timestamp("us", "UTC")).cast(kind), "hour": pa.array(hours, pa.float64())})


def make_table(catalog: Catalog, *commits: pa.Table, daily: bool = False) -> Table:
    catalog.create_namespace("dm")
    table = catalog.create_table("dm.delays", commits[0].schema, properties={EVENT_TIME_COLUMN_KEY: "at"})
    if daily:
        with table.update_spec() as update:
            update.add_field("at", DayTransform(), "day")
    for rows in commits:
        table.append(rows)
    return table


def between(start: float, stop: float) -> TimeSlice:
    return TimeSlice.between(START + start * HOUR, START + stop * HOUR)


def read(dataset: TableDataset, columns: Sequence[str] = ("hour",), condition: pc.Expression | None = None) -> list[object]:
    rows = dataset.scanner(columns, condition).to_reader().read_all()
    assert rows.column_names == list(columns)
    return sorted(rows.column(0).to_pylist())


@pytest.mark.parametrize("zone", ["UTC", None])
def test_a_slice_holds_its_first_moment_and_not_its_last(catalog: Catalog, zone: str | None) -> None:
    rows = make_rows(0.999, 1, 1.5, 1.999999, 2, 2.5, None, zone=zone)
    table = make_table(catalog, rows)

    assert read(TableDataset(table, within=between(1, 2))) == [1, 1.5, 1.999999]


def test_a_condition_of_the_engine_is_added_to_the_slice(catalog: Catalog) -> None:
    table = make_table(catalog, make_rows(0, 1, 1.25, 1.5, 2))
    connection = duckdb.connect().register("sliced", TableDataset(table, within=between(1, 2)))

    found = connection.execute("SELECT hour FROM sliced WHERE hour > 1.2 ORDER BY hour").fetchall()

    assert found == [(1.25,), (1.5,)]


@pytest.mark.parametrize("daily", [True, False], ids=["by partition", "by bounds"])
def test_files_outside_of_the_slice_are_not_opened(catalog: Catalog, daily: bool) -> None:
    table = make_table(catalog, make_rows(1, 2), make_rows(25, 26), make_rows(49, 50), daily=daily)
    for task in table.scan("hour < 25 or hour > 26").plan_files():
        Path(task.file.file_path.removeprefix("file://")).unlink()

    assert read(TableDataset(table, within=between(24, 48))) == [25, 26]


def test_deleted_rows_are_not_in_the_slice(catalog: Catalog) -> None:
    table = make_table(catalog, make_rows(0, 1, 1.25, 1.5, 2))
    delete_rows(catalog, "dm.delays", "hour", [1.25])

    assert read(TableDataset(table.refresh(), within=between(1, 2))) == [1, 1.5]


def test_an_earlier_snapshot_has_the_columns_of_its_time(catalog: Catalog) -> None:
    table = make_table(catalog, make_rows(1, 2))
    earlier = table.metadata.current_snapshot_id
    with table.update_schema() as update:
        update.add_column("later", LongType())
    table.append(make_rows(1.5).append_column("later", pa.array([7], pa.int64())))

    then, now = TableDataset(table, earlier, between(1, 2)), TableDataset(table, within=between(1, 2))

    assert (then.schema.names, read(then), then.snapshot_id) == (["at", "hour"], [1], earlier)
    assert (now.schema.names, read(now), now.snapshot_id) == (["at", "hour", "later"], [1, 1.5], table.metadata.current_snapshot_id)
    assert judge.query(table, "SELECT hour FROM {table} ORDER BY 1", earlier) == [(1,), (2,)]


def test_the_snapshot_that_is_current_has_the_columns_of_now(catalog: Catalog) -> None:
    table = make_table(catalog, make_rows(1))
    with table.update_schema() as update:
        update.add_column("later", LongType())

    assert TableDataset(table, table.metadata.current_snapshot_id).schema.names == ["at", "hour", "later"]


def test_a_dataset_is_of_the_table_as_it_was_loaded(catalog: Catalog) -> None:
    table = make_table(catalog, make_rows(1))
    dataset = TableDataset(table)
    catalog.load_table("dm.delays").append(make_rows(2))

    assert read(dataset) == [1]


def test_a_table_without_rows_has_an_empty_slice(catalog: Catalog) -> None:
    catalog.create_namespace("dm")
    table = catalog.create_table("dm.delays", make_rows().schema, properties={EVENT_TIME_COLUMN_KEY: "at"})

    assert read(TableDataset(table, within=between(1, 2))) == []


@pytest.mark.parametrize("properties", [{}, {EVENT_TIME_COLUMN_KEY: "hour"}, {EVENT_TIME_COLUMN_KEY: "gone"}], ids=str)
def test_a_slice_of_a_table_without_event_time_is_refused(catalog: Catalog, properties: dict[str, str]) -> None:
    catalog.create_namespace("dm")
    table = catalog.create_table("dm.delays", make_rows().schema, properties=properties)

    with pytest.raises(NoEventTimeError, match="expected the name of a timestamp or timestamptz column"):
        TableDataset(table, within=between(1, 2))
