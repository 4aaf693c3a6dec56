"""Rows are found by key in files that were written under another schema or partition spec, or by somebody else."""

from collections.abc import Callable
from uuid import uuid4

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import DataFileContent, ManifestContent
from pyiceberg.table.snapshots import Operation
from pyiceberg.transforms import BucketTransform, DayTransform, IdentityTransform
from pyiceberg.types import LongType, StringType

from lakehouse_assets.model.errors import StorageError
from lakehouse_assets.systems.changes import Changes
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets.systems.key_audit import audit_keys
from lakehouse_assets.systems.snapshots import list_live_files
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import expire, make_ranges
from lakehouse_assets_tests.faults import FaultyCatalog
from lakehouse_assets_tests.foreign_deletes import delete_rows
from lakehouse_assets_tests.systems.merges import (
    IN_EVERY_MODE,
    NAME,
    Merger,
    Mode,
    make_changes,
    make_upsert_spec,
)


@IN_EVERY_MODE
def test_rows_of_older_partition_specs_are_found_and_move_to_the_new_one(catalog: FaultyCatalog, mode: Mode) -> None:
    merger = Merger(catalog, mode=mode)
    model: dict[int, str | None] = {}

    def put(text: str, *keys: int) -> None:
        merger.put(dict.fromkeys(keys, text))
        model.update(dict.fromkeys(keys, text))

    put("a", *range(30))
    with merger.table.update_spec() as update:
        update.add_field("id", BucketTransform(4), "id_bucket")
    put("b", *range(5, 15), 40)
    with merger.table.update_spec() as update:
        update.remove_field("id_bucket")
        update.add_field("id", BucketTransform(3), "id_bucket_3")
        update.add_field("text", IdentityTransform(), "text_as_it_is")
    put("c", *range(10, 20), 40, 41)
    delete_rows(catalog, NAME, "id", [11, 29, 41])
    with merger.table.update_spec() as update:
        update.remove_field("id_bucket_3")
        update.remove_field("text_as_it_is")
    put("d", 0, 6, 12, 13, 41)

    assert merger.read() == {k: text for k, text in model.items() if k not in (11, 29)}
    assert audit_keys(merger.table, ["id"]).duplicate_keys == 0


@IN_EVERY_MODE
def test_rows_are_found_by_columns_that_were_renamed_widened_or_added_since(
    catalog: FaultyCatalog, mode: Mode
) -> None:
    merger = Merger(catalog, make_upsert_spec("int", partition_by=["bucket(4, id)"]), mode)
    merger.merge(make_changes(dict.fromkeys(range(20), "a"), pa.int32()))
    with merger.table.update_schema() as update:
        update.update_column("id", LongType())
        update.add_column("added", StringType())
    merger.put(dict.fromkeys(range(5, 8), "b") | {2**40: "b"})
    with merger.table.update_schema() as update:
        update.rename_column("id", "number")
        update.rename_column("text", "words")
    merger.spec = make_upsert_spec(
        key=["number"],
        schema=[
            {"name": "number", "type": "long", "required": True},
            {"name": "words", "type": "string"},
            {"name": "added", "type": "string"},
        ],
        partition_by=["bucket(4, number)"],
    )
    rows = pa.table({"number": [6, 7, 8, 2**40, 30], "words": ["c"] * 5, "added": ["new"] * 5})

    figures = merger.merge(Changes(rows, np.array([False, True, False, True, False]))).figures

    assert (figures.inserted, figures.updated, figures.deleted) == (1, 2, 2)
    found = judge.query(merger.table, "SELECT number, words, added FROM {table} ORDER BY ALL")
    expected = dict.fromkeys(range(20), ("a", None)) | {5: ("b", None)} | dict.fromkeys((6, 8, 30), ("c", "new"))
    assert found == [(k, *expected[k]) for k in sorted(expected) if k != 7]


