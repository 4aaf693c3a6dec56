"""Apache Spark with Iceberg's own engine, from Maven's jars: a second judge of what tables hold, and somebody else who writes them.

A Java machine beside the test, to which statements go through Py4J; PySpark would be 300 MB more, and wants an older Java.
"""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from py4j.java_gateway import CallbackServerParameters, GatewayParameters, JavaGateway, launch_gateway

from lakehouse_assets.local.java import JavaProgram, find_java, resolve_jars

_SPARK = JavaProgram(
    "Spark",
    "4.1.3",
    (
        "org.apache.spark:spark-sql_2.13:4.1.3",
        "org.apache.iceberg:iceberg-spark-runtime-4.1_2.13:1.12.0",
        "org.xerial:sqlite-jdbc:3.54.1.0",
    ),
    download_megabytes=356,
)
# Spark's own is 3.4.2, which needs a Java before 24. These stand before it on the class path.
_HADOOP = JavaProgram(
    "Hadoop client",
    "3.4.3",
    ("org.apache.hadoop:hadoop-client-api:3.4.3", "org.apache.hadoop:hadoop-client-runtime:3.4.3"),
    download_megabytes=53,
)
# What `spark-submit` opens to Spark.
_OPENED = (
    "java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.util", "java.util.concurrent",
    "java.util.concurrent.atomic", "sun.nio.ch", "sun.nio.cs", "sun.security.action", "sun.util.calendar",
)  # fmt: skip
_SETTINGS = {
    "spark.master": "local[1]",
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.jsonGenerator.ignoreNullFields": "false",
    "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
    "spark.sql.iceberg.vectorization.enabled": "false",  # its buffers reach into Java in a way that Java 25 does not allow
}


class Spark:
    """A context manager: entering starts it, leaving ends it. It dies with this process."""

    def __init__(self, folder: Path, for_speed: bool = False) -> None:
        """For tests it starts fast; `for_speed` it has two cores, 2 GB, and a compiler that takes its time."""
        self._folder, self._for_speed = folder, for_speed
        self._hears = False

    def __enter__(self) -> Self:
        folder = self._folder
        jars = [*resolve_jars(_HADOOP, lambda _: None), *resolve_jars(_SPARK, lambda _: None)]
        tuned = ["-Xmx2g", "-XX:+UseParallelGC"] if self._for_speed else ["-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        options = [*tuned, "--enable-native-access=ALL-UNNAMED"]
        options += [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED]
        self._log = (folder / "spark.log").open("w")
        port, self._process = launch_gateway(
            classpath=os.pathsep.join(map(str, jars)),
            java_path=find_java(),
            javaopts=options,
            die_on_exit=True,
            redirect_stdout=self._log,
            redirect_stderr=self._log,
            return_proc=True,
        )
        self._gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port))
        builder = self._gateway.jvm.org.apache.spark.sql.SparkSession.builder()
        cores = {"spark.master": "local[2]"} if self._for_speed else {}
        for name, value in {**_SETTINGS, **cores, "spark.local.dir": str(folder)}.items():
            builder = builder.config(name, value)
        self._session = builder.getOrCreate()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.stop()
        self._gateway.shutdown()
        self._process.stdin.close()
        self._process.wait(30)
        self._log.close()

    def during_next_plan(self, action: Callable[[], None]) -> None:
        """Do this once, when the next scan begins to be planned: whoever scans has chosen its snapshot by then."""
        if not self._hears:
            self._gateway.start_callback_server(CallbackServerParameters(port=0, daemonize=True, daemonize_connections=True))
            port = self._gateway.get_callback_server().get_listening_port()
            address = self._gateway.java_gateway_server.getCallbackClient().getAddress()
            self._gateway.java_gateway_server.resetCallbackClient(address, port)
            self._hears = True
        event = self._gateway.jvm.java.lang.Class.forName("org.apache.iceberg.events.ScanEvent")
        self._gateway.jvm.org.apache.iceberg.events.Listeners.register(_ScanListener(action), event)

    def open(self, folder: Path) -> "SparkCatalog":
        """The SQLite catalog of `make_settings(folder)`."""
        session = self._session.newSession()
        name = "spark.sql.catalog.lakehouse"
        session.conf().set(name, "org.apache.iceberg.spark.SparkCatalog")
        for key, value in {
            "catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
            "uri": f"jdbc:sqlite:{folder}/catalog.db?busy_timeout=30000",
            "jdbc.schema-version": "V1",
            "warehouse": f"file://{folder}/warehouse",
            "cache-enabled": "false",  # others write the tables too
        }.items():
            session.conf().set(f"{name}.{key}", value)
        return SparkCatalog(session)


@dataclass(frozen=True)
class _Frame:
    rows: list[dict[str, Any]]

    def collect(self) -> list[dict[str, Any]]:
        return self.rows


class Session:
    """What PySpark's session is to the platform, whose package is not needed for it."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def sql(self, statement: str) -> _Frame:
        return _Frame([json.loads(line) for line in self._session.sql(statement).toJSON().collectAsList()])


class _ScanListener:
    """Hears of scans that Iceberg begins to plan, in the thread that plans them."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action: Callable[[], None] | None = action

    def notify(self, event: Any) -> None:
        if self._action is None or not event.tableName().endswith(".clicks"):
            return  # it was done, or a table of metadata is read
        action, self._action = self._action, None
        action()

    class Java:
        implements: ClassVar = ["org.apache.iceberg.events.Listener"]


class SparkCatalog:
    """The tables of one test; `{table}` in a statement is `ods.clicks`."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.session = Session(session)

    def query(self, statement: str, table: str = "ods.clicks") -> list[tuple[Any, ...]]:
        """Rows of a query; what JSON has no type for comes as text or as a float."""
        frame = self._session.sql(statement.format(table=f"lakehouse.{table}"))
        return [tuple(json.loads(line).values()) for line in frame.toJSON().collectAsList()]

    def run(self, statement: str, table: str = "ods.clicks") -> None:
        """A statement that changes something, as `MERGE INTO {table} …`."""
        self._session.sql(statement.format(table=f"lakehouse.{table}"))

    def read_every_snapshot(
        self, columns: str, snapshot_ids: Iterable[int], table: str = "ods.clicks"
    ) -> list[list[tuple[Any, ...]]]:
        """Sorted rows of each snapshot."""
        return [
            self.query(f"SELECT {columns} FROM {{table}} VERSION AS OF {snapshot_id} ORDER BY ALL", table)
            for snapshot_id in snapshot_ids
        ]
