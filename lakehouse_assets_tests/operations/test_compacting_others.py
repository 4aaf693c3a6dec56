"""Compaction of tables whose shape changed, that are sorted, or whose rows others change meanwhile."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import DoubleType, IntegerType, LongType, NestedField, StringType, StructType

from lakehouse_assets.systems.snapshots import list_live_files
from lakehouse_assets.systems.tombstones import TOMBSTONES_KEY
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import append_foreign_rows, make_spec, make_table
from lakehouse_assets_tests.foreign_deletes import delete_rows
from lakehouse_assets_tests.operations.compactions import (
    NAME,
    compact,
    count_files,
    during_commit,
    fill,
    read_ids,
)
from lakehouse_assets_tests.systems.merges import Merger, make_changes, make_upsert_spec


def _read_column(table: Table, column: str) -> list[Any]:
    """In the order in which the rows stand in the files."""
    paths = sorted(entry.data_file.file_path.removeprefix("file://") for entry in list_live_files(table))
    return [value for path in paths for value in pq.read_table(path)[column].to_pylist()]


def _append_shuffled(catalog: Catalog, files: int = 8) -> None:
    make_table(catalog, make_spec())
    for number in range(files):
        rows = {"id": [(7 * row) % 80 for row in range(number * 10, number * 10 + 10)]}
        catalog.load_table(NAME).append(pa.table(rows, schema=pa.schema([pa.field("id", pa.int64(), nullable=False)])))


@pytest.mark.parametrize("policy", [{"sort_by": ["id"]}, {"sort_by": ["id", "text"], "sort_order": "zorder"}])
def test_rows_are_sorted_where_the_policy_says_so(catalog: Catalog, policy: dict[str, Any]) -> None:
    _append_shuffled(catalog)
    compact(catalog, policy=policy)
    table = catalog.load_table(NAME)

    assert count_files(table) == 1
    assert read_ids(table) == list(range(80))
    assert _read_column(table, "id") == list(range(80))


def test_what_can_not_be_sorted_by_is_said(catalog: Catalog) -> None:
    _append_shuffled(catalog)
    report = compact(catalog, policy={"sort_by": ["nothing", "id"]})
    assert [kept.what for kept in report.kept_back] == ["sorting by nothing"]
    assert _read_column(catalog.load_table(NAME), "id") == list(range(80))


def test_sorted_rows_that_are_deleted_meanwhile_are_sorted_again_without_them(catalog: Catalog) -> None:
    _append_shuffled(catalog)
    during_commit(catalog, lambda: append_foreign_rows(catalog.load_table(NAME)), lambda: delete_rows(catalog, NAME, "id", [5]))
    compact(catalog, policy={"sort_by": ["id"]})
    table = catalog.load_table(NAME)

    assert read_ids(table) == [*(one for one in range(80) if one != 5), 1_000_000]
    assert count_files(table) == 1


def test_columns_that_were_added_renamed_widened_or_dropped_come_out_right(catalog: Catalog) -> None:
    catalog.create_namespace("lake")
    schema = pa.schema([("a", pa.int32()), ("b", pa.float32()), ("c", pa.string()), ("d", pa.string())])
    table = catalog.create_table("lake.evolving", schema)
    for number in range(3):
        table.append(pa.table({"a": [number], "b": [number / 2], "c": ["c"], "d": ["d"]}, schema=schema))
    with table.update_schema() as update:
        update.rename_column("c", "renamed")
        update.update_column("a", LongType())
        update.update_column("b", DoubleType())
        update.delete_column("d")
        update.add_column("d", IntegerType())  # the same name, another column
        update.add_column("added", StringType())
    wider = pa.schema(
        [("a", pa.int64()), ("b", pa.float64()), ("renamed", pa.string()), ("d", pa.int32()), ("added", pa.string())]
    )
    for number in range(3, 6):
        rows = {"a": [1 << 40], "b": [0.1], "renamed": [None], "d": [number], "added": ["new"]}
        table.append(pa.table(rows, schema=wider))
    columns = "SELECT a, b, renamed, d, added FROM {table} ORDER BY ALL"
    before = judge.query(table, columns)
    compact(catalog, "lake.evolving")
    table = catalog.load_table("lake.evolving")

    assert count_files(table) == 1
    assert judge.query(table, columns) == before
    assert [file["file_path"] for file in table.inspect.data_files().to_pylist()]
    assert len({row[0] for row in before}) == 4


def test_nested_columns_and_odd_values_come_out_right(catalog: Catalog) -> None:
    catalog.create_namespace("lake")
    schema = pa.schema(
        [
            ("items", pa.list_(pa.struct([("name", pa.string()), ("tags", pa.map_(pa.string(), pa.int64()))]))),
            ("price", pa.decimal128(20, 3)),
            ("ratio", pa.float64()),
            ("at", pa.timestamp("us", "UTC")),
            ("raw", pa.binary()),
        ]
    )
    rows = [
        {"items": None, "price": None, "ratio": None, "at": None, "raw": None},
        {"items": [], "price": 0, "ratio": float("nan"), "at": 0, "raw": b""},
        {"items": [None, {"name": None, "tags": []}], "price": -1, "ratio": -0.0, "at": -1, "raw": b"\0"},
        {"items": [{"name": "x", "tags": [("k", None), ("l", 2)]}], "price": 10**12, "ratio": 1e300, "at": 1, "raw": b"ab"},
    ]
    table = catalog.create_table("lake.nested", schema)
    for number in range(8):
        table.append(pa.Table.from_pylist(rows[number % 4 :], schema=schema))
    before = judge.query(table, "SELECT * FROM {table} ORDER BY ALL")
    compact(catalog, "lake.nested")
    table = catalog.load_table("lake.nested")

    assert count_files(table) == 1
    assert str(judge.query(table, "SELECT * FROM {table} ORDER BY ALL")) == str(before)


def test_a_table_whose_files_can_not_be_written_here_is_kept_back(catalog: Catalog) -> None:
    catalog.create_namespace("lake")
    schema = Schema(NestedField(1, "place", StructType(NestedField(2, "city", StringType())), required=False))
    spec = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "city"))
    table = catalog.create_table("lake.nested", schema, partition_spec=spec)
    report = compact(catalog, "lake.nested")
    assert "can't be divided by the partition field city" in report.kept_back[0].reason

    old = catalog.create_table("lake.old", Schema(*schema.fields), properties={"format-version": "1"})
    assert "format version 1" in compact(catalog, "lake.old").kept_back[0].reason
    assert table.current_snapshot() is old.current_snapshot() is None


def test_an_upsert_that_comes_meanwhile_wins_and_one_that_was_prepared_is_prepared_again(catalog: Catalog) -> None:
    merger = Merger(catalog, make_upsert_spec())
    model = {key: f"of {key}" for key in range(80)}
    for number in range(8):
        merger.put({key: model[key] for key in range(number * 10, number * 10 + 10)})

    def upsert(rows: dict[int, str | None]) -> None:
        merger.put(rows)
        model.update(rows)  # type: ignore[arg-type]

    upsert({2: "before", 3: None})
    during_commit(catalog, lambda: upsert({0: "during", 1: None, 41: "during"}), lambda: upsert({2: "again", 40: None}))
    compact(catalog)
    assert merger.read() == {key: text for key, text in model.items() if text is not None}

    merge = merger.plan(make_changes({0: "late", 7: None}))
    merge.prepare(merger.table)
    report = compact(catalog, policy={"small_files": 2})
    assert report.snapshot_ids
    merger.merge(make_changes({0: "late", 7: None}))
    model |= {0: "late", 7: None}  # type: ignore[dict-item]
    assert merger.read() == {key: text for key, text in model.items() if text is not None}


def test_deletions_that_are_remembered_are_remembered_after_it(catalog: Catalog) -> None:
    merger = Merger(catalog, make_upsert_spec(), mode={"copy_on_write": False, "has_several_logs": True, "small_file_bytes": 0})
    for number in range(8):
        merger.put(dict.fromkeys(range(number * 10, number * 10 + 10), "x"))
    merger.put({5: None})
    before = _summary(merger.table)
    compact(catalog)

    assert before[TOMBSTONES_KEY]
    assert _summary(merger.table)[TOMBSTONES_KEY] == before[TOMBSTONES_KEY]
    assert 5 not in merger.read()


def test_a_table_of_ours_goes_on_after_it(catalog: Catalog) -> None:
    fill(catalog, 8)
    compact(catalog)
    fill(catalog, 8, first=8)
    compact(catalog)
    assert read_ids(catalog.load_table(NAME)) == list(range(160))


def _summary(table: Table) -> dict[str, str]:
    head = table.current_snapshot()
    assert head is not None
    assert head.summary is not None
    return head.summary.additional_properties