def add_file_without_ids(merger: Merger) -> str:
    """A file of another writer: 600 rows in six row groups."""
    path = f"{merger.table.location().removeprefix('file://')}/{uuid4().hex}.parquet"
    schema = pa.schema([pa.field("text", pa.string()), pa.field("id", pa.int64(), nullable=False)])
    pq.write_table(pa.table({"text": ["x"] * 600, "id": range(600)}, schema=schema), path, row_group_size=100)
    merger.table.add_files([f"file://{path}"])
    return path


@IN_EVERY_MODE
def test_rows_of_files_without_field_ids_are_found_by_name(catalog: FaultyCatalog, mode: Mode) -> None:
    merger = Merger(catalog, mode=mode)
    add_file_without_ids(merger)

    merger.put({5: "ours", 599: None, 700: "ours"})

    rows = merger.read()
    assert len(rows) == 600
    assert [rows.get(k) for k in (4, 5, 599, 700)] == ["x", "ours", None, "ours"]


def test_a_file_whose_columns_nobody_can_tell_is_named(catalog: FaultyCatalog) -> None:
    merger = Merger(catalog)
    path = add_file_without_ids(merger)
    with merger.table.transaction() as transaction:
        transaction.remove_properties("schema.name-mapping.default")

    with pytest.raises(StorageError, match=path):
        merger.put({5: "ours"})
    with pytest.raises(StorageError, match=path):
        audit_keys(merger.table, ["id"])


@IN_EVERY_MODE
def test_a_key_of_several_columns_is_a_key_only_as_a_whole(catalog: FaultyCatalog, mode: Mode) -> None:
    spec = make_upsert_spec(
        key=["shop", "id", "day"],
        schema=[
            {"name": "shop", "type": "string", "required": True},
            {"name": "id", "type": "long", "required": True},
            {"name": "day", "type": "date", "required": True},
            {"name": "text", "type": "string"},
        ],
        partition_by=["month(day)", "bucket(2, id)"],
    )
    merger = Merger(catalog, spec, mode)
    keys = [(shop, number, day) for shop in ("", "a", "b") for number in (0, 1, 2**40) for day in range(0, 90, 15)]
    model: dict[tuple[str, int, int], str] = {}
    for text, chosen in (("x", keys), ("y", keys[::2]), ("z", keys[1::3]), ("gone", keys[::5])):
        shops, numbers, days = zip(*chosen, strict=True)
        rows = {"shop": shops, "id": numbers, "day": pa.array(days, pa.int32()).cast(pa.date32()), "text": [text] * len(chosen)}
        merger.merge(Changes(pa.table(rows), np.full(len(chosen), text == "gone")))
        model |= dict.fromkeys(chosen, text)

    found = judge.query(merger.table, "SELECT shop, id, day - DATE '1970-01-01', text FROM {table} ORDER BY ALL")
    assert found == sorted((*key, text) for key, text in model.items() if text != "gone")
    assert audit_keys(merger.table, spec.key).row_count == len(found)


@IN_EVERY_MODE
def test_rows_move_between_the_days_that_partition_them(catalog: FaultyCatalog, mode: Mode) -> None:
    spec = make_upsert_spec(
        schema=[
            {"name": "id", "type": "long", "required": True},
            {"name": "text", "type": "string"},
            {"name": "at", "type": "timestamp"},
        ],
        partition_by=["day(at)"],
    )
    merger = Merger(catalog, spec, mode)
    days: dict[int, int] = {}
    for commit in range(6):
        moved = {k: (k * 7 + commit * commit) % 4 for k in range(commit, 30, commit + 1)}
        stamps = pa.array([day * 86_400_000_000 + 5 for day in moved.values()], pa.timestamp("us"))
        merger.merge(make_changes(dict.fromkeys(moved, "x"), at=stamps))
        days |= moved

    assert isinstance(merger.table.spec().fields[0].transform, DayTransform)
    assert judge.query(merger.table, 'SELECT id, day("at") - 1 FROM {table} ORDER BY ALL') == sorted(days.items())
    for day in range(4):
        rows = merger.table.scan(row_filter=f"at == '1970-01-0{day + 1}T00:00:00.000005'").to_arrow()
        assert sorted(rows["id"].to_pylist()) == sorted(k for k, its in days.items() if its == day)


