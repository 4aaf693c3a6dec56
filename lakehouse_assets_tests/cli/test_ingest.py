"""`lakehouse ingest` in processes of its own, against the real broker: where it ends, also after a kill or beside a producer."""

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from pyiceberg.table import Table

from lakehouse_assets.environment import Environment
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.systems.catalog import open_catalog
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.command import COMMAND, call_lakehouse, place_variables
from lakehouse_assets_tests.conftest import TopicFactory

pytestmark = pytest.mark.kafka

DECLARATION = """
table: {table}
source: {{topic: {topic}}}
commit_interval: 1s
commit_size: 1MiB
run_time_limit: {limit}
schema: [{{name: id, type: long, required: true}}, {{name: text, type: string}}]
"""


class Shell:
    """A folder with declarations, and the command over it."""

    def __init__(self, folder: Path, servers: str) -> None:
        self.folder = folder
        self.variables = {"KAFKA_BOOTSTRAP_SERVERS": servers}
        (folder / "tables").mkdir()

    def declare(self, table: str, topic: str, limit: str = "5m") -> None:
        text = DECLARATION.format(table=table, topic=topic, limit=limit)
        (self.folder / "tables" / f"{table}.yaml").write_text(text)

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return call_lakehouse(self.folder, *arguments, variables=self.variables)

    def start(self, *arguments: str, stderr: int = subprocess.PIPE) -> "subprocess.Popen[str]":
        environment = place_variables(self.folder) | self.variables
        return subprocess.Popen([*COMMAND, *arguments], env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)

    def table(self, name: str) -> Table:
        environment = Environment.read({"LAKEHOUSE_HOME": str(self.folder / "home")})
        return open_catalog(environment.catalog_name, environment.catalog_properties).load_table(name)


@pytest.fixture
def shell(tmp_path: Path, kafka: LocalKafka) -> Shell:
    return Shell(tmp_path, kafka.bootstrap_servers)


def messages(first: int, count: int, size: int = 10) -> list[str]:
    return [json.dumps({"id": i, "text": "x" * size}) for i in range(first, first + count)]


def documents(done: "subprocess.CompletedProcess[str]") -> list[Any]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def stream(broker: Broker, topic: TopicFactory) -> Iterator[str]:
    """A topic that has 100 messages and gets more all the time."""
    name, enough = topic(), Event()
    broker.produce(name, messages(0, 100))

    def produce() -> None:
        number = 100
        while not enough.wait(0.05):
            broker.produce(name, messages(number, 10))
            number += 10

    producer = Thread(target=produce)
    producer.start()
    yield name
    enough.set()
    producer.join()


def test_it_ends_where_the_topic_ended_when_it_began_though_more_comes(shell: Shell, stream: str) -> None:
    shell.declare("ods.clicks", stream)

    done = shell.run("ingest", "ods.clicks", "--json")

    assert (done.returncode, done.stderr) == (0, "")
    (result,) = documents(done)
    assert (result["table"], result["ended"]) == ("ods.clicks", "caught up")
    assert result["rows"] >= 100
    positions = judge.read_positions(shell.table("ods.clicks"))
    assert positions == [(0, offset) for offset in range(result["rows"])]


def test_the_time_limit_of_a_run_does_not_end_it_early(shell: Shell, topic: TopicFactory, broker: Broker) -> None:
    name = topic()
    shell.declare("ods.clicks", name, limit="1s")
    for i in range(10):
        broker.produce(name, messages(i * 3000, 3000, size=500))  # 16 commits of 1 MiB take longer than a second

    done = shell.run("ingest", "ods.clicks")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("ods.clicks caught up: 30,000 rows in ")
    assert judge.query(shell.table("ods.clicks"), "SELECT count(*), count(DISTINCT id) FROM {table}") == [(30_000, 30_000)]


