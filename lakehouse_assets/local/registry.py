"""A real schema registry on this machine, without Docker and without a system Java: Apicurio, which speaks Confluent's API.

Hides how it is fetched, started, found and ended. Its schemas and its address survive restarts.
"""

import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from lakehouse_assets.environment import LOCAL_REGISTRY_ADDRESS
from lakehouse_assets.local.errors import LocalPlatformError
from lakehouse_assets.local.java import JavaProgram, Report, find_java, resolve_archive
from lakehouse_assets.local.ownership import FolderLock
from lakehouse_assets.local.ports import HOST, find_free_port
from lakehouse_assets.local.processes import ProcessGroup, end_process, read_log_tail

DEFAULT_PORT = 8081
_VERSION = "3.0.9"  # the newest that runs on the Java of the wheel
_PROGRAM = JavaProgram(
    "Apicurio Registry",
    _VERSION,
    (f"io.apicurio:apicurio-registry-app:{_VERSION}:all",),
    download_megabytes=109,
    instead=" Or set SCHEMA_REGISTRY_URL to use a registry of your own.",
)
_JAVA_OPTIONS = ("-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_START_SECONDS = 90.0
_STOP_SECONDS = 10.0
_ATTEMPTS = 3  # a port may be taken between the look and the start
_PORT_TAKEN = "to be in use by another process"
_POLL_SECONDS = 0.1
_ANSWER_SECONDS = 2.0


class LocalRegistry:
    """One registry in one folder: `start`, `stop`, `start` again, on the same port with the same schemas.

    A context manager: entering starts, leaving stops.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = DEFAULT_PORT,
        processes: ProcessGroup | None = None,
        log: Path | None = None,
        report: Report | None = None,
    ) -> None:
        """Nothing is started yet. `processes` is the group to belong to; by default its own, which ends with this process."""
        self.folder = folder.absolute()
        self.log = (log or self.folder / "registry.log").absolute()
        self._port = port
        self._processes = processes or ProcessGroup(self.folder)
        self._owns_processes = processes is None
        self._report: Report = report or (lambda _: None)
        self._lock = FolderLock(self.folder)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """What SCHEMA_REGISTRY_URL would be. The same after a restart, unless another process took the port."""
        return f"http://{HOST}:{self._port}/apis/ccompat/v7"

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start and return when it answers; the schemas of before are there again. Does nothing while it lives.

        Raises:
            AlreadyRunningError: another living process runs a registry in this folder.
            LocalPlatformError: it can't be fetched or does not start.
        """
        if self.is_running:
            return
        self._lock.acquire("start the schema registry")
        try:
            if self._owns_processes:
                self._processes.end_leftovers()
            program = resolve_archive(_PROGRAM, self._report)
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self._start_on_free_port(program)
            self._remember_address()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it. Safe to repeat."""
        if self._process:
            end_process(self._process, _STOP_SECONDS)
        self._process = None
        if self._owns_processes:
            self._processes.stop()
        self._lock.release()

    def _command(self, program: Path) -> list[str]:
        settings = {
            "quarkus.http.host": HOST,
            "quarkus.http.port": str(self._port),
            "quarkus.http.access-log.enabled": "false",
            "apicurio.storage.kind": "sql",
            "apicurio.storage.sql.kind": "h2",
            "apicurio.datasource.url": f"jdbc:h2:file:{self.folder / 'schemas'}",
        }
        jar = program / f"apicurio-registry-app-{_VERSION}-runner.jar"
        return [find_java(), *_JAVA_OPTIONS, *(f"-D{name}={value}" for name, value in settings.items()), "-jar", str(jar)]

    def _start_on_free_port(self, program: Path) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            self._port = find_free_port(self._remembered_port())
            process = self._process = self._processes.start(self._command(program), log=self.log)
            if self._comes_up():
                return
            ended = process.poll()
            if attempt < _ATTEMPTS and ended is not None and _PORT_TAKEN in self.log.read_text(errors="replace"):
                continue
            fact = f"no answer after {_START_SECONDS:.0f} s" if ended is None else f"its process ended with {ended}"
            remedy = f"Its schemas are in {self.folder}; with that folder removed it starts empty."
            raise LocalPlatformError(f"start {_PROGRAM} at {self.url}", fact, remedy, self.log, read_log_tail(self.log))

    def _comes_up(self) -> bool:
        """Wait until it answers; False where its process ends or the time is over."""
        deadline = time.monotonic() + _START_SECONDS
        while self.is_running and time.monotonic() < deadline:
            if self._answers() and self.is_running:
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/subjects", timeout=_ANSWER_SECONDS).ok
        except requests.RequestException:
            return False  # it is not ready yet; the caller's deadline decides

    def _remembered_port(self) -> int:
        address = self.folder / LOCAL_REGISTRY_ADDRESS.name
        text = address.read_text() if address.is_file() else ""
        port = text.removeprefix(f"http://{HOST}:").partition("/")[0]
        return int(port) if port.isdigit() else self._port

    def _remember_address(self) -> None:
        address = self.folder / LOCAL_REGISTRY_ADDRESS.name
        fresh = address.with_suffix(".new")
        fresh.write_text(f"{self.url}\n")
        fresh.replace(address)
