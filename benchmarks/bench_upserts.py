"""Upserts: merge-on-read and copy-on-write beside PyIceberg's own `upsert`; their cost as commits gather; reads after them.

    python -m benchmarks.bench_upserts [--rows 1000000 --rows 5000000] [--commits 500]

10,000 keys, 80 % of them in the table, into customers of ten columns in 16 buckets. Every contender has a table of its own with
the same rows in the same files; it is the work that counts, from rows in memory to the snapshot. Then many small upserts of one
table, with nobody who maintains it.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from benchmarks.customers import SCHEMA, build_rows
from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.offsets import NO_OFFSETS
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.ingest import CACHE_SHARE
from lakehouse_assets.systems.catalog import ensure_table, open_catalog
from lakehouse_assets.systems.changes import Changes
from lakehouse_assets.systems.commit import Delivery, publish
from lakehouse_assets.systems.datafiles import build_data_files
from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets.systems.merging import RowMerge
from lakehouse_assets.systems.parquet import build_writer
from lakehouse_assets.systems.schema import Base, TableShape
from lakehouse_assets_tests import judge

KEYS, NEW_SHARE = 10_000, 0.2
ROUNDS = 5
RIVAL_ROUNDS = 2  # its time doubles with each
SMALL_KEYS, MARKS, WINDOW = 2_000, (10, 500), 9
_BLOCK = 1_000_000
_READ = "SELECT count(*), count(DISTINCT id), sum(balance), max(notes), max(name) FROM {table}"

Upsert = Callable[["BenchTable", pa.Table], None]


class BenchTable:
    """One table of customers, filled with so many of them."""

    def __init__(self, folder: Path, name: str, rows: int, mode: str = "merge-on-read") -> None:
        modes = {f"write.{verb}.mode": mode for verb in ("update", "delete", "merge")}
        self.spec = TableSpec(
            table=f"bench.{name}",
            source={"topic": "customers"},
            schema=SCHEMA,
            mode="upsert",
            key=["id"],
            partition_by=["bucket(16, id)"],
            properties=modes,
        )
        properties = {"type": "sql", "uri": f"sqlite:///{folder}/{name}.db", "warehouse": f"file://{folder}/{name}"}
        self.catalog: Catalog = open_catalog("bench", properties)
        self.cache = FileCache(self.spec.buffer_size // CACHE_SHARE)
        ensure_table(self.catalog, TableShape.declared(self.spec), lambda: Ledger({"customers": "id"}))
        blocks = ((first, min(first + _BLOCK, rows)) for first in range(0, rows, _BLOCK))
        self.append(build_rows(np.arange(*block), version=0) for block in blocks)

    @property
    def table(self) -> Table:
        """As it is now."""
        return self.catalog.load_table(self.spec.table)

    def append(self, blocks) -> None:  # type: ignore[no-untyped-def]
        """Rows as the platform writes them, in one commit."""
        table = self.table
        writer = build_writer(table, self.spec.buffer_size)
        for block in blocks:
            writer.add(self.complete(block))
        files = build_data_files(table, writer.finish())
        publish(self.catalog, self.spec.table, Delivery({}, NO_OFFSETS, files, {}, {}, Base.of(table)))

    def complete(self, rows: pa.Table) -> pa.Table:
        """With the columns that the platform adds."""
        for field in self.table.schema().as_arrow():
            if field.name not in rows.column_names:
                rows = rows.append_column(field.name, pa.nulls(rows.num_rows, field.type))
        return rows


def upsert_ours(bench: BenchTable, rows: pa.Table) -> None:
    """As a run does, once it has the rows."""
    table = bench.table
    changes = Changes(rows, np.zeros(rows.num_rows, np.bool_))
    copy_on_write = table.properties["write.update.mode"] == "copy-on-write"
    merge = RowMerge(
        changes, bench.spec.key, copy_on_write=copy_on_write, buffer_bytes=bench.spec.buffer_size, cache=bench.cache
    )
    merge.prepare(table)
    publish(bench.catalog, bench.spec.table, Delivery({}, NO_OFFSETS, (), {}, {}, Base.of(table), replaces=merge.swap))


def upsert_pyiceberg(bench: BenchTable, rows: pa.Table) -> None:
    """The rival."""
    bench.table.upsert(rows)


def draw(rng: "np.random.Generator", count: int, rows: int, round_: int) -> pa.Table:
    """So many different customers, most of whom the table has."""
    new = int(count * NEW_SHARE)
    ids = np.concatenate([rng.choice(rows, count - new, replace=False), rows + round_ * new + np.arange(new)])
    return build_rows(rng.permutation(ids), version=round_ + 1)


def main() -> None:
    """Measure, print seconds and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, action="append")
    parser.add_argument("--commits", type=int, default=MARKS[-1])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for rows in arguments.rows or [1_000_000, 5_000_000]:
            _compare(Path(folder), rows)
        _gather(Path(folder), arguments.commits)


