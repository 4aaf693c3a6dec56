"""The work of one look of the sensors over 200 tables: their ledgers against their topic. The stated limit is 2 s."""

import tempfile
import time
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.ingest import open_table
from lakehouse_assets.operations.status import read_status
from lakehouse_assets.operations.systems import SystemSettings, open_systems

TABLES = 200
ROUNDS = 3
LIMIT_SECONDS = 2.0


def main() -> None:
    """Create the tables, look at all of them a few times, print seconds and the share of the limit."""
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder) / "kafka") as kafka:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        admin.create_topics([NewTopic("t", 4, 1)])["t"].result(30)
        catalog = {"type": "sql", "uri": f"sqlite:///{folder}/c.db", "warehouse": f"file://{folder}/warehouse"}
        systems = open_systems(SystemSettings({"bootstrap.servers": kafka.bootstrap_servers}, "bench", catalog))
        schema = [{"name": "id", "type": "long"}]
        specs = [TableSpec(table=f"bench.t{i}", source={"topic": "t"}, schema=schema) for i in range(TABLES)]
        for spec in specs:
            open_table(systems, spec, lambda: int(time.time() * 1000))
        for _ in range(ROUNDS):
            began, cpu = time.perf_counter(), time.process_time()
            for spec in specs:
                read_status(systems, spec)
            wall = time.perf_counter() - began
            cpu = time.process_time() - cpu
            print(f"{TABLES} tables: {wall:.2f} s, {cpu:.2f} s of CPU, {wall / LIMIT_SECONDS:.0%} of the limit")


if __name__ == "__main__":
    main()
