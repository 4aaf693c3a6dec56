"""Ingestion end to end on the local broker, against consuming only and against the loop that people write today.

Prints messages per second, CPU seconds per million and peak memory of each contender, every one in a process of its own,
then the ratios. "whole" counts from the start of the process to the last commit. "steady" leaves the start-up out: for the
platform, and its worker processes, it counts from the first commit to the last one that left a backlog; for the others, which
have nothing to start but their imports, from the first message wanted.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.clicks import fill_topic
from benchmarks.shapes import SHAPES_OF_TOPICS, Shape
from lakehouse_assets.local.dagster_services import ALLOCATOR_ENVIRONMENT
from lakehouse_assets.local.kafka import LocalKafka

if TYPE_CHECKING:
    from lakehouse_assets.model.spec import TableSpec
    from lakehouse_assets.operations.systems import Systems

CONTENDERS = ("consume-only", "lakehouse", "lakehouse-2-workers", "python-loop")
_LOOP_BATCH = 10_000
_LOOP_MESSAGES = 300_000
_FEW_MESSAGES = 1_000_000
_MANY_PARTITIONS = 50


def main() -> None:
    """Fill a topic, run every contender, print the table. With --contender: be one, print one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=5_000_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--contender", choices=CONTENDERS)
    parser.add_argument("--shape", choices=SHAPES_OF_TOPICS, default="clicks")
    parser.add_argument("--commit-interval", default="5s")
    parser.add_argument("--servers")
    parser.add_argument("--topic")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.contender:
        _be(arguments)
        return
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder) / "kafka") as kafka:
        _compare(kafka.bootstrap_servers, arguments.messages, arguments.partitions)


def _compare(servers: str, messages: int, partitions: int) -> None:
    topic = "clicks"
    began = time.perf_counter()
    fill_topic(servers, topic, messages, partitions)
    seconds = time.perf_counter() - began
    print(f"{messages:,} messages of about 295 bytes, {partitions} topic partitions, produced in {seconds:.0f} s")
    print_head()
    figures = {}
    for contender in CONTENDERS:
        figures[contender] = measure(contender, servers, topic)
        print_figure(contender, figures[contender])
    one, two = figures["lakehouse"]["steady"], figures["lakehouse-2-workers"]["steady"]
    print(f"one process / consume-only: {one / figures['consume-only']['steady']:.0%}")
    print(f"two workers / one process: {two / one:.2f} times")
    print(f"one process / python-loop: {one / figures['python-loop']['steady']:.1f} times")
    _compare_memory(servers, {f"{messages:,} messages, {partitions} topic partitions": figures["lakehouse"]["peak_mb"]})


def _compare_memory(servers: str, peaks_mb: dict[str, float]) -> None:
    for partitions in (4, _MANY_PARTITIONS):
        topic = f"clicks-{partitions}"
        fill_topic(servers, topic, _FEW_MESSAGES, partitions)
        name = f"{_FEW_MESSAGES:,} messages, {partitions} topic partitions"
        peaks_mb[name] = measure("lakehouse", servers, topic)["peak_mb"]
    print("peak memory of one process: " + "; ".join(f"{name}: {peak:.0f} MB" for name, peak in peaks_mb.items()))


def print_head() -> None:
    """What stands in which column."""
    print(f"{'':34}{'messages':>11}{'whole k/s':>11}{'steady k/s':>12}{'CPU s/M':>9}{'peak MB':>9}{'files':>7}")


def print_figure(name: str, figure: dict[str, float]) -> None:
    """One line of the table."""
    print(
        f"{name:34}{figure['messages']:>11,}{figure['whole']:>11.0f}{figure['steady']:>12.0f}"
        f"{figure['cpu']:>9.2f}{figure['peak_mb']:>9.0f}{figure['files']:>7}",
        flush=True,
    )


def measure(
    contender: str, servers: str, topic: str, shape: str = "clicks", interval: str = "5s", folder: Path | None = None
) -> dict[str, float]:
    """Have a contender read a topic, in a process of its own; rates in thousands a second, CPU seconds per million.

    `folder`: where the catalog and its table are already; otherwise they are made and thrown away.
    """
    began = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.bench_ingest", "--contender", contender]
    command += ["--servers", servers, "--topic", topic, "--shape", shape, "--commit-interval", interval]
    command += ["--folder", str(folder)] if folder is not None else []
    environment = {**os.environ, **ALLOCATOR_ENVIRONMENT}  # as every run of the platform has it
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    said = json.loads(done.stdout.splitlines()[-1])
    whole = said["last"] - began
    return {
        "messages": said["messages"],
        "whole": said["messages"] / whole / 1e3,
        "steady": said["steady_messages"] / (said["steady_last"] - said["steady_first"]) / 1e3,
        "cpu": said["cpu"] / said["messages"] * 1e6,
        "peak_mb": said["peak_mb"],
        "files": said["files"],
    }