def _compare(folder: Path, rows: int) -> None:
    contenders: list[tuple[str, str, Upsert, int]] = [
        ("merge-on-read", "merge-on-read", upsert_ours, ROUNDS),
        ("copy-on-write", "copy-on-write", upsert_ours, ROUNDS),
        ("PyIceberg upsert()", "copy-on-write", upsert_pyiceberg, RIVAL_ROUNDS),
    ]
    print(f"{KEYS:,} keys into {rows:,} rows")
    print(f"{'':20}{'first s':>9}{'median s':>10}{'last s':>8}{'CPU s':>8}{'PyIceberg reads s':>19}{'DuckDB reads s':>16}")
    medians = {}
    for name, mode, upsert, rounds in contenders:
        bench = BenchTable(folder, f"t{rows}_{len(medians)}", rows, mode)
        rng, seconds, cpu = np.random.default_rng(1), [], []
        for round_ in range(rounds):
            batch = bench.complete(draw(rng, KEYS, rows, round_))
            began = time.process_time()
            seconds.append(_time(lambda: upsert(bench, batch)))  # noqa: B023 - called at once
            cpu.append(time.process_time() - began)
        medians[name] = statistics.median(seconds)
        reads = _time_reads(bench.table, rows + rounds * int(KEYS * NEW_SHARE))
        spent = f"{seconds[0]:>9.3f}{medians[name]:>10.3f}{seconds[-1]:>8.3f}{statistics.median(cpu):>8.3f}"
        print(f"{name:20}{spent}{reads[0]:>19.2f}{reads[1]:>16.2f}", flush=True)
    ours, copying, rival = medians.values()
    print(f"merge-on-read / PyIceberg: {rival / ours:.0f} times as fast; copy-on-write: {rival / copying:.0f} times")


def _gather(folder: Path, commits: int) -> None:
    """Many upserts of few keys, and what reading costs after them."""
    rows = 1_000_000
    bench = BenchTable(folder, "gathered", rows)
    rng, seconds = np.random.default_rng(1), []
    for round_ in range(commits):
        batch = bench.complete(draw(rng, SMALL_KEYS, rows, round_))
        seconds.append(_time(lambda: upsert_ours(bench, batch)))  # noqa: B023 - called at once
    marks = [mark for mark in MARKS if mark <= commits] or [commits]
    costs = [statistics.median(seconds[max(0, mark - WINDOW // 2 - 1) : mark + WINDOW // 2]) for mark in marks]
    print(f"{commits} upserts of {SMALL_KEYS:,} keys into {rows:,} rows, nobody maintains the table")
    print("; ".join(f"around the {mark}th: {cost * 1e3:.0f} ms" for mark, cost in zip(marks, costs, strict=True)), end="")
    print(f"; the last costs {costs[-1] / costs[0]:.2f} times the first")
    total = rows + commits * int(SMALL_KEYS * NEW_SHARE)
    live = bench.table.scan().to_arrow()
    compacted = BenchTable(folder, "compacted", 0)
    compacted.append([live])
    for table, name in ((bench.table, "as it is"), (compacted.table, "compacted")):
        theirs, duck = _time_reads(table, total)
        files = f"{len(table.inspect.data_files())} data files, {len(table.inspect.delete_files())} delete files"
        print(f"{name}: {files}; PyIceberg reads it in {theirs:.2f} s, DuckDB in {duck:.2f} s")


def _time_reads(table: Table, expected: int) -> tuple[float, float]:
    """Seconds of a whole scan by PyIceberg and by DuckDB, each the best of three, and that they see one row per key."""
    ((count, keys, *_),) = judge.query(table, _READ)
    assert count == keys == expected, f"DuckDB: {count:,} rows, {keys:,} keys, expected {expected:,}"
    scanned = table.scan().to_arrow().num_rows
    assert scanned == expected, f"PyIceberg: {scanned:,} rows, expected {expected:,}"
    return (
        min(_time(lambda: table.scan().to_arrow()) for _ in range(3)),
        min(_time(lambda: judge.query(table, _READ)) for _ in range(3)),
    )


def _time(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
