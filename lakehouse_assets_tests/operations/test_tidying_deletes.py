"""Delete files become one for each data file, and whatever others commit meanwhile, rows stay what they are."""

from collections.abc import Callable
from typing import Any

import pytest
from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.table.snapshots import Operation
from requests.exceptions import ConnectionError as NoAnswerError

from lakehouse_assets.model.errors import TableMissingError
from lakehouse_assets.model.maintenance import MaintenanceReport
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.operations import tidying_deletes
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.operations.tidying_deletes import tidy_deletes
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets.systems.position_deletes import is_of_one_file
from lakehouse_assets.systems.snapshots import list_live_files
from lakehouse_assets_tests import faults, judge
from lakehouse_assets_tests.builders import append_foreign_rows, roll_back
from lakehouse_assets_tests.faults import Crash, Fault, FaultyCatalog, crash
from lakehouse_assets_tests.foreign_deletes import delete_rows
from lakehouse_assets_tests.systems.merges import NAME, Merger, make_upsert_spec


def tidy(catalog: FaultyCatalog, table: str = NAME, **parts: Any) -> MaintenanceReport:
    return tidy_deletes(MaintenanceTask(catalog, table, MaintenanceSpec(), now_ms=lambda: 0, **parts))


def list_deletes(merger: Merger) -> list[DataFile]:
    return [entry.data_file for entry in list_live_files(merger.table, ManifestContent.DELETES)]


def delete(merger: Merger, *keys: int, of_one_file: bool = True) -> None:
    delete_rows(merger.catalog, NAME, "id", keys, of_one_file=of_one_file)


def fill(catalog: FaultyCatalog, files: int = 3, partition_by: list[str] | None = None) -> Merger:
    """`files` data files of ten keys each: 0 to 9, 10 to 19, ..."""
    merger = Merger(catalog, make_upsert_spec(partition_by=partition_by or []))
    for at in range(files):
        merger.put(dict.fromkeys(range(10 * at, 10 * at + 10), "a"))
    return merger


def assert_tidied(merger: Merger, expected: set[int]) -> None:
    """Every snapshot that kept rows has those of the one before it, and each data file has one delete file at most."""
    assert set(merger.read()) == expected
    deletes = list_deletes(merger)
    assert all(is_of_one_file(one) for one in deletes)
    assert len({one.lower_bounds[2147483546] for one in deletes}) == len(deletes)
    snapshots = merger.table.metadata.snapshots
    rows = "SELECT id, text FROM {table} ORDER BY ALL"
    for before, after in zip(snapshots, snapshots[1:], strict=False):
        if after.summary is not None and after.summary.operation == Operation.REPLACE:
            assert judge.query(merger.table, rows, before.snapshot_id) == judge.query(merger.table, rows, after.snapshot_id)


def test_several_delete_files_of_one_data_file_become_one(catalog: FaultyCatalog) -> None:
    merger = fill(catalog)
    delete(merger, 1, 12)
    delete(merger, 2)
    delete(merger, 2, 3)

    report = tidy(catalog)

    assert_tidied(merger, set(range(30)) - {1, 2, 3, 12})
    assert sorted(one.record_count for one in list_deletes(merger)) == [1, 3]
    assert (report.figures["delete_files_before"], report.figures["delete_files_after"]) == (4, 2)
    assert report.planned.rows == [("join those of one data file", 3, 1, report.planned.figures["size_bytes"])]
    assert read_ledger(merger.table) is not None


def test_delete_files_of_a_partition_are_split_by_data_file(catalog: FaultyCatalog) -> None:
    merger = fill(catalog, partition_by=["bucket(2, id)"])
    delete(merger, 1, 12, 13, of_one_file=False)
    delete(merger, 1, 25, of_one_file=False)
    delete(merger, 26)

    report = tidy(catalog)

    assert_tidied(merger, set(range(30)) - {1, 12, 13, 25, 26})
    assert len(report.snapshot_ids) == 1
    assert merger.table.metadata.snapshot_by_id(report.snapshot_ids[0]).summary.operation == Operation.REPLACE  # type: ignore[union-attr]


def test_deletes_of_files_that_are_gone_are_removed(catalog: FaultyCatalog) -> None:
    merger = fill(catalog, files=2)
    delete(merger, *range(10))
    delete(merger, 3, of_one_file=False)
    merger.table.delete("id < 10")
    assert len(list_deletes(merger)) == 2

    report = tidy(catalog)

    assert_tidied(merger, set(range(10, 20)))
    assert list_deletes(merger) == []
    assert report.planned.figures["delete_files"] == 2


def test_a_table_in_order_is_left_alone(catalog: FaultyCatalog) -> None:
    merger = fill(catalog)
    delete(merger, 1, 12)
    before = merger.table.metadata_location

    report = tidy(catalog)

    assert (report.planned.rows, report.snapshot_ids) == ([], [])
    assert merger.table.metadata_location == before


