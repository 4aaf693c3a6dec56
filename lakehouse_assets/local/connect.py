"""A real Kafka Connect on this machine, with Debezium: it follows the changes of databases into topics of the local Kafka.

Hides how it is fetched and set up, and the calls of its REST API. How far it has read survives restarts; which connectors it
has does not, so they are put again after each start.
"""

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

from lakehouse_assets.local.debezium import POSTGRES_CONNECTOR
from lakehouse_assets.local.errors import LocalPlatformError
from lakehouse_assets.local.java import KAFKA_VERSION, JavaProgram, Report, find_java, resolve_jars
from lakehouse_assets.local.ports import HOST
from lakehouse_assets.local.processes import ProcessGroup
from lakehouse_assets.local.server import LocalServer

DEFAULT_PORT = 8083
CONNECT = JavaProgram(
    "Kafka Connect",
    KAFKA_VERSION,
    (
        f"org.apache.kafka:connect-runtime:{KAFKA_VERSION}",
        f"org.apache.kafka:connect-json:{KAFKA_VERSION}",
        "org.slf4j:slf4j-simple:1.7.36",
    ),
    download_megabytes=34,
)
_JAVA_OPTIONS = ("-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_LOG_OPTIONS = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
)
# A null stays null, also where the column has a default.
_JSON = {
    "": "org.apache.kafka.connect.json.JsonConverter",
    ".schemas.enable": "false",
    ".replace.null.with.default": "false",
}
_ANSWER_SECONDS = 30.0
_RUNNING_SECONDS = 60.0
_POLL_SECONDS = 0.1


class LocalConnect(LocalServer):
    """One worker; see `LocalServer`."""

    title = str(CONNECT)
    _address_name = "address"
    _kept = "positions in databases"
    _passing = ("Address already in use", "Failed to bind")

    def __init__(
        self,
        folder: Path,
        *,
        bootstrap_servers: str,
        plugins: Sequence[JavaProgram] = (POSTGRES_CONNECTOR,),
        settings: Mapping[str, str] | None = None,
        port: int = DEFAULT_PORT,
        processes: ProcessGroup | None = None,
        log: Path | None = None,
        report: Report | None = None,
    ) -> None:
        """As `LocalServer`.

        `bootstrap_servers` is where the changes go, `plugins` are its connectors and converters, `settings` the worker's own,
        added to ours.
        """
        super().__init__(folder, port=port, processes=processes, log=log, report=report)
        self._servers = bootstrap_servers
        self._plugins = tuple(plugins)
        self._settings = dict(settings or {})
        self._java: list[str] = []

    @property
    def address(self) -> str:
        """Of its REST API."""
        return f"http://{HOST}:{self._port}"

    def put_connector(self, name: str, settings: Mapping[str, str]) -> None:
        """Have a connector with these settings, and return when it runs. Safe to repeat; what has failed of it starts again.

        Raises:
            LocalPlatformError: it does not accept them, or ends.
        """
        self._ask("POST", f"/connectors/{name}/restart?includeTasks=true&onlyFailed=true")  # before the first time: not found
        answer = self._ask("PUT", f"/connectors/{name}/config", json=dict(settings))
        if not answer.ok:
            raise self._refused(name, str(answer.json().get("message", answer.text)))
        deadline = time.monotonic() + _RUNNING_SECONDS
        while (state := self.read_state(name)) != "RUNNING":
            if state == "FAILED" or time.monotonic() > deadline:
                raise self._refused(name, self._read_trouble(name) or f"it is {state} after {_RUNNING_SECONDS:.0f} s")
            time.sleep(_POLL_SECONDS)

    def remove_connector(self, name: str) -> None:
        """Let it end. Its position is kept."""
        self._ask("DELETE", f"/connectors/{name}").raise_for_status()

    def read_state(self, name: str) -> str:
        """RUNNING, FAILED, or what it is on the way. Read-only."""
        answer = self._ask("GET", f"/connectors/{name}/status")
        if not answer.ok:
            return "UNASSIGNED"  # known a moment later
        status = answer.json()
        states = {part["state"] for part in [status["connector"], *status["tasks"]]}
        if "FAILED" in states:
            return "FAILED"
        return "RUNNING" if states == {"RUNNING"} and status["tasks"] else "STARTING"

    def _read_trouble(self, name: str) -> str:
        status = self._ask("GET", f"/connectors/{name}/status").json()
        traces = [part["trace"] for part in [status["connector"], *status["tasks"]] if "trace" in part]
        return traces[0].splitlines()[0] if traces else ""

    def _refused(self, name: str, reason: str) -> LocalPlatformError:
        return LocalPlatformError(f"run the connector {name!r}", reason.strip(), "Look into its log.", self.log)

    def _ask(self, method: str, path: str, **parts: Any) -> requests.Response:
        try:
            return requests.request(method, f"{self.address}{path}", timeout=_ANSWER_SECONDS, **parts)
        except requests.RequestException as error:
            fact = f"no answer at {self.address} ({type(error).__name__})"
            raise LocalPlatformError(f"speak with {self.title}", fact, "Look into its log.", self.log) from error

    def _prepare(self) -> None:
        jars = resolve_jars(CONNECT, self._report)
        shutil.rmtree(self._plugin_folder, ignore_errors=True)
        for plugin in self._plugins:
            # Each in a folder of its own, for versions of what two of them need may differ.
            folder = self._plugin_folder / plugin.listing_name.removesuffix(".jars")
            folder.mkdir(parents=True)
            for jar in resolve_jars(plugin, self._report):
                (folder / jar.name).symlink_to(jar)
        self._java = [find_java(), *_JAVA_OPTIONS, *_LOG_OPTIONS, "-cp", os.pathsep.join(map(str, jars))]

    @property
    def _plugin_folder(self) -> Path:
        return self.folder / "plugins"

    def _command(self) -> list[str]:
        settings = {
            "bootstrap.servers": self._servers,
            "listeners": self.address,
            **{f"{part}.converter{name}": value for part in ("key", "value") for name, value in _JSON.items()},
            "plugin.path": str(self._plugin_folder),
            "plugin.discovery": "service_load",
            "offset.storage.file.filename": str(self.folder / "positions"),
            "offset.flush.interval.ms": "1000",  # what a kill makes it send again
            **self._settings,
        }
        properties = self.folder / "worker.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        return [*self._java, "org.apache.kafka.connect.cli.ConnectStandalone", str(properties)]

    def _answers(self) -> bool:
        try:
            return self._ask("GET", "/connectors").ok
        except LocalPlatformError:
            return False  # it is not ready yet; the caller's deadline decides
