"""Writes a table as Flink does: equality deletes of keys beside new rows, position deletes of rows of the same commit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.update import AssertRefSnapshotId
from pyiceberg.typedef import Record

from lakehouse_assets.systems.datafiles import build_data_files
from lakehouse_assets.systems.parquet import build_writer
from lakehouse_assets.systems.partitioning import Partitioner
from lakehouse_assets.systems.position_deletes import new_location, write_deletes
from lakehouse_assets.systems.schema import build_file_schema
from lakehouse_assets.systems.snapshots import Change, SnapshotBuilder

_ORDINAL = "ordinal"


def upsert(
    catalog: Catalog, name: str, key: Sequence[str], changes: Sequence[tuple[Mapping[str, Any], Mapping[str, Any] | None]]
) -> None:
    """A checkpoint of Flink: each change is a key with its row, or None to delete it. Every key is deleted by equality first;
    one that had a row in this checkpoint already, by the position of that row.
    """
    table = catalog.load_table(name)
    latest: dict[tuple[Any, ...], int] = {}
    rows: list[dict[str, Any]] = []
    dead: set[int] = set()
    keys: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for one, row in changes:
        values = tuple(one[column] for column in key)
        if values in latest:
            dead.add(latest.pop(values))
        keys[values] = one
        if row is not None:
            latest[values] = len(rows)
            rows.append({**one, **row, _ORDINAL: len(rows)})
    files: list[DataFile] = []
    if rows:
        schema = build_file_schema(table.schema())
        given = [field for field in schema if field.name in rows[0]]
        columns = pa.Table.from_pylist(rows, pa.schema([*given, pa.field(_ORDINAL, pa.int64())]))
        for _, part in Partitioner(table.spec(), table.schema()).split(columns):
            data = _write_rows(table, part.drop_columns([_ORDINAL]))
            files.append(data)
            at = [place for place, ordinal in enumerate(part[_ORDINAL].to_pylist()) if ordinal in dead]
            if at:
                files.append(write_deletes(table, data, pa.array(at, pa.int64()).to_numpy(), new_location(table)))
    commit(catalog, table, [*files, *write_keys(table, key, list(keys.values()))])


def delete_keys(catalog: Catalog, name: str, key: Sequence[str], keys: Sequence[Mapping[str, Any]]) -> None:
    """Delete rows by equality, in a commit of its own."""
    table = catalog.load_table(name)
    commit(catalog, table, write_keys(table, key, keys))


def write_keys(table: Table, key: Sequence[str], keys: Sequence[Mapping[str, Any]]) -> list[DataFile]:
    """A file of equality deletes for each partition of the table's spec, which must be of these columns."""
    ids = [table.schema().find_field(column).field_id for column in key]
    rows = pa.Table.from_pylist([dict(one) for one in keys], build_file_schema(table.schema().select(*key)))
    files = []
    for partition, part in Partitioner(table.spec(), table.schema()).split(rows):
        location = f"{table.location()}/data/{uuid4().hex}-eq-deletes.parquet"
        path = location.removeprefix("file://")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(part, path)
        deletes = DataFile.from_args(
            content=DataFileContent.EQUALITY_DELETES, file_path=location, file_format=FileFormat.PARQUET,
            partition=Record(*partition), record_count=part.num_rows, file_size_in_bytes=Path(path).stat().st_size,
            column_sizes={}, value_counts={}, null_value_counts={}, nan_value_counts={}, lower_bounds={}, upper_bounds={},
            split_offsets=None, equality_ids=ids, sort_order_id=None, key_metadata=None,
        )  # fmt: skip
        deletes.spec_id = table.spec().spec_id
        files.append(deletes)
    return files


def commit(catalog: Catalog, table: Table, files: Sequence[DataFile]) -> None:
    """Make one snapshot of data and delete files."""
    builder = SnapshotBuilder(table, uuid4().int >> 66)
    head = table.current_snapshot()
    at_head = {"ref": MAIN_BRANCH, "snapshot-id": head.snapshot_id if head is not None else None}
    catalog.commit_table(table, (AssertRefSnapshotId.model_validate(at_head),), builder.build(Change(files), {}))


def _write_rows(table: Table, rows: pa.Table) -> DataFile:
    writer = build_writer(table, 2**24)
    writer.add(rows)
    (data,) = build_data_files(table, writer.finish())
    writer.abandon()
    return data
