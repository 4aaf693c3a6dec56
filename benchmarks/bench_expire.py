"""Expiry of 1,000 and of 5,000 snapshots, beside PyIceberg's own, which deletes no file; and orphans among 10,000 files.

    python -m benchmarks.bench_expire [--snapshots 1000 --snapshots 5000] [--files 10000]

The table is what a stream leaves: a file of a few rows with each commit, and at every 50th the small ones become one. All but
ten snapshots are old. Seconds are those of a run: plan, commits, looking up what nothing reaches any more, deleting it.
"""

import argparse
import copy
import os
import shutil
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import update_table_metadata

from lakehouse_assets.model.ledger import LEDGER_KEY, Ledger
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.expiring import run_expire
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.operations.removing_orphans import run_remove_orphans
from lakehouse_assets.systems.catalog import ensure_table, open_catalog
from lakehouse_assets.systems.datafiles import build_data_files
from lakehouse_assets.systems.parquet import build_writer
from lakehouse_assets.systems.schema import TableShape
from lakehouse_assets.systems.snapshots import Change, SnapshotBuilder

SNAPSHOTS, FILES, ORPHANS = (1000, 5000), 10_000, 1_000
_COMPACTED_EVERY = 50
_AGE = timedelta(hours=4)  # more than a table of ours keeps
_DAYS_AGO = 4 * 24 * 3600
OURS, RIVAL = "bench.clicks", "bench.clicks_of_rival"


def main() -> None:
    """Print seconds and what went."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--snapshots", type=int, action="append")
    parser.add_argument("--files", type=int, default=FILES)
    arguments = parser.parse_args()
    ours, theirs = f"{'expiry s':>10}{'CPU s':>7}{'of each':>12}", f"{'PyIceberg s':>13}{'CPU s':>7}"
    print(f"{'snapshots':>10}{ours}{'files deleted':>15}{theirs}{'files deleted':>15}")
    for snapshots in arguments.snapshots or SNAPSHOTS:
        with tempfile.TemporaryDirectory() as folder:
            _expire(Path(folder), snapshots)
    with tempfile.TemporaryDirectory() as folder:
        _search(Path(folder), arguments.files)


def _expire(folder: Path, snapshots: int) -> None:
    catalog = _open(folder)
    table = _stream(catalog, snapshots, files_of_each=1)
    catalog.register_table(RIVAL, table.metadata_location)
    files = _count(folder)
    rival = catalog.load_table(RIVAL)
    began, cpu = time.perf_counter(), time.process_time()
    rival.maintenance.expire_snapshots().by_ids([one.snapshot_id for one in rival.metadata.snapshots[:-10]]).commit()
    theirs, their_cpu = time.perf_counter() - began, time.process_time() - cpu
    assert _count(folder) == files + 1  # its metadata file
    began, cpu = time.perf_counter(), time.process_time()
    report = run_expire(_task(catalog, datetime.now(UTC) + _AGE))
    ours, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert report.figures["snapshots_after"] == 10
    assert catalog.load_table(OURS).scan().count() == snapshots - snapshots // _COMPACTED_EVERY
    deleted = files + 1 - _count(folder)
    each = f"{ours / snapshots * 1e3:>9.2f} ms"
    print(f"{snapshots:>10,}{ours:>10.2f}{cpu:>7.2f}{each}{deleted:>15,}{theirs:>13.2f}{their_cpu:>7.2f}{0:>15}")


def _search(folder: Path, files: int) -> None:
    catalog = _open(folder)
    table = _stream(catalog, snapshots=files // 100, files_of_each=100, is_compacted=False)
    data = Path(table.location().removeprefix("file://"), "data")
    for number in range(ORPHANS):
        (data / f"orphan-{number}.parquet").write_bytes(b"nothing")
    for path in data.iterdir():
        os.utime(path, (time.time() - _DAYS_AGO,) * 2)
    began = time.perf_counter()
    report = run_remove_orphans(_task(catalog, datetime.now(UTC)))
    seconds = time.perf_counter() - began
    assert report.figures["files_deleted"] == ORPHANS
    print(f"orphans: {ORPHANS:,} found and deleted among {report.figures['files_listed']:,} files in {seconds:.2f} s")


def _open(folder: Path) -> Catalog:
    return open_catalog("bench", {"type": "sql", "uri": f"sqlite:///{folder}/c.db", "warehouse": f"file://{folder}"})


def _task(catalog: Catalog, now: datetime) -> MaintenanceTask:
    return MaintenanceTask(catalog, OURS, MaintenanceSpec(), now_ms=lambda: int(now.timestamp() * 1000))


def _count(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def _stream(catalog: Catalog, snapshots: int, files_of_each: int, *, is_compacted: bool = True) -> Table:
    """A table with so many snapshots: each writes its manifests, and the catalog hears of the last one alone."""
    spec = TableSpec(table=OURS, source={"topic": "t"}, schema=[{"name": "id", "type": "long"}])
    ledger = Ledger({"t": "topic-id"})
    table, _ = ensure_table(catalog, TableShape.declared(spec), lambda: ledger)
    file = _write_one(table)
    metadata, small = table.metadata, list[DataFile]()
    for number in range(1, snapshots + 1):
        state = Table(table.name(), metadata, table.metadata_location, table.io, catalog)
        if is_compacted and number % _COMPACTED_EVERY == 0:
            merged, gone = _copy(table, file, number, rows=len(small)), frozenset(one.file_path for one in small)
            change, small = Change([merged], gone, keeps_rows=True), []
        else:
            added = [_copy(table, file, number * files_of_each + at) for at in range(files_of_each)]
            change, small = Change(added), [*small, *added]
        metadata = _apply(metadata, SnapshotBuilder(state, number), change, ledger)
    table.io.delete(file.file_path)
    location = f"{table.location()}/metadata/{snapshots:05}-built.metadata.json"
    catalog._write_metadata(metadata, table.io, location)  # type: ignore[attr-defined]
    catalog.drop_table(OURS)
    return catalog.register_table(OURS, location)


def _apply(metadata: TableMetadata, builder: SnapshotBuilder, change: Change, ledger: Ledger) -> TableMetadata:
    return update_table_metadata(metadata, builder.build(change, {LEDGER_KEY: ledger.to_json()}))


def _write_one(table: Table) -> DataFile:
    writer = build_writer(table, 2**24)
    stamps = pa.array([1], pa.timestamp("us", tz="UTC"))
    numbers = {"_kafka_partition": pa.array([0], pa.int32()), "_kafka_offset": pa.array([1], pa.int64())}
    writer.add(pa.table({"id": pa.array([1], pa.int64()), **numbers, "_kafka_timestamp": stamps}))
    return build_data_files(table, writer.finish())[0]


def _copy(table: Table, file: DataFile, number: int, rows: int = 1) -> DataFile:
    """The same rows in another file."""
    copied, location = copy.copy(file), f"{table.location()}/data/{number:07}.parquet"
    shutil.copy(file.file_path.removeprefix("file://"), location.removeprefix("file://"))
    copied._data = list(file._data)
    copied._data[1], copied._data[4] = location, rows  # file_path, record_count
    return copied


if __name__ == "__main__":
    main()
