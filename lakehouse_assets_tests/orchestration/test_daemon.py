"""What a real daemon starts downstream of a table: each hour once, also when the daemon is killed and begins again."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.scheduler.instigation import InstigatorState, SensorInstigatorData
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from lakehouse_assets.environment import Environment
from lakehouse_assets.local.dagster_services import find_project_file
from lakehouse_assets.operations.systems import open_environment
from lakehouse_assets.orchestration.names import complete_key
from lakehouse_assets_tests.orchestration.hours import Watermarks, ago, declare, hour
from lakehouse_assets_tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.platform, pytest.mark.timeout(600)]

_SECONDS = 240.0  # a backfill waits for two rounds of half a minute
ROLLUPS = ("reporting", "rerunning", "failing")
_DEFINITIONS = '''
import os
from pathlib import Path

import dagster as dg

from lakehouse_assets.downstream import complete_key, hour_is_complete
from lakehouse_assets.orchestration.completeness import build_complete_assets, build_complete_sensors
from lakehouse_assets.orchestration.conditions import build_automation_sensor
from lakehouse_assets.orchestration.partitions import build_partitions
from lakehouse_assets.orchestration.resources import LakehouseResource
from lakehouse_assets_tests.orchestration.hours import declare

HOME = Path(__file__).parent
spec = declare(start_ms=int((HOME / "start_ms").read_text()))


def build(name, on_late):
    @dg.asset(
        name=name,
        deps=[complete_key(spec.table)],
        partitions_def=build_partitions(spec.event_slices),
        backfill_policy=dg.BackfillPolicy.multi_run(2),
        automation_condition=hour_is_complete(on_late),
    )
    def rollup(context: dg.AssetExecutionContext) -> None:
        with (HOME / f"{name}.txt").open("a") as log:
            log.write(",".join(context.partition_keys) + "\\n")
        if name == "failing":
            raise dg.Failure("always", allow_retries=False)

    return rollup


defs = dg.Definitions(
    assets=[*build_complete_assets([spec]), build("reporting", "report"), build("rerunning", "rerun"), build("failing", "report")],
    sensors=[*build_complete_sensors([spec]), build_automation_sensor()],
    resources={"lakehouse": LakehouseResource()},
    executor=dg.in_process_executor,
)
'''


class Daemon:
    """Dagster's daemon with a code server of its own; what it started is read from its instance and from files of the runs."""

    def __init__(self, folder: Path, start_ms: int) -> None:
        self.folder, self.spec = folder, declare(start_ms=start_ms)
        (folder / "downstream_definitions.py").write_text(_DEFINITIONS)
        (folder / "start_ms").write_text(str(start_ms))
        (folder / "dagster.yaml").write_text(find_project_file("dagster.yaml").read_text())
        (folder / "workspace.yaml").write_text(
            f"load_from:\n  - python_file: {{relative_path: {folder}/downstream_definitions.py, location_name: tests}}\n"
        )
        self.instance = dg.DagsterInstance.from_config(str(folder))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(self.folder / "workspace.yaml")]
        environment = {**os.environ, "DAGSTER_HOME": str(self.folder), "PYTHONPATH": os.pathsep.join(sys.path)}
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, env=environment, start_new_session=True
            )

    def kill(self) -> None:
        """The daemon alone, at once; runs go on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.instance.dispose()

    def complete(self) -> set[str]:
        return self.instance.get_materialized_partitions(complete_key(self.spec.table))

    def runs_of(self, name: str) -> Counter[str]:
        """How often each partition was computed."""
        log = self.folder / f"{name}.txt"
        lines = log.read_text().split() if log.exists() else []
        return Counter(partition for line in lines for partition in line.split(","))

    def settle(self) -> None:
        """Wait until nothing is asked for any more: looks at all conditions, and nothing that works."""
        seen = self._count_looks()
        wait_until(lambda: self._count_looks() >= seen + 3 and not self._is_working(), _SECONDS)

    def forget(self) -> None:
        """Both sensors lose their cursors."""
        for state in self._sensors.values():
            data = state.instigator_data
            assert isinstance(data, SensorInstigatorData)
            self.instance.update_instigator_state(state.with_data(SensorInstigatorData(sensor_type=data.sensor_type)))

    @property
    def _sensors(self) -> dict[str, InstigatorState]:
        return {state.instigator_name: state for state in self.instance.all_instigator_state()}

    def _count_looks(self) -> int:
        state = self._sensors.get("downstream")
        if state is None:
            return 0
        ticks = self.instance.get_ticks(state.instigator_origin_id, state.selector_id)
        return sum(tick.is_completed for tick in ticks)

    def _is_working(self) -> bool:
        runs = self.instance.get_runs_count(dg.RunsFilter(statuses=list(NOT_FINISHED_STATUSES)))
        backfills = self.instance.get_backfills(BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED]))
        return bool(runs or backfills)


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    daemon = Daemon(tmp_path, ago(5))
    yield daemon
    daemon.end()


def test_each_hour_runs_once_over_kills_late_rows_and_lost_cursors(daemon: Daemon) -> None:
    commit = Watermarks(open_environment(Environment.read()).catalog).commit
    names = {number: hour(number) for number in range(2, 6)}
    times = {number: ago(number) for number in range(1, 6)}
    once = Counter(names.values())

    commit(daemon.spec, times[3])
    daemon.start()
    wait_until(daemon.complete, _SECONDS)
    daemon.kill()  # they are reported, and the conditions hardly looked at
    daemon.start()
    wait_until(lambda: all(len(daemon.runs_of(name)) == 2 for name in ROLLUPS), _SECONDS)
    daemon.kill()

    commit(daemon.spec, times[1])
    commit(daemon.spec, times[1], {times[4]: 3})
    daemon.start()
    wait_until(lambda: len(daemon.runs_of("reporting")) == 4, _SECONDS)
    daemon.kill()  # amid the runs of the others
    daemon.start()
    daemon.settle()
    assert daemon.complete() == set(names.values())
    assert {name: daemon.runs_of(name) for name in ROLLUPS} == {
        "reporting": once, "rerunning": once + Counter([names[4]]), "failing": once,
    }  # fmt: skip

    daemon.kill()
    daemon.forget()
    daemon.start()
    daemon.settle()
    assert {name: daemon.runs_of(name) for name in ROLLUPS} == {
        "reporting": once, "rerunning": once + Counter([names[4]]), "failing": once + once,
    }  # fmt: skip
