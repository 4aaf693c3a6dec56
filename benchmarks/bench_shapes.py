"""Ingestion of other rows than clicks: in Avro, with 10 % bad ones, nested, 100 columns; and of ten tables at once.

Each shape has a topic of its own, of which the machine's consume-only rate is measured too; the rival is the loop that people
write today, with json.loads or fastavro. Bad messages are compared with the same rows clean, Avro with the same rows in JSON.
"""

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.bench_ingest import measure, print_figure, print_head
from benchmarks.clicks import fill_topic
from benchmarks.shapes import SHAPES
from lakehouse_assets.local.kafka import LocalKafka

TABLES = 10
_PARTITIONS = 4
_LONG_ROWS = 8  # so many times fewer messages of 100 columns


def main() -> None:
    """Fill a topic for each shape, run every contender on it, print the ratios; then ten tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--shape", choices=[*SHAPES, "tables"], action="append")
    arguments = parser.parse_args()
    chosen = arguments.shape or [*SHAPES, "tables"]
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder) / "kafka") as kafka:
        print_head()
        rates = {
            name: _compare(kafka.bootstrap_servers, name, arguments.messages) for name in chosen if name != "tables"
        }
        for other in ("clicks in Avro", "clicks, 10 % bad"):
            if "clicks" in rates and other in rates:
                print(f"{other} / clicks: {rates[other] / rates['clicks']:.0%}")
        if "tables" in chosen:
            _compare_tables(kafka.bootstrap_servers, arguments.messages)


def _compare(servers: str, name: str, messages: int) -> float:
    """Messages a second in thousands, from start to end of the steady part."""
    topic = "".join(letter if letter.isalnum() else "-" for letter in name)
    count = messages // (_LONG_ROWS if name == "100 columns" else 1)
    size = fill_topic(servers, topic, count, _PARTITIONS, SHAPES[name].generate)
    figures = {}
    for contender in ("consume-only", "lakehouse", "python-loop"):
        figures[contender] = measure(contender, servers, topic, name, interval="1s")
        print_figure(f"{name}: {contender}", figures[contender])
    ours = figures["lakehouse"]["steady"]
    print(
        f"{name}, {size:.0f} bytes: {ours / figures['consume-only']['steady']:.0%} of consume-only, "
        f"{ours / figures['python-loop']['steady']:.1f} times the loop, {ours * size / 1e3:.0f} MB/s"
    )
    return ours


def _compare_tables(servers: str, messages: int) -> None:
    """Ten processes, each with a topic and a table, beside one that reads as many messages from one topic."""
    topics = [f"table-{number}" for number in range(TABLES)]
    for topic in topics:
        fill_topic(servers, topic, messages // TABLES, 1)
    fill_topic(servers, "one-table", messages, _PARTITIONS)
    one = measure("lakehouse", servers, "one-table")
    began = time.perf_counter()
    with ThreadPoolExecutor(TABLES) as pool:
        each = list(pool.map(lambda topic: measure("lakehouse", servers, topic), topics))
    rate = messages / (time.perf_counter() - began) / 1e3
    cpu = sum(figure["cpu"] for figure in each) / TABLES
    print(
        f"{TABLES} tables, a process each: {rate:.0f} k/s together, {cpu:.2f} CPU s/M, {each[0]['peak_mb']:.0f} MB each; "
        f"one table: {one['whole']:.0f} k/s, {one['cpu']:.2f} CPU s/M; {rate / one['whole']:.0%} of one table"
    )


if __name__ == "__main__":
    main()
