"""Compaction of 200 and of 1,000 small files of clicks: ours beside a plain rewrite by PyIceberg, and Spark's.

    python -m benchmarks.bench_compact [--files 200 --files 1000] [--rounds 3] [--codec snappy] [--writer pyiceberg] [--spark]

12 columns and 5,000 rows a file, a commit for each file, in zstd or the codec asked for; what is written is zstd always. The
small files are written as ingestion does, or as PyIceberg's `append` does, whose files of the same rows are larger.
Every contender is a process of its own and gets the same files in the same places; its time is that of the work, the commit
included, its peak that of the process. Megabytes are those of the small files. Spark's session is up and has read a table, or
has compacted one before, so that Java has compiled all that it needs.
"""

import argparse
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.json as pj
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import _dataframe_to_data_files
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from benchmarks.clicks import SCHEMA, generate_clicks
from lakehouse_assets.local.dagster_services import ALLOCATOR_ENVIRONMENT
from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.model.offsets import NO_OFFSETS
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.compacting import run_compact
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.systems.catalog import ensure_table, open_catalog
from lakehouse_assets.systems.commit import Delivery, publish
from lakehouse_assets.systems.datafiles import build_data_files
from lakehouse_assets.systems.parquet import build_writer
from lakehouse_assets.systems.schema import Base, TableShape
from lakehouse_assets_tests.spark import Spark

ROWS_PER_FILE, DISTINCT_ROWS = 5_000, 200_000
_CODEC = "write.parquet.compression-codec"
NAME, WARM = "bench.clicks", "bench.warm"
_WARM_FILES = 20


def compact_ours(catalog: Catalog, name: str) -> None:
    """What `lakehouse compact` does, with the proof that the rows are the same."""
    run_compact(MaintenanceTask(catalog, name, MaintenanceSpec(), now_ms=lambda: int(time.time() * 1000)))


def compact_sorted(catalog: Catalog, name: str) -> None:
    """The same, sorted by two columns."""
    policy = MaintenanceSpec(sort_by=("country", "user_id"))
    run_compact(MaintenanceTask(catalog, name, policy, now_ms=lambda: int(time.time() * 1000)))


def compact_pyiceberg(catalog: Catalog, name: str) -> None:
    """The rival that needs nothing else: all rows in memory, no proof."""
    table = catalog.load_table(name)
    table.overwrite(table.scan().to_arrow())


CONTENDERS: dict[str, Callable[[Catalog, str], None]] = {
    "ours": compact_ours,
    "ours, sorted": compact_sorted,
    "PyIceberg overwrite": compact_pyiceberg,
}
# Whether the session has compacted another table before.
SPARK = {"Spark, first table": False, "Spark, next table": True}


