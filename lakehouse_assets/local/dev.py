"""The supervisor behind `make dev`: the whole platform on this machine, up with one command and gone with Ctrl-C.

It starts Kafka and the demo producer, unless KAFKA_BOOTSTRAP_SERVERS names a cluster,
and Dagster; it brings Kafka back when that dies, and ends everything when it ends itself, also when it is killed with -9.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from lakehouse_assets.environment import Environment
from lakehouse_assets.local.dagster_services import (
    ALLOCATOR_ENVIRONMENT,
    DagsterServices,
    find_project_file,
    read_code_location,
)
from lakehouse_assets.local.errors import LEFT_OUT, LocalPlatformError
from lakehouse_assets.local.java import KAFKA_VERSION
from lakehouse_assets.local.ownership import FolderLock
from lakehouse_assets.local.ports import find_free_port
from lakehouse_assets.local.processes import ProcessGroup, end_processes, read_log_tail

if TYPE_CHECKING:
    from lakehouse_assets.local.kafka import LocalKafka

UI_PORT = 3000
_CODE_SERVER_PORT = 4266
_POLL_SECONDS = 0.2
_UI_SECONDS = 180.0  # a cold laptop reads a few hundred megabytes of Python first
_RUN_GRACE_SECONDS = 20.0  # a run ends at its commit boundary
_RESTARTS = 5  # of one service within the window below; more means that starting again doesn't help
_RESTART_WINDOW = timedelta(minutes=10)
_RESTART_PAUSE_SECONDS = 2.0
_RUN_PROCESS = "multiprocessing.spawn"  # how Dagster starts a run, and a run its staging processes


class _StopRequestedError(BaseException):
    """Ctrl-C or a signal to end. Not an Exception, so that nothing on the way takes it for a failure."""


@dataclass
class _RestartLimit:
    """Remembers restarts, so that what dies again and again is left alone."""

    times: list[float] = field(default_factory=list)

    def allows(self, now_seconds: float) -> bool:
        self.times = [t for t in self.times if now_seconds - t < _RESTART_WINDOW.total_seconds()]
        self.times.append(now_seconds)
        return len(self.times) <= _RESTARTS


class Platform:
    """What `make dev` runs. Call `run` once."""

    def __init__(self, environment: Environment, workspace: Path, dagster_yaml: Path, ui_port: int) -> None:
        self._environment = environment
        self._home = environment.home
        self._dagster_yaml = dagster_yaml
        self._started_at = time.monotonic()
        self._lock = FolderLock(self._home)
        self._processes = ProcessGroup(self._home)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._restarts: dict[str, _RestartLimit] = {}
        self._kafka = self._build_kafka()
        self._location = read_code_location(workspace)
        self._ui_port = ui_port
        self._dagster: DagsterServices | None = None
        self._passed_on: dict[str, int] = {}  # lines of the logs of demos

    def run(self, parent_pid: int | None = None) -> None:
        """Start everything, watch it, and end it when a signal says so, or when `parent_pid` is no longer our parent.

        Raises:
            LocalPlatformError: a part can't start or died for good; everything else was ended.
            AlreadyRunningError: a living process runs the platform of this home.
        """
        self._environment.ensure_home()
        self._lock.acquire("start the platform")
        with _signals_as_errors():
            try:
                self._start()
                self._watch(parent_pid)
            except _StopRequestedError:
                self._say("stopping; runs finish their commit")
            finally:
                self._stop()

    def _start(self) -> None:
        if leftovers := self._processes.end_leftovers():
            self._say(f"processes that an earlier session left behind, ended now: {len(leftovers)}")
        self._logs.mkdir(exist_ok=True)
        dagster = self._dagster = DagsterServices(
            self._home / "dagster",
            self._location,
            find_free_port(_CODE_SERVER_PORT),
            find_free_port(self._ui_port),
        )
        self._lock.describe(f"make dev (process {os.getpid()}, {dagster.url})")
        dagster.write_files(self._dagster_yaml)
        self._say(f"starting Dagster on {dagster.url}")
        self._launch("prepare", dagster.prepare_command)
        if not dagster.is_prepared:
            self._await_prepared(dagster)  # else several processes would create the same database files
        self._launch("code-server", dagster.code_server_command)
        self._launch("webserver", dagster.webserver_command)
        self._start_kafka()
        self._await_prepared(dagster)
        self._await(dagster.is_code_served, "code-server")
        self._launch("daemon", dagster.daemon_command)
        self._await_ui(dagster)
        self._print_summary(dagster)
        if self._kafka is not None:
            for name in _LATE_DEMOS:  # last: nobody waits for them, and they would slow the others down
                self._launch(name, _DEMOS[name])

    def _start_kafka(self) -> None:
        if self._kafka is None:
            self._say(f"using the Kafka cluster at {self._environment.require_kafka()['bootstrap.servers']}")
            return
        from lakehouse_assets.local.avro_demo import TOPIC as AVRO_TOPIC
        from lakehouse_assets.local.demo import TOPIC, ensure_topic
        from lakehouse_assets.local.shop import TOPICS as SHOP_TOPICS

        self._say(f"starting Kafka {KAFKA_VERSION}")
        self._kafka.start()
        for topic in (TOPIC, AVRO_TOPIC, *SHOP_TOPICS):
            ensure_topic(self._kafka.bootstrap_servers, topic)
        self._launch("demo", _DEMOS["demo"])
        self._say(f"Kafka answers at {self._kafka.bootstrap_servers}; the demo producer runs")

    def _await_prepared(self, dagster: DagsterServices) -> None:
        process = self._children.pop("prepare", None)
        if process is None:
            return
        while process.poll() is None:
            time.sleep(_POLL_SECONDS)
        if process.returncode:
            self._raise_ended("prepare", process)
        dagster.mark_prepared()
        ended_runs = int((read_log_tail(self._log("prepare")).split() or ["0"])[-1])
        if ended_runs:
            self._say(
                f"runs that an earlier session left in progress, ended now so that their tables are free: {ended_runs}"
            )

    def _await_ui(self, dagster: DagsterServices) -> None:
        load_error: str | None = None

        def answers() -> bool:
            nonlocal load_error
            load_error = dagster.find_load_error()
            return load_error is not None

        self._await(answers, "webserver")
        self._say(f"the UI answers at {dagster.url}")
        if load_error:
            self._say(f"the definitions do not load, the UI shows why: {load_error.splitlines()[0]}")

    def _await(self, is_ready: Callable[[], bool], name: str) -> None:
        deadline = time.monotonic() + _UI_SECONDS
        while not is_ready():
            self._check_children()
            if time.monotonic() > deadline:
                raise LocalPlatformError(
                    f"start {name}",
                    f"no answer after {_UI_SECONDS:.0f} s",
                    "",
                    self._log(name),
                    read_log_tail(self._log(name)),
                )
            time.sleep(_POLL_SECONDS)

    def _watch(self, parent_pid: int | None) -> None:
        while parent_pid is None or os.getppid() == parent_pid:
            self._check_children()
            time.sleep(_POLL_SECONDS)
        self._say("the process that started this one has ended")

    def _check_children(self) -> None:
        """Bring back what may be brought back.

        Raises:
            LocalPlatformError: another one has ended.
        """
        if self._kafka and self._kafka.has_died:
            self._allow_restart("Kafka", self._kafka.log)
            self._kafka.start()
            self._say(f"Kafka answers again at {self._kafka.bootstrap_servers}")
        for name in _LATE_DEMOS:
            self._pass_on(name)
        for name, process in list(self._children.items()):
            if process.poll() is None:
                continue
            if name not in _DEMOS:
                self._raise_ended(name, process)
            if process.returncode == LEFT_OUT:
                self._pass_on(name)
                del self._children[name]
                continue
            self._allow_restart(name, self._log(name))
            self._launch(name, _DEMOS[name])

    def _pass_on(self, name: str) -> None:
        """Say what a child has to say to the person here."""
        lines = self._log(name).read_text(errors="replace").splitlines() if name in self._children else []
        for line in lines[self._passed_on.get(name, 0) :]:
            if not line.startswith("%"):  # else it is Kafka's client that speaks, who tries again by itself
                self._say(line)
        self._passed_on[name] = len(lines)

    def _allow_restart(self, name: str, log: Path) -> None:
        log_tail = read_log_tail(log)
        self._say(f"{name} has ended by itself and is started again; the end of {log}:\n{log_tail}")
        if not self._restarts.setdefault(name, _RestartLimit()).allows(time.monotonic()):
            minutes = _RESTART_WINDOW.total_seconds() / 60
            fact = f"it has ended {_RESTARTS + 1} times within {minutes:.0f} minutes"
            raise LocalPlatformError(f"keep {name} running", fact, "", log, log_tail)
        time.sleep(_RESTART_PAUSE_SECONDS)

    def _raise_ended(self, name: str, process: "subprocess.Popen[bytes]") -> NoReturn:
        log = self._log(name)
        raise LocalPlatformError(
            f"keep {name} running",
            f"its process ended with {process.returncode}",
            "",
            log,
            read_log_tail(log),
        )

    def _stop(self) -> None:
        try:
            for name in (*_DEMOS, "daemon"):
                if name in self._children:
                    self._children[name].terminate()
            if self._dagster:
                self._dagster.cancel_ingestion()
            end_processes(
                lambda: [
                    found for found in self._processes.list_processes() if _RUN_PROCESS in found.command
                ],
                _RUN_GRACE_SECONDS,
            )
            self._processes.stop()
        except _StopRequestedError:
            self._processes.stop(grace_seconds=0)
        finally:
            if self._kafka:
                self._kafka.stop()
            self._lock.release()
        self._say("stopped; `make dev` goes on with the data that is there")

    def _launch(self, name: str, command: Sequence[str]) -> None:
        environment = {
            **ALLOCATOR_ENVIRONMENT,
            "DAGSTER_HOME": str(self._home / "dagster"),
            "LAKEHOUSE_HOME": str(self._home),
            "PYTHONUNBUFFERED": "1",
        }
        self._passed_on.pop(name, None)
        self._children[name] = self._processes.start(command, log=self._log(name), environment=environment)

    def _build_kafka(self) -> "LocalKafka | None":
        if not self._environment.uses_local_kafka:
            return None
        from lakehouse_assets.local.kafka import LocalKafka

        return LocalKafka(
            self._home / "kafka", processes=self._processes, log=self._log("kafka"), report=self._say
        )

    @property
    def _logs(self) -> Path:
        return self._home / "logs"

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _say(self, sentence: str) -> None:
        print(f"[{time.monotonic() - self._started_at:6.1f} s] {sentence}", flush=True)

    def _print_summary(self, dagster: DagsterServices) -> None:
        cluster = (
            self._kafka.bootstrap_servers if self._kafka else self._environment.kafka["bootstrap.servers"]
        )
        topic = "   topic 'flights', 20 messages a second" if self._kafka else ""
        catalog = self._environment.catalog_properties.get("uri", "as PyIceberg is configured")
        lines = [
            f"Dagster UI   {dagster.url}",
            f"Kafka        {cluster}{topic}",
            *(_LATER_LINES if self._kafka else []),
            f"Tables       declared in {self._environment.tables_dir}",
            f"Catalog      {self._environment.catalog_name}: {catalog}",
            f"State, logs  {self._home}, {self._logs}",
            "Stop         Ctrl-C; the next `make dev` goes on with the same data",
        ]
        width = max(map(len, lines))
        framed = [f"│ {line:<{width}} │" for line in lines]
        print("\n".join([f"┌{'─' * (width + 2)}┐", *framed, f"└{'─' * (width + 2)}┘"]), flush=True)


def run_platform(
    environment: Environment,
    *,
    workspace: Path | None = None,
    dagster_yaml: Path | None = None,
    ui_port: int = UI_PORT,
    parent_pid: int | None = None,
) -> int:
    """Run the platform until a signal ends it, then 0; the files are the project's unless given. See `Platform.run`.

    Raises:
        LocalPlatformError: a part can't start or died for good; everything else was ended.
        AlreadyRunningError: a living process runs the platform of this home.
    """
    Platform(
        environment,
        workspace or find_project_file("workspace.yaml"),
        dagster_yaml or find_project_file("dagster.yaml"),
        ui_port,
    ).run(parent_pid)
    return 0


_LATE_DEMOS = ("avro-demo", "shop-demo")
_DEMOS = {
    name: [sys.executable, "-m", f"lakehouse_assets.local.{name.replace('-', '_')}"] for name in ("demo", *_LATE_DEMOS)
}
_LATER_LINES = (
    "Registry     starts beside all this, with the Avro topic 'weather'",
    "Database     likewise: a shop in PostgreSQL, whose changes become the tables shop.*",
)


@contextmanager
def _signals_as_errors() -> Iterator[None]:
    """Raise `_StopRequestedError` in the main thread for each signal to end.

    That the signals are handled at all matters to the children too: what a shell made this process ignore (`make dev &` in a
    script ignores Ctrl-C), they would ignore as well, and Dagster's processes then can't be stopped.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _StopRequestedError

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