def summary_of(merger: Merger) -> Callable[[str], int]:
    snapshot = merger.table.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    summary = snapshot.summary
    return lambda name: int(summary.additional_properties.get(name, "0"))


@IN_EVERY_MODE
def test_summaries_count_what_stands_in_the_table(catalog: FaultyCatalog, mode: Mode) -> None:
    merger = Merger(catalog, make_upsert_spec(partition_by=["bucket(2, id)"]), mode)
    operations = []
    for rows in (
        dict.fromkeys(range(20_000), "a"),
        dict.fromkeys(range(30), "b"),
        dict.fromkeys(range(10), None),
        dict.fromkeys(range(20_000), None),
    ):
        merger.put(rows)
        table, count = merger.table, summary_of(merger)
        data = [entry.data_file for entry in list_live_files(table)]
        deletes = [entry.data_file for entry in list_live_files(table, ManifestContent.DELETES)]
        assert all(file.content == DataFileContent.POSITION_DELETES for file in deletes)
        assert count("total-data-files") == len(data)
        assert count("total-delete-files") == len(deletes)
        assert count("total-records") == sum(file.record_count for file in data)
        assert count("total-position-deletes") == sum(file.record_count for file in deletes)
        assert count("total-files-size") == sum(file.file_size_in_bytes for file in [*data, *deletes])
        assert count("total-records") - count("total-position-deletes") == len(merger.read())
        operations.append(table.current_snapshot().summary.operation)  # type: ignore[union-attr]

    third = Operation.OVERWRITE if mode["copy_on_write"] else Operation.DELETE
    assert operations == [Operation.APPEND, Operation.OVERWRITE, third, Operation.DELETE]


def test_the_ledger_stands_after_expiry_where_the_last_snapshot_only_deleted(catalog: FaultyCatalog) -> None:
    merger = Merger(catalog)
    merger.put(dict.fromkeys(range(10), "a"))
    merger.put({3: None})
    delete_rows(catalog, NAME, "id", [4])
    expire(merger.table, [snapshot.snapshot_id for snapshot in merger.table.metadata.snapshots[:-1]])

    ledger = read_ledger(merger.table)

    assert ledger is not None
    assert ledger.held == make_ranges({0: [(0, 2)]})


def test_manifests_can_be_read_by_those_who_take_the_specification_at_its_word(catalog: FaultyCatalog) -> None:
    merger = Merger(catalog)
    merger.put(dict.fromkeys(range(10), "a"))
    merger.put({3: None})
    merger.put({4: "b"})

    snapshot = merger.table.current_snapshot()
    assert snapshot is not None
    contents = []
    for manifest in snapshot.manifests(merger.table.io):
        with open(manifest.manifest_path.removeprefix("file://"), "rb") as stream:
            reader = fastavro.reader(stream)
            contents.append(reader.metadata["content"])
            data_file = next(f for f in reader.writer_schema["fields"] if f["name"] == "data_file")["type"]
            ids = next(f for f in data_file["fields"] if f["name"] == "equality_ids")["type"]
            assert next(kind for kind in ids if kind != "null")["items"] == "int"
            assert all(entry["data_file"]["content"] == (contents[-1] == "deletes") for entry in reader)
    assert sorted(set(contents)) == ["data", "deletes"]


def test_a_table_with_equality_deletes_is_refused(catalog: FaultyCatalog) -> None:
    merger = Merger(catalog)
    merger.put(dict.fromkeys(range(10), "a"))
    delete_rows(catalog, NAME, "id", [1], content=DataFileContent.EQUALITY_DELETES)

    with pytest.raises(StorageError, match="equality deletes"):
        merger.put({1: "b"})
