"""Deletes rows as another engine does: position deletes of its own, one file for a whole partition or for one data file."""

from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import schema_to_pyarrow
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
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import (
    Operation,
    Snapshot,
    SnapshotSummaryCollector,
    Summary,
    update_snapshot_summaries,
)
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate

from lakehouse_assets.systems.snapshots import list_live_files

_PATH_ID = 2147483546  # Iceberg spec, "Position Delete Files"
_SCHEMA = pa.schema(
    [
        pa.field("file_path", pa.string(), nullable=False, metadata={"PARQUET:field_id": "2147483546"}),
        pa.field("pos", pa.int64(), nullable=False, metadata={"PARQUET:field_id": "2147483545"}),
    ]
)


def delete_rows(
    catalog: Catalog,
    name: str,
    column: str,
    values: Sequence[object],
    content: DataFileContent = DataFileContent.POSITION_DELETES,
    *,
    of_one_file: bool = False,
) -> None:
    """Delete the rows of these values; one delete file for each partition, without bounds. A row may be deleted twice.

    With `of_one_file` there is one for each data file, as its bounds say. With another `content` the files only claim to be of
    that.
    """
    table = catalog.load_table(name)
    by_partition: dict[tuple[int, str], tuple[DataFile, list[tuple[str, int]]]] = {}
    for entry in list_live_files(table):
        data = entry.data_file
        found = pq.read_table(data.file_path.removeprefix("file://"), columns=[column])[column].to_pylist()
        places = [(data.file_path, at) for at, value in enumerate(found) if value in values]
        if places:
            group = data.file_path if of_one_file else str(data.partition)
            by_partition.setdefault((data.spec_id, group), (data, []))[1].extend(places)
    _commit(catalog, table, [_write(table, data, places, content, of_one_file) for data, places in by_partition.values()])


def delete_by_equality(catalog: Catalog, name: str, column: str, values: Sequence[object]) -> None:
    """Delete the rows of these values as Flink does: without looking where they are, by a file for each partition."""
    table = catalog.load_table(name)
    partitions = {(entry.data_file.spec_id, str(entry.data_file.partition)): entry.data_file for entry in list_live_files(table)}
    _commit(catalog, table, [_write_keys(table, data, column, values) for data in partitions.values()])


def _write_keys(table: Table, data: DataFile, column: str, values: Sequence[object]) -> DataFile:
    field = table.schema().find_field(column)
    kind = pa.field(column, schema_to_pyarrow(table.schema()).field(column).type, metadata={"PARQUET:field_id": str(field.field_id)})
    rows = pa.table([pa.array(values, kind.type)], schema=pa.schema([kind]))
    location = f"{table.location()}/data/{uuid4().hex}-eq-deletes.parquet"
    pq.write_table(rows, location.removeprefix("file://"))
    return _describe(data, location, DataFileContent.EQUALITY_DELETES, len(values), [field.field_id])


def _write(
    table: Table, data: DataFile, places: Sequence[tuple[str, int]], content: DataFileContent, of_one_file: bool
) -> DataFile:
    location = f"{table.location()}/data/{uuid4().hex}-deletes.parquet"
    path = location.removeprefix("file://")
    paths, positions = zip(*sorted(places), strict=True)
    pq.write_table(pa.table({"file_path": paths, "pos": positions}, schema=_SCHEMA), path)
    return _describe(data, location, content, len(places), of_path=paths[0] if of_one_file else None)


def _describe(
    data: DataFile,
    location: str,
    content: DataFileContent,
    count: int,
    equality_ids: Sequence[int] | None = None,
    of_path: str | None = None,
) -> DataFile:
    bounds = {_PATH_ID: of_path.encode()} if of_path is not None else {}
    size_bytes = Path(location.removeprefix("file://")).stat().st_size
    deletes = DataFile.from_args(
        content=content, file_path=location, file_format=FileFormat.PARQUET, partition=data.partition,
        record_count=count, file_size_in_bytes=size_bytes, column_sizes={}, value_counts={},
        null_value_counts={}, nan_value_counts={}, lower_bounds=bounds, upper_bounds=bounds, split_offsets=None,
        equality_ids=equality_ids, sort_order_id=None, key_metadata=None,
    )  # fmt: skip
    deletes.spec_id = data.spec_id
    return deletes


class _DeleteManifest(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


def _commit(catalog: Catalog, table: Table, deletes: Sequence[DataFile]) -> None:
    snapshot_id, parent = uuid4().int >> 66, table.current_snapshot()
    assert parent is not None
    manifests = []
    for spec_id in sorted({file.spec_id for file in deletes}):
        with _DeleteManifest(
            spec=table.specs()[spec_id], schema=table.schema(), snapshot_id=snapshot_id, avro_compression="null",
            output_file=table.io.new_output(f"{table.location()}/metadata/{uuid4().hex}-m0.avro"),
        ) as writer:  # fmt: skip
            for file in deletes:
                if file.spec_id == spec_id:
                    writer.add_entry(
                        ManifestEntry.from_args(
                            status=ManifestEntryStatus.ADDED,
                            snapshot_id=snapshot_id,
                            sequence_number=None,
                            file_sequence_number=None,
                            data_file=file,
                        )
                    )
        manifests.append(writer.to_manifest_file())
    sequence = table.metadata.next_sequence_number()
    list_location = f"{table.location()}/metadata/snap-{snapshot_id}.avro"
    with write_manifest_list(
        2, table.io.new_output(list_location), snapshot_id, parent.snapshot_id, sequence, "null"
    ) as manifest_list:
        manifest_list.add_manifests([*manifests, *parent.manifests(table.io)])
    counted = SnapshotSummaryCollector()
    for file in deletes:
        counted.add_file(file, table.schema(), table.specs()[file.spec_id])
    summary = update_snapshot_summaries(
        Summary(operation=Operation.DELETE, **counted.build()),
        parent.summary.additional_properties if parent.summary is not None else None,
    )
    snapshot = Snapshot(
        snapshot_id=snapshot_id, parent_snapshot_id=parent.snapshot_id, manifest_list=list_location, sequence_number=sequence,
        summary=summary, schema_id=table.metadata.current_schema_id,
    )  # fmt: skip
    catalog.commit_table(
        table,
        (),
        (
            AddSnapshotUpdate(snapshot=snapshot),
            SetSnapshotRefUpdate(ref_name="main", type=SnapshotRefType.BRANCH, snapshot_id=snapshot_id),
        ),
    )
