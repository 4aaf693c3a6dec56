"""SQL computes a table, a slice of event time after the other, from exactly that slice of its inputs."""

import json
from datetime import timedelta

import pytest

from lakehouse_assets.model.errors import (
    QueryError,
    ResultTypeError,
    RowsOutsideSliceError,
    UnknownTableError,
)
from lakehouse_assets.model.slice_notes import INPUTS_KEY, RUN_KEY
from lakehouse_assets.model.sql_table_spec import SqlTableSpec
from lakehouse_assets.operations.deriving_slices import run_sql
from lakehouse_assets.systems import scanning
from lakehouse_assets.systems.pins import resolve_as_of
from lakehouse_assets.systems.table_times import read_table_times
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.faults import FaultyCatalog
from lakehouse_assets_tests.operations.flights import (
    DELAYS,
    FLIGHTS,
    ROLL_UP,
    compute,
    fly,
    make_flights,
    make_sql,
    read_delays,
)
from lakehouse_assets_tests.slices import START


@pytest.fixture
def flights(catalog: FaultyCatalog) -> FaultyCatalog:
    """Two complete hours, and a third that is not."""
    make_flights(catalog)
    fly(catalog, [(0.1, "AB", 5), (0.5, "AB", 7), (0.9, "CD", None), (1.2, "AB", 1), (2.5, "CD", 9)], complete_hours=2)
    return catalog


def test_an_hour_is_computed_into_a_table_that_is_there_then(flights: FaultyCatalog) -> None:
    (report,) = compute(flights, 0)

    table = flights.load_table(DELAYS)
    summary = table.current_snapshot().summary  # type: ignore[union-attr]
    assert summary is not None
    assert judge.query(table, "SELECT carrier, flights, delay FROM {table} ORDER BY carrier") == [("AB", 2, 12), ("CD", 1, None)]
    assert (report.row_count, report.is_complete) == (2, True)
    assert [str(field.field_type) for field in table.schema().fields] == ["timestamptz", "string", "long", "long"]
    assert json.loads(summary[INPUTS_KEY]) == {FLIGHTS: flights.load_table(FLIGHTS).metadata.current_snapshot_id}
    assert summary[RUN_KEY] == "run-1"


def test_several_hours_are_a_snapshot_each_and_the_watermark_follows_the_input(flights: FaultyCatalog) -> None:
    compute(flights, 2, 0, 1)

    watermark = read_table_times(flights.load_table(DELAYS)).watermark_ms
    assert len(flights.load_table(DELAYS).metadata.snapshots) == 3
    assert watermark == int((START + timedelta(hours=2)).timestamp() * 1000)
    assert read_delays(flights) == [(0, "AB", 2, 12), (0, "CD", 1, None), (1, "AB", 1, 1), (2, "CD", 1, 9)]


def test_late_rows_are_in_it_when_the_hour_is_computed_again(flights: FaultyCatalog) -> None:
    compute(flights, 0, 1)
    fly(flights, [(0.3, "EF", 2)])

    compute(flights, 0)

    assert read_delays(flights) == [(0, "AB", 2, 12), (0, "CD", 1, None), (0, "EF", 1, 2), (1, "AB", 1, 1)]


