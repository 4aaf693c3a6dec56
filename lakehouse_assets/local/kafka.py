"""A real single-node Apache Kafka on this machine, without Docker and without a system Java.

Hides how the broker is fetched, formatted, started, found and ended. Its messages and its address survive restarts.
"""

import base64
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from lakehouse_assets.local.errors import LocalPlatformError
from lakehouse_assets.local.java import KAFKA_VERSION, Report, find_java, resolve_kafka_jars
from lakehouse_assets.local.ownership import FolderLock
from lakehouse_assets.local.ports import HOST, find_free_port, is_port_open
from lakehouse_assets.local.processes import ProcessGroup, end_process, read_log_tail

DEFAULT_PORT = 9092
ADDRESS_FILE = "bootstrap.servers"

# Starts in about 2 s and 370 MB. For a broker that is to be fast rather than small, pass THROUGHPUT_JAVA_OPTIONS.
LAPTOP_JAVA_OPTIONS = ("-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
THROUGHPUT_JAVA_OPTIONS = ("-Xms768m", "-Xmx768m", "-XX:+UseSerialGC")

_CONTROLLER_PORT = 19092
_START_SECONDS = 90.0  # a log that was cut by kill -9 is read through first
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.05
_METADATA_SECONDS = 2.0
_ATTEMPTS = 3  # a port may be taken between the look and the start
_PORT_TAKEN = "Address already in use"
_LOG_OPTIONS = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
)
# One node, so one replica of everything. What is not here is Kafka's default, `log.message.timestamp.after.max.ms` included.
_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "auto.create.topics.enable": "false",  # a misspelt topic is an error, as on a cluster that is looked after
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # After `kill -9` the broker is let in again when its old session is over; with the default of 9 s that took 14 s.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "log.retention.hours": "720",  # a month can be replayed
    "log.cleaner.dedupe.buffer.size": "16777216",  # the default would be a quarter of the heap
}


class LocalKafka:
    """One broker in one folder: `start`, `stop`, `kill`, `start` again, on the same port with the same messages.

    A context manager: entering starts, leaving stops.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = DEFAULT_PORT,
        java_options: Sequence[str] = LAPTOP_JAVA_OPTIONS,
        settings: Mapping[str, str] | None = None,
        processes: ProcessGroup | None = None,
        log: Path | None = None,
        report: Report | None = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            folder: Keeps messages, address and lock.
            port: Wished for at the first start; the next free one is taken, and remembered.
            java_options: For heap and compiler.
            settings: The broker's own, added to ours.
            processes: The group to belong to; its own group by default, which ends with this process.
            log: Where the broker's output goes; a file in the folder by default.
            report: Is told what happens while it takes long.
        """
        self.folder = folder.absolute()
        self.log = (log or self.folder / "kafka.log").absolute()
        self._port = port
        self._java_options = tuple(java_options)
        self._settings = dict(settings or {})
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
    def bootstrap_servers(self) -> str:
        """Where clients find it. The same after a restart, unless another process took the port."""
        return f"{HOST}:{self._port}"

    @property
    def pid(self) -> int | None:
        """Process id of the broker while it lives."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def has_died(self) -> bool:
        """Whether it was started and has ended without being told to."""
        return self._process is not None and self._process.poll() is not None

    def start(self) -> None:
        """Start and return when it answers; what was there before is there again. Does nothing while it lives.

        Raises:
            AlreadyRunningError: another living process runs a broker in this folder.
            LocalPlatformError: it can't be fetched or does not start.
        """
        if self.pid:
            return
        self._lock.acquire("start Kafka")
        try:
            if self._owns_processes:
                self._processes.end_leftovers()
            jars = resolve_kafka_jars(self._report)
            command = [
                find_java(),
                *self._java_options,
                *_LOG_OPTIONS,
                "-cp",
                os.pathsep.join(map(str, jars)),
            ]
            self._ensure_formatted(command)
            self._start_on_free_ports(command)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it in order, so that the next start need not repair anything. Safe to repeat."""
        if self._process:
            end_process(self._process, _STOP_SECONDS)
        self._process = None
        if self._owns_processes:
            self._processes.stop()
        self._lock.release()

    def kill(self) -> None:
        """End it as `kill -9` does. `start` brings it back."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def _ensure_formatted(self, command: Sequence[str]) -> None:
        """Give the data folder a cluster id, once. A format that was interrupted leaves nothing that counts."""
        data = self.folder / "data"
        if data.exists():
            return
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        self._write_properties(fresh, controller_port=_CONTROLLER_PORT)
        # A cluster id that began with a dash would be taken for an option.
        cluster_id = "L" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
        arguments = ["format", "-t", cluster_id, "-c", str(self._properties)]
        format_command = [*command, "kafka.tools.StorageTool", *arguments]
        done = subprocess.run(format_command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LocalPlatformError(
                f"format the folder of Kafka {self.folder}",
                f"the tool ended with {done.returncode}",
                "Check free space and access rights.",
                self.log,
                (done.stdout + done.stderr)[-2000:],
            )
        fresh.rename(data)

    def _start_on_free_ports(self, command: Sequence[str]) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            self._port = find_free_port(self._remembered_port())
            controller_port = find_free_port(max(_CONTROLLER_PORT, self._port + 1))
            self._write_properties(self.folder / "data", controller_port)
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self._process = self._processes.start(
                [*command, "kafka.Kafka", str(self._properties)], log=self.log
            )
            if self._answers():
                self._remember_address()
                return
            log_tail = read_log_tail(self.log)
            exit_code = self._process.poll()
            end_process(self._process, 0)
            if attempt < _ATTEMPTS and _PORT_TAKEN in self.log.read_text(errors="replace"):
                continue
            fact = (
                f"no answer after {_START_SECONDS:.0f} s"
                if exit_code is None
                else f"its process ended with {exit_code}"
            )
            raise LocalPlatformError(
                f"start Kafka {KAFKA_VERSION} at {self.bootstrap_servers}",
                fact,
                f"Its messages are in {self.folder / 'data'}; with that folder removed it starts empty.",
                self.log,
                log_tail,
            )

    def _answers(self) -> bool:
        """Wait until it answers a request for metadata; False where its process ends or the time is over."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self.pid:
            if is_port_open(self._port) and self._has_broker():
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def _has_broker(self) -> bool:
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": "0"})
        try:
            return bool(admin.list_topics(timeout=_METADATA_SECONDS).brokers)
        except KafkaException:
            return False  # it listens, but is not ready yet; the caller's deadline decides

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _write_properties(self, data: Path, controller_port: int) -> None:
        broker, controller = f"{HOST}:{self._port}", f"{HOST}:{controller_port}"
        settings = {
            **_SETTINGS,
            "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{broker}",
            "controller.quorum.voters": f"1@{controller}",
            "log.dirs": str(data),
            **self._settings,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def _remembered_port(self) -> int:
        address = self.folder / ADDRESS_FILE
        text = address.read_text().strip() if address.is_file() else ""
        port = text.rpartition(":")[2]
        return int(port) if port.isdigit() else self._port

    def _remember_address(self) -> None:
        address = self.folder / ADDRESS_FILE
        fresh = address.with_suffix(".new")
        fresh.write_text(f"{self.bootstrap_servers}\n")
        fresh.replace(address)
