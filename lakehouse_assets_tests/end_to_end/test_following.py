"""`follow: true` on the whole platform, with Dagster's own daemon: killed, terminated, declared anew, and no row lost or twice."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lakehouse_assets.environment import Environment
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.local.processes import list_marked
from lakehouse_assets.operations.systems import open_environment
from lakehouse_assets.systems.catalog import load_table
from lakehouse_assets_tests import ports
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import FOLLOWED, make_message
from lakehouse_assets_tests.conftest import TopicFactory
from lakehouse_assets_tests.waiting import wait_until

pytestmark = [pytest.mark.platform, pytest.mark.slow, pytest.mark.xdist_group("make_dev"), pytest.mark.timeout(500)]

_SECONDS = 120
_RELOAD = 'mutation { reloadRepositoryLocation(repositoryLocationName: "lakehouse") { __typename } }'
_TERMINATE = "mutation ($run: String!) { terminateRun(runId: $run) { __typename } }"


@dataclass
class Followed:
    """A table that the platform follows, and a topic into which messages go one by one."""

    broker: Broker
    topic: str
    home: Path
    declaration: Path
    instance: dg.DagsterInstance
    numbers: Iterator[int]
    sent: int = 0

    def send(self) -> None:
        """One more message."""
        self.broker.produce(self.topic, [make_message(next(self.numbers))])
        self.sent += 1

    @property
    def rows(self) -> list[int]:
        catalog = open_environment(Environment.read()).catalog
        table = load_table(catalog, "ods.clicks")
        return sorted(table.scan().to_arrow()["id"].to_pylist()) if table is not None else []

    def await_rows(self) -> None:
        """Until the table has every message, once."""
        wait_until(lambda: len(self.rows) >= self.sent, _SECONDS)
        assert self.rows == list(range(self.sent))

    def working(self) -> dg.DagsterRun | None:
        """The run that follows the table now."""
        filters = dg.RunsFilter(tags={"lakehouse/ingest": "ods.clicks"}, statuses=[dg.DagsterRunStatus.STARTED])
        return next(iter(self.instance.get_runs(filters)), None)

    def has_ended(self, run: dg.DagsterRun) -> bool:
        found = self.instance.get_run_by_id(run.run_id)
        return found is not None and found.is_finished

    def await_other_than(self, before: dg.DagsterRun) -> dg.DagsterRun:
        """Until another run follows the table, and the one before has ended."""

        def is_there() -> bool:
            run = self.working()
            return run is not None and run.run_id != before.run_id and self.has_ended(before)

        wait_until(is_there, _SECONDS)
        run = self.working()
        assert run is not None
        return run

    def ask(self, query: str, **variables: Any) -> None:
        """Of Dagster's webserver."""
        url = f"http://127.0.0.1:{ports.port_of(ports.WEB_SERVER)}/graphql"
        body = json.dumps({"query": query, "variables": variables}).encode()
        with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"}), timeout=60) as answer:
            assert "errors" not in json.load(answer)


@pytest.fixture
def followed(
    kafka: LocalKafka, broker: Broker, topic: TopicFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Followed]:
    name = topic()
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "clicks.yaml").write_text(FOLLOWED.format(topic=name))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_TABLES_DIR", str(tables))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home" / "dagster"))
    output = tmp_path / "output"
    command = [sys.executable, "-m", "lakehouse_assets.cli", "dev", "--port", str(ports.port_of(ports.WEB_SERVER))]
    with output.open("wb") as stream:
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=stream, stderr=stream)
    try:
        wait_until(lambda: "Stop  " in output.read_text() or process.poll() is not None, _SECONDS)
        assert process.poll() is None, output.read_text()
        with dg.DagsterInstance.get() as instance:
            yield Followed(broker, name, tmp_path / "home", tables / "clicks.yaml", instance, count())
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(_SECONDS)


def test_a_table_is_followed_on_whether_its_run_is_killed_terminated_or_declared_anew(followed: Followed) -> None:
    followed.send()
    followed.await_rows()
    first = followed.working()
    assert first is not None
    assert first.tags["dagster/max_runtime"] == "4500"

    (process,) = [one for one in list_marked(f"{followed.home.resolve()}:") if "spawn_main" in one.command]
    os.kill(process.pid, signal.SIGKILL)
    followed.send()
    second = followed.await_other_than(first)
    followed.await_rows()

    followed.ask(_TERMINATE, run=second.run_id)
    wait_until(lambda: followed.has_ended(second), _SECONDS)
    followed.send()
    followed.await_rows()
    third = followed.await_other_than(second)

    followed.declaration.write_text(followed.declaration.read_text() + "  - {name: text, type: string}\n")
    followed.ask(_RELOAD)
    fourth = followed.await_other_than(third)
    followed.send()
    followed.await_rows()

    statuses = [followed.instance.get_run_by_id(run.run_id).status.value for run in (first, second, third)]  # type: ignore[union-attr]
    assert statuses == ["FAILURE", "CANCELED", "SUCCESS"]
    said = [entry.user_message for entry in followed.instance.all_logs(third.run_id)]
    assert any(f"run {fourth.run_id[:8]} takes over: " in message for message in said)