def main() -> None:
    """Measure, print seconds, MB/s and peaks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=CONTENDERS)
    parser.add_argument("--codec", default="zstd", help="of the small files")
    parser.add_argument("--writer", default="ours", choices=["ours", "pyiceberg"], help="of the small files")
    parser.add_argument("--spark", action="store_true")
    parser.add_argument("--child", nargs=2)
    arguments = parser.parse_args()
    if arguments.child:
        _run_child(*arguments.child)
        return
    for files in arguments.files or [200, 1000]:
        with tempfile.TemporaryDirectory() as folder:
            contenders = list(arguments.only or CONTENDERS)
            catalog = _open(Path(folder))
            size_mb = _fill(catalog, NAME, files, arguments.codec, arguments.writer) / 1e6
            if arguments.spark:
                contenders += SPARK
                _fill(catalog, WARM, _WARM_FILES, arguments.codec, arguments.writer)
            catalog.close()
            print(
                f"{files} files, {size_mb:.0f} MB ({arguments.codec} by {arguments.writer}), {files * ROWS_PER_FILE:,} rows"
            )
            _compare(Path(folder), size_mb, arguments.rounds, contenders)


def _compare(folder: Path, size_mb: float, rounds: int, contenders: list[str]) -> None:
    pristine = folder.with_name(f"{folder.name}-pristine")
    shutil.copytree(folder, pristine)
    print(f"{'':24}{'work s':>8}{'MB/s':>8}{'whole s':>9}{'CPU s':>8}{'peak MB':>9}{'files':>7}")
    try:
        for name in contenders:
            found = [_measure(folder, pristine, name) for _ in range(rounds)]
            best = min(found, key=lambda one: one["seconds"])
            peak = max(one["peak_mb"] for one in found)
            print(
                f"{name:24}{best['seconds']:>8.2f}{size_mb / best['seconds']:>8.1f}{best['whole']:>9.2f}"
                f"{best['cpu']:>8.2f}{peak:>9.0f}{best['files']:>7.0f}",
                flush=True,
            )
    finally:
        shutil.rmtree(pristine)


def _measure(folder: Path, pristine: Path, contender: str) -> dict[str, float]:
    shutil.rmtree(folder)
    shutil.copytree(pristine, folder)
    began = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.bench_compact", "--child", contender, str(folder)]
    environment = {**os.environ, **ALLOCATOR_ENVIRONMENT}  # as every run of the platform has it
    said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return {**json.loads(said.splitlines()[-1]), "whole": time.perf_counter() - began}


def _run_child(contender: str, folder: str) -> None:
    """One contender in this process; prints its figures."""
    catalog = _open(Path(folder))
    rows = _count_rows(catalog)
    if contender in SPARK:
        figures = _run_spark(Path(folder), has_compacted=SPARK[contender])
    else:
        figures = _run(CONTENDERS[contender], catalog)
    assert _count_rows(catalog) == rows
    files = len(catalog.load_table(NAME).inspect.data_files())
    print(json.dumps({**figures, "files": files}))


def _run(compact: Callable[[Catalog, str], None], catalog: Catalog) -> dict[str, float]:
    began, cpu = time.perf_counter(), time.process_time()
    compact(catalog, NAME)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "cpu": time.process_time() - cpu, "peak_mb": peak}


def _run_spark(folder: Path, *, has_compacted: bool) -> dict[str, float]:
    statement = "CALL lakehouse.system.rewrite_data_files(table => '{}')"
    with Spark(folder, for_speed=True) as spark:
        session = spark.open(folder)
        session.query(statement.format(WARM) if has_compacted else "SELECT count(*) FROM {table}", WARM)
        began = time.perf_counter()
        session.query(statement.format(NAME), NAME)
        seconds = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1024}


def _open(folder: Path) -> Catalog:
    properties = {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/warehouse"}
    return open_catalog("lakehouse", properties)


def _count_rows(catalog: Catalog) -> int:
    return catalog.load_table(NAME).scan().count()


def _fill(catalog: Catalog, name: str, files: int, codec: str, writer: str) -> int:
    """A table of so many files; their bytes."""
    spec = TableSpec(table=name, source={"topic": "clicks"}, schema=SCHEMA, properties={_CODEC: codec})
    ensure_table(catalog, TableShape.declared(spec), lambda: Ledger({"clicks": "id"}))
    clicks = pj.read_json(
        io.BytesIO(b"\n".join(generate_clicks(min(DISTINCT_ROWS, files * ROWS_PER_FILE)))),
        pj.ReadOptions(block_size=2**26),
    )
    size_bytes = 0
    for number in range(files):
        table = catalog.load_table(name)
        first = number * ROWS_PER_FILE
        rows = _complete(clicks.slice(first % clicks.num_rows, ROWS_PER_FILE), first, table.schema().as_arrow())
        described = _write(table, rows) if writer == "ours" else _write_as_pyiceberg(table, rows)
        size_bytes += sum(file.file_size_in_bytes for file in described)
        publish(catalog, name, Delivery({}, NO_OFFSETS, described, {}, {}, Base.of(table)))
    with catalog.load_table(name).transaction() as change:
        change.set_properties({_CODEC: "zstd"})
    return size_bytes


def _write(table: Table, rows: pa.Table) -> list[DataFile]:
    writer = build_writer(table, rows.nbytes)
    writer.add(rows)
    described = build_data_files(table, writer.finish())
    writer.abandon()
    return described


def _write_as_pyiceberg(table: Table, rows: pa.Table) -> list[DataFile]:
    described = list(_dataframe_to_data_files(table.metadata, rows, table.io))
    for file in described:
        file.spec_id = table.spec().spec_id  # which its own commits find out
    return described


def _complete(rows: pa.Table, first: int, schema: pa.Schema) -> pa.Table:
    """With the columns that the platform adds."""
    offsets = pa.array(range(first, first + rows.num_rows), pa.int64())
    given = {"_kafka_partition": pa.array([0] * rows.num_rows, pa.int32()), "_kafka_offset": offsets}
    for field in schema:
        if field.name not in rows.column_names:
            rows = rows.append_column(field.name, given.get(field.name, pa.nulls(rows.num_rows, field.type)))
    return rows.select(schema.names).cast(schema)


if __name__ == "__main__":
    main()
