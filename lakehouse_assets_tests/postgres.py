"""The local PostgreSQL as tests use it: a catalog, or the source of changes."""

from collections.abc import Sequence
from typing import Any

from lakehouse_assets.local.ports import HOST
from lakehouse_assets.local.postgres import LocalPostgres

GUARDED = "guarded"  # a user without rights


class PostgresServer(LocalPostgres):
    """Kill it and start it again: its databases are there."""

    def driver_uri(self, database: str, port: int | None = None) -> str:
        """Of a database, as SQLAlchemy wants it; `port`: of a proxy before it."""
        uri = self.uri(database).replace("postgresql://", "postgresql+psycopg2://")
        return uri.replace(self.address, f"{HOST}:{port or self.port}")

    def create_database(self, name: str) -> None:
        """An empty one."""
        self.execute(f'CREATE DATABASE "{name}"')

    def create_guarded_user(self, password: str) -> None:
        """Without rights to anybody's tables. Safe to repeat."""
        self.execute(f"DROP ROLE IF EXISTS {GUARDED}")
        self.execute(f"CREATE ROLE {GUARDED} LOGIN PASSWORD '{password}'")

    def execute(self, statement: str, database: str = "postgres", values: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """One statement or several; the rows of the last one that has some."""
        session = self.connect(database)
        try:
            with session.cursor() as cursor:
                cursor.execute(statement, values)
                return cursor.fetchall() if cursor.description else []
        finally:
            session.close()
