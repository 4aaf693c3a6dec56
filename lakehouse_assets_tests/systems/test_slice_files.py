"""A slice is taken out of a table, and nothing else."""

import pytest
from pyiceberg.manifest import ManifestContent

from lakehouse_assets.model.errors import CommitConflictError
from lakehouse_assets.systems.commit import publish
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets.systems.parquet import build_writer
from lakehouse_assets.systems.slice_files import SliceFiles
from lakehouse_assets.systems.snapshots import list_live_files
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import (
    append_foreign_rows,
    make_delivery,
    make_ranges,
    make_spec,
    make_table,
    publish_replace,
)
from lakehouse_assets_tests.faults import FaultyCatalog
from lakehouse_assets_tests.foreign_deletes import delete_rows

NAME = "ods.clicks"


def fill(catalog: FaultyCatalog, *ranges: range, p: int = 0) -> None:
    table = make_table(catalog)
    for offsets in ranges:
        publish(catalog, NAME, make_delivery(table, {p: offsets}))


def positions(*ranges: range) -> list[tuple[int, int]]:
    return [(0, offset) for offsets in ranges for offset in offsets]


@pytest.mark.parametrize(
    "slice_range",
    [range(10, 20), range(5, 15), range(30), range(12, 13), range(1), range(25, 40), range(30, 40)],
    ids=str,
)
def test_rows_of_a_slice_are_replaced_and_all_others_stay(catalog: FaultyCatalog, slice_range: range) -> None:
    fill(catalog, range(10), range(10, 20), range(20, 30))

    publish_replace(catalog, {0: slice_range})
    publish_replace(catalog, {0: slice_range})

    table = catalog.load_table(NAME)
    ledger = read_ledger(table)
    expected = sorted({*range(30), *slice_range})
    assert judge.read_positions(table) == positions(expected)
    assert judge.query(table, "SELECT count(*) FROM {table} WHERE id <> _kafka_offset") == [(0,)]
    assert ledger is not None
    assert ledger.held == make_ranges({0: [(0, max(expected) + 1)]})
    assert len(judge.read_every_snapshot(table)) == 5


def test_totals_of_the_summary_are_the_rows_that_stand(catalog: FaultyCatalog) -> None:
    fill(catalog, range(10), range(10, 20), range(20, 30))

    publish_replace(catalog, {0: range(5, 15)})

    table = catalog.load_table(NAME)
    summary = table.current_snapshot().summary  # type: ignore[union-attr]
    files = list(list_live_files(table))
    assert summary is not None
    assert summary["total-records"] == str(sum(entry.data_file.record_count for entry in files)) == "30"
    assert summary["total-data-files"] == str(len(files))
    assert summary["total-files-size"] == str(sum(entry.data_file.file_size_in_bytes for entry in files))


def test_rows_of_others_are_never_touched(catalog: FaultyCatalog) -> None:
    fill(catalog, range(10))
    append_foreign_rows(catalog.load_table(NAME), 3)
    table = catalog.load_table(NAME)
    table.overwrite(table.scan().to_arrow())  # somebody compacts: our rows and foreign ones share a file

    publish_replace(catalog, {0: range(8)})

    table = catalog.load_table(NAME)
    assert judge.read_positions(table) == [*positions(range(10)), *[(None, None)] * 3]
    assert judge.query(
        table, "SELECT count(*) FROM {table} WHERE _kafka_offset IS NULL AND id >= 1000000"
    ) == [(3,)]


def test_another_topic_partition_with_the_same_offsets_stays(catalog: FaultyCatalog) -> None:
    table = make_table(catalog)
    publish(catalog, NAME, make_delivery(table, {0: range(10), 1: range(10)}))

    publish_replace(catalog, {0: range(10)})

    assert judge.read_positions(catalog.load_table(NAME)) == [
        (p, offset) for p in (0, 1) for offset in range(10)
    ]


