"""Ingestion while its table is looked after: commit time over thousands of commits, and a stream with maintenance beside it.

Commits come as fast as they can here. What stands for time is their number: as many snapshots are kept as a commit every ten
seconds makes in the hour that snapshots live by default, and maintenance looks at the table every ten minutes of it. The
speed of the machine may change meanwhile, so the first commits of a table are measured anew beside each of the marks.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from pyiceberg.catalog import Catalog

from benchmarks.bench_commit import deliver_row, make_rows
from benchmarks.bench_ingest import measure, print_figure, print_head
from benchmarks.clicks import fill_topic
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.maintenance import MaintenanceReport
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.maintaining import run_maintenance
from lakehouse_assets.systems.catalog import ensure_table, list_tables, open_catalog
from lakehouse_assets.systems.commit import publish
from lakehouse_assets.systems.measuring import measure_debt
from lakehouse_assets.systems.parquet import build_writer
from lakehouse_assets.systems.schema import TableShape

MARKS = (50, 100, 500, 1000, 2000, 3000, 4000, 5000)
_WINDOW = 40  # commits before a mark; their median counts, beside that of as many into a new table, in turns
_OLD = "bench.commits"
_KEPT = 360  # snapshots: an hour of a commit every ten seconds
_LOOK_EVERY = 60  # commits: ten minutes
_STREAM_MESSAGES = 3_000_000


def main() -> None:
    """Both parts, with what was done meanwhile."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--commits", type=int, default=5000)
    parser.add_argument("--messages", type=int, default=_STREAM_MESSAGES)
    parser.add_argument("--look-after", type=Path, help="a folder with a catalog; until it has a file 'over'")
    arguments = parser.parse_args()
    if arguments.look_after is not None:
        _look_after(arguments.look_after)
        return
    if arguments.commits:
        _measure_commits(arguments.commits)
    if arguments.messages:
        _measure_stream(arguments.messages)


def _open(folder: Path) -> Catalog:
    return open_catalog(
        "bench",
        {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/warehouse"},
    )


def _maintain(catalog: Catalog, tables: list[str]) -> Counter[str]:
    """How often something was done; raises where it failed."""
    done: Counter[str] = Counter()

    def note(report: MaintenanceReport) -> None:
        done[report.operation] += bool(report.planned)

    def fail(_: str, error: Exception) -> None:
        raise error

    policies = dict.fromkeys(tables, MaintenanceSpec())
    run_maintenance(
        catalog, policies, now_ms=lambda: int(time.time() * 1000), on_report=note, on_failure=fail
    )
    return done


def _measure_commits(commits: int) -> None:
    looked: list[float] = []
    done: Counter[str] = Counter()
    print(f"{'commits':>10}{'ms':>8}{'CPU ms':>8}{'of a new table':>16}{'CPU ms':>8}{'times':>8}{'CPU':>6}")
    with tempfile.TemporaryDirectory() as folder:
        catalog = _open(Path(folder))
        old, new = _Commits(catalog, _OLD), _Commits(catalog, "bench.new_0")
        for i in range(1, commits + 1):
            mark = next(mark for mark in (*MARKS, commits) if mark >= i)
            if i == mark - _WINDOW:
                new = _Commits(catalog, f"bench.new_{mark}")
            old.commit()
            if i > mark - _WINDOW:
                new.commit()
            if i == mark:
                _print_mark(i, old, new)
            if i % _LOOK_EVERY == 0:
                began = time.perf_counter()
                done += _maintain(catalog, [_OLD])
                looked.append(time.perf_counter() - began)
        debt = measure_debt(catalog.load_table(_OLD), MaintenanceSpec(), int(time.time() * 1000))
    print(f"done: {dict(done)}; a look took {statistics.median(looked):.2f} s, at most {max(looked):.2f} s")
    print(f"left: {debt.data_files} data files, {debt.snapshots} snapshots, {debt.manifests} manifests")


class _Commits:
    """One table, a row with each commit, and how long these took."""

    def __init__(self, catalog: Catalog, name: str) -> None:
        lives = {"history.expire.max-snapshot-age-ms": "1", "history.expire.min-snapshots-to-keep": str(_KEPT)}
        columns = [{"name": "id", "type": "long"}]
        self._spec = TableSpec(table=name, source={"topic": "t"}, schema=columns, properties=lives)
        self._catalog = catalog
        self._table, _ = ensure_table(catalog, TableShape.declared(self._spec), lambda: Ledger({"t": "id"}))
        self._wall: list[float] = []
        self._cpu: list[float] = []

    def commit(self) -> None:
        number = len(self._wall)
        writer = build_writer(self._table, self._spec.buffer_size)
        writer.add(make_rows(number))
        delivery = deliver_row(self._table, writer.finish(), number)
        writer.abandon()
        began, began_cpu = time.perf_counter(), time.process_time()
        publish(self._catalog, self._spec.table, delivery)
        self._wall.append(time.perf_counter() - began)
        self._cpu.append(time.process_time() - began_cpu)

    def median_ms(self) -> tuple[float, float]:
        """Of the last ones: time, and time of the CPU."""
        return statistics.median(self._wall[-_WINDOW:]) * 1e3, statistics.median(self._cpu[-_WINDOW:]) * 1e3


def _print_mark(number: int, old: _Commits, new: _Commits) -> None:
    (ms, cpu), (first, first_cpu) = old.median_ms(), new.median_ms()
    of_new = f"{first:>16.1f}{first_cpu:>8.1f}{ms / first:>8.2f}{cpu / first_cpu:>6.2f}"
    print(f"{number:>10}{ms:>8.1f}{cpu:>8.1f}{of_new}", flush=True)


def _measure_stream(messages: int) -> None:
    """The same topic twice, with a commit a second: alone, and with somebody who looks after the table all the time."""
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder) / "kafka") as kafka:
        fill_topic(kafka.bootstrap_servers, "clicks", messages, 4)
        print_head()
        for name, is_looked_after in (("alone", False), ("looked after all the time", True)):
            place = Path(folder) / name.replace(" ", "-")
            place.mkdir()
            beside = _start_beside(place) if is_looked_after else None
            print_figure(
                name, measure("lakehouse", kafka.bootstrap_servers, "clicks", interval="1s", folder=place)
            )
            if beside is not None:
                (place / "over").touch()
                said, _ = beside.communicate(timeout=600)
                print(said.strip())
                if beside.returncode:
                    sys.exit("maintenance failed beside the stream")


def _start_beside(place: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bench_upkeep", "--look-after", str(place)],
        stdout=subprocess.PIPE,
        text=True,
    )


def _look_after(place: Path) -> None:
    catalog, done = _open(place), Counter[str]()
    while not (place / "over").exists():
        done += _maintain(catalog, list_tables(catalog))
        time.sleep(0.5)
    done += _maintain(catalog, list_tables(catalog))
    print(f"maintenance beside the stream: {dict(done)}")


if __name__ == "__main__":
    main()
