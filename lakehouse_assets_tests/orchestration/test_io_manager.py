"""Python assets over real tables: what they are handed, what becomes of what they return, judged by DuckDB's own reader."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.downstream import complete_slices, whole_table
from lakehouse_assets.environment import Environment
from lakehouse_assets.model.errors import HandOverError, RowsOutsideSliceError
from lakehouse_assets.model.ledger import LEDGER_KEY
from lakehouse_assets.model.slices import EVENT_TIME_COLUMN_KEY, to_ms
from lakehouse_assets.model.watermark import WATERMARK_KEY
from lakehouse_assets.operations.slice_writing import read_notes
from lakehouse_assets.operations.systems import open_environment_catalog
from lakehouse_assets.orchestration.io_manager import LakehouseIOManager
from lakehouse_assets.orchestration.names import IO_MANAGER
from lakehouse_assets.orchestration.resources import LakehouseResource
from lakehouse_assets.systems.pins import pin
from lakehouse_assets_tests import judge

START = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
HOURS = dg.HourlyPartitionsDefinition("2026-11-01-00:00", end_offset=1)
COMPLETE = dg.AssetSpec(["ods", "flights__complete"], partitions_def=HOURS).with_io_manager_key(IO_MANAGER)
FLIGHTS = dg.AssetSpec(["ods", "flights"], partitions_def=HOURS).with_io_manager_key(IO_MANAGER)
CARRIERS = dg.AssetSpec(["ods", "carriers"]).with_io_manager_key(IO_MANAGER)
SOURCES = (COMPLETE, FLIGHTS, CARRIERS)

@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """The one that the environment names."""
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    return open_environment_catalog(Environment.read())


def at(hours: float) -> datetime:
    return START + hours * HOUR


def key(hour: int) -> str:
    return at(hour).strftime("%Y-%m-%d-%H:00")


def flights(*hours: float, **columns: pa.Array) -> pa.Table:
    named = {"at": pa.array(map(at, hours), pa.timestamp("us", "UTC")), "number": pa.array(range(len(hours)), pa.int64())}
    return pa.table(named | columns)


def make_flights(catalog: Catalog, *commits: pa.Table, complete_until: float = 24, name: str = "ods.flights") -> Table:
    catalog.create_namespace_if_not_exists("ods")
    properties = {EVENT_TIME_COLUMN_KEY: "at", WATERMARK_KEY: str(to_ms(at(complete_until)))}
    table = catalog.create_table(name, commits[0].schema, properties=properties)
    for rows in commits:
        table.append(rows)
    return table


def make_asset(compute: Callable[..., Any], **parts: Any) -> dg.AssetsDefinition:
    """The asset dm/delays of one function, of which the first parameter is `ods/flights__complete` unless `ins` says otherwise."""
    usual = {
        "key": ["dm", "delays"], "ins": {"rows": dg.AssetIn(COMPLETE.key)}, "partitions_def": HOURS,
        "metadata": {"event_time": "at"}, "io_manager_key": IO_MANAGER,
    }  # fmt: skip
    return dg.asset(**{**usual, **parts})(compute)


def run(asset: dg.AssetsDefinition, hour: int | None = 1, *others: dg.AssetsDefinition, fails: bool = False, **parts: Any) -> dg.ExecuteInProcessResult:
    done = dg.materialize(
        [*SOURCES, *others, asset], selection=[asset], partition_key=key(hour) if hour is not None else None,
        resources={IO_MANAGER: LakehouseIOManager(), "lakehouse": LakehouseResource()}, raise_on_error=not fails, **parts,
    )  # fmt: skip
    assert done.success is not fails
    return done


def metadata(done: dg.ExecuteInProcessResult) -> dict[str, Any]:
    ((materialization,),) = [done.asset_materializations_for_node(node.name) for node in done.job_def.nodes]
    return {name: value.value for name, value in materialization.metadata.items()}


def hours_of(catalog: Catalog, name: str = "dm.delays") -> list[float]:
    table = catalog.load_table(name)
    return [hours for (hours,) in judge.query(table, f'''SELECT date_diff('minute', TIMESTAMPTZ '{START}', "at") / 60 FROM {{table}} ORDER BY 1''')]  # type: ignore[misc]


def double(rows: pa.Table) -> pa.Table:
    return rows.set_column(1, "number", pc.multiply(rows["number"], 2))


def test_a_slice_that_runs_again_takes_the_place_of_itself_and_of_nothing_else(catalog: Catalog) -> None:
    table = make_flights(catalog, flights(0.5, 1, 1.5, 2))
    asset = make_asset(double)
    for hour in (0, 1, 2, 1):
        run(asset, hour)
    table.append(flights(1.25))

    run(asset, 1)

    assert hours_of(catalog) == [0.5, 1, 1.25, 1.5, 2]
    assert len(catalog.load_table("dm.delays").metadata.snapshots) == 5


def test_a_retry_after_a_commit_whose_answer_was_lost_does_not_append_twice(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    make_flights(catalog, flights(1, 1.5))
    commit, calls = type(catalog).commit_table, []

    def lose_answer(self: Catalog, *arguments: Any) -> Any:
        answer = commit(self, *arguments)
        calls.append(answer)
        if len(calls) == 1:
            raise OSError("connection reset")
        return answer

    run(make_asset(double))
    monkeypatch.setattr(type(catalog), "commit_table", lose_answer)

    run(make_asset(double, retry_policy=dg.RetryPolicy(max_retries=2)))

    assert hours_of(catalog) == [1, 1.5]


def test_an_asset_that_fails_behind_its_write_runs_again_without_a_trace(catalog: Catalog) -> None:
    make_flights(catalog, flights(1, 1.5))
    attempts = []

    def delays(context: dg.AssetExecutionContext, lakehouse: LakehouseResource) -> None:
        rows = lakehouse.read("ods.flights", pl.DataFrame, within=context.partition_time_window)
        lakehouse.write("dm.delays", rows, event_time="at", within=context.partition_time_window)
        attempts.append(1)
        if len(attempts) < 3:
            raise RuntimeError("behind the commit")

    run(make_asset(delays, ins={}, deps=[COMPLETE], retry_policy=dg.RetryPolicy(max_retries=2)))

    assert (len(attempts), hours_of(catalog)) == (3, [1, 1.5])
    (note,) = read_notes(catalog.load_table("dm.delays")).slices.values()
    assert ([state.table for state in note.inputs], note.is_complete) == (["ods.flights"], True)


def test_the_watermark_of_what_the_resource_writes_follows_the_partitions_of_the_asset(catalog: Catalog) -> None:
    make_flights(catalog, flights(0, 0.5))

    def delays(context: dg.AssetExecutionContext, lakehouse: LakehouseResource) -> None:
        rows = lakehouse.read("ods.flights", pa.RecordBatchReader, within=context.partition_time_window)
        lakehouse.write("dm.delays", rows, event_time="at", within=context.partition_time_window)

    done = run(make_asset(delays, ins={}, deps=[COMPLETE]), 0)

    table = catalog.load_table("dm.delays")
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert table.properties[WATERMARK_KEY] == str(to_ms(at(1)))
    assert snapshot.summary.additional_properties["lakehouse.run-id"] == done.run_id


def test_rows_outside_of_the_partition_are_an_error_and_nothing_is_written(catalog: Catalog) -> None:
    make_flights(catalog, flights(1, 2))

    def delays(rows: pa.Table) -> pa.Table:
        return rows.set_column(0, "at", pa.array([at(2)], pa.timestamp("us", "UTC")))

    done = run(make_asset(delays), fails=True)

    assert_failed(done, RowsOutsideSliceError)
    assert hours_of(catalog) == []


def assert_failed(done: dg.ExecuteInProcessResult, kind: type[Exception], text: str = "") -> None:
    (failure,) = [event.step_failure_data.error for event in done.all_events if event.is_step_failure]
    while failure is not None and failure.cls_name != kind.__name__:
        failure = failure.cause
    assert failure is not None
    assert text in failure.message


def test_what_was_read_is_recorded_with_the_rows_and_shown(catalog: Catalog) -> None:
    table = make_flights(catalog, flights(1))
    catalog.create_table("ods.carriers", pa.schema([("carrier", pa.string())])).append(pa.table({"carrier": ["AA"]}))

    def delays(rows: pl.DataFrame, carriers: pl.DataFrame) -> pl.DataFrame:
        return rows.join(carriers, how="cross")

    asset = make_asset(delays, ins={"rows": complete_slices("ods.flights"), "carriers": whole_table("ods.carriers")})
    shown = metadata(run(asset))

    made = catalog.load_table("dm.delays")
    snapshot = made.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    heads = {name: catalog.load_table(name).metadata.current_snapshot_id for name in ("ods.carriers", "ods.flights")}
    assert json.loads(snapshot.summary.additional_properties["lakehouse.inputs"]) == heads
    assert {record.data["table"]: record.data["snapshot"] for record in shown["inputs"].records} == {name: str(one) for name, one in heads.items()}
    assert shown["snapshot_id"] == str(snapshot.snapshot_id)
    assert table.metadata.table_uuid


def test_the_watermark_follows_the_slices_that_were_computed_from_complete_ones(catalog: Catalog) -> None:
    make_flights(catalog, flights(0, 1, 2), complete_until=2)
    watermarks = []
    for hour in (1, 0, 2):
        run(make_asset(double), hour)
        watermarks.append(catalog.load_table("dm.delays").properties.get(WATERMARK_KEY))

    assert watermarks == [None, str(to_ms(at(2))), str(to_ms(at(2)))]


def test_several_hours_of_one_run_land_in_one_snapshot_and_each_is_remembered(catalog: Catalog) -> None:
    make_flights(catalog, flights(0, 1, 2, 3, 4), complete_until=3)
    hours = {"dagster/asset_partition_range_start": key(0), "dagster/asset_partition_range_end": key(3)}

    done = run(make_asset(double, backfill_policy=dg.BackfillPolicy.multi_run(24)), None, tags=hours)

    table = catalog.load_table("dm.delays")
    assert (hours_of(catalog), len(table.metadata.snapshots)) == ([0, 1, 2, 3], 1)
    assert [note.is_complete for note in read_notes(table).slices.values()] == [True, True, True, False]
    assert table.properties[WATERMARK_KEY] == str(to_ms(at(3)))
    shown = done.asset_materializations_for_node("dm__delays")
    assert [one.partition for one in shown] == [key(hour) for hour in range(4)]
    assert all(one.metadata["rows_of_all_partitions"].value == 4 for one in shown)


def test_a_day_is_computed_from_the_hours_of_a_table_that_was_computed_itself(catalog: Catalog) -> None:
    make_flights(catalog, flights(1, 1.5, 23, 24), complete_until=48)
    hourly = make_asset(double)
    for hour in (1, 23, 24):
        run(hourly, hour)

    def days(delays: pd.DataFrame) -> pd.DataFrame:
        return delays.groupby(delays["at"].dt.floor("D")).agg(count=("number", "size"))

    daily = make_asset(days, key=["dm", "days"], ins={"delays": dg.AssetIn(hourly.key)}, partitions_def=dg.DailyPartitionsDefinition("2026-11-01"))
    dg.materialize([*SOURCES, hourly, daily], selection=[daily], partition_key="2026-11-01", resources={IO_MANAGER: LakehouseIOManager()})

    assert judge.query(catalog.load_table("dm.days"), 'SELECT count, epoch("at") FROM {table}') == [(3, START.timestamp())]


def test_a_table_that_is_filled_from_kafka_can_be_read_as_a_whole_beside_a_slice(catalog: Catalog) -> None:
    make_flights(catalog, flights(1, 5, 6))

    def delays(rows: pa.Table, every: pa.Table) -> pa.Table:
        return rows.append_column("share", pa.array([rows.num_rows / every.num_rows]))

    run(make_asset(delays, ins={"rows": complete_slices("ods.flights"), "every": whole_table("ods.flights")}))

    assert judge.query(catalog.load_table("dm.delays"), "SELECT share FROM {table}") == [(1 / 3,)]


def test_an_asset_without_partitions_replaces_its_whole_table_from_whole_inputs(catalog: Catalog) -> None:
    table = make_flights(catalog, flights(1, 5))

    def features(rows: pa.Table) -> pa.Table:
        return rows.select(["number"])

    asset = make_asset(features, partitions_def=None, metadata={})
    run(asset, None)
    table.append(flights(7))
    run(asset, None)

    assert judge.query(catalog.load_table("dm.delays"), "SELECT count(*) FROM {table}") == [(3,)]


@pytest.mark.parametrize("of", ["training", "id", "time"])
def test_an_input_is_read_as_of_a_tag_a_snapshot_or_a_time(catalog: Catalog, of: str) -> None:
    table = make_flights(catalog, flights(1, 1.5))
    then = table.current_snapshot()
    assert then is not None
    pin(catalog, "ods.flights", "training", None, None, lambda: 0)
    moment = datetime.fromtimestamp(then.timestamp_ms / 1000, UTC)
    table.refresh().append(flights(1.75))
    as_of = {"training": "training", "id": then.snapshot_id, "time": moment.isoformat()}[of]

    run(make_asset(double, ins={"rows": complete_slices("ods.flights", as_of=as_of)}))

    assert hours_of(catalog) == [1, 1.5]


def test_relations_of_one_step_are_joined_in_one_engine_which_reads_when_rows_are_asked_for(catalog: Catalog) -> None:
    rows = flights(1, 1.5, 2, carrier=pa.array(["AA", "BB", "AA"]))
    make_flights(catalog, rows)
    catalog.create_table("ods.carriers", pa.schema([("carrier", pa.string()), ("name", pa.string())])).append(
        pa.table({"carrier": ["AA"], "name": ["American"]})
    )

    def delays(rows: duckdb.DuckDBPyRelation, carriers: duckdb.DuckDBPyRelation, before: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
        assert before.count("*").fetchall() == [(1,)]
        return rows.join(carriers, "carrier").query("joined", 'SELECT "at", name FROM joined')

    before = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True)
    run(make_asset(delays, ins={
        "rows": dg.AssetIn(COMPLETE.key), "carriers": dg.AssetIn(CARRIERS.key),
        "before": dg.AssetIn(["ods", "other__complete"], partition_mapping=before, metadata={"whole": False}),
    }), 1, *make_other(catalog))  # fmt: skip

    assert judge.query(catalog.load_table("dm.delays"), "SELECT name FROM {table}") == [("American",)]


def make_other(catalog: Catalog) -> list[Any]:
    make_flights(catalog, flights(0.5, 1), name="ods.other")
    return [dg.AssetSpec(["ods", "other__complete"], partitions_def=HOURS).with_io_manager_key(IO_MANAGER)]


def test_a_column_without_a_value_in_one_slice_keeps_its_type(catalog: Catalog) -> None:
    make_flights(catalog, flights(1, 2, price=pa.array([Decimal("1.25"), None], pa.decimal128(9, 2))))

    def delays(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(price=rows["price"].astype(object).where(rows["price"].notna(), None))

    for hour in (1, 2, 1):
        run(make_asset(delays), hour)

    assert judge.query(catalog.load_table("dm.delays"), 'SELECT price FROM {table} ORDER BY "at"') == [(Decimal("1.25"),), (None,)]


def test_a_run_that_read_older_rows_than_the_table_was_computed_from_writes_nothing_and_says_so(catalog: Catalog) -> None:
    table = make_flights(catalog, flights(1))

    def delays(rows: pa.Table) -> pa.Table:
        if rows.num_rows == 1:
            table.append(flights(1.5))
            run(make_asset(double), 1)
        return rows

    shown = metadata(run(make_asset(delays)))

    assert hours_of(catalog) == [1, 1.5]
    assert shown["left_as_it_was"] == "it had been computed from newer inputs"


def none(rows: pa.Table):  # type: ignore[no-untyped-def]
    return None


def a_list(rows: list):  # type: ignore[no-untyped-def, type-arg]
    return pa.table({})


def untyped(rows):  # type: ignore[no-untyped-def]
    return pa.table({})


@pytest.mark.parametrize(
    ("compute", "parts", "text"),
    [
        (none, {}, "found nothing, expected one of pandas.DataFrame"),
        (a_list, {}, "found the type typing.List, expected an input that is annotated with one of"),
        (untyped, {}, "found the type typing.Any"),
        (double, {"metadata": {}}, "found partitions of time, but no column of event time"),
        (double, {"key": ["delays"]}, "found this asset key, expected namespace/name"),
        (double, {"partitions_def": dg.StaticPartitionsDefinition([key(1)]), "ins": {"rows": dg.AssetIn(CARRIERS.key)}}, "found partitions that are Static"),
        (double, {"ins": {"rows": dg.AssetIn(FLIGHTS.key)}}, "expected 'ods/flights__complete'"),
    ],
)  # fmt: skip
def test_what_can_not_be_handed_over_is_said(catalog: Catalog, compute: Callable[..., Any], parts: dict[str, Any], text: str) -> None:
    table = make_flights(catalog, flights(1))
    table.transaction().set_properties({LEDGER_KEY: "{}"}).commit_transaction()
    make_flights(catalog, flights(1), name="ods.carriers")

    assert_failed(run(make_asset(compute, **parts), fails=True), HandOverError, text)


def test_a_value_is_loaded_outside_of_a_run(catalog: Catalog) -> None:
    make_flights(catalog, flights(1, 2))
    asset = make_asset(double)
    run(asset, 1)
    defs = dg.Definitions(assets=[*SOURCES, asset], resources={IO_MANAGER: LakehouseIOManager()})

    frame = defs.load_asset_value(["dm", "delays"], python_type=pd.DataFrame, partition_key=key(1))

    assert frame["number"].tolist() == [0]
    assert LakehouseResource().read("dm.delays", duckdb.DuckDBPyRelation, within=(at(1), at(2))).count("*").fetchall() == [(1,)]


@pytest.mark.slow
def test_a_large_slice_goes_through_in_bounded_memory(catalog: Catalog) -> None:
    rows_per_file, files = 100_000, 24
    text = pa.array(["x" * 120] * rows_per_file)
    file = pa.table({"at": pa.array([at(1)] * rows_per_file, pa.timestamp("us", "UTC")), "text": text})
    make_flights(catalog, *[file] * files)
    held: list[int] = []

    def watch(rows: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        for batch in rows:
            held.append(pa.total_allocated_bytes())
            yield batch

    def delays(rows: pa.RecordBatchReader) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(rows.schema, watch(rows))

    before = pa.total_allocated_bytes()
    shown = metadata(run(make_asset(delays)))

    assert shown["dagster/partition_row_count"] == files * rows_per_file
    assert max(held) - before < 0.5 * file.nbytes * files


ASSETS = """
import dagster as dg
import pyarrow as pa
from lakehouse_assets.downstream import complete_slices, hour_is_complete


