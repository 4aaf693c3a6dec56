"""The demo's shop: a PostgreSQL whose rows change, and Debezium behind it: `python -m lakehouse_assets.local.shop_demo`.

A process of its own, because fetching Debezium takes its time at the first start and may fail; nothing waits for it. Its output
is for the person at `make dev`. What dies of it, also by that person's hand, it brings back.
"""

import signal
import sys
import threading
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from lakehouse_assets.environment import Environment
from lakehouse_assets.local import shop
from lakehouse_assets.local.connect import LocalConnect
from lakehouse_assets.local.demo import ensure_topic
from lakehouse_assets.local.errors import LEFT_OUT
from lakehouse_assets.local.postgres import LocalPostgres
from lakehouse_assets.local.processes import ProcessGroup
from lakehouse_assets.model.errors import LakehouseError

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class

_CHANGE_SECONDS = 1.0
_LOOK_SECONDS = 5.0


class _Demo:
    def __init__(self, environment: Environment, group: ProcessGroup) -> None:
        self._servers = environment.require_kafka()["bootstrap.servers"]
        home, logs = environment.home, environment.home / "logs"
        self._postgres = LocalPostgres(home / "postgres", processes=group, log=logs / "postgres.log", report=_say)
        self._connect = LocalConnect(
            home / "connect", bootstrap_servers=self._servers, processes=group, log=logs / "connect.log", report=_say
        )
        self._session: Connection | None = None
        self._trouble = ""

    def start(self) -> None:
        """All that is not running; does nothing where everything does.

        Raises:
            LakehouseError: a part can't be had.
        """
        for server in (self._postgres, self._connect):
            if server.has_died:
                _say(f"{server.title} has ended by itself and is started again; its log: {server.log}")
        self._postgres.start()
        shop.ensure_shop(self._postgres)
        self._connect.start()
        for topic in shop.TOPICS:
            ensure_topic(self._servers, topic)
        if self._connect.read_state(shop.NAME) != "RUNNING":
            self._connect.put_connector(shop.NAME, shop.build_connector(self._postgres))

    def follow(self, stop: threading.Event) -> None:
        """Let the shop live until `stop` is set.

        Raises:
            LakehouseError: a part has died for good.
        """
        rng, looked_at = Random(), time.monotonic()
        while not stop.wait(_CHANGE_SECONDS):
            self._change(rng)
            if time.monotonic() - looked_at > _LOOK_SECONDS:
                self.start()
                looked_at = time.monotonic()

    def stop(self) -> None:
        """End it in order."""
        if self._session:
            self._session.close()
        self._connect.stop()
        self._postgres.stop()

    def describe(self) -> str:
        psql = self._postgres.psql
        shown = psql.relative_to(Path.cwd()) if psql.is_relative_to(Path.cwd()) else psql
        address = self._postgres.uri(shop.NAME, shop.NAME, shop.NAME)
        return (
            f"the shop's database is followed into the topics {', '.join(shop.TOPICS)}. Customers 1 to 10 are yours:\n"
            f"{shown} {address} -c \"UPDATE customers SET city = 'Bern' WHERE id = 1\""
        )

    def _change(self, rng: Random) -> None:
        """One, if the database lets us: a person may have locked a table or dropped it."""
        import psycopg2

        try:
            if self._session is None or self._session.closed:
                self._session = shop.open_session(self._postgres)
            shop.let_something_happen(self._session, rng)
            trouble = ""
        except psycopg2.Error as error:
            trouble = str(error).partition("\n")[0]
        if trouble and trouble != self._trouble:
            _say(f"the shop stands still: {trouble}")
        self._trouble = trouble


def main() -> int:
    """Run until SIGTERM or Ctrl-C; LEFT_OUT where a part can't be had."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    environment = Environment.read()
    group = ProcessGroup(environment.home)
    demo = _Demo(environment, group)
    try:
        demo.start()
        _say(demo.describe())
        demo.follow(stop)
    except LakehouseError as error:
        _say(f"{error} The tables shop.* get no changes; everything else goes on.")
        return LEFT_OUT
    finally:
        demo.stop()
        group.stop()
    return 0


def _say(sentence: str) -> None:
    print(sentence, flush=True)


if __name__ == "__main__":
    sys.exit(main())
