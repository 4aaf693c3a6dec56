"""A real schema registry on this machine, without Docker and without a system Java: Apicurio, which speaks Confluent's API.

Hides how it is fetched and set up. Its schemas and its address survive restarts.
"""

from pathlib import Path

import requests

from lakehouse_assets.environment import LOCAL_REGISTRY_ADDRESS
from lakehouse_assets.local.java import JavaProgram, Report, find_java, resolve_archive
from lakehouse_assets.local.ports import HOST
from lakehouse_assets.local.processes import ProcessGroup
from lakehouse_assets.local.server import LocalServer

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
_ANSWER_SECONDS = 2.0


class LocalRegistry(LocalServer):
    """One registry; see `LocalServer`."""

    title = str(_PROGRAM)
    _address_name = LOCAL_REGISTRY_ADDRESS.name
    _kept = "schemas"
    _passing = ("to be in use by another process",)

    def __init__(
        self,
        folder: Path,
        *,
        port: int = DEFAULT_PORT,
        processes: ProcessGroup | None = None,
        log: Path | None = None,
        report: Report | None = None,
    ) -> None:
        """As `LocalServer`."""
        super().__init__(folder, port=port, processes=processes, log=log, report=report)
        self._program = Path()

    @property
    def url(self) -> str:
        """Its address, as SCHEMA_REGISTRY_URL would have it."""
        return f"http://{HOST}:{self._port}/apis/ccompat/v7"

    @property
    def address(self) -> str:
        """See `url`."""
        return self.url

    def _prepare(self) -> None:
        self._program = resolve_archive(_PROGRAM, self._report)

    def _command(self) -> list[str]:
        settings = {
            "quarkus.http.host": HOST,
            "quarkus.http.port": str(self._port),
            "quarkus.http.access-log.enabled": "false",
            "apicurio.storage.kind": "sql",
            "apicurio.storage.sql.kind": "h2",
            "apicurio.datasource.url": f"jdbc:h2:file:{self.folder / 'schemas'}",
        }
        jar = self._program / f"apicurio-registry-app-{_VERSION}-runner.jar"
        return [find_java(), *_JAVA_OPTIONS, *(f"-D{name}={value}" for name, value in settings.items()), "-jar", str(jar)]

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/subjects", timeout=_ANSWER_SECONDS).ok
        except requests.RequestException:
            return False  # it is not ready yet; the caller's deadline decides
