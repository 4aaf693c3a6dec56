"""A real Iceberg REST catalog server: the one that Iceberg's own tests use, over a SQLite file, so that a restart forgets nothing."""

import urllib.error
import urllib.request
from os import pathsep
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from subprocess import Popen
from types import TracebackType
from typing import Self

from lakehouse_assets.local.java import JavaProgram, find_java, resolve_jars
from lakehouse_assets.local.ports import HOST
from lakehouse_assets.local.processes import ProcessGroup, read_log_tail
from lakehouse_assets_tests.waiting import wait_until

_ICEBERG_VERSION = "1.10.1"  # the newest of which every jar is there
_SERVER = JavaProgram(
    "Iceberg REST fixture",
    _ICEBERG_VERSION,
    (
        f"org.apache.iceberg:iceberg-open-api:{_ICEBERG_VERSION}:test-fixtures",
        f"org.apache.iceberg:iceberg-core:{_ICEBERG_VERSION}",
        f"org.apache.iceberg:iceberg-core:{_ICEBERG_VERSION}:tests",
        "org.eclipse.jetty:jetty-server:11.0.26",
        "org.eclipse.jetty:jetty-servlet:11.0.26",
        "org.xerial:sqlite-jdbc:3.54.1.0",
        "org.apache.hadoop:hadoop-client-api:3.4.1",
        "org.apache.hadoop:hadoop-client-runtime:3.4.1",
        "org.slf4j:slf4j-simple:2.0.17",
    ),
    download_megabytes=83,
)
_JAVA_OPTIONS = ("-Xms32m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "--enable-native-access=ALL-UNNAMED")
_START_SECONDS = 60.0


class RestCatalogServer:
    """One server in one folder: `start`, `stop`, `start` again on the same port with the same tables.

    A context manager: entering starts, leaving stops.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.uri = f"http://{HOST}:{port}"
        self._folder, self.port = folder, port
        self._log = folder / "rest_catalog.log"
        self._processes = ProcessGroup(folder)
        self._process: Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Return when it answers. Does nothing while it lives."""
        if self._process is not None and self._process.poll() is None:
            return
        jars = resolve_jars(_SERVER, lambda _: None)
        command = [find_java(), *_JAVA_OPTIONS, "-cp", pathsep.join(map(str, jars)), "org.apache.iceberg.rest.RESTCatalogServer"]
        environment = {
            "CATALOG_REST_PORT": str(self.port),
            "CATALOG_WAREHOUSE": str(self._folder / "warehouse"),  # no URL: it would be a folder named `file:`
            "CATALOG_URI": f"jdbc:sqlite:file:{self._folder / 'catalog.db'}?journal_mode=WAL",
            "CATALOG_CATALOG__IMPL": "org.apache.iceberg.jdbc.JdbcCatalog",
            "CATALOG_JDBC_SCHEMA__VERSION": "V1",
            "CATALOG_IO__IMPL": "org.apache.iceberg.TestTables$LocalFileIO",  # Hadoop's own needs a Java before 24
        }
        process = self._process = self._processes.start(command, log=self._log, environment=environment)
        wait_until(lambda: process.poll() is not None or self._answers(), _START_SECONDS)
        assert process.poll() is None, read_log_tail(self._log)

    def stop(self) -> None:
        """End it; safe to repeat."""
        self._processes.stop()

    def halt(self) -> None:
        """From now on it takes requests and does not answer."""
        assert self._process is not None
        self._process.send_signal(SIGSTOP)

    def wake(self) -> None:
        """It goes on, with the requests that came meanwhile too. Safe to repeat."""
        assert self._process is not None
        self._process.send_signal(SIGCONT)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/v1/config", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
