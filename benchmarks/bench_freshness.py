"""Freshness of the whole platform: from the stamp that a producer gives a message to the moment when DuckDB has read it.

A steady stream into one table, with Dagster's daemon, sensors and maintenance beside it, as `lakehouse dev` runs them. First
with `follow: true` and a commit every two seconds, and one hand-over from run to run in the middle; then with the sensor alone,
whose runs end after a minute here, so that the pauses between them are in it. The looks themselves count: DuckDB reads the
newest metadata file, and what is new in the table, over and over.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.clicks import SCHEMA, generate_clicks
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.local.ports import find_free_port

_PARTITIONS = 4
_TABLE = "bench.clicks"
_WARM_SECONDS = 20.0  # after the first row: the first run reads what has gathered while everything started
_LOOK_SECONDS = 0.05
_BUCKETS = (0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 7, 10, 15, 20, 30, 60, 120)
_RELOAD = 'mutation { reloadRepositoryLocation(repositoryLocationName: "lakehouse") { __typename } }'

CONTENDERS = {
    "follow: true, commit_interval: 2s": {"follow": True, "commit_interval": "2s"},
    "the sensor alone, commit_interval: 10s": {"commit_interval": "10s", "run_time_limit": "1m"},
}


def main() -> None:
    """Both contenders, each on a platform of its own. With --produce: send messages until this process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--produce", help="servers")
    arguments = parser.parse_args()
    if arguments.produce:
        _produce(arguments.produce, arguments.rate)
        return
    for name, declared in CONTENDERS.items():
        print(f"{arguments.rate:,} messages/s, {name}; load of the machine {os.getloadavg()[0]:.1f}", flush=True)
        _print(_measure(declared, arguments.rate, arguments.seconds))


@dataclass
class Seen:
    """What DuckDB saw of a stream: seconds from stamp to row, and when each new version of the table was read."""

    latencies: list["np.ndarray[tuple[int], np.dtype[np.float64]]"] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    look_seconds: list[float] = field(default_factory=list)
    hand_over: tuple[float, float] | None = None
    figures: dict[str, object] = field(default_factory=dict)


def _measure(declared: dict[str, object], rate: int, seconds: float) -> Seen:
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder) / "kafka") as kafka:
        servers = kafka.bootstrap_servers
        admin = AdminClient({"bootstrap.servers": servers})
        admin.create_topics([NewTopic("clicks", _PARTITIONS, 1)])["clicks"].result(30)
        tables = Path(folder) / "tables"
        tables.mkdir()
        declaration = {"table": _TABLE, "source": {"topic": "clicks"}, "schema": SCHEMA, **declared}
        (tables / "clicks.yaml").write_text(json.dumps(declaration))  # JSON is YAML
        produce = [sys.executable, "-m", "benchmarks.bench_freshness", "--produce", servers, "--rate", str(rate)]
        with _platform(Path(folder) / "home", tables, servers) as url, _running(produce):
            seen = _watch(Path(folder) / "home", tables / "clicks.yaml", declaration, url, seconds)
            seen.figures = _read_figures(Path(folder) / "home")
        return seen


def _watch(home: Path, file: Path, declaration: dict[str, object], url: str, seconds: float) -> Seen:
    from lakehouse_assets.environment import Environment
    from lakehouse_assets.operations.systems import open_environment
    from lakehouse_assets.systems.catalog import load_table
    from lakehouse_assets_tests import judge

    os.environ["LAKEHOUSE_HOME"], os.environ["KAFKA_BOOTSTRAP_SERVERS"] = str(home), "127.0.0.1:1"
    catalog = open_environment(Environment.read()).catalog
    seen, offsets, version = Seen(), [-1] * _PARTITIONS, ""
    first: float | None = None
    asked = False
    while first is None or time.time() < first + _WARM_SECONDS + seconds:
        table = load_table(catalog, _TABLE)
        if table is None or table.current_snapshot() is None or table.metadata_location == version:
            time.sleep(_LOOK_SECONDS)
            continue
        version = table.metadata_location
        new = " OR ".join(f"(_kafka_partition = {p} AND _kafka_offset > {offset})" for p, offset in enumerate(offsets))
        began = time.time()
        columns = "_kafka_partition, max(_kafka_offset), list(epoch_ms(_kafka_timestamp))"
        rows = judge.query(table, f"SELECT {columns} FROM {{table}} WHERE {new} GROUP BY ALL")
        now = time.time()
        for partition, offset, stamps in rows:
            offsets[partition] = offset
            if first is not None and now >= first + _WARM_SECONDS:
                seen.latencies.append(now - np.array(stamps) / 1000)
        if rows:
            first = first or now
            seen.at.append(now)
            seen.look_seconds.append(now - began)
        if "follow" in declaration and not asked and now >= first + _WARM_SECONDS + seconds / 2:
            asked = True
            file.write_text(json.dumps(declaration | {"description": "Clicks, by a declaration that has changed."}))
            _reload(url)
            seen.hand_over = (now, now + 30)
    seen.at = [at for at in seen.at if at >= first + _WARM_SECONDS]
    return seen