def test_a_slice_of_a_partitioned_table_is_replaced_in_each_of_its_partitions(catalog: FaultyCatalog) -> None:
    table = make_table(catalog, make_spec(partition_by=["bucket(4, id)"]))
    publish(catalog, NAME, make_delivery(table, {0: range(50)}))

    publish_replace(catalog, {0: range(10, 20)})

    table = catalog.load_table(NAME)
    assert judge.read_positions(table) == positions(range(50))
    assert table.scan(row_filter="id == 15").to_arrow().num_rows == 1


def test_rows_that_land_while_a_slice_is_prepared_make_a_conflict(catalog: FaultyCatalog) -> None:
    fill(catalog, range(10))
    table = catalog.load_table(NAME)
    taken = SliceFiles(make_ranges({0: [(0, 20)]}), "clicks")
    taken.prepare(table, build_writer(table, 2**24))
    delivery = make_delivery(table, {0: range(20)}, replaces=taken.swap, again=True)
    fill(catalog, range(10, 15))

    with pytest.raises(CommitConflictError):
        publish(catalog, NAME, delivery)

    assert judge.read_positions(catalog.load_table(NAME)) == positions(range(15))


def test_rows_outside_the_slice_may_land_meanwhile(catalog: FaultyCatalog) -> None:
    fill(catalog, range(10))
    table = catalog.load_table(NAME)
    taken = SliceFiles(make_ranges({0: [(0, 10)]}), "clicks")
    taken.prepare(table, build_writer(table, 2**24))
    delivery = make_delivery(table, {0: range(10)}, replaces=taken.swap, again=True)
    catalog.before_commit = [lambda: fill(catalog, range(10, 15))]

    publish(catalog, NAME, delivery)

    assert judge.read_positions(catalog.load_table(NAME)) == positions(range(15))


def test_slices_replaced_in_any_order_between_many_commits_keep_every_row(catalog: FaultyCatalog) -> None:
    fill(catalog, *[range(i * 3, i * 3 + 3) for i in range(20)])
    publish_replace(catalog, {0: range(10, 31)})
    fill(catalog, *[range(60 + i, 61 + i) for i in range(20)])
    publish_replace(catalog, {0: range(12)})
    publish_replace(catalog, {0: range(55, 70)})

    table = catalog.load_table(NAME)
    assert judge.read_positions(table) == positions(range(80))
    assert len(judge.read_every_snapshot(table)) == 43


def test_delete_files_of_others_survive_appends_and_replaces(catalog: FaultyCatalog) -> None:
    fill(catalog, range(10))
    delete_rows(catalog, NAME, "_kafka_offset", [3])
    assert judge.read_positions(catalog.load_table(NAME)) == positions(range(3), range(4, 10))

    fill(catalog, *[range(10 + i, 11 + i) for i in range(20)])
    publish_replace(catalog, {0: range(15, 40)})

    table = catalog.load_table(NAME)
    assert judge.read_positions(table) == positions(range(3), range(4, 40))
    assert len(list(list_live_files(table, ManifestContent.DELETES))) == 1


def test_rows_that_others_deleted_do_not_come_back_when_their_file_is_written_again(
    catalog: FaultyCatalog,
) -> None:
    fill(catalog, range(10))
    delete_rows(catalog, NAME, "_kafka_offset", [3])

    publish_replace(catalog, {0: range(5, 8)})

    assert judge.read_positions(catalog.load_table(NAME)) == positions(range(3), range(4, 10))


def test_a_delete_by_others_while_a_slice_is_prepared_makes_a_conflict(catalog: FaultyCatalog) -> None:
    fill(catalog, range(10))
    table = catalog.load_table(NAME)
    taken = SliceFiles(make_ranges({0: [(5, 8)]}), "clicks")
    taken.prepare(table, build_writer(table, 2**24))
    delivery = make_delivery(table, {0: range(5, 8)}, replaces=taken.swap, again=True)
    delete_rows(catalog, NAME, "_kafka_offset", [3])

    with pytest.raises(CommitConflictError):
        publish(catalog, NAME, delivery)
