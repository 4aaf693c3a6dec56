"""The demo's Avro topic: real observations with a real registry, and a clear word where there is none."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from lakehouse_assets.declarations.loading import load_declarations
from lakehouse_assets.environment import Environment
from lakehouse_assets.local.demo import read_produced
from lakehouse_assets.local.errors import LEFT_OUT
from lakehouse_assets.local.flights import find_data
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.local.weather import read_weather
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import make_systems
from lakehouse_assets_tests.faults import FAULTY
from lakehouse_assets_tests.operations.lake import Lake
from lakehouse_assets_tests.registry import Registry
from lakehouse_assets_tests.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("registry")]

COMMAND = [sys.executable, "-m", "lakehouse_assets.local.avro_demo"]


def test_the_observations_that_a_topic_has_are_not_sent_again() -> None:
    path = find_data("weather.csv")
    everything = list(islice(read_weather(path, 1, {}), 60))
    partition = everything[0].partition
    mine = [message for message in everything if message.partition == partition]

    rest = islice(read_weather(path, 1, {partition: 10}), 60)

    assert [message for message in rest if message.partition == partition][: len(mine) - 10] == mine[10:]


def test_the_demo_fills_the_declared_table_from_the_registrys_schema(
    kafka: LocalKafka, registry: Registry, broker: Broker, tmp_path: Path
) -> None:
    variables = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "SCHEMA_REGISTRY_URL": registry.url,
        "LAKEHOUSE_HOME": str(tmp_path),
    }
    demo = subprocess.Popen(COMMAND, env=variables)
    try:
        wait_until(lambda: demo.poll() is not None or _has_burst(kafka), 60)
        demo.terminate()
        assert demo.wait(30) == 0
    finally:
        demo.kill()
    (spec,) = (one for one in load_declarations(Environment.read({}).tables_dir).specs if one.table == "demo.weather")
    systems = make_systems(tmp_path, broker.bootstrap_servers, registry.url, **FAULTY)
    lake = replace(Lake(tmp_path, broker, spec, systems), now_ms=lambda: 1_800_000_000_000)

    lake.ingest()

    found = judge.query(
        lake.table, "SELECT count(*) >= 500, min(precip)::VARCHAR, min(time_hour)::VARCHAR, count(wind.speed) > 400 FROM {table}"
    )
    assert found[0][:2] == (True, "0.00")
    assert str(found[0][2]).startswith("2013-01-01")
    assert found[0][3] is True
    assert lake.quarantined() == []


def _has_burst(kafka: LocalKafka) -> bool:
    from lakehouse_assets.local.errors import LocalPlatformError

    try:
        return sum(read_produced(kafka.bootstrap_servers, "weather").values()) >= 500
    except LocalPlatformError:
        return False


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:1"])
def test_without_a_registry_it_says_so_and_ends_for_good(tmp_path: Path, url: str | None) -> None:
    variables = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "LAKEHOUSE_HOME": str(tmp_path)}
    variables |= {"SCHEMA_REGISTRY_URL": url} if url else {"HOME": "/dev/null"}  # where nothing can be fetched to

    done = subprocess.run(COMMAND, env=variables, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == LEFT_OUT, done.stderr
    assert done.stdout.startswith("Cannot ")
    assert "The topic 'weather' stays empty; everything else goes on." in done.stdout
    assert ("SCHEMA_REGISTRY_URL" in done.stdout) is True