def test_only_files_of_the_slice_are_read(flights: FaultyCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    stream = scanning._stream
    monkeypatch.setattr(
        scanning, "_stream", lambda reader, table, task: read.append(task.file.file_path) or stream(reader, table, task)
    )

    compute(flights, 1)

    assert len(read) == 1


def test_bounds_of_the_slice_are_parameters(flights: FaultyCatalog) -> None:
    spec = make_sql(sql="SELECT $slice_start AS hour, count(*) AS flights, $slice_end - INTERVAL 1 HOUR AS again FROM ods.flights")

    compute(flights, 0, 1, spec=spec)

    assert read_delays(flights, ["hour", "flights"]) == [(0, 3), (1, 1)]


def test_a_day_of_hours_is_one_slice(flights: FaultyCatalog) -> None:
    sql = "SELECT date_trunc('day', happened) AS hour, count(*) AS flights FROM ods.flights GROUP BY ALL"
    spec = make_sql(sql=sql, partitions={"every": "day", "start": START})
    reports = []

    run_sql(
        flights, spec, ["2026-11-01"], run_id="", stop=lambda: False, on_slice=lambda _, it: reports.append(it),
        on_retry=lambda *_: None,
    )  # fmt: skip

    assert read_delays(flights, ["hour", "flights"]) == [(0, 5)]
    assert [report.is_complete for report in reports] == [False]


def test_an_input_without_event_time_or_that_is_declared_so_is_read_whole(flights: FaultyCatalog) -> None:
    make_flights(flights, "ods.carriers", has_times=False)
    fly(flights, [(50, "AB", 1), (60, "AB", 1)], name="ods.carriers")
    make_flights(flights, "ods.others")
    fly(flights, [(50, "AB", 1), (60, "AB", 1), (70, "AB", 1)], name="ods.others")
    sql = """
        SELECT $slice_start AS hour, count(*) AS flights, (SELECT count(*) FROM ods.others) AS delay, min(c.n) AS carrier
        FROM ods.flights JOIN (SELECT carrier, count(*) AS n FROM ods.carriers GROUP BY ALL) AS c USING (carrier)
    """

    (report,) = compute(flights, 0, spec=make_sql(sql=sql, inputs=[{"table": "ods.others", "whole": True}]))

    assert read_delays(flights) == [(0, 2, 2, 3)]
    assert report.is_complete
    assert {one.table for one in report.inputs} == {"ods.others", FLIGHTS, "ods.carriers"}


def test_an_input_is_read_as_of_a_tag(flights: FaultyCatalog) -> None:
    table = flights.load_table(FLIGHTS)
    table.manage_snapshots().create_tag(resolve_as_of(table, "main"), "before").commit()
    fly(flights, [(0.3, "EF", 2)])

    spec = make_sql(inputs=[{"table": FLIGHTS, "as_of": "before"}])
    compute(flights, 0)
    compute(flights, 0, spec=spec)

    assert read_delays(flights) == [(0, "AB", 2, 12), (0, "CD", 1, None)]


def test_a_table_without_event_time_is_computed_as_a_whole(flights: FaultyCatalog) -> None:
    spec = SqlTableSpec(table=DELAYS, sql="SELECT carrier, count(*) AS flights FROM ods.flights GROUP BY ALL")
    compute(flights, spec=spec)
    fly(flights, [(0.3, "EF", 2)])

    (report,) = compute(flights, spec=spec)

    rows = flights.load_table(DELAYS).scan().to_arrow().to_pylist()
    assert sorted((row["carrier"], row["flights"]) for row in rows) == [("AB", 3), ("CD", 2), ("EF", 1)]
    assert (report.within, report.watermark_ms) == (None, None)


def test_a_chain_of_roll_ups_is_complete_as_far_as_its_input(flights: FaultyCatalog) -> None:
    compute(flights, 0, 1, 2)
    sql = "SELECT hour, sum(flights) AS flights FROM dm.delays GROUP BY ALL"

    reports = compute(flights, 0, 1, 2, spec=make_sql(table="dm.totals", sql=sql))

    assert [report.is_complete for report in reports] == [True, True, False]
    assert judge.query(flights.load_table("dm.totals"), "SELECT flights FROM {table} ORDER BY hour") == [(3,), (1,), (1,)]


def test_the_inputs_of_a_run_are_pinned_when_it_begins(flights: FaultyCatalog) -> None:
    flights.before_commit = [lambda: fly(flights, [(1.3, "EF", 2)])]

    compute(flights, 0, 1)

    assert read_delays(flights) == [(0, "AB", 2, 12), (0, "CD", 1, None), (1, "AB", 1, 1)]


def test_a_run_that_was_overtaken_says_so_and_changes_nothing(flights: FaultyCatalog) -> None:
    def overtake() -> None:
        fly(flights, [(0.3, "EF", 2)])
        compute(flights, 0)

    compute(flights, 1)
    flights.before_commit = [overtake]

    (report,) = compute(flights, 0)

    assert report.was_newer
    assert (0, "EF", 1, 2) in read_delays(flights)


def test_more_than_fits_into_memory_is_computed_on_disk(flights: FaultyCatalog) -> None:
    sql = """
        SELECT $slice_start AS hour, count(DISTINCT n) AS flights
        FROM (SELECT md5(n::VARCHAR) AS n FROM range(1000000) AS r(n), (SELECT count(*) FROM ods.flights))
    """

    compute(flights, 0, spec=make_sql(sql=sql, memory_limit="64MiB"))

    assert read_delays(flights, ["hour", "flights"]) == [(0, 1_000_000)]


def test_what_is_wrong_is_said_and_nothing_is_written(flights: FaultyCatalog) -> None:
    with pytest.raises(QueryError, match="delays"):
        compute(flights, 0, spec=make_sql(sql="SELECT happened AS hour, delays FROM ods.flights"))
    with pytest.raises(UnknownTableError, match="Did you mean 'ods.flights'"):
        compute(flights, 0, spec=make_sql(sql="SELECT happened AS hour FROM ods.flihgts"))
    with pytest.raises(ResultTypeError, match="larger than a long holds"):
        compute(flights, 0, spec=make_sql(sql="SELECT happened AS hour, 9223372036854775807::HUGEINT + delay AS d FROM ods.flights"))
    with pytest.raises(RowsOutsideSliceError):
        compute(flights, 0, spec=make_sql(sql=ROLL_UP.replace("date_trunc('hour', happened)", "date_trunc('day', happened) + INTERVAL 5 HOUR")))
    with pytest.raises(QueryError, match="Conversion"):
        compute(flights, 0, spec=make_sql(sql="SELECT happened AS hour, carrier::INT AS n FROM ods.flights"))

    assert not flights.table_exists(DELAYS) or read_delays(flights, ["hour"]) == []
