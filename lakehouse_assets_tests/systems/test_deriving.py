"""Commits of rows that were computed from other tables: one snapshot with its properties, or none."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from requests.exceptions import ConnectionError as RequestsConnectionError

from lakehouse_assets.model.errors import CommitConflictError, LakehouseError, TableDiffersError
from lakehouse_assets.model.ledger import LEDGER_KEY, OPERATION_KEY
from lakehouse_assets.systems.commit import Delivery, publish
from lakehouse_assets.systems.datafiles import build_data_files
from lakehouse_assets.systems.parquet import build_writer
from lakehouse_assets.systems.snapshots import Change, list_live_files
from lakehouse_assets.systems.table_times import TableTimes, read_table_times, watermark_notes
from lakehouse_assets_tests.builders import append_foreign_rows, make_spec, make_table, roll_back
from lakehouse_assets_tests.faults import EFFECTS, Crash, Fault, FaultyCatalog, When, die, raising

NAME = "dm.delays"
COLUMNS = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("text", pa.string())])


def make_derived(catalog: FaultyCatalog, **properties: str) -> Table:
    """A table as operations create it for rows that are computed: without a ledger."""
    catalog.create_namespace_if_not_exists("dm")
    return catalog.create_table(NAME, COLUMNS, properties=properties)


def replace_all(table: Table, *ids: int) -> Callable[[Table], Change]:
    """All rows out, these in, whatever the head is."""
    writer = build_writer(table, 2**24)
    writer.add(pa.table({"id": pa.array(ids, pa.int64()), "text": [f"text {i}" for i in ids]}, schema=COLUMNS))
    files = build_data_files(table, writer.finish())
    return lambda head: Change(files, frozenset(entry.data_file.file_path for entry in list_live_files(head)))


def say(head: Table, snapshot_id: int) -> Mapping[str, str]:
    """Properties that show what the attempt stood on."""
    return {"lakehouse.slices": f"{snapshot_id}", "lakehouse.runs": str(int(head.properties.get("lakehouse.runs", "0")) + 1)}


def derive(catalog: FaultyCatalog, *ids: int, notes: Callable[[Table, int], Mapping[str, str]] = say) -> Any:
    table = catalog.load_table(NAME)
    return publish(catalog, NAME, Delivery.deriving(table, replace_all(table, *ids), notes, {"lakehouse.slice": "2026-11-01"}))


def read(catalog: FaultyCatalog) -> list[int]:
    return sorted(catalog.load_table(NAME).scan().to_arrow()["id"].to_pylist())


def test_rows_properties_and_summary_are_one_snapshot_without_a_ledger(catalog: FaultyCatalog) -> None:
    make_derived(catalog)
    derive(catalog, 1, 2)

    landed = derive(catalog, 2, 3)

    table = catalog.load_table(NAME)
    head = table.current_snapshot()
    assert head is not None
    assert head.summary is not None
    assert read(catalog) == [2, 3]
    assert head.snapshot_id == landed.snapshot_id
    assert (head.summary[OPERATION_KEY], head.summary["lakehouse.slice"]) == ("derive-slice", "2026-11-01")
    assert (table.properties["lakehouse.slices"], table.properties["lakehouse.runs"]) == (str(head.snapshot_id), "2")
    assert LEDGER_KEY not in table.properties


def test_properties_are_those_of_the_head_that_the_snapshot_lands_on(catalog: FaultyCatalog) -> None:
    make_derived(catalog)
    catalog.before_commit = [lambda: derive(catalog, 7) and None, raising(RequestsConnectionError("lost on the way"))]

    landed = derive(catalog, 1)

    properties = catalog.load_table(NAME).properties
    assert (properties["lakehouse.slices"], properties["lakehouse.runs"]) == (str(landed.snapshot_id), "2")
    assert landed.attempts == 2
    assert read(catalog) == [1]


def test_a_commit_whose_answer_was_lost_is_not_repeated(catalog: FaultyCatalog) -> None:
    make_derived(catalog)
    catalog.after_commit = [raising(RequestsConnectionError("reset by peer"))]

    derive(catalog, 1, 2)

    assert (read(catalog), catalog.load_table(NAME).properties["lakehouse.runs"]) == ([1, 2], "1")


def test_what_can_not_be_swapped_any_more_is_a_conflict_and_changes_nothing(catalog: FaultyCatalog) -> None:
    table = make_derived(catalog)

    def refuse(head: Table) -> Change:
        raise CommitConflictError(NAME, "its slice was computed from newer input")

    with pytest.raises(CommitConflictError, match="newer input"):
        publish(catalog, NAME, Delivery.deriving(table, refuse, say, {}))

    assert catalog.load_table(NAME).current_snapshot() is None


def test_a_table_that_is_filled_from_kafka_takes_no_computed_rows(catalog: FaultyCatalog) -> None:
    table = make_table(catalog)

    with pytest.raises(TableDiffersError, match="filled from Kafka"):
        publish(catalog, "ods.clicks", Delivery.deriving(table, lambda _: Change(()), say, {}))


@pytest.mark.parametrize("when", ["before", "half", "after"])
def test_a_crash_at_any_effect_leaves_the_old_rows_or_the_new_ones_with_their_properties(
    catalog: FaultyCatalog, when: When
) -> None:
    make_derived(catalog)
    derive(catalog, 1, 2)
    EFFECTS.arm(None)
    derive(catalog, 3)
    count = len(EFFECTS.seen)
    derive(catalog, 1, 2)
    runs = int(catalog.load_table(NAME).properties["lakehouse.runs"])

    for at in range(count):
        EFFECTS.arm(Fault(at, when, die))
        with pytest.raises(Crash):
            derive(catalog, 3)
        EFFECTS.arm(None)
        landed = read(catalog) == [3]
        assert landed or read(catalog) == [1, 2]
        assert int(catalog.load_table(NAME).properties["lakehouse.runs"]) == runs + landed
        derive(catalog, 3)
        derive(catalog, 1, 2)
        runs = int(catalog.load_table(NAME).properties["lakehouse.runs"])


def test_files_of_an_attempt_that_certainly_failed_are_deleted(catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse_assets.systems.commit.ATTEMPTS", 2)
    make_derived(catalog)
    catalog.before_commit = [raising(CommitFailedException("busy"))] * 2

    with pytest.raises(LakehouseError):
        derive(catalog, 1)

    root = Path(catalog.load_table(NAME).location().removeprefix("file://"))
    assert [path.name for path in root.rglob("*.avro")] == []


def test_a_watermark_never_goes_back_and_is_readable_without_a_declaration(catalog: FaultyCatalog) -> None:
    make_derived(catalog, **{"flink.store-watermark": "true", "lakehouse.event-time-column": "at"})
    first = derive(catalog, 1, notes=lambda head, _: watermark_notes(head, 2_000)).snapshot_id
    derive(catalog, 2, notes=lambda head, _: watermark_notes(head, 1_000))
    roll_back(catalog.load_table(NAME), first)

    derive(catalog, 3, notes=lambda head, _: watermark_notes(head, None))

    table = catalog.load_table(NAME)
    assert read_table_times(table) == TableTimes("at", 2_000, {})
    assert table.properties["flink.current-watermark"] == "2000"


def test_a_watermark_that_somebody_spoilt_is_none(catalog: FaultyCatalog) -> None:
    table = make_derived(catalog, **{"lakehouse.event-time-watermark": "yesterday"})

    assert read_table_times(table) == TableTimes(None, None, {})
    assert watermark_notes(table, 5) == {"lakehouse.event-time-watermark": "5"}


def test_an_ingested_table_says_its_event_time_column_from_its_declaration(catalog: FaultyCatalog) -> None:
    columns = [{"name": "id", "type": "long", "required": True}, {"name": "at", "type": "timestamptz"}]

    table = make_table(catalog, make_spec(schema=columns, event_time={"column": "at"}))

    assert read_table_times(table) == TableTimes("at", None, {})


def test_rows_of_somebody_else_do_not_make_it_a_table_of_kafka(catalog: FaultyCatalog) -> None:
    make_derived(catalog)
    append_foreign_rows(catalog.load_table(NAME), 2)

    derive(catalog, 5)

    assert read(catalog) == [5]
