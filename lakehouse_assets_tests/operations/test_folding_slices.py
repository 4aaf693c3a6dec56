"""A slice that is computed again reads only what was added since, where that gives the same; else it says why it did not."""

import pytest

from lakehouse_assets.model.sql_table_spec import SqlTableSpec
from lakehouse_assets.systems import scanning
from lakehouse_assets_tests.builders import expire, roll_back
from lakehouse_assets_tests.faults import FaultyCatalog
from lakehouse_assets_tests.foreign_deletes import delete_rows
from lakehouse_assets_tests.operations.flights import (
    DELAYS,
    FLIGHTS,
    compute,
    fly,
    make_flights,
    make_sql,
    read_delays,
)
from lakehouse_assets_tests.slices import START
from lakehouse_assets_tests.upkeep.operations import maintain

SQL = """
SELECT date_trunc('hour', happened) AS hour, carrier, count(*) AS flights, sum(delay) AS delay, min(delay) AS least, max(delay) AS most
FROM ods.flights
WHERE carrier <> 'XX'
GROUP BY ALL -- of what there is
"""
FOLDED = make_sql(sql=SQL, incremental=True)
ADDED = make_sql(sql="SELECT happened AS hour, carrier, 1 AS flights, delay FROM ods.flights WHERE delay > 1", incremental=True)
COLUMNS = ("hour", "carrier", "flights", "delay", "least", "most")


@pytest.fixture
def flights(catalog: FaultyCatalog) -> FaultyCatalog:
    make_flights(catalog)
    fly(catalog, [(0.1, "AB", 5), (0.5, "AB", 7), (0.9, "CD", None), (1.2, "AB", 1)], complete_hours=1)
    return catalog


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of any table that are read, as they are."""
    read: list[str] = []
    stream = scanning._stream
    monkeypatch.setattr(
        scanning, "_stream", lambda reader, table, task: read.append(".".join(table.name())) or stream(reader, table, task)
    )
    return read


def test_late_rows_are_folded_into_what_the_slice_holds(flights: FaultyCatalog, read_files: list[str]) -> None:
    (first,) = compute(flights, 0, spec=FOLDED)
    fly(flights, [(0.2, "AB", -3), (0.3, "CD", 4), (0.4, "EF", None), (0.6, "XX", 9), (1.5, "AB", 8)])
    read_files.clear()

    (again,) = compute(flights, 0, spec=FOLDED)

    assert first.folding == "computed whole: it is computed for the first time, or was by others"
    assert (again.folding, again.row_count, again.total_rows) == ("folded with what it held", 3, 3)
    assert sorted(read_files) == [DELAYS, FLIGHTS]  # one file of each, of two and two that the tables have
    assert read_delays(flights, COLUMNS) == [
        (0, "AB", 3, 9, -3, 7), (0, "CD", 2, 4, 4, 4), (0, "EF", 1, None, None, None)
    ]  # fmt: skip


def test_rows_are_added_beside_those_that_the_slice_holds(flights: FaultyCatalog, read_files: list[str]) -> None:
    compute(flights, 0, spec=ADDED)
    fly(flights, [(0.2, "AB", 3), (0.3, "CD", 1), (1.5, "AB", 8)])
    read_files.clear()

    (again,) = compute(flights, 0, spec=ADDED)

    assert (again.folding, again.row_count, again.total_rows) == ("added to what it held", 1, 3)
    assert read_files == [FLIGHTS]
    assert read_delays(flights) == [(0.1, "AB", 1, 5), (0.2, "AB", 1, 3), (0.5, "AB", 1, 7)]
    assert compute(flights, 0, spec=ADDED)[0].total_rows == 3


def test_compaction_of_either_table_changes_nothing(flights: FaultyCatalog) -> None:
    compute(flights, 0, spec=FOLDED)
    fly(flights, [(0.2, "AB", 3)])
    maintain("compact", flights, FLIGHTS)
    maintain("compact", flights, DELAYS)
    fly(flights, [(0.2, "AB", 100)])

    (again,) = compute(flights, 0, spec=FOLDED)

    assert again.folding == "folded with what it held"
    assert read_delays(flights) == [(0, "AB", 4, 115), (0, "CD", 1, None)]


def test_where_rows_were_deleted_or_history_is_gone_it_is_computed_whole(flights: FaultyCatalog) -> None:
    compute(flights, 0, spec=FOLDED)
    delete_rows(flights, FLIGHTS, "delay", [5])
    (deleted,) = compute(flights, 0, spec=FOLDED)
    fly(flights, [(0.2, "AB", 3)])
    table = flights.load_table(FLIGHTS)
    expire(table, [snapshot.snapshot_id for snapshot in table.snapshots()][:-1])
    (expired,) = compute(flights, 0, spec=FOLDED)

    assert "ods.flights had more than rows added" in deleted.folding
    assert "no part of its history any more" in expired.folding
    assert read_delays(flights) == [(0, "AB", 2, 10), (0, "CD", 1, None)]


def test_after_a_rollback_of_either_table_it_is_computed_whole(flights: FaultyCatalog) -> None:
    (first,) = compute(flights, 0, spec=FOLDED)
    before = flights.load_table(FLIGHTS).metadata.current_snapshot_id
    fly(flights, [(0.2, "AB", 3)])
    compute(flights, 0, spec=FOLDED)
    roll_back(flights.load_table(FLIGHTS), before)
    (of_input,) = compute(flights, 0, spec=FOLDED)
    roll_back(flights.load_table(DELAYS), first.snapshot_id)
    fly(flights, [(0.2, "AB", 9)])
    (of_output,) = compute(flights, 0, spec=FOLDED)

    assert "no part of its history any more" in of_input.folding
    assert "for the first time" in of_output.folding
    assert read_delays(flights) == [(0, "AB", 3, 21), (0, "CD", 1, None)]


def test_another_query_or_inexact_sums_are_computed_whole(flights: FaultyCatalog) -> None:
    compute(flights, 0, spec=make_sql())
    (changed,) = compute(flights, 0, spec=FOLDED)
    inexact = make_sql(table="dm.inexact", sql=SQL.replace("sum(delay)", "sum(delay / 3)"), incremental=True)
    reports = [*compute(flights, 0, spec=inexact), *compute(flights, 0, spec=inexact)]

    assert "computed by another query" in changed.folding
    assert reports[1].folding == "computed whole: its sums hang on the order of numbers"


def test_nothing_is_folded_into_an_hour_that_was_a_day(flights: FaultyCatalog) -> None:
    sql = "SELECT $slice_start AS hour, carrier, count(*) AS flights FROM ods.flights GROUP BY ALL"
    compute(flights, 0, spec=make_sql(sql=sql, incremental=True, partitions={"every": "day", "start": START}))
    fly(flights, [(0.2, "AB", 3)])

    (hourly,) = compute(flights, 0, spec=make_sql(sql=sql, incremental=True))

    assert "computed by another query" in hourly.folding
    assert read_delays(flights, COLUMNS[:3]) == [(0, "AB", 3), (0, "CD", 1)]


@pytest.mark.parametrize("spec", [FOLDED, ADDED], ids=["folded", "added"])
def test_two_runs_at_once_do_not_count_late_rows_twice(flights: FaultyCatalog, spec: SqlTableSpec) -> None:
    compute(flights, 0, spec=spec)
    fly(flights, [(0.2, "AB", 3)])
    flights.before_commit = [lambda: compute(flights, 0, spec=spec) and None]

    compute(flights, 0, spec=spec)

    assert sum(row[2] for row in read_delays(flights) if row[1] == "AB") == 3
