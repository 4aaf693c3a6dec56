"""Planning a scan of one partition, before and after manifests are written again, and what that takes.

The files are named and not there: planning reads metadata alone.
"""

import argparse
import resource
import tempfile
import time
import uuid
from collections.abc import Iterable

from pyiceberg.catalog import Catalog
from pyiceberg.expressions import EqualTo
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.operations.rewriting_manifests import run_rewrite_manifests
from lakehouse_assets.systems.catalog import ensure_table, open_catalog
from lakehouse_assets.systems.commit import Delivery, publish
from lakehouse_assets.systems.regrouping import list_manifests
from lakehouse_assets.systems.schema import TableShape
from lakehouse_assets.systems.snapshots import Change

_NAME = "bench.manifests"
_PARTITIONS = 100
_TARGET_BYTES = 100_000  # so that some ten thousand files have many manifests, as tens of millions have at Iceberg's 8 MiB


def main() -> None:
    """Make tables whose manifests have files of every partition, and print how long planning takes before and after."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, nargs="+", default=[20_000, 40_000])
    arguments = parser.parse_args()
    print(f"{_PARTITIONS} partitions, manifests of {_TARGET_BYTES:,} bytes")
    print(f"{'files':>8}{'manifests':>14}{'plan of one, s':>18}{'times':>8}{'rewriting, s':>14}{'peak MB':>9}")
    for files in arguments.files:
        _measure(files)


def _measure(files: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        properties = {"type": "sql", "uri": f"sqlite:///{folder}/c.db", "warehouse": f"file://{folder}/warehouse"}
        catalog = open_catalog(uuid.uuid4().hex, properties)
        _make_table(catalog, files)
        before, slow = _plan(catalog)
        task = MaintenanceTask(catalog, _NAME, MaintenanceSpec(), now_ms=lambda: int(time.time() * 1000))
        report = run_rewrite_manifests(task)
        after, fast = _plan(catalog)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    counts, times = f"{before} -> {after}", f"{slow:.2f} -> {fast:.2f}"
    print(f"{files:>8}{counts:>14}{times:>18}{slow / fast:>8.1f}{report.seconds:>14.1f}{peak:>9.0f}", flush=True)


def _plan(catalog: Catalog) -> tuple[int, float]:
    """Number of manifests, and the time to plan a scan of one partition."""
    table = catalog.load_table(_NAME)
    began = time.perf_counter()
    found = sum(1 for _ in table.scan(EqualTo("shop", 7)).plan_files())
    seconds = time.perf_counter() - began
    assert found, "no file in the partition"  # noqa: S101 - a benchmark that finds nothing measures nothing
    return len(list_manifests(table)), seconds


def _make_table(catalog: Catalog, files: int) -> None:
    spec = TableSpec(
        table=_NAME,
        source={"topic": "t"},
        schema=[{"name": "shop", "type": "int"}],
        partition_by=["shop"],
        properties={"commit.manifest.target-size-bytes": str(_TARGET_BYTES)},
    )
    table, _ = ensure_table(catalog, TableShape.declared(spec), lambda: Ledger({"t": "id"}))
    each = 1_000
    for first in range(0, files, each):
        members = list(_name_files(table, range(first, first + each)))
        publish(catalog, _NAME, Delivery.maintaining(table, "bench", lambda _, added=members: Change(added)))  # type: ignore[misc]


def _name_files(table: Table, numbers: Iterable[int]) -> Iterable[DataFile]:
    for number in numbers:
        file = DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=f"{table.location()}/data/{uuid.uuid4()}.parquet",
            file_format=FileFormat.PARQUET,
            partition=Record(number % _PARTITIONS),
            record_count=1_000,
            file_size_in_bytes=100_000,
            column_sizes={1: 4_000},
            value_counts={1: 1_000},
            null_value_counts={1: 0},
            nan_value_counts={},
            lower_bounds={1: (number % _PARTITIONS).to_bytes(4, "little")},
            upper_bounds={1: (number % _PARTITIONS).to_bytes(4, "little")},
        )
        file.spec_id = table.spec().spec_id
        yield file


if __name__ == "__main__":
    main()