def test_a_dry_run_says_what_it_would_do_and_does_nothing(catalog: FaultyCatalog) -> None:
    merger = fill(catalog)
    delete(merger, 1, of_one_file=False)
    delete(merger, 2)
    before = merger.table.metadata_location
    faults.EFFECTS.arm(None)

    report = tidy(catalog, is_dry_run=True)

    assert report.planned.figures["delete_files"] == 2
    assert [effect for effect in faults.EFFECTS.seen if effect.startswith(("write", "commit"))] == []
    assert merger.table.metadata_location == before


def test_a_table_that_is_not_there_is_named(catalog: FaultyCatalog) -> None:
    with pytest.raises(TableMissingError, match="ods.nothing"):
        tidy(catalog, "ods.nothing")


MEANWHILE: dict[str, Callable[[Merger], None]] = {
    "rows are appended": lambda merger: append_foreign_rows(merger.table, 3),
    "rows are deleted of a file that is joined": lambda merger: delete(merger, 5),
    "rows are deleted of the whole partition": lambda merger: delete(merger, 5, 15, of_one_file=False),
    "delete files are replaced": lambda merger: merger.put({5: None}) and None,
    "a file is rewritten": lambda merger: merger.table.delete("id = 5"),
    "a file goes": lambda merger: merger.table.delete("id < 10"),
    "all is rewritten": lambda merger: merger.table.overwrite(merger.table.scan().to_arrow()),
    "it is rolled back": lambda merger: roll_back(merger.table, merger.table.metadata.snapshots[2].snapshot_id),
    "another tidies": lambda merger: tidy(merger.catalog) and None,  # type: ignore[arg-type]
}


@pytest.mark.parametrize("meanwhile", MEANWHILE.values(), ids=MEANWHILE)
def test_what_others_commit_meanwhile_stays(
    catalog: FaultyCatalog, meanwhile: Callable[[Merger], None]
) -> None:
    merger = fill(catalog)
    delete(merger, 1, 12, of_one_file=False)
    delete(merger, 2, 3)
    expected: set[int] = set()

    def commit() -> None:
        meanwhile(merger)
        expected.update(merger.read())

    before_first_commit(catalog, commit)
    tidy(catalog)

    assert expected
    assert set(merger.read()) == expected
    tidy(catalog)
    assert_tidied(merger, expected)


def test_large_tables_are_done_in_parts_of_which_each_stays(catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidying_deletes, "_PART_FILES", 2)
    merger = fill(catalog, files=5)
    delete(merger, 1, 12, 23, 34, 45, of_one_file=False)
    expected = merger.read()
    answers = iter([False, False, True])

    stopped = tidy(catalog, stop=lambda: next(answers))
    assert len(stopped.snapshot_ids) == 2
    assert [str(one) for one in stopped.kept_back] == ["deletes of 5 data files: it was stopped"]
    assert merger.read() == expected
    assert len(list_deletes(merger)) == 5  # one is for the last data file, and all others
    report = tidy(catalog)

    assert len(report.snapshot_ids) == 3
    assert_tidied(merger, set(expected))


def test_a_commit_that_lands_late_keeps_the_files_that_it_names(catalog: FaultyCatalog) -> None:
    merger = fill(catalog)
    delete(merger, 1, 12, of_one_file=False)
    expected = merger.read()
    waiting: list[Any] = []
    commit = catalog.commit_table

    def commit_table(*arguments: Any) -> Any:
        waiting.append(arguments)
        if len(waiting) == 1:
            raise NoAnswerError("the answer got lost, and so did the request, for a while")
        if len(waiting) == 2:
            commit(*waiting[0])
        return commit(*arguments)

    catalog.commit_table = commit_table  # type: ignore[method-assign]

    tidy(catalog)

    assert len(waiting) == 2
    assert_tidied(merger, set(expected))


def before_first_commit(catalog: FaultyCatalog, act: Callable[[], None]) -> None:
    """Somebody else is first when the next commit is on its way."""

    def once(effect: str) -> None:
        faults.EFFECTS.arm(None)
        act()

    faults.EFFECTS.arm(Fault("commit", "before", once))


def test_a_crash_at_any_instruction_leaves_rows_as_they_are(catalog: FaultyCatalog) -> None:
    merger = fill(catalog, files=2)
    delete(merger, 1, 12, of_one_file=False)
    delete(merger, 2, 13)
    expected = merger.read()
    at = 0
    while True:
        faults.EFFECTS.arm(Fault(at, "half", crash))
        try:
            tidy(catalog)
        except Crash:
            at += 1
        else:
            break
        finally:
            faults.EFFECTS.arm(None)
        assert merger.read() == expected
    assert at > 3
    assert_tidied(merger, set(expected))