def test_after_a_kill_it_may_start_at_once(shell: Shell, topic: TopicFactory, broker: Broker) -> None:
    name = topic(2)
    shell.declare("ods.clicks", name)
    for p in (0, 1):
        broker.produce(name, messages(p * 5000, 5000, size=500), partition=p)
    with shell.start("ingest", "ods.clicks") as first:
        assert first.stdout is not None
        assert first.stdout.readline().startswith("committed ")
        first.kill()

    done = shell.run("ingest", "ods.clicks", "--json")

    assert done.returncode == 0
    assert documents(done)[0]["ended"] == "caught up"
    expected = [(p, offset) for p in (0, 1) for offset in range(5000)]
    assert judge.read_positions(shell.table("ods.clicks")) == expected


_ENDINGS = [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]


@pytest.mark.parametrize("ending", _ENDINGS, ids=["interrupt", "terminate"])
def test_an_interrupt_ends_it_at_a_commit_boundary_with_130(
    shell: Shell, topic: TopicFactory, broker: Broker, ending: signal.Signals
) -> None:
    name = topic()
    shell.declare("ods.clicks", name)
    for i in range(16):  # so many that a process that is not served hears of the signal before it is done
        broker.produce(name, messages(i * 20_000, 20_000, size=50))  # each a commit
    with shell.start("ingest", "ods.clicks") as command:
        assert command.stdout is not None
        assert command.stdout.readline().startswith("committed ")
        command.send_signal(ending)
        rest = command.stdout.read()
        assert command.stderr is not None
        assert command.stderr.read() == ""
    assert command.returncode == 130
    assert rest.splitlines()[-1].startswith("ods.clicks stopped: ")
    (count,) = judge.query(shell.table("ods.clicks"), "SELECT count(*) FROM {table}")[0]
    assert f"{count:,} rows" in rest.splitlines()[-1]

    assert shell.run("ingest", "ods.clicks").returncode == 0
    assert judge.read_positions(shell.table("ods.clicks")) == [(0, offset) for offset in range(320_000)]


def test_one_table_that_can_not_go_on_does_not_hold_up_the_others(shell: Shell, topic: TopicFactory, broker: Broker) -> None:
    shell.declare("ods.gone", "nowhere")
    for table in ("ods.one", "ods.two"):
        name = topic()
        shell.declare(table, name)
        broker.produce(name, [*messages(0, 3), "{", None])

    done = shell.run("ingest", "ods.gone", "ods.one", "ods.two", "--json")

    assert done.returncode == 1
    gone, *good = documents(done)
    assert (gone["table"], gone["error"]) == ("ods.gone", "TopicMissingError")
    assert good == [
        {"table": table, "ended": "caught up", "commits": 1, "rows": 3, "quarantined": 1, "skipped": 1, "filtered": 0, "slowdown": 1}
        for table in ("ods.one", "ods.two")
    ]
    quarantined = shell.run("query", "SELECT value, error_code FROM ods.one__quarantine", "--json")
    assert documents(quarantined) == [{"value": "ew==", "error_code": "invalid_json"}]


def test_a_table_that_has_everything_is_done_at_once(shell: Shell, topic: TopicFactory) -> None:
    shell.declare("ods.clicks", topic())

    for _ in range(2):  # the first creates it
        done = shell.run("ingest", "ods.clicks")
        assert (done.returncode, done.stdout) == (0, "ods.clicks caught up: 0 rows in 0 commits\n")


def test_a_terminal_gets_a_bar_and_nobody_else(shell: Shell, topic: TopicFactory, broker: Broker) -> None:
    name = topic()
    shell.declare("ods.clicks", name)
    broker.produce(name, messages(0, 7))
    ours, theirs = pty.openpty()
    with shell.start("ingest", "ods.clicks", stderr=theirs) as command:
        os.close(theirs)
        seen = b""
        try:
            while piece := os.read(ours, 65536):
                seen += piece
        except OSError:
            pass  # the end of a terminal whose last writer is gone
        assert command.stdout is not None
        out = command.stdout.read()
    os.close(ours)

    assert b"7/7" in seen
    assert b"ods.clicks" in seen
    assert out.splitlines()[-1] == "ods.clicks caught up: 7 rows in 1 commits"
    assert "\x1b" not in out
    broker.produce(name, messages(7, 7))
    assert shell.run("ingest", "ods.clicks").stderr == ""