@dg.asset(
    key=["dm", "delays"], ins={"rows": complete_slices("ods.flights")}, partitions_def=dg.HourlyPartitionsDefinition("2026-11-01-00:00"),
    automation_condition=hour_is_complete(), metadata={"event_time": "at"}, io_manager_key="lakehouse_io",
)
def delays(rows: pa.Table) -> pa.Table:
    return rows


ASSETS = [delays]
"""
FLIGHTS_TABLE = """
table: ods.flights
source: {topic: flights}
schema: [{name: at, type: timestamptz}, {name: number, type: long}]
event_time: {column: at, start: 2026-11-01}
"""


def test_an_asset_of_the_tables_folder_is_materialized_as_it_is_loaded(catalog: Catalog, tmp_path: Path) -> None:
    make_flights(catalog, flights(0.5, 1, 2))
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "flights.yaml").write_text(FLIGHTS_TABLE)
    (folder / "assets.py").write_text(ASSETS)
    defs = build_definitions(Environment.read({"LAKEHOUSE_TABLES_DIR": str(folder), "LAKEHOUSE_HOME": str(tmp_path / "home")}))
    job = defs.resolve_implicit_global_asset_job_def()

    done = job.execute_in_process(partition_key=key(1), asset_selection=[dg.AssetKey(["dm", "delays"])])

    assert done.success
    assert hours_of(catalog) == [1]
