"""A real single-node Apache Kafka on this machine, without Docker and without a system Java.

Hides how the broker is fetched, formatted and set up. Its messages and its address survive restarts.
"""

import base64
import os
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from lakehouse_assets.environment import LOCAL_BROKER_ADDRESS
from lakehouse_assets.local.errors import LocalPlatformError
from lakehouse_assets.local.java import KAFKA_VERSION, Report, find_java, resolve_kafka_jars
from lakehouse_assets.local.ports import HOST, find_free_port, is_port_open
from lakehouse_assets.local.processes import ProcessGroup
from lakehouse_assets.local.server import LocalServer

DEFAULT_PORT = 9092

# Starts in about 2 s and 370 MB. For a broker that is to be fast rather than small, pass THROUGHPUT_JAVA_OPTIONS.
LAPTOP_JAVA_OPTIONS = ("-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
THROUGHPUT_JAVA_OPTIONS = ("-Xms768m", "-Xmx768m", "-XX:+UseSerialGC")

_CONTROLLER_PORT = 19092
_METADATA_SECONDS = 2.0
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


class LocalKafka(LocalServer):
    """One broker; see `LocalServer`."""

    title = f"Kafka {KAFKA_VERSION}"
    _address_name = LOCAL_BROKER_ADDRESS.name
    _kept = "messages"
    _passing = ("Address already in use",)

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
        """As `LocalServer`; `java_options` are for heap and compiler, `settings` the broker's own, added to ours."""
        super().__init__(folder, port=port, processes=processes, log=log, report=report)
        self._java_options = tuple(java_options)
        self._settings = dict(settings or {})
        self._java: list[str] = []

    @property
    def bootstrap_servers(self) -> str:
        """Its address, as clients call it."""
        return f"{HOST}:{self._port}"

    @property
    def address(self) -> str:
        """See `bootstrap_servers`."""
        return self.bootstrap_servers

    def _prepare(self) -> None:
        jars = resolve_kafka_jars(self._report)
        self._java = [find_java(), *self._java_options, *_LOG_OPTIONS, "-cp", os.pathsep.join(map(str, jars))]
        self._ensure_formatted()

    def _command(self) -> list[str]:
        self._write_properties(self.folder / "data", find_free_port(max(_CONTROLLER_PORT, self._port + 1)))
        return [*self._java, "kafka.Kafka", str(self._properties)]

    def _answers(self) -> bool:
        if not is_port_open(self._port):
            return False
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": "0"})
        try:
            return bool(admin.list_topics(timeout=_METADATA_SECONDS).brokers)
        except KafkaException:
            return False  # it listens, but is not ready yet; the caller's deadline decides

    def _ensure_formatted(self) -> None:
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
        format_command = [*self._java, "kafka.tools.StorageTool", *arguments]
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
