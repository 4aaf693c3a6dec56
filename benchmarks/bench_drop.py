"""Dropping and purging a table of many files, beside PyIceberg's purge_table.

The rival gets a smaller table, because its time grows with the square of the commits: it reads every manifest again for each
snapshot that has it.
"""

import argparse
import copy
import shutil
import tempfile
import time
import uuid
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.model.offsets import TopicPartition, TopicRanges
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.dropping import run_drop, run_purge
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.systems.catalog import ensure_table, open_catalog
from lakehouse_assets.systems.commit import Delivery, publish
from lakehouse_assets.systems.datafiles import build_data_files
from lakehouse_assets.systems.parquet import build_writer
from lakehouse_assets.systems.schema import Base, TableShape

_NAME = "bench.dropped"
_FILES_PER_COMMIT = 10
_LOG = TopicPartition("t", 0)


def main() -> None:
    """Make tables of each size, drop and purge them, print the times and what is left."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--rival-files", type=int, nargs="+", default=[1_000, 2_000])
    arguments = parser.parse_args()
    print(f"{_FILES_PER_COMMIT} files a commit; SQLite catalog, local disk")
    print(f"{'':>14}{'files':>8}{'drop s':>9}{'purge s':>9}{'left':>7}")
    for files in arguments.files:
        _measure("ours", files)
    for files in arguments.rival_files:
        _measure("purge_table()", files)


def _measure(who: str, files: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        properties = {"type": "sql", "uri": f"sqlite:///{folder}/c.db", "warehouse": f"file://{folder}/warehouse"}
        catalog = open_catalog(uuid.uuid4().hex, properties)
        _make_table(catalog, files)
        began = time.perf_counter()
        dropped = began
        if who == "ours":
            task = MaintenanceTask(catalog, _NAME, MaintenanceSpec(), now_ms=lambda: int(time.time() * 1000))
            run_drop(task)
            dropped = time.perf_counter()
            run_purge(task)
        else:
            catalog.purge_table(_NAME)
        ended = time.perf_counter()
        left = sum(1 for path in Path(folder, "warehouse").rglob("*") if path.is_file())
    drop = f"{dropped - began:>9.3f}" if who == "ours" else f"{'-':>9}"
    print(f"{who:>14}{files:>8}{drop}{ended - dropped:>9.2f}{left:>7}", flush=True)


def _make_table(catalog: Catalog, files: int) -> None:
    spec = TableSpec(table=_NAME, source={"topic": "t"}, schema=[{"name": "id", "type": "long"}])
    table, _ = ensure_table(catalog, TableShape.declared(spec), lambda: Ledger({"t": "id"}))
    writer = build_writer(table, spec.buffer_size)
    writer.add(
        pa.table(
            {
                "id": pa.array([1], pa.int64()),
                "_kafka_partition": pa.array([0], pa.int32()),
                "_kafka_offset": pa.array([0], pa.int64()),
                "_kafka_timestamp": pa.array([0], pa.timestamp("us", tz="UTC")),
            }
        )
    )
    (first,) = build_data_files(table, writer.finish())
    for offset in range(0, files, _FILES_PER_COMMIT):
        members = [_copy(first) for _ in range(min(_FILES_PER_COMMIT, files - offset))]
        publish(catalog, _NAME, _delivery(table, members, offset))
    table.io.delete(first.file_path)


def _copy(file: DataFile) -> DataFile:
    """The same rows in another file."""
    location = f"{file.file_path.rpartition('/')[0]}/{uuid.uuid4()}.parquet"
    shutil.copyfile(file.file_path.removeprefix("file://"), location.removeprefix("file://"))
    other = copy.copy(file)
    other._data = [location if value == file.file_path else value for value in file._data]
    other.spec_id = file.spec_id
    return other


def _delivery(table: Table, files: list[DataFile], offset: int) -> Delivery:
    return Delivery(
        topic_ids={"t": "id"},
        ranges=TopicRanges.of({_LOG: [(offset, offset + len(files))]}),
        files=files,
        last_row={_LOG: offset + len(files) - 1},
        newest_ms={_LOG: 0},
        base=Base.of(table),
    )


if __name__ == "__main__":
    main()
