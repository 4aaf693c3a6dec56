"""Time of one guarded commit as snapshots gather, beside PyIceberg's own append of the same file.

The rival gets fewer commits, because its time grows with each one.
"""

import argparse
import statistics
import tempfile
import time
import uuid

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog

from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.offsets import TopicPartition, TopicRanges
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.systems.catalog import ensure_table, open_catalog
from lakehouse_assets.systems.commit import Delivery, publish
from lakehouse_assets.systems.datafiles import build_data_files
from lakehouse_assets.systems.parquet import build_writer
from lakehouse_assets.systems.schema import Base, TableShape

MARKS = (10, 100, 300, 1000)
_LOG = TopicPartition("t", 0)
_WINDOW = 21  # commits around a mark; their median counts, since every 16th also joins manifests


def main() -> None:
    """Commit up to the largest mark, print the median time at each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--commits", type=int, default=1000)
    parser.add_argument("--rival-commits", type=int, default=300)
    arguments = parser.parse_args()
    rival = _rival(min(arguments.rival_commits, arguments.commits))  # first: ours keeps metadata in this process
    ours = _ours(arguments.commits)
    print(f"{'snapshots':>10}{'ours ms':>10}{'append() ms':>13}")
    for mark in (m for m in MARKS if m <= len(ours)):
        theirs = f"{_median_at(rival, mark):>13.1f}" if mark <= len(rival) else f"{'-':>13}"
        print(f"{mark:>10}{_median_at(ours, mark):>10.1f}{theirs}")
    last = max(m for m in MARKS if m <= len(ours))
    print(f"ours at {last} / at 10 snapshots: {_median_at(ours, last) / _median_at(ours, 10):.2f} times")


def _median_at(seconds: list[float], mark: int) -> float:
    return statistics.median(seconds[max(0, mark - _WINDOW) : mark]) * 1e3


def _ours(commits: int) -> list[float]:
    spec = TableSpec(table="bench.commits", source={"topic": "t"}, schema=[{"name": "id", "type": "long"}])
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        properties = {"type": "sql", "uri": f"sqlite:///{folder}/c.db", "warehouse": f"file://{folder}"}
        catalog = open_catalog("bench", properties)
        ledger = Ledger({"t": "id"})
        table, _ = ensure_table(catalog, TableShape.declared(spec), lambda: ledger)
        for i in range(commits):
            writer = build_writer(table, spec.buffer_size)
            writer.add(make_rows(i))
            staged = writer.finish()
            writer.abandon()
            began = time.perf_counter()
            publish(catalog, spec.table, deliver_row(table, staged, i))
            taken.append(time.perf_counter() - began)
    return taken


def make_rows(i: int) -> pa.Table:
    """One row, of offset `i`."""
    return pa.table(
        {
            "id": pa.array([i], pa.int64()),
            "_kafka_partition": pa.array([0], pa.int32()),
            "_kafka_offset": pa.array([i], pa.int64()),
            "_kafka_timestamp": pa.array([i], pa.timestamp("us", tz="UTC")),
        }
    )


def deliver_row(table, staged, i: int) -> Delivery:  # type: ignore[no-untyped-def]
    """That row, staged, on its way."""
    return Delivery(
        topic_ids={"t": "id"},
        ranges=TopicRanges.of({_LOG: [(i, i + 1)]}),
        files=build_data_files(table, staged),
        last_row={_LOG: i},
        newest_ms={_LOG: i},
        base=Base.of(table),
    )


def _rival(commits: int) -> list[float]:
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        catalog = SqlCatalog(uuid.uuid4().hex, uri=f"sqlite:///{folder}/c.db", warehouse=f"file://{folder}")
        catalog.create_namespace("bench")
        table = catalog.create_table("bench.commits", make_rows(0).schema)
        for i in range(commits):
            rows = make_rows(i)
            began = time.perf_counter()
            table.append(rows)
            taken.append(time.perf_counter() - began)
    return taken


if __name__ == "__main__":
    main()
