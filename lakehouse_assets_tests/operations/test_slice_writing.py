"""Computed rows take the place of those of a slice: nothing twice, nothing else touched, never by older ones."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.manifest import ManifestContent
from requests.exceptions import ConnectionError as RequestsConnectionError

from lakehouse_assets.model.errors import (
    CommitConflictError,
    ResultTypeError,
    RowsOutsideSliceError,
    TableDiffersError,
)
from lakehouse_assets.model.layout_spec import PartitionFieldSpec
from lakehouse_assets.model.slice_notes import INPUTS_KEY, SLICE_KEY
from lakehouse_assets.model.slices import SliceClock
from lakehouse_assets.operations.slice_writing import read_notes, replace_slice
from lakehouse_assets.systems.snapshots import list_live_files
from lakehouse_assets.systems.table_times import read_table_times
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import make_table, roll_back
from lakehouse_assets_tests.faults import EFFECTS, Crash, Fault, FaultyCatalog, When, die, raising
from lakehouse_assets_tests.foreign_deletes import delete_rows
from lakehouse_assets_tests.slices import DELAYS, NAME, hour, put, read, rows_at, state

DAILY = replace(DELAYS, partition_by=(PartitionFieldSpec("at", "day"),))
UNPARTITIONED = replace(DELAYS, partition_by=())


def ms(number: int) -> int:
    return hour(number).start_ms


def test_a_slice_is_created_with_the_table_and_replaced_by_a_retry(catalog: FaultyCatalog) -> None:
    put(catalog, 0, rows_at(0, 1, 2))
    put(catalog, 1, rows_at(1.5, 3))

    report = put(catalog, 0, rows_at(0.25, 4))

    table = catalog.load_table(NAME)
    summary = table.current_snapshot().summary  # type: ignore[union-attr]
    assert summary is not None
    assert read(catalog) == [(0.25, 4), (1.5, 3)]
    assert (report.row_count, report.total_rows, report.snapshot_id) == (1, 2, table.metadata.current_snapshot_id)
    assert str(table.spec().fields[0].transform) == "hour"
    assert summary[INPUTS_KEY] == '{"ods.flights": 101}'
    assert summary[SLICE_KEY] == "2026-11-01T00:00:00Z to 2026-11-01T01:00:00Z"
    assert judge.query(table, "SELECT count(*), sum(number) FROM {table}") == [(2, 7)]
    assert [judge.query(table, "SELECT count(*) FROM {table}", it.snapshot_id) for it in table.snapshots()] == [
        [(2,)], [(3,)], [(2,)]
    ]  # fmt: skip


@pytest.mark.parametrize("derived", [DELAYS, DAILY, UNPARTITIONED], ids=["hours", "a day", "one file"])
def test_rows_of_other_slices_stay_whatever_the_layout(catalog: FaultyCatalog, derived: object) -> None:
    assert isinstance(derived, type(DELAYS))
    whole_day = hour(0).start_ms, hour(24).start_ms
    rows = rows_at([0, 1, 1.999, 2, 23.5], 0, 10, 19, 20, 235)
    replace_slice(catalog, derived, type(hour(0))(*whole_day), rows, [state(1)], complete_until_ms=None)

    put(catalog, 1, rows_at(1.25, 12), derived=derived)

    assert read(catalog) == [(0, 0), (1.25, 12), (2, 20), (23.5, 235)]


def test_rows_without_event_time_belong_to_no_slice(catalog: FaultyCatalog) -> None:
    put(catalog, 0, rows_at(0, 1), derived=UNPARTITIONED)
    catalog.load_table(NAME).append(pa.table({"at": pa.array([None], pa.timestamp("us", "UTC")), "number": [7]}))

    put(catalog, 0, rows_at(0, 2), derived=UNPARTITIONED)

    assert sorted(catalog.load_table(NAME).scan().to_arrow()["number"].to_pylist()) == [2, 7]


def test_rows_that_somebody_deleted_stay_away_and_their_delete_files_go_with_the_slice(catalog: FaultyCatalog) -> None:
    put(catalog, 0, rows_at(0, 1, 2))
    put(catalog, 1, rows_at(1, 3, 4))
    delete_rows(catalog, NAME, "number", [2, 3], of_one_file=True)

    put(catalog, 0, rows_at(0, 5))

    left = list(list_live_files(catalog.load_table(NAME), ManifestContent.DELETES))
    assert read(catalog) == [(0, 5), (1, 4)]
    assert len(left) == 1


def test_a_row_outside_its_slice_is_an_error_and_nothing_is_written(catalog: FaultyCatalog, tmp_path: Path) -> None:
    put(catalog, 0, rows_at(0, 1))
    before = sorted(tmp_path.rglob("*.parquet"))

    with pytest.raises(RowsOutsideSliceError, match=r"at = 2026-11-01 02:00:00.* \(of 2 such rows"):
        put(catalog, 1, rows_at([1, 2, 2], 1, 2, 3))
    with pytest.raises(RowsOutsideSliceError, match="at = None"):
        replace_slice(
            catalog, DELAYS, hour(1), pa.table({"at": pa.array([None], pa.timestamp("us", "UTC"))}).to_reader(), [],
            complete_until_ms=hour(1).stop_ms,
        )  # fmt: skip

    assert read(catalog) == [(0, 1)]
    assert sorted(tmp_path.rglob("*.parquet")) == before


def test_a_run_that_read_older_inputs_changes_nothing(catalog: FaultyCatalog) -> None:
    put(catalog, 0, rows_at(0, 5), state(5))
    head = catalog.load_table(NAME).metadata.current_snapshot_id

    report = put(catalog, 0, rows_at(0, 4), state(4))

    assert report.was_newer
    assert catalog.load_table(NAME).metadata.current_snapshot_id == head
    assert read(catalog) == [(0, 5)]


def test_the_newer_of_two_runs_stays_whichever_commits_first(catalog: FaultyCatalog) -> None:
    put(catalog, 0, rows_at(0, 1), state(1))
    catalog.before_commit = [lambda: put(catalog, 0, rows_at(0, 7), state(7)) and None]

    assert put(catalog, 0, rows_at(0, 6), state(6)).was_newer
    catalog.before_commit = [lambda: put(catalog, 0, rows_at(0, 8), state(8)) and None]
    assert not put(catalog, 0, rows_at(0, 9), state(9)).was_newer

    assert read(catalog) == [(0, 9)]


def test_an_empty_slice_that_was_computed_from_newer_inputs_stays_empty(catalog: FaultyCatalog) -> None:
    put(catalog, 5, rows_at(5, 1))
    catalog.before_commit = [lambda: put(catalog, 0, rows_at(0), state(7)) and None]

    assert put(catalog, 0, rows_at(0, 1), state(6)).was_newer

    assert read(catalog) == [(5, 1)]


def test_newer_rows_of_one_input_and_older_ones_of_another_have_to_be_read_again(catalog: FaultyCatalog) -> None:
    put(catalog, 0, rows_at(0, 1), state(5), state(3, "ods.weather"))

    with pytest.raises(CommitConflictError, match="older ones of another"):
        put(catalog, 0, rows_at(0, 2), state(4), state(4, "ods.weather"))

    assert read(catalog) == [(0, 1)]


def test_a_state_that_somebody_chose_and_a_table_of_the_same_name_are_neither_old_nor_new(catalog: FaultyCatalog) -> None:
    put(catalog, 0, rows_at(0, 1), state(5))
    put(catalog, 0, rows_at(0, 2), state(3, is_chosen=True))
    put(catalog, 0, rows_at(0, 3), state(1, uuid="uuid-2"))

    assert read(catalog) == [(0, 3)]


def test_the_watermark_is_the_end_of_the_complete_slices_from_the_first_one_on(catalog: FaultyCatalog) -> None:
    def watermark() -> int | None:
        return read_table_times(catalog.load_table(NAME)).watermark_ms

    put(catalog, 1, rows_at(1, 1))
    assert watermark() is None
    put(catalog, 0, rows_at(0, 1))
    assert watermark() == ms(2)
    put(catalog, 3, rows_at(3, 1))
    put(catalog, 2, rows_at(2, 1), is_complete=False)
    assert watermark() == ms(2)
    put(catalog, 2, rows_at(2), state(2))
    assert watermark() == ms(4)
    put(catalog, 0, rows_at(0, 2), state(3), is_complete=False)
    assert watermark() == ms(4)


def test_old_slices_are_forgotten_and_the_watermark_goes_on(catalog: FaultyCatalog) -> None:
    short = replace(DELAYS, late_horizon_ms=2 * 3_600_000)
    for number in range(6):
        put(catalog, number, rows_at(number, 1), derived=short)

    table = catalog.load_table(NAME)
    assert sorted(start for start in read_notes(table).slices if start is not None) == [ms(4), ms(5)]
    assert read_table_times(table).watermark_ms == ms(6)


@pytest.mark.parametrize("clock", [DELAYS.clock, None], ids=["hours", "windows of any length"])
def test_slices_with_which_no_watermark_goes_on_are_forgotten_behind_newer_ones(
    catalog: FaultyCatalog, clock: SliceClock | None
) -> None:
    short = replace(DELAYS, clock=clock, late_horizon_ms=2 * 3_600_000)
    for number in range(6):
        put(catalog, number, rows_at(number, 1), derived=short, is_complete=False)

    table = catalog.load_table(NAME)
    assert sorted(start for start in read_notes(table).slices if start is not None) == [ms(3), ms(4), ms(5)]
    assert read_table_times(table).watermark_ms is None


def test_complete_slices_are_remembered_until_the_one_before_them_is_there(catalog: FaultyCatalog) -> None:
    short = replace(DELAYS, late_horizon_ms=2 * 3_600_000)
    for number in (1, 2, 3, 4, 5, 0):
        put(catalog, number, rows_at(number, 1), derived=short)

    assert read_table_times(catalog.load_table(NAME)).watermark_ms == ms(6)


def test_after_a_rollback_nothing_is_known_and_older_inputs_may_come(catalog: FaultyCatalog) -> None:
    first = put(catalog, 0, rows_at(0, 1), state(1))
    put(catalog, 0, rows_at(0, 9), state(9))
    roll_back(catalog.load_table(NAME), first.snapshot_id)

    put(catalog, 0, rows_at(0, 5), state(5))

    assert read(catalog) == [(0, 5)]


def test_new_columns_are_added_and_lost_ones_stay(catalog: FaultyCatalog) -> None:
    put(catalog, 0, rows_at(0, 1, carrier=pa.array(["AB"])))
    put(catalog, 1, rows_at(1, 2, share=pa.array([0.5])))

    rows = judge.query(catalog.load_table(NAME), "SELECT number, carrier, share FROM {table} ORDER BY number")
    assert rows == [(1, "AB", None), (2, None, 0.5)]


def test_narrower_values_fit_and_others_are_refused(catalog: FaultyCatalog) -> None:
    put(catalog, 0, rows_at(0, 1, size=pa.array([1], pa.int64())))
    put(catalog, 1, rows_at(1, 2, size=pa.array([2], pa.int16())))
    with pytest.raises(TableDiffersError, match="size is declared string, the table has long"):
        put(catalog, 2, rows_at(2, 3, size=pa.array(["large"])))

    assert read(catalog) == [(0, 1), (1, 2)]


def test_types_of_engines_become_those_of_tables(catalog: FaultyCatalog) -> None:
    put(
        catalog, 0,
        rows_at(
            0, 1,
            small=pa.array([1], pa.uint8()), large=pa.array([2**63], pa.uint64()), half=pa.array([0.5], pa.float32()),
            price=pa.array([Decimal("1.50")], pa.decimal128(10, 2)), text=pa.array(["a"], pa.large_string()),
            word=pa.array(["b"]).dictionary_encode(), view=pa.array(["c"], pa.string_view()),
            tags=pa.array([["x", None]], pa.large_list(pa.large_string())), nested=pa.array([{"a": 1, "b": [1.5]}]),
            pairs=pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32())), local=pa.array([0], pa.timestamp("ms")),
            zoned=pa.array([0], pa.timestamp("s", "Europe/Berlin")), day=pa.array([0], pa.date32()),
            blob=pa.array([b"z"], pa.large_binary()), clock=pa.array([1], pa.time32("s")),
        ),
    )  # fmt: skip

    (row,) = judge.query(
        catalog.load_table(NAME),
        "SELECT small, large::VARCHAR, half, price::VARCHAR, text, word, view, tags, nested, pairs, epoch(local), epoch(zoned), "
        "day::VARCHAR, blob, clock::VARCHAR FROM {table}",
    )
    assert row == (
        1, str(2**63), 0.5, "1.50", "a", "b", "c", ["x", None], {"a": 1, "b": [1.5]}, {"k": 1}, 0, 0, "1970-01-01", b"z",
        "00:00:01",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"nothing": pa.nulls(1)}, "'nothing' of the computed rows is nothing but null"),
        ({"took": pa.array([1], pa.duration("s"))}, "'took' of the computed rows is the type duration"),
        ({"NUMBER": pa.array([1])}, "'NUMBER' of the computed rows is a second column of that name"),
    ],
)
def test_what_no_column_can_hold_is_named(catalog: FaultyCatalog, columns: dict[str, pa.Array], words: str) -> None:
    with pytest.raises(ResultTypeError, match=words):
        put(catalog, 0, rows_at(0, 1, **columns))

    assert not catalog.table_exists(NAME)


def test_a_column_of_event_time_must_be_there_and_a_timestamp(catalog: FaultyCatalog) -> None:
    with pytest.raises(ResultTypeError, match="'at' of the computed rows is missing"):
        put(catalog, 0, pa.table({"number": [1]}).to_reader())
    with pytest.raises(ResultTypeError, match="'at' of the computed rows is date"):
        put(catalog, 0, pa.table({"at": pa.array([0], pa.date32())}).to_reader())


def test_a_value_that_would_be_cut_is_an_error(catalog: FaultyCatalog) -> None:
    with pytest.raises(ResultTypeError, match="would lose data"):
        put(catalog, 0, rows_at(0, 1, exact=pa.array([1], pa.timestamp("ns"))))
    with pytest.raises(ResultTypeError, match="would lose data"):
        put(catalog, 0, pa.table({"at": pa.array([ms(0) * 1_000_000 + 1], pa.timestamp("ns", "UTC"))}).to_reader())


def test_a_table_that_is_filled_from_kafka_takes_no_slice(catalog: FaultyCatalog) -> None:
    make_table(catalog)

    with pytest.raises(TableDiffersError, match="filled from Kafka"):
        put(catalog, 0, rows_at(0, 1), derived=replace(DELAYS, name="ods.clicks"))


def test_without_a_slice_the_table_is_replaced_as_a_whole(catalog: FaultyCatalog) -> None:
    whole = replace(DELAYS, column=None, clock=None)
    for number in (1, 2):
        replace_slice(catalog, whole, None, rows_at([0, 30], number, number), [state(number)], complete_until_ms=None)
    delete_rows(catalog, NAME, "number", [2])

    report = replace_slice(catalog, whole, None, rows_at(5, 3), [state(3)], complete_until_ms=None)

    assert read(catalog) == [(5, 3)]
    assert len(list(list_live_files(catalog.load_table(NAME)))) == 1
    assert report.total_rows == 1
    assert replace_slice(catalog, whole, None, rows_at(5, 2), [state(2)], complete_until_ms=None).was_newer


def test_a_commit_whose_answer_was_lost_is_not_repeated(catalog: FaultyCatalog) -> None:
    put(catalog, 0, rows_at(0, 1))
    catalog.after_commit = [raising(RequestsConnectionError("reset by peer"))]

    put(catalog, 0, rows_at(0, 2), state(2))

    assert read(catalog) == [(0, 2)]
    assert len(catalog.load_table(NAME).metadata.snapshots) == 2


@pytest.mark.parametrize(
    "when", ["half", pytest.param("before", marks=pytest.mark.slow), pytest.param("after", marks=pytest.mark.slow)]
)
def test_a_crash_at_any_effect_leaves_the_old_slice_or_the_new_one(catalog: FaultyCatalog, when: When) -> None:
    derived = DAILY
    put(catalog, 1, rows_at(1, 1), derived=derived)
    put(catalog, 0, rows_at(0, 1), derived=derived)
    EFFECTS.arm(None)
    put(catalog, 0, rows_at(0, 2, 3), state(2), derived=derived)
    count = len(EFFECTS.seen)

    for at in range(count):
        number = 10 + at
        EFFECTS.arm(Fault(at, when, die))
        with pytest.raises(Crash):
            put(catalog, 0, rows_at(0, number, number), state(number), derived=derived)
        EFFECTS.arm(None)
        assert read(catalog) in ([(0, number), (0, number), (1, 1)], [(0, 2), (0, 3), (1, 1)])
        put(catalog, 0, rows_at(0, 2, 3), state(number), derived=derived)
        assert read(catalog) == [(0, 2), (0, 3), (1, 1)]
