"""A dropped table is gone at once, can be had back for a day, and takes exactly its own files along."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from lakehouse_assets.model.dropped import DroppedTable
from lakehouse_assets.model.errors import (
    DropImpossibleError,
    PurgeRefusedError,
    TableMissingError,
    TableReplacedError,
    UndoImpossibleError,
)
from lakehouse_assets.model.maintenance import MaintenanceReport
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.operations.dropping import purge_overdue, run_drop, run_purge, run_undo_drop
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.systems.catalog import list_tables
from lakehouse_assets.systems.commit import publish
from lakehouse_assets.systems.dropped import list_dropped
from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets_tests import faults, judge
from lakehouse_assets_tests.builders import append_foreign_rows, make_delivery, make_spec, make_table
from lakehouse_assets_tests.faults import Crash, Fault, FaultyCatalog, crash

NAME, QUARANTINE, CHANGES = "ods.clicks", "ods.clicks__quarantine", "ods.clicks__changes"
AT_MS = 1_795_767_000_000
DAY_MS = 24 * 3600 * 1000

Operation = Callable[[MaintenanceTask], MaintenanceReport]


def do(
    operation: Operation, catalog: FaultyCatalog, table: str = NAME, at_ms: int = AT_MS, **parts: bool
) -> MaintenanceReport:
    return operation(MaintenanceTask(catalog, table, MaintenanceSpec(), now_ms=lambda: at_ms, **parts))


def fill(catalog: FaultyCatalog, table: str = NAME, rows: int = 3) -> Table:
    made = make_table(catalog, make_spec(table=table)) if table != NAME else make_table(catalog)
    publish(catalog, table, make_delivery(made, {0: range(rows)}))
    return catalog.load_table(table)


def create_beside(catalog: FaultyCatalog, name: str, location: str | None = None, **properties: str) -> Table:
    """A table of others."""
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False)])
    return catalog.create_table(name, schema, location=location, properties=properties)


def files_under(table: Table) -> list[Path]:
    return [path for path in Path(table.location().removeprefix("file://")).rglob("*") if path.is_file()]


def test_a_dropped_table_is_no_table_and_its_rows_are_there_again_when_it_is_had_back(catalog: FaultyCatalog) -> None:
    table = fill(catalog)

    report = do(run_drop, catalog)

    assert list_tables(catalog) == []
    assert report.figures == {"tables_dropped": 1, "undo_until_ms": AT_MS + DAY_MS}
    assert len(judge.read_positions(catalog.load_table("lakehouse_dropped.ods__clicks__20261127t081000"))) == 3

    do(run_undo_drop, catalog)

    assert list_tables(catalog) == [NAME]
    assert catalog.load_table(NAME).metadata_location == table.metadata_location
    assert list_dropped(catalog) == []


def test_bad_messages_go_and_come_with_their_table_and_the_log_of_changes_stays(catalog: FaultyCatalog) -> None:
    fill(catalog)
    create_beside(catalog, QUARANTINE)
    create_beside(catalog, CHANGES)

    report = do(run_drop, catalog)

    assert list_tables(catalog) == [CHANGES]
    assert [kept.what for kept in report.kept_back] == [CHANGES]

    do(run_undo_drop, catalog)

    assert list_tables(catalog) == [NAME, CHANGES, QUARANTINE]


@pytest.mark.parametrize("operation", [run_drop, run_purge])
def test_a_dry_run_tells_and_changes_nothing(catalog: FaultyCatalog, operation: Operation) -> None:
    files = files_under(fill(catalog))

    report = do(operation, catalog, is_dry_run=True)

    told = dict(zip(report.planned.titles, report.planned.rows[0], strict=True))
    assert told["table"] == NAME
    assert told.get("files", len(files)) == len(files)
    assert list_tables(catalog) == [NAME]
    assert sorted(files) == sorted(files_under(catalog.load_table(NAME)))


def test_a_table_that_is_made_anew_is_empty_and_shares_no_file_with_the_dropped_one(catalog: FaultyCatalog) -> None:
    old = fill(catalog, rows=5)
    do(run_drop, catalog)

    fill(catalog, rows=2)
    purged = purge_overdue(catalog, lambda: AT_MS + DAY_MS)

    assert [report.figures["tables_purged"] for report in purged] == [1]
    assert files_under(old) == []
    assert len(judge.read_positions(catalog.load_table(NAME))) == 2


def test_who_loaded_the_table_before_it_was_dropped_writes_nothing_into_it(catalog: FaultyCatalog) -> None:
    table = fill(catalog)
    delivery = make_delivery(table, {0: range(3, 6)})
    again = make_delivery(table, {0: range(3, 6)})
    do(run_drop, catalog)

    with pytest.raises(TableMissingError):
        publish(catalog, NAME, delivery)
    fill(catalog, rows=1)
    with pytest.raises(TableReplacedError):
        publish(catalog, NAME, again)

    (dropped,) = list_dropped(catalog)
    assert catalog.load_table(dropped.full_name).metadata_location == table.metadata_location
    assert len(judge.read_positions(catalog.load_table(NAME))) == 1


def test_a_table_that_is_dropped_just_before_a_commit_does_not_get_it(catalog: FaultyCatalog) -> None:
    table = fill(catalog)
    catalog.before_commit = [lambda: do(run_drop, catalog)]

    with pytest.raises(TableMissingError):
        publish(catalog, NAME, make_delivery(table, {0: range(3, 6)}))

    do(run_undo_drop, catalog)
    assert len(judge.read_positions(catalog.load_table(NAME))) == 3


def test_a_table_dropped_twice_in_one_second_is_had_back_as_it_was_last(catalog: FaultyCatalog) -> None:
    for rows in (1, 2):
        fill(catalog, rows=rows)
        do(run_drop, catalog)

    do(run_undo_drop, catalog)

    assert len(judge.read_positions(catalog.load_table(NAME))) == 2
    assert len(list_dropped(catalog)) == 1


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda catalog: None, "found no dropped table of this name .* dropped are: ods.other"),
        (lambda catalog: [do(run_drop, catalog), fill(catalog)], "a table of the name ods.clicks is there again"),
        (lambda catalog: [do(run_drop, catalog), do(run_purge, catalog)], "found no dropped table"),
    ],
    ids=["never dropped", "there again", "purged"],
)
def test_what_can_not_be_had_back_is_said(catalog: FaultyCatalog, prepare: Callable[[FaultyCatalog], Any], reason: str) -> None:
    fill(catalog)
    create_beside(catalog, "ods.other")
    do(run_drop, catalog, "ods.other")
    prepare(catalog)

    with pytest.raises(UndoImpossibleError, match=reason):
        do(run_undo_drop, catalog)


def test_a_purge_takes_every_file_and_nothing_of_others(catalog: FaultyCatalog, tmp_path: Path) -> None:
    table = make_table(catalog, make_spec(properties={"write.data.path": f"file://{tmp_path}/elsewhere/clicks"}))
    publish(catalog, NAME, make_delivery(table, {0: range(3)}))
    append_foreign_rows(catalog.load_table(NAME))
    other = create_beside(catalog, "ods.clicks_of_others", table.location() + "2")
    (tmp_path / "elsewhere" / "clicks" / "not_ours.parquet").touch()

    report = do(run_purge, catalog)

    elsewhere = [path.name for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()]
    assert elsewhere == ["not_ours.parquet"]
    assert not Path(table.location().removeprefix("file://")).exists()
    assert files_under(other)
    assert list_tables(catalog) == ["ods.clicks_of_others"]
    assert list_dropped(catalog) == []
    assert report.figures["files_deleted"] > 5


def test_a_table_of_a_namespace_within_another_is_noticed_too(catalog: FaultyCatalog) -> None:
    table = fill(catalog)
    catalog.create_namespace(("ods", "inner"))
    create_beside(catalog, "ods.inner.other", table.location() + "/data")

    with pytest.raises(PurgeRefusedError, match="where ods.inner.other may have files"):
        do(run_purge, catalog)

    with pytest.raises(DropImpossibleError, match="namespace"):
        do(run_drop, catalog, "ods.inner.other")


@pytest.mark.parametrize("where", ["same", "within", "around"])
def test_files_that_may_be_those_of_another_table_stay(catalog: FaultyCatalog, where: str) -> None:
    table = fill(catalog)
    places = {
        "same": table.location() + "/",
        "within": f"{table.location()}/data/nested",
        "around": table.location().rpartition("/")[0].replace("file:///", "file:/"),
    }
    create_beside(catalog, "ods.other", places[where])
    files = files_under(table)

    with pytest.raises(PurgeRefusedError, match="where ods.other may have files"):
        do(run_purge, catalog, is_confirmed=True)
    do(run_drop, catalog)
    (kept,) = purge_overdue(catalog, lambda: AT_MS + DAY_MS)

    assert "ods.other" in kept.kept_back[0].reason
    assert sorted(files) == sorted(files_under(table))
    do(run_undo_drop, catalog)
    assert len(judge.read_positions(catalog.load_table(NAME))) == 3


def test_a_file_that_lies_in_the_place_of_another_table_stops_the_purge(catalog: FaultyCatalog) -> None:
    other = create_beside(catalog_with_namespace(catalog), "ods.other")
    table = make_table(catalog, make_spec(properties={"write.data.path": other.location() + "/data"}))
    publish(catalog, NAME, make_delivery(table, {0: range(3)}))

    with pytest.raises(PurgeRefusedError, match="lies where ods.other does"):
        do(run_purge, catalog)

    assert len(judge.read_positions(catalog.load_table(NAME))) == 3


def catalog_with_namespace(catalog: FaultyCatalog) -> FaultyCatalog:
    catalog.create_namespace_if_not_exists("ods")
    return catalog


def test_gc_enabled_false_keeps_the_files(catalog: FaultyCatalog) -> None:
    table = make_table(catalog, make_spec(properties={"gc.enabled": "false"}))

    with pytest.raises(PurgeRefusedError, match="gc.enabled"):
        do(run_purge, catalog, is_confirmed=True)

    assert files_under(table)


@pytest.mark.parametrize("lost", ["metadata.json", "avro"])
def test_a_table_that_can_not_be_read_is_purged_when_a_person_says_so(
    catalog: FaultyCatalog, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = fill(catalog)
    other = create_beside(catalog, "ods.other")
    append_foreign_rows(other)
    for path in files_under(table):
        if path.name.endswith(lost):
            path.unlink()
    monkeypatch.setattr("lakehouse_assets.systems.metadata_cache._parsed", FileCache())  # as in another process

    do(run_drop, catalog)
    with pytest.raises(PurgeRefusedError, match=r"can't be read.*drop ods.clicks --purge --yes"):
        do(run_purge, catalog)
    do(run_purge, catalog, is_confirmed=True)

    assert files_under(table) == []
    assert (list_dropped(catalog), list_tables(catalog)) == ([], ["ods.other"])
    assert judge.query(catalog.load_table("ods.other"), "SELECT count(*) FROM {table}") == [(1,)]


def test_a_purge_can_be_repeated_after_a_crash_at_any_effect(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """Each round has a table of its own, and the crash one effect later."""
    spec = make_spec(properties={"write.data.path": f"file://{tmp_path}/elsewhere"})
    ended = False
    at = 0
    while not ended:
        table = make_table(catalog, spec)
        publish(catalog, NAME, make_delivery(table, {0: range(1)}))
        faults.EFFECTS.arm(Fault(at, "after" if at % 2 else "before", crash))
        try:
            do(run_purge, catalog)
            ended = True
        except Crash:
            pass
        faults.EFFECTS.arm(None)
        if catalog.table_exists(NAME):
            do(run_purge, catalog)
        purge_overdue(catalog, lambda: AT_MS)
        assert (list_tables(catalog), list_dropped(catalog)) == ([], [])
        assert [path for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()] == []
        left = [path.name for path in files_under(table)]
        assert len(left) <= 1
        assert all(name.endswith(".metadata.json") for name in left)
        at += 1
    assert at > 6


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("operation", [run_drop, run_undo_drop])
def test_a_drop_and_its_undo_can_be_repeated_after_a_crash(
    catalog: FaultyCatalog, operation: Operation, at: int, when: Any
) -> None:
    fill(catalog)
    create_beside(catalog, QUARANTINE)
    catalog.create_namespace("lakehouse_dropped")
    if operation is run_undo_drop:
        do(run_drop, catalog)
    faults.EFFECTS.arm(Fault(at, when, crash))

    with pytest.raises(Crash):
        do(operation, catalog)
    faults.EFFECTS.arm(None)
    try:
        do(operation, catalog, at_ms=AT_MS + 5000)
    except (TableMissingError, UndoImpossibleError):
        assert (at, when) == (1, "after")  # all of it was done

    dropped = operation is run_drop
    assert list_tables(catalog) == ([] if dropped else [NAME, QUARANTINE])
    assert len({one.dropped_ms for one in list_dropped(catalog)}) == (1 if dropped else 0)


def test_bad_messages_that_stayed_alone_go_though_others_went_in_the_same_second(catalog: FaultyCatalog) -> None:
    fill(catalog)
    create_beside(catalog, QUARANTINE)
    do(run_drop, catalog)
    create_beside(catalog, QUARANTINE)

    do(run_drop, catalog)

    assert list_tables(catalog) == []
    assert [one.dropped_ms - AT_MS for one in list_dropped(catalog, QUARANTINE)] == [1000, 0]


def test_a_table_whose_files_are_being_deleted_can_not_be_had_back(catalog: FaultyCatalog) -> None:
    fill(catalog)
    do(run_drop, catalog)
    faults.EFFECTS.arm(Fault("delete", "before", crash))
    with pytest.raises(Crash):
        do(run_purge, catalog)
    faults.EFFECTS.arm(None)

    with pytest.raises(UndoImpossibleError):
        do(run_undo_drop, catalog)

    assert [report.figures["tables_purged"] for report in purge_overdue(catalog, lambda: AT_MS)] == [1]


def test_a_catalog_that_can_not_rename_drops_only_for_good(catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    table = fill(catalog)

    def rename_table(source: object, target: object) -> Table:
        raise NotImplementedError("rename_table")

    monkeypatch.setattr(catalog, "rename_table", rename_table)

    with pytest.raises(DropImpossibleError, match=r"does not rename it.*Nothing was changed.*--purge"):
        do(run_drop, catalog)
    assert list_tables(catalog) == [NAME]
    do(run_purge, catalog)

    assert (list_tables(catalog), files_under(table)) == ([], [])


def test_a_rename_whose_answer_is_lost_is_found(catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(catalog)
    rename = catalog.rename_table

    def rename_table(source: str, target: str) -> Table:
        rename(source, target)
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(catalog, "rename_table", rename_table)

    do(run_drop, catalog)

    assert [one.original for one in list_dropped(catalog)] == [NAME]


def test_what_is_not_a_day_old_stays(catalog: FaultyCatalog) -> None:
    table = fill(catalog)
    do(run_drop, catalog)

    assert purge_overdue(catalog, lambda: AT_MS + DAY_MS - 1) == []
    assert files_under(table)


@pytest.mark.parametrize("operation", [run_drop, run_purge])
def test_a_table_that_is_not_there_is_an_error(catalog: FaultyCatalog, operation: Operation) -> None:
    with pytest.raises(TableMissingError):
        do(operation, catalog)
    with pytest.raises(NoSuchTableError):
        catalog.load_table(NAME)
    assert DroppedTable(NAME, AT_MS) not in list_dropped(catalog)
