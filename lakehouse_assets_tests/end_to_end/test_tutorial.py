"""Walks docs/tutorial.md against the real broker: runs its commands as they stand, applies its edits, presses its buttons."""

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import dagster as dg
import pytest

from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.environment import Environment
from lakehouse_assets.local.flights import PARTITION_COUNT, find_flights, read_flights
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.orchestration.resources import LakehouseResource
from lakehouse_assets.reading import load_table
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.conftest import TopicFactory

TUTORIAL = (Path(__file__).parents[2] / "docs/tutorial.md").read_text()
FLIGHTS = 3000
KEY = dg.AssetKey(["ods", "departures"])


@pytest.fixture
def flights(kafka: LocalKafka, broker: Broker, topic: TopicFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The demo's topic under another name, and the shell of the second terminal."""
    name = topic(PARTITION_COUNT)
    batches: dict[int, list[bytes]] = {}
    for message in islice(read_flights(find_flights(), {}), FLIGHTS):
        batches.setdefault(message.partition, []).append(message.value)
    for partition, values in batches.items():
        broker.produce(name, values, partition=partition)
    (tmp_path / "my_tables").mkdir()
    (tmp_path / "dagster").mkdir()
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_TABLES_DIR", str(tmp_path / "my_tables"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return name


def read_steps() -> Iterator[tuple[str, str]]:
    """What the document tells its reader to do, in order: `shell` or `edit`, and the block."""
    for match in re.finditer(r"<!-- tested: (\w+) -->\n```\w+\n(.*?)```", TUTORIAL, re.DOTALL):
        yield match[1], match[2]


def run_commands(block: str, topic: str, folder: Path) -> None:
    """Each command ends with 0 and prints what stands below it; `...` stands for anything."""
    for command, expected in re.findall(r"^\$ (.*)\n((?:[^$\n].*\n)*)", block, re.MULTILINE):
        line = command.replace("--topic flights", f"--topic {topic}")
        done = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        shown = done.stdout.replace(topic, "flights")
        same = doctest.OutputChecker().check_output(expected, shown, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        assert not expected or same, f"{command}\nexpected:\n{expected}\nfound:\n{shown}"


def apply_edits(block: str, file: Path) -> None:
    """Each line with a minus stands in the file once and becomes the lines with a plus below it."""
    text = file.read_text()
    for before, after in re.findall(r"^-(.*)\n((?:\+.*\n)+)", block, re.MULTILINE):
        assert text.count(f"{before}\n") == 1, before
        text = text.replace(f"{before}\n", re.sub(r"^\+", "", after, flags=re.MULTILINE))
    file.write_text(text)


def reload_and_let_the_sensor_fill(instance: dg.DagsterInstance) -> None:
    """What the UI and the daemon do after a reload."""
    definitions = build_definitions(Environment.read())
    (sensor,) = (one for one in definitions.sensors or () if one.name == "ods__departures__offsets")
    assert isinstance(sensor, dg.SensorDefinition)
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    ticked = sensor(dg.build_sensor_context(instance=instance), lakehouse=LakehouseResource())
    assert isinstance(ticked, dg.SensorResult)
    (request,) = ticked.run_requests or ()
    run = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, asset_selection=[KEY], partition_key=request.partition_key, run_config=request.run_config, tags=request.tags
    )  # fmt: skip
    assert run.success
    assert instance.fetch_materializations(KEY, limit=1).records


@pytest.mark.kafka
@pytest.mark.platform
def test_who_follows_the_tutorial_gets_a_table_that_is_filled_and_answers(flights: str, tmp_path: Path) -> None:
    steps = list(read_steps())
    assert [kind for kind, _ in steps] == ["shell", "edit", *["shell"] * 6, "edit", "shell"]
    file = tmp_path / "my_tables" / "ods_departures.yaml"
    is_filled = False
    for kind, block in steps:
        if kind == "edit":
            apply_edits(block, file)
            continue
        if "lakehouse ingest" in block and not is_filled:
            with dg.instance_for_test() as instance:
                reload_and_let_the_sensor_fill(instance)
            is_filled = True
        run_commands(block, flights, tmp_path)

    table = load_table("ods.departures")
    assert judge.query(table, "SELECT count(*), min(scheduled) FROM {table}") == [
        (FLIGHTS, datetime(2013, 1, 1, 10, tzinfo=UTC))
    ]
    assert len(set(judge.read_positions(table))) == FLIGHTS
    assert str(table.spec().fields[0].transform) == "day"
    assert is_filled
