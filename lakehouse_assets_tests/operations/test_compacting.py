"""Small files become few, and the rows stay what they are, whoever else writes meanwhile."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import PyArrowFileIO

from lakehouse_assets.model.errors import RowsDifferError, TableMissingError
from lakehouse_assets.operations.compacting import run_compact
from lakehouse_assets.systems.commit import publish
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets.systems.snapshots import list_live_files
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import (
    append_foreign_rows,
    make_delivery,
    make_systems,
    roll_back,
)
from lakehouse_assets_tests.foreign_deletes import delete_rows
from lakehouse_assets_tests.operations.compactions import (
    NAME,
    compact,
    count_files,
    during_commit,
    fill,
    make_task,
    read_ids,
)


def _list_data(catalog: Catalog) -> set[str]:
    location = catalog.load_table(NAME).location().removeprefix("file://")
    return {path.name for path in Path(location, "data").rglob("*.parquet")}


def test_small_files_become_one_in_a_snapshot_that_replaces(catalog: Catalog) -> None:
    before = fill(catalog, 8)
    report = compact(catalog)
    table = catalog.load_table(NAME)

    assert (report.figures["files_before"], report.figures["files_after"], report.figures["rows"]) == (8, 1, 80)
    assert count_files(table) == 1
    assert read_ids(table) == list(range(80))
    head = table.current_snapshot()
    assert head is not None
    assert head.summary is not None
    assert head.summary.operation.value == "replace"
    assert list(report.snapshot_ids) == [head.snapshot_id]
    assert head.summary["total-records"] == "80"
    assert read_ledger(table).held == read_ledger(before).held  # type: ignore[union-attr]
    assert judge.read_every_snapshot(table) == [*range(0, 81, 10), 80][1:]


def test_a_run_right_after_a_run_finds_nothing(catalog: Catalog) -> None:
    fill(catalog, 8)
    compact(catalog)
    head = catalog.load_table(NAME).metadata.current_snapshot_id

    report = compact(catalog)

    assert not report.planned
    assert not report.snapshot_ids
    assert catalog.load_table(NAME).metadata.current_snapshot_id == head


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(catalog: Catalog) -> None:
    before = fill(catalog, 8)
    files = _list_data(catalog)

    report = compact(catalog, is_dry_run=True)

    assert report.is_dry_run
    assert [row[:3] for row in report.planned.rows] == [("write again", "all", 8)]
    assert report.planned.figures["rows"] == 80
    assert catalog.load_table(NAME).metadata_location == before.metadata_location
    assert _list_data(catalog) == files


def test_partitions_are_named_as_people_read_them_also_where_their_column_has_gone(catalog: Catalog) -> None:
    columns = [{"name": "id", "type": "long"}, {"name": "text", "type": "string"}]
    table = fill(catalog, 8, partition_by=["day(_kafka_timestamp)", "truncate(4, text)"], schema=columns)

    def name() -> object:
        ((_, partition, *_),) = compact(catalog, is_dry_run=True).planned.rows
        return partition

    assert name() == "_kafka_timestamp_day=1970-01-01, text_trunc_4=text"
    with table.update_spec() as update:
        update.remove_field("text_trunc_4")
        update.remove_field("_kafka_timestamp_day")
    assert name() == "_kafka_timestamp_day=1970-01-01, text_trunc_4=text (spec 0)"
    with table.update_schema() as change:
        change.delete_column("text")
    assert str(name()).startswith("_kafka_timestamp_day=")


def test_fewer_small_files_than_the_policy_says_stay(catalog: Catalog) -> None:
    fill(catalog, 5)
    assert not compact(catalog).planned
    assert compact(catalog, policy={"small_files": 5}).figures["files_after"] == 1


def test_a_table_that_is_not_there_is_an_error(catalog: Catalog) -> None:
    with pytest.raises(TableMissingError):
        compact(catalog, "ods.nothing")


def test_rows_that_come_meanwhile_stay(catalog: Catalog) -> None:
    table = fill(catalog, 8)
    during_commit(
        catalog,
        lambda: append_foreign_rows(catalog.load_table(NAME), 3, first_id=900),
        lambda: publish(catalog, NAME, make_delivery(catalog.load_table(NAME), {0: range(80, 90)})),
    )
    report = compact(catalog)
    table = catalog.load_table(NAME)

    assert report.figures["files_before"] == 8
    assert read_ids(table) == [*range(90), 900, 901, 902]
    assert count_files(table) == 3


@pytest.mark.parametrize("partition_by", [[], ["bucket(3, id)"]], ids=["one", "several"])
def test_rows_that_are_deleted_meanwhile_stay_deleted(catalog: Catalog, partition_by: list[str]) -> None:
    fill(catalog, 8, partition_by=partition_by)
    delete_rows(catalog, NAME, "id", [3, 4, 40])
    during_commit(
        catalog,
        lambda: delete_rows(catalog, NAME, "id", [0, 9, 41, 55]),
        lambda: (append_foreign_rows(catalog.load_table(NAME)), delete_rows(catalog, NAME, "id", [79])),
    )
    compact(catalog)
    table = catalog.load_table(NAME)

    gone = {0, 3, 4, 9, 40, 41, 55, 79}
    assert read_ids(table) == [*(one for one in range(80) if one not in gone), 1_000_000]
    assert _orphans(catalog) == set()


def test_files_of_an_old_partition_spec_go_into_the_current_one_with_what_is_deleted_meanwhile(catalog: Catalog) -> None:
    table = fill(catalog, 8)
    with table.update_spec() as update:
        update.add_field("id", "bucket[3]", "id_bucket")
    delete_rows(catalog, NAME, "id", [3, 40])
    during_commit(catalog, lambda: delete_rows(catalog, NAME, "id", [0, 9, 41, 55, 79]))
    compact(catalog)
    table = catalog.load_table(NAME)

    gone = {0, 3, 9, 40, 41, 55, 79}
    assert read_ids(table) == [one for one in range(80) if one not in gone]
    assert {entry["spec_id"] for entry in table.inspect.data_files().to_pylist()} == {1}
    for one in (1, 2, 56):
        assert table.scan(row_filter=f"id = {one}").to_arrow().num_rows == 1


def _orphans(catalog: Catalog) -> set[str]:
    """Data files that no snapshot reaches."""
    table = catalog.load_table(NAME)
    reached = {Path(path).name for path in table.inspect.all_files()["file_path"].to_pylist()}
    return _list_data(catalog) - reached


def test_deletes_that_were_there_are_applied_and_go(catalog: Catalog) -> None:
    fill(catalog, 8)
    delete_rows(catalog, NAME, "id", range(0, 80, 3))
    compact(catalog)
    table = catalog.load_table(NAME)

    assert read_ids(table) == [one for one in range(80) if one % 3]
    assert [int(entry) for entry in table.inspect.data_files()["record_count"].to_pylist()] == [53]


def test_a_file_that_others_rewrote_meanwhile_is_left_out_of_what_replaces_its_group(catalog: Catalog) -> None:
    fill(catalog, 8)
    delete_rows(catalog, NAME, "id", [5, 70])
    during_commit(catalog, lambda: catalog.load_table(NAME).delete("id = 7"))
    report = compact(catalog)
    table = catalog.load_table(NAME)

    assert not report.kept_back
    assert report.figures["files_before"] == 8
    assert read_ids(table) == [one for one in range(80) if one not in (5, 7, 70)]
    assert count_files(table) == 2
    assert _orphans(catalog) == set()


def test_a_group_of_which_others_rewrote_much_is_given_up_and_the_others_land(catalog: Catalog) -> None:
    fill(catalog, 8, partition_by=["truncate(1000, id)"])
    fill(catalog, 8, first=100)

    during_commit(catalog, lambda: catalog.load_table(NAME).delete("id in (7, 17, 27)"))
    report = compact(catalog)
    table = catalog.load_table(NAME)

    assert [kept.reason for kept in report.kept_back] == [
        "others deleted many of its rows meanwhile, or rewrote its files; the next run plans it again"
    ]
    assert report.figures["files_before"] == 8
    assert read_ids(table) == [*(one for one in range(80) if one not in (7, 17, 27)), *range(1000, 1080)]
    assert _orphans(catalog) == set()
    compact(catalog)
    assert count_files(catalog.load_table(NAME)) == 2


def test_two_runs_at_once_lose_nothing(catalog: Catalog) -> None:
    fill(catalog, 8)
    during_commit(catalog, lambda: compact(catalog))
    report = compact(catalog)
    table = catalog.load_table(NAME)

    assert not report.snapshot_ids
    assert read_ids(table) == list(range(80))
    assert count_files(table) == 1
    assert _orphans(catalog) == set()


def test_a_rollback_meanwhile_is_respected(catalog: Catalog) -> None:
    table = fill(catalog, 8)
    seventh = table.metadata.snapshots[6].snapshot_id
    during_commit(catalog, lambda: roll_back(catalog.load_table(NAME), seventh))
    report = compact(catalog)

    assert report.figures["files_before"] == 7
    assert read_ids(catalog.load_table(NAME)) == list(range(70))


def test_a_schema_that_changes_meanwhile_is_planned_again(catalog: Catalog) -> None:
    table = fill(catalog, 8)

    def add_column() -> None:
        with catalog.load_table(NAME).update_schema() as update:
            update.add_column("later", table.schema().find_type("text"))  # type: ignore[arg-type]

    during_commit(catalog, add_column)
    compact(catalog)
    table = catalog.load_table(NAME)

    assert count_files(table) == 1
    assert judge.query(table, "SELECT count(*), count(later) FROM {table}") == [(80, 0)]


def test_tables_of_others_are_compacted_and_get_no_ledger(catalog: Catalog) -> None:
    catalog.create_namespace("lake")
    rows = pa.table({"name": ["a", None], "price": [1.5, float("nan")]})
    table = catalog.create_table("lake.foreign", rows.schema)
    for _ in range(7):
        table.append(rows)
    compact(catalog, "lake.foreign")
    table = catalog.load_table("lake.foreign")

    assert count_files(table) == 1
    assert judge.query(table, "SELECT name, count(*), count(price) FROM {table} GROUP BY ALL ORDER BY ALL") == [
        ("a", 7, 7),
        (None, 7, 7),
    ]
    assert not [key for key in table.properties if key.startswith("lakehouse.")]


class ForgetfulFileIO(PyArrowFileIO):
    """A storage that gives an older file back where it is asked for a newer one."""

    older: ClassVar[Sequence[str]] = ()

    def new_input(self, location: str) -> Any:
        is_newer = self.older and location.endswith(".parquet") and location not in self.older
        return super().new_input(self.older[0] if is_newer else location)


def test_rows_that_differ_land_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = make_systems(tmp_path, **{"py-io-impl": f"{__name__}.ForgetfulFileIO"}).catalog
    before = fill(catalog, 8)
    files = _list_data(catalog)
    older = [entry.data_file.file_path for entry in list_live_files(before)]
    monkeypatch.setattr(ForgetfulFileIO, "older", older)

    with pytest.raises(RowsDifferError, match="Cannot replace 8 files of ods.clicks: 80 rows .* hold 10 rows"):
        compact(catalog)

    assert catalog.load_table(NAME).metadata_location == before.metadata_location
    assert _list_data(catalog) == files
    catalog.close()


def test_what_a_run_may_not_do_any_more_is_the_next_ones(catalog: Catalog) -> None:
    fill(catalog, 8, partition_by=["truncate(1000, id)"])
    fill(catalog, 8, first=100)
    stops = iter([False] * 3 + [True] * 100)

    report = compact(catalog, stop=lambda: next(stops))

    assert report.kept_back
    assert report.kept_back[-1].reason == "the run was stopped"
    assert read_ids(catalog.load_table(NAME)) == [*range(80), *range(1000, 1080)]
    assert _orphans(catalog) == set()

    task = make_task(catalog)
    at_once = task.policy.model_copy(update={"max_time_per_run": timedelta(0)})
    report = run_compact(replace(task, policy=at_once))
    assert not report.snapshot_ids
    assert "for at most" in report.kept_back[-1].reason
