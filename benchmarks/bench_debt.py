"""One look of the sensor `debt` over 1,000 tables of which 20 owe something, as a code server begins with and as it goes on."""

import multiprocessing
import tempfile
import time
from collections.abc import Mapping

import pyarrow as pa
from pyiceberg.catalog import Catalog

from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.model.offsets import TopicPartition, TopicRanges
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.maintaining import measure_debts
from lakehouse_assets.systems.catalog import ensure_table, open_catalog
from lakehouse_assets.systems.commit import Delivery, publish
from lakehouse_assets.systems.datafiles import build_data_files
from lakehouse_assets.systems.parquet import build_writer
from lakehouse_assets.systems.schema import Base, TableShape

TABLES, OWING = 1_000, 20
COMMITS, COMMITS_OF_DEBT = 2, 12
ROUNDS = 3
LIMIT_SECONDS = 10.0  # a sixth of the time between two looks


def main() -> None:
    """Create the tables, look at all of them in a fresh process, print seconds and the share of the limit."""
    with tempfile.TemporaryDirectory() as folder:
        properties = {"type": "sql", "uri": f"sqlite:///{folder}/c.db", "warehouse": f"file://{folder}/warehouse"}
        began, catalog = time.perf_counter(), open_catalog("bench", properties)
        for i in range(TABLES):
            _fill(catalog, f"bench.t{i}", COMMITS_OF_DEBT if i % (TABLES // OWING) == 0 else COMMITS)
        print(f"{TABLES} tables made in {time.perf_counter() - began:.0f} s", flush=True)
        process = multiprocessing.get_context("spawn").Process(target=_look, args=(properties,))
        process.start()
        process.join()


def _fill(catalog: Catalog, name: str, commits: int) -> None:
    spec = TableSpec(table=name, source={"topic": "t"}, schema=[{"name": "id", "type": "long"}])
    table, _ = ensure_table(catalog, TableShape.declared(spec), lambda: Ledger({"t": "1"}))
    log = TopicPartition("t", 0)
    for at in range(commits):
        rows = pa.table(
            {
                "id": pa.array([at], pa.int64()),
                "_kafka_partition": pa.array([0], pa.int32()),
                "_kafka_offset": pa.array([at], pa.int64()),
                "_kafka_timestamp": pa.array([at], pa.timestamp("us", tz="UTC")),
            }
        )
        writer = build_writer(table, 2**24)
        writer.add(rows)
        files = build_data_files(table, writer.finish())
        ranges = TopicRanges.of({log: [(at, at + 1)]})
        publish(catalog, name, Delivery({"t": "1"}, ranges, files, {log: at}, {log: 0}, Base.of(table)))


def _look(properties: Mapping[str, str]) -> None:
    catalog = open_catalog("bench", properties)
    policies = {f"bench.t{i}{beside}": MaintenanceSpec() for i in range(TABLES) for beside in ("", "__quarantine")}
    for number in range(ROUNDS):
        began, cpu = time.perf_counter(), time.process_time()
        found = measure_debts(catalog, policies, int(time.time() * 1000), lambda table, error: print(table, error))
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        owing = sum(bool(one.due) for one in found)
        look = f"{'a further' if number else 'the first'} look: {len(found)} tables, {owing} owe something"
        print(f"{look}: {wall:.2f} s, {cpu:.2f} s of CPU, {wall / LIMIT_SECONDS:.0%} of the limit")


if __name__ == "__main__":
    main()
