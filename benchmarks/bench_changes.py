"""A stream of Debezium changes from Kafka into a table of one row per key: empty at first, or with millions of rows already.

    python -m benchmarks.bench_changes [--rows 0 --rows 5000000 --rows 50000000]

Beside the machine's consume-only rate of the same topic. A contender is a process of its own, so its peak memory is that of the
whole way from Kafka into the table. What the tables hold in the end is compared with the stream.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.bench_ingest import measure, open_bench_table, print_figure, print_head
from benchmarks.customers import build_rows, fill_topic_with_changes, generate_changes
from benchmarks.shapes import CHANGES
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.model.offsets import NO_OFFSETS
from lakehouse_assets.operations.ingest import open_table
from lakehouse_assets.systems.commit import Delivery, publish
from lakehouse_assets.systems.datafiles import build_data_files
from lakehouse_assets.systems.parquet import build_writer
from lakehouse_assets.systems.schema import Base
from lakehouse_assets_tests import judge

KEYS = 200_000
PARTITIONS = 4
_BLOCK = 1_000_000
# Flink SQL with debezium-json and bucket(4, id), on two processors, in a run of its own on 2026-11-23; see docs/performance.md.
_FLINK = "Flink SQL on such a machine, measured another day: 27 to 32 k/s whole, 41 to 44 CPU s/M, 2.3 GB"


def main() -> None:
    """Fill a topic, drain it into each table, print the rates and what the targets say of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--changes", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, action="append")
    arguments = parser.parse_args()
    compare(arguments.changes, arguments.rows or [0, 5_000_000])


def compare(changes: int, sizes: list[int]) -> None:
    """One line for each table that the stream is drained into, whose numbers of rows are `sizes`."""
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder) / "kafka") as kafka:
        servers = kafka.bootstrap_servers
        size = fill_topic_with_changes(servers, "changes", changes, KEYS, PARTITIONS)
        print(f"{changes:,} changes of {KEYS:,} keys, {size:.0f} bytes each, {PARTITIONS} topic partitions; {_FLINK}")
        print_head()
        figures = {"consume-only": measure("consume-only", servers, "changes", "changes")}
        print_figure("consume-only", figures["consume-only"])
        for rows in sizes:
            place = Path(folder) / str(rows)
            place.mkdir()
            _fill_table(place, servers, rows)
            name = f"into {rows:,} rows"
            figures[name] = measure("lakehouse", servers, "changes", "changes", folder=place)
            print_figure(name, figures[name])
            _refuse_wrong_table(place, servers, changes, rows)
    for name, figure in list(figures.items())[1:]:
        print(f"{name}: {figure['whole'] / figures['consume-only']['whole']:.0%} of consume-only")


def _fill_table(folder: Path, servers: str, count: int) -> None:
    """A table with customers 0 to `count`, before anything of the topic.

    In no order, so that no statistics of files or row groups leave any of them out.
    """
    systems, spec = open_bench_table(folder, servers, "changes", CHANGES)
    table, _ = open_table(systems, spec, lambda: int(time.time() * 1000))
    if not count:
        return
    writer = build_writer(table, spec.buffer_size)
    schema = table.schema().as_arrow()
    ids = np.random.default_rng(3).permutation(count)
    for first in range(0, count, _BLOCK):
        rows = build_rows(ids[first : first + _BLOCK], version=0)
        for field in schema:
            if field.name not in rows.column_names:
                rows = rows.append_column(field.name, pa.nulls(rows.num_rows, field.type))
        writer.add(rows)
    files = build_data_files(table, writer.finish())
    publish(systems.catalog, spec.table, Delivery({}, NO_OFFSETS, files, {}, {}, Base.of(table)))


def _refuse_wrong_table(folder: Path, servers: str, changes: int, rows: int) -> None:
    """A rate of wrong results is none."""
    last = {key: value.endswith(b'"op":"d"', 0, value.rindex(b',"ts_ms"')) for key, _, value in generate_changes(changes, KEYS)}
    expected = sum(not deleted for deleted in last.values()) + rows - len(last.keys() & set(range(rows)))
    systems, spec = open_bench_table(folder, servers, "changes", CHANGES)
    table = systems.catalog.load_table(spec.table)
    ((count, keys),) = judge.query(table, "SELECT count(*), count(DISTINCT id) FROM {table}")
    assert count == keys == expected, f"{count:,} rows, {keys:,} keys, expected {expected:,}"


if __name__ == "__main__":
    main()