def _be(arguments: argparse.Namespace) -> None:
    shape, interval, folder = SHAPES_OF_TOPICS[arguments.shape], arguments.commit_interval, arguments.folder
    run: dict[str, Callable[[str, str], dict[str, float]]] = {
        "consume-only": _consume_only,
        "lakehouse": lambda servers, topic: _lakehouse(servers, topic, shape, interval, 1, folder),
        "lakehouse-2-workers": lambda servers, topic: _lakehouse(servers, topic, shape, interval, 2, folder),
        "python-loop": lambda servers, topic: _python_loop(servers, topic, shape),
    }
    said = run[arguments.contender](arguments.servers, arguments.topic)
    if said.get("steady_last", 0.0) <= said.get("steady_first", 0.0):  # too few messages for two commits
        said |= {"steady_messages": said["messages"], "steady_first": said["first"], "steady_last": said["last"]}
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    said["cpu"] = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    workers_kb = children.ru_maxrss if children.ru_utime > 1 else 0  # without workers: helpers of the start-up alone
    said["peak_mb"] = max(_peak_kb(own.ru_maxrss), workers_kb) / 1024
    print(json.dumps(said))


def _peak_kb(otherwise: int) -> int:
    """Peak memory of this process. What `getrusage` says of it may be its parent's, from before the program was exchanged."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), otherwise)


def _consume_only(servers: str, topic: str) -> dict[str, float]:
    from lakehouse_assets.systems.kafka import KafkaSource

    source = KafkaSource({"bootstrap.servers": servers})
    bounds = source.read_bounds("benchmark", source.describe("benchmark", [topic]).logs)
    first, count = time.perf_counter(), 0
    with source.reader("benchmark", {log: (b.low, b.stop) for log, b in bounds.items()}) as reader:
        while not reader.is_finished:
            count += len(reader.read(1.0))
    return {"messages": count, "first": first, "last": time.perf_counter(), "files": 0}


def _lakehouse(
    servers: str, topic: str, shape: Shape, interval: str, workers: int, given: Path | None
) -> dict[str, float]:
    from lakehouse_assets.operations.drain import run_drain
    from lakehouse_assets.operations.ingest import CommitReport

    said: dict[str, float] = {"messages": 0, "steady_messages": 0, "files": 0}

    def note(_left: int, report: CommitReport | None) -> None:
        if report is None:
            return
        said["messages"] += report.read_count
        said["files"] += report.data_file_count
        said["last"] = time.perf_counter()
        if report.lag_after and "steady_first" in said:
            said["steady_messages"] += report.read_count
            said["steady_last"] = said["last"]
        said.setdefault("steady_first", said["last"])

    with nullcontext(given) if given is not None else tempfile.TemporaryDirectory() as folder:
        systems, spec = open_bench_table(Path(folder), servers, topic, shape, workers=workers, commit_interval=interval)
        said["first"] = time.perf_counter()
        run_drain(
            systems,
            spec,
            stop=lambda: False,
            on_progress=note,
            on_retry=lambda error, _seconds: print(error, file=sys.stderr),
            now_ms=lambda: int(time.time() * 1000),
        )
    return said


def open_bench_table(folder: Path, servers: str, topic: str, shape: Shape, **declared: object) -> "tuple[Systems, TableSpec]":
    """The systems and the declaration of a table in `folder`; it is not created yet."""
    from lakehouse_assets.model.spec import TableSpec
    from lakehouse_assets.operations.systems import SystemSettings, open_systems

    parts = {**shape.declaration, **declared}
    source = {"topic": topic, **shape.source(folder), **parts.pop("source", {})}
    spec = TableSpec(table="bench.rows", source=source, schema=shape.columns, **parts)
    catalog = {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/warehouse"}
    return open_systems(SystemSettings({"bootstrap.servers": servers}, "bench", catalog)), spec


def _python_loop(servers: str, topic: str, shape: Shape) -> dict[str, float]:
    """What people write today: poll, json.loads, from_pylist, append. Its rate falls as commits gather, so it reads a part."""
    import pyarrow as pa
    from confluent_kafka import Consumer, TopicPartition
    from pyiceberg.catalog.sql import SqlCatalog

    consumer = Consumer({"bootstrap.servers": servers, "group.id": "loop", "enable.auto.commit": False})
    partitions = sorted(consumer.list_topics(topic).topics[topic].partitions)
    wanted = sum(consumer.get_watermark_offsets(TopicPartition(topic, p))[1] for p in partitions)
    wanted = min(wanted, _LOOP_MESSAGES)
    consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
    count, files, rows, table = 0, 0, [], None
    with tempfile.TemporaryDirectory() as folder:
        catalog = SqlCatalog("loop", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}")
        catalog.create_namespace("bench")
        first = time.perf_counter()
        while count < wanted:
            message = consumer.poll(1.0)
            if message is None or message.error() is not None:
                continue
            count += 1
            if (row := shape.read(message.value())) is not None:
                rows.append(row)
            if len(rows) >= _LOOP_BATCH or count >= wanted:
                batch = pa.Table.from_pylist(rows, schema=table.schema().as_arrow() if table is not None else None)
                table = table or catalog.create_table("bench.rows", batch.schema)
                table.append(batch)
                files, rows = files + 1, []
        last = time.perf_counter()
    return {"messages": count, "first": first, "last": last, "files": files}


if __name__ == "__main__":
    main()
