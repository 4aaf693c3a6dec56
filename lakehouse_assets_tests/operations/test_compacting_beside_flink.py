"""Compaction of tables that Flink writes too, and what happens where a commit is answered late."""

from typing import Any

from pyiceberg.transforms import BucketTransform
from requests.exceptions import ConnectionError as NoAnswerError

from lakehouse_assets.systems.snapshots import list_live_files
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.foreign_deletes import delete_rows
from lakehouse_assets_tests.foreign_upserts import delete_keys, upsert
from lakehouse_assets_tests.operations.compactions import (
    NAME,
    compact,
    count_files,
    during_commit,
    fill,
    read_ids,
)
from lakehouse_assets_tests.systems.merges import Merger, make_upsert_spec


def read_duckdb(catalog: Any) -> list[object]:
    """PyIceberg can't read a table with equality deletes."""
    return [one for (one,) in judge.query(catalog.load_table(NAME), "SELECT id FROM {table} ORDER BY ALL")]


def test_equality_deletes_are_applied_and_their_table_is_compacted_and_merged_into(catalog: Any) -> None:
    merger = Merger(catalog, make_upsert_spec())
    for number in range(8):
        merger.put(dict.fromkeys(range(10 * number, 10 * number + 10), "a"))
    upsert(catalog, NAME, ["id"], [({"id": 3}, {"text": "of flink"}), ({"id": 14}, None), ({"id": 90}, {"text": "of flink"})])
    expected = dict.fromkeys(range(80), "a") | {3: "of flink", 90: "of flink"}
    del expected[14]

    compact(catalog)

    assert merger.read() == expected
    assert count_files(merger.table) == 1
    merger.put({14: "back", 90: None})
    assert merger.read() == {key: text for key, text in (expected | {14: "back"}).items() if key != 90}


def test_equality_deletes_that_come_meanwhile_reach_the_new_files(catalog: Any) -> None:
    fill(catalog)
    during_commit(catalog, lambda: delete_keys(catalog, NAME, ["id"], [{"id": 3}, {"id": 55}]))

    compact(catalog)

    expected = [n for n in range(80) if n not in (3, 55)]
    assert read_duckdb(catalog) == expected
    compact(catalog)
    assert read_ids(catalog.load_table(NAME)) == expected


def test_equality_deletes_that_are_not_for_rows_of_an_old_partition_spec_do_not_reach_them_later(catalog: Any) -> None:
    fill(catalog)
    with catalog.load_table(NAME).update_spec() as update:
        update.add_field("id", BucketTransform(2), "bucket")
    fill(catalog, files=1, first=8)
    # A delete is for rows of its partition; what was written under another spec is not meant.
    expected = [n for n in range(90) if n != 85]

    def delete() -> None:
        delete_keys(catalog, NAME, ["id"], [{"id": 3}, {"id": 85}])
        assert read_duckdb(catalog) == expected

    during_commit(catalog, delete)
    compact(catalog)
    assert read_duckdb(catalog) == expected

    compact(catalog)
    assert read_ids(catalog.load_table(NAME)) == expected
    assert {entry.data_file.spec_id for entry in list_live_files(catalog.load_table(NAME))} == {1}


def test_a_commit_that_lands_late_keeps_the_files_that_it_names(catalog: Any) -> None:
    fill(catalog)
    waiting: list[Any] = []
    commit = catalog.commit_table

    def commit_table(*arguments: Any) -> Any:
        waiting.append(arguments)
        if len(waiting) == 1:
            catalog.commit_table = commit
            delete_rows(catalog, NAME, "id", [3, 55], of_one_file=True)
            catalog.commit_table = commit_table
        if len(waiting) == 2:
            raise NoAnswerError("the answer got lost, and so did the request, for a while")
        if len(waiting) == 3:
            commit(*waiting[1])
        return commit(*arguments)

    catalog.commit_table = commit_table

    compact(catalog)

    table = catalog.load_table(NAME)
    assert read_ids(table) == [n for n in range(80) if n not in (3, 55)]
    assert count_files(table) == 1
