"""What Debezium has to be told to follow a PostgreSQL into topics that become upsert tables.

docs/operations.md gives the same settings, with reasons, for a Connect of your own.
"""

from collections.abc import Sequence

from lakehouse_assets.local.java import JavaProgram

POSTGRES_CONNECTOR = JavaProgram(
    "Debezium",
    "3.6.3.Final",
    ("io.debezium:debezium-connector-postgres:3.6.3.Final",),
    download_megabytes=29,
)


def follow_postgres(
    name: str, *, host: str, port: int, database: str, user: str, password: str, tables: Sequence[str]
) -> dict[str, str]:
    """Settings of a connector whose topics are called `name.schema.table`.

    The database has a publication `name` of these tables, and the user may replicate and read them.
    """
    return {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": host,
        "database.port": str(port),
        "database.dbname": database,
        "database.user": user,
        "database.password": password,
        "table.include.list": ",".join(tables),
        "topic.prefix": name,
        "plugin.name": "pgoutput",
        "slot.name": name,
        "publication.name": name,
        "publication.autocreate.mode": "disabled",
        "skipped.operations": "none",  # by default truncates are not sent
        "tombstones.on.delete": "true",  # so that a compacted topic forgets the key too
        "decimal.handling.mode": "string",  # readable, and free of the scale that messages without schema leave out
        "time.precision.mode": "isostring",  # one form for every column, and nothing to declare
        "heartbeat.interval.ms": "10000",  # so that the slot moves on while these tables rest
        "topic.creation.default.replication.factor": "1",
        "topic.creation.default.partitions": "1",
    }
