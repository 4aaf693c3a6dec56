"""A slice is taken out of a table, and nothing else."""

from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate
from pyiceberg.typedef import Record

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
    delivery = make_delivery(table, {0: range(20)}, replaces=taken.swap)
    fill(catalog, range(10, 15))

    with pytest.raises(CommitConflictError):
        publish(catalog, NAME, delivery)

    assert judge.read_positions(catalog.load_table(NAME)) == positions(range(15))


def test_rows_outside_the_slice_may_land_meanwhile(catalog: FaultyCatalog) -> None:
    fill(catalog, range(10))
    table = catalog.load_table(NAME)
    taken = SliceFiles(make_ranges({0: [(0, 10)]}), "clicks")
    taken.prepare(table, build_writer(table, 2**24))
    delivery = make_delivery(table, {0: range(10)}, replaces=taken.swap)
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


def _delete_rows(catalog: FaultyCatalog, offset: int) -> None:
    """What another engine does: a position delete of the row at `offset`, written as a file of its own."""
    table = catalog.load_table(NAME)
    data = next(e.data_file for e in list_live_files(table) if e.data_file.record_count)
    rows = pq.read_table(data.file_path.removeprefix("file://"))
    at = rows["_kafka_offset"].to_pylist().index(offset)
    location = f"{table.location()}/data/{uuid4().hex}-deletes.parquet"
    schema = pa.schema(
        [
            pa.field("file_path", pa.string(), nullable=False, metadata={"PARQUET:field_id": "2147483546"}),
            pa.field("pos", pa.int64(), nullable=False, metadata={"PARQUET:field_id": "2147483545"}),
        ]
    )
    path = location.removeprefix("file://")
    pq.write_table(pa.table({"file_path": [data.file_path], "pos": [at]}, schema=schema), path)
    deletes = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES, file_path=location, file_format=FileFormat.PARQUET, partition=Record(),
        record_count=1, file_size_in_bytes=Path(path).stat().st_size, column_sizes={}, value_counts={}, null_value_counts={},
        nan_value_counts={}, lower_bounds={}, upper_bounds={}, split_offsets=None, equality_ids=None,
        sort_order_id=None, key_metadata=None,
    )  # fmt: skip
    deletes.spec_id = 0

    class DeleteManifest(ManifestWriterV2):
        def content(self) -> ManifestContent:
            return ManifestContent.DELETES

        @property
        def _meta(self) -> dict[str, str]:
            return {**super()._meta, "content": "deletes"}

    snapshot_id, parent = uuid4().int >> 66, table.current_snapshot()
    assert parent is not None
    with DeleteManifest(
        spec=table.spec(), schema=table.schema(), snapshot_id=snapshot_id, avro_compression="null",
        output_file=table.io.new_output(f"{table.location()}/metadata/{uuid4().hex}-m0.avro"),
    ) as writer:  # fmt: skip
        writer.add_entry(
            ManifestEntry.from_args(
                status=ManifestEntryStatus.ADDED,
                snapshot_id=snapshot_id,
                sequence_number=None,
                file_sequence_number=None,
                data_file=deletes,
            )
        )
    sequence = table.metadata.next_sequence_number()
    list_location = f"{table.location()}/metadata/snap-{snapshot_id}.avro"
    with write_manifest_list(
        2, table.io.new_output(list_location), snapshot_id, parent.snapshot_id, sequence, "null"
    ) as manifest_list:
        manifest_list.add_manifests([writer.to_manifest_file(), *parent.manifests(table.io)])
    snapshot = Snapshot(
        snapshot_id=snapshot_id, parent_snapshot_id=parent.snapshot_id, manifest_list=list_location, sequence_number=sequence,
        summary=Summary(operation=Operation.DELETE), schema_id=0,
    )  # fmt: skip
    catalog.commit_table(
        table,
        (),
        (
            AddSnapshotUpdate(snapshot=snapshot),
            SetSnapshotRefUpdate(ref_name="main", type=SnapshotRefType.BRANCH, snapshot_id=snapshot_id),
        ),
    )


def test_delete_files_of_others_survive_appends_and_replaces(catalog: FaultyCatalog) -> None:
    fill(catalog, range(10))
    _delete_rows(catalog, 3)
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
    _delete_rows(catalog, 3)

    publish_replace(catalog, {0: range(5, 8)})

    assert judge.read_positions(catalog.load_table(NAME)) == positions(range(3), range(4, 10))


def test_a_delete_by_others_while_a_slice_is_prepared_makes_a_conflict(catalog: FaultyCatalog) -> None:
    fill(catalog, range(10))
    table = catalog.load_table(NAME)
    taken = SliceFiles(make_ranges({0: [(5, 8)]}), "clicks")
    taken.prepare(table, build_writer(table, 2**24))
    delivery = make_delivery(table, {0: range(5, 8)}, replaces=taken.swap)
    _delete_rows(catalog, 3)

    with pytest.raises(CommitConflictError):
        publish(catalog, NAME, delivery)
