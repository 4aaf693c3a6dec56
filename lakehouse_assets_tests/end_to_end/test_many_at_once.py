"""Many tables beside each other, and a long backlog: memory and correctness do not depend on how many."""

import multiprocessing
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import HOUR_MS, make_message, make_spec
from lakehouse_assets_tests.operations.child import Order, finish, start
from lakehouse_assets_tests.operations.lake import Lake, clock_ms
from lakehouse_assets_tests.places import PostgresPlace
from lakehouse_assets_tests.postgres import PostgresServer
from lakehouse_assets_tests.proxy import FaultyProxy

pytestmark = pytest.mark.kafka

TABLES = 10
HOURS = 400


@pytest.mark.xdist_group("postgres")
def test_ten_tables_that_come_into_being_at_once_in_one_catalog_hold_every_row_once(
    tmp_path: Path, broker: Broker, topic: Callable[..., str], postgres_server: PostgresServer, postgres_proxy: FaultyProxy
) -> None:
    name = topic(2)
    broker.produce(name, [make_message(i) for i in range(50)])
    model = Lake.open(tmp_path, broker, name, PostgresPlace(postgres_server, postgres_proxy).catalog(tmp_path))
    specs = [make_spec(name, table=f"ods.clicks_{number}") for number in range(TABLES)]

    processes = [start(replace(Order.of(model), spec=spec)) for spec in specs]

    assert [finish(process) for process in processes] == [0] * TABLES
    for spec in specs:
        model.spec = spec
        model.assert_holds({0: list(range(50))})


@pytest.mark.slow
def test_a_backlog_of_hundreds_of_hours_takes_no_more_memory_than_one_hour(
    tmp_path: Path, broker: Broker, topic: Callable[..., str]
) -> None:
    peaks, now = [], clock_ms()
    for hours in (1, HOURS):
        name, count = topic(2), 40_000
        stamps = [now - HOUR_MS * (hours - 1 - i * hours // count) for i in range(count)]
        values = [b'{"id": %d, "at": %d, "text": "%0200d"}' % (i, stamp, i) for i, stamp in enumerate(stamps)]
        broker.produce(name, values, timestamp_ms=stamps)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks.append(pool.apply(ingest_by_hour, (tmp_path / str(hours), broker.bootstrap_servers, name)))
        assert open_by_hour(tmp_path / str(hours), broker, name).positions() == [(0, offset) for offset in range(count)]

    assert peaks[1] < peaks[0] * 1.3, peaks


def open_by_hour(folder: Path, broker: Broker, topic: str) -> Lake:
    columns = [
        {"name": "id", "type": "long"},
        {"name": "at", "type": "timestamptz", "epoch": "milliseconds"},
        {"name": "text", "type": "string"},
    ]
    return Lake.open(folder, broker, topic, schema=columns, partition_by=["hour(at)"], buffer_size="32MiB")


def ingest_by_hour(folder: Path, servers: str, topic: str) -> float:
    """Peak memory of this process in MB after a run into a table with a partition for each hour."""
    open_by_hour(folder, Broker(servers), topic).ingest()
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024