def _reload(url: str) -> None:
    """As the button in the UI does."""
    body = json.dumps({"query": _RELOAD}).encode()
    with urllib.request.urlopen(
        urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"}), timeout=60
    ) as answer:
        answer.read()


def _read_figures(home: Path) -> dict[str, object]:
    """What Dagster and the table say of it."""
    import dagster as dg

    from lakehouse_assets.environment import Environment
    from lakehouse_assets.operations.systems import open_environment
    from lakehouse_assets.systems.catalog import require_table

    os.environ["DAGSTER_HOME"] = str(home / "dagster")
    with dg.DagsterInstance.get() as instance:
        records = instance.fetch_materializations(dg.AssetKey(_TABLE.split(".")), limit=1000).records
        costs = [
            float(record.asset_materialization.metadata["commit_seconds"].value)  # type: ignore[union-attr, arg-type]
            for record in reversed(records)
        ]
        runs = instance.get_runs(dg.RunsFilter(tags={"lakehouse/ingest": _TABLE}))
    table = require_table(open_environment(Environment.read()).catalog, _TABLE)
    totals = table.metadata.current_snapshot().summary.additional_properties  # type: ignore[union-attr]
    tenth = max(1, len(costs) // 10)
    return {
        "commits": len(costs),
        "runs": len(runs),
        "compactions": sum("REPLACE" in str(s.summary.operation) for s in table.snapshots() if s.summary),
        "data files": int(totals["total-data-files"]),
        "rows": int(totals["total-records"]),
        "commit ms, first tenth": round(float(np.median(costs[:tenth])) * 1000, 1),
        "commit ms, last tenth": round(float(np.median(costs[-tenth:])) * 1000, 1),
    }


def _print(seen: Seen) -> None:
    seconds = np.concatenate(seen.latencies)
    p50, p95, p99 = (float(np.percentile(seconds, q)) for q in (50, 95, 99))
    gaps = np.diff(seen.at)
    print(f"  {len(seconds):,} rows: p50 {p50:.2f} s, p95 {p95:.2f} s, p99 {p99:.2f} s, longest {seconds.max():.2f} s")
    print(f"  between two versions of the table: median {np.median(gaps):.2f} s, longest {gaps.max():.2f} s")
    print(f"  DuckDB's own part of that: median {np.median(seen.look_seconds):.2f} s, longest {max(seen.look_seconds):.2f} s")
    if seen.hand_over is not None:
        begin, end = seen.hand_over
        around = [gap for at, gap in zip(seen.at[1:], gaps, strict=True) if begin <= at <= end]
        print(f"  in the 30 s of the hand-over: longest {max(around):.2f} s")
    print("  " + ", ".join(f"{name}: {value:,}" for name, value in seen.figures.items()))
    edges = (0.0, *_BUCKETS, float("inf"))
    counts, _ = np.histogram(seconds, edges)
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        if count:
            share = count / len(seconds)
            print(f"  {low:>5g} to {high:<5g} s {share:>6.1%} {'#' * round(share * 60)}", flush=True)


@contextmanager
def _platform(home: Path, tables: Path, servers: str) -> Iterator[str]:
    port = find_free_port(3900)
    environment = {
        **os.environ, "LAKEHOUSE_HOME": str(home), "LAKEHOUSE_TABLES_DIR": str(tables), "KAFKA_BOOTSTRAP_SERVERS": servers,
    }  # fmt: skip
    command = [sys.executable, "-m", "lakehouse_assets.cli", "dev", "--port", str(port), "--end-with-parent"]
    with _running(command, environment):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _running(command: list[str], environment: dict[str, str] | None = None) -> Iterator[None]:
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)


def _produce(servers: str, rate: int) -> None:
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 5})
    messages = list(generate_clicks(50_000))
    began, sent, stopped = time.monotonic(), 0, False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGINT, stop)
    while not stopped:
        due = int((time.monotonic() - began) * rate)
        while sent < due:
            producer.produce("clicks", messages[sent % len(messages)], partition=sent // 100 % _PARTITIONS)
            sent += 1
        producer.poll(0.01)
    producer.flush(10)


if __name__ == "__main__":
    main()
