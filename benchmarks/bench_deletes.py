"""Delete files brought into order: how long it takes, and how long reads take before and after.

    python -m benchmarks.bench_deletes [--rows 1000000] [--commits 60] [--patience 60]

A table as Flink upserts it, 2,000 keys of equality deletes and as many new rows for each commit; and one from which another
engine deletes by position, a file for the whole table for each commit. A reader that needs longer than the patience is given
up.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import DoubleType, LongType, NestedField, StringType

from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.operations.tidying_deletes import tidy_deletes
from lakehouse_assets.systems.catalog import open_catalog
from lakehouse_assets.systems.datafiles import build_data_files
from lakehouse_assets.systems.parquet import build_writer
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.foreign_deletes import delete_rows
from lakehouse_assets_tests.foreign_upserts import commit, write_keys

Keys = npt.NDArray[np.int64]

KEYS, FILES = 2_000, 4
_READ = "SELECT count(*), sum(balance), max(name) FROM {table}"


def main() -> None:
    """Run it and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--commits", type=int, default=60)
    parser.add_argument("--patience", type=float, default=60)
    options = parser.parse_args()
    print("| | tidying, s | CPU, s | delete files | PyIceberg reads, s | DuckDB reads, s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for title, change in {"equality deletes": _upsert, "position deletes": _delete}.items():
        with tempfile.TemporaryDirectory() as folder:
            catalog, table = _fill(Path(folder), options.rows)
            random = np.random.default_rng(1)
            for number in range(options.commits):
                change(catalog, table, random.choice(options.rows, KEYS, replace=False), number)
            print(_measure(f"{title}, {options.commits} commits", catalog, table, options.patience, 0, 0))
            began, cpu = time.monotonic(), time.process_time()
            tidy_deletes(MaintenanceTask(catalog, table, MaintenanceSpec(), now_ms=lambda: 0))
            seconds, cpu = time.monotonic() - began, time.process_time() - cpu
            print(_measure("after", catalog, table, options.patience, seconds, cpu), flush=True)


def _fill(folder: Path, rows: int) -> tuple[Catalog, str]:
    place = {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/warehouse"}
    catalog = open_catalog("bench", place)
    catalog.create_namespace("bench")
    columns = {"id": LongType(), "name": StringType(), "balance": DoubleType()}
    schema = Schema(*(NestedField(at, name, kind, required=False) for at, (name, kind) in enumerate(columns.items(), 1)))
    table = catalog.create_table("bench.deletes", schema, properties={"format-version": "2"})
    share = rows // FILES
    for first in range(0, rows, share):
        _append(catalog, table.refresh(), np.arange(first, first + share), 0)
    return catalog, "bench.deletes"


def _append(catalog: Catalog, table: Table, ids: Keys, version: int, *more: DataFile) -> None:
    writer = build_writer(table, 2**26)
    names = [f"customer {number} of version {version}" for number in ids.tolist()]
    writer.add(pa.table({"id": ids, "name": names, "balance": ids * 1.5 + version}))
    commit(catalog, table, [*build_data_files(table, writer.finish()), *more])
    writer.abandon()


def _upsert(catalog: Catalog, name: str, ids: Keys, version: int) -> None:
    table = catalog.load_table(name)
    _append(catalog, table, ids, version + 1, *write_keys(table, ["id"], [{"id": number} for number in ids.tolist()]))


def _delete(catalog: Catalog, name: str, ids: Keys, version: int) -> None:
    delete_rows(catalog, name, "id", set(ids.tolist()))  # type: ignore[arg-type]


def _measure(title: str, catalog: Catalog, name: str, patience: float, seconds: float, cpu: float) -> str:
    table = catalog.load_table(name)
    files = table.current_snapshot().summary.additional_properties.get("total-delete-files", "?")  # type: ignore[union-attr]
    times = [_time(read, table, patience) for read in (_read_pyiceberg, _read_duckdb)]
    spent = f"{seconds:.2f} | {cpu:.2f}" if seconds else " | "
    return f"| {title} | {spent} | {files} | {' | '.join(times)} |"


def _time(read: Callable[[Table], object], table: Table, patience: float) -> str:
    """In a process of its own, which can be ended."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_read_and_answer, args=(read, table, theirs))
    process.start()
    answer = ours.recv() if ours.poll(patience) else f"more than {patience:.0f}"
    process.kill()
    process.join()
    return str(answer)


def _read_and_answer(read: Callable[[Table], object], table: Table, answer: Connection) -> None:
    began = time.monotonic()
    try:
        read(table)
    except ValueError:
        answer.send("refuses")
    else:
        answer.send(f"{time.monotonic() - began:.2f}")


def _read_pyiceberg(table: Table) -> object:
    return table.scan().to_arrow().num_rows


def _read_duckdb(table: Table) -> object:
    return judge.query(table, _READ)


if __name__ == "__main__":
    main()
