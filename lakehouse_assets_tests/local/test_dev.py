"""`make dev`: up with one command, gone without a trace, whoever ends it and however."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lakehouse_assets.local.dagster_services import CodeLocation, find_project_file, read_code_location
from lakehouse_assets.local.demo import read_produced
from lakehouse_assets.local.errors import LocalPlatformError
from lakehouse_assets.local.processes import MarkedProcess, list_marked
from lakehouse_assets_tests import ports
from lakehouse_assets_tests.waiting import is_alive, wait_until

pytestmark = [pytest.mark.platform, pytest.mark.xdist_group("make_dev"), pytest.mark.timeout(240)]

_START_SECONDS = 90  # two busy cores; a calm machine takes 10
_DEFINITIONS = "import dagster as dg\n\n\n@dg.asset\ndef one() -> int:\n    return 1\n\n\ndefs = dg.Definitions(assets=[one])\n"


@dataclass
class Supervisor:
    """A `make dev` of its own folder, and what it has printed."""

    home: Path
    output: Path
    process: "subprocess.Popen[bytes]"

    @property
    def said(self) -> str:
        return self.output.read_text()

    @property
    def processes(self) -> list[MarkedProcess]:
        return list_marked(f"{self.home.resolve()}:")

    def find(self, word: str) -> int:
        return next(found.pid for found in self.processes if word in found.command)

    def await_summary(self) -> None:
        wait_until(lambda: "Stop  " in self.said or self.process.poll() is not None, _START_SECONDS)
        assert "Stop  " in self.said, self.said


Start = Callable[..., Supervisor]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    (tmp_path / "tiny_definitions.py").write_text(_DEFINITIONS)
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text(
        "load_from:\n  - python_module: {module_name: tiny_definitions, location_name: tiny}\n"
    )
    variables = {**os.environ, "PYTHONPATH": str(tmp_path), "LAKEHOUSE_HOME": str(tmp_path / "home")}
    command = [
        sys.executable,
        "-m",
        "lakehouse_assets.cli",
        "dev",
        "--port",
        str(ports.port_of(ports.WEB_SERVER)),
        "--workspace",
        str(workspace),
    ]
    started: list[Supervisor] = []

    def start_supervisor(*prefix: str) -> Supervisor:
        output = tmp_path / f"output{len(started)}"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [*prefix, *command],
                env=variables,
                cwd=Path(__file__).parents[2],
                stdout=stream,
                stderr=stream,
            )
        started.append(Supervisor(tmp_path / "home", output, process))
        return started[-1]

    yield start_supervisor
    for supervisor in started:
        supervisor.process.kill()
        supervisor.process.wait()
    for supervisor in started:
        wait_until(lambda supervisor=supervisor: not supervisor.processes, 30)


def test_it_comes_up_brings_kafka_back_refuses_a_second_start_and_leaves_nothing_behind(start: Start) -> None:
    first = start()
    first.await_summary()
    url = re.search(r"the UI answers at (\S+)", first.said)
    assert url
    address = (first.home / "kafka" / "bootstrap.servers").read_text().strip()
    wait_until(lambda: sum(read_produced(address, "flights").values()) >= 2000, 30)

    wait_until(lambda: "the schema registry answers at" in first.said, 90)
    wait_until(lambda: sum(read_produced(address, "weather").values()) >= 500, 30)
    wait_until(lambda: "the shop's database is followed" in first.said, 90)
    wait_until(lambda: sum(read_produced(address, "shop.public.orders").values()) > 0, 30)

    second = start()
    assert second.process.wait(30) == 1
    assert second.said.startswith("Cannot start the platform: make dev (process")
    assert url[1] in second.said
    assert len(second.said.splitlines()) == 1

    os.kill(first.find("kafka.Kafka"), signal.SIGKILL)
    wait_until(lambda: f"Kafka answers again at {address}" in first.said, 60)
    produced = sum(read_produced(address, "flights").values())
    wait_until(lambda: sum(read_produced(address, "flights").values()) > produced, 60)

    first.process.send_signal(signal.SIGINT)
    assert first.process.wait(60) == 0
    assert first.processes == []


@pytest.mark.slow
def test_killed_with_9_the_next_start_goes_on_until_a_part_dies_which_ends_all_in_one_sentence(
    start: Start,
) -> None:
    first = start()
    first.await_summary()
    address = (first.home / "kafka" / "bootstrap.servers").read_text().strip()
    wait_until(lambda: sum(read_produced(address, "flights").values()) >= 2000, 30)
    pids = [found.pid for found in first.processes]

    first.process.kill()
    first.process.wait()
    second = start()  # at once, while the watchdog still works
    second.await_summary()

    assert len(pids) >= 7
    assert not any(map(is_alive, pids))
    assert sum(read_produced(address, "flights").values()) >= 2000

    os.kill(second.find("dagster_webserver"), signal.SIGKILL)
    assert second.process.wait(60) == 1
    assert "Cannot keep webserver running: its process ended with -9." in second.said
    assert str(second.home / "logs" / "webserver.log") in second.said
    assert second.processes == []


def test_the_projects_own_workspace_is_what_is_served() -> None:
    location = read_code_location(find_project_file("workspace.yaml"))

    assert location == CodeLocation("lakehouse_assets.definitions", "lakehouse")


def test_a_workspace_of_several_locations_is_refused(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text("load_from:\n  - python_module: a\n  - python_module: b\n")

    with pytest.raises(LocalPlatformError, match="found 2 entries"):
        read_code_location(workspace)
