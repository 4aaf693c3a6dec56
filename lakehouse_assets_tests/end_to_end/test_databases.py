"""A real PostgreSQL, a real Debezium: after each run the table has, in every column, what the database itself says."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psycopg2
import pytest

from lakehouse_assets.local.connect import LocalConnect
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import HOUR_MS, make_spec
from lakehouse_assets_tests.operations.lake import Lake, clock_ms
from lakehouse_assets_tests.postgres import PostgresServer
from lakehouse_assets_tests.source import Source, assert_same
from lakehouse_assets_tests.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("databases")]

ORDERS = """
CREATE TABLE orders (
    id bigint, region text, amount numeric(12,2), placed timestamptz, day date, body text, attrs jsonb, done boolean NOT NULL DEFAULT false,
    note text NOT NULL DEFAULT 'none', PRIMARY KEY (id, region))
"""
COLUMNS = "id, region, amount, placed, day, body, attrs::text, done, note"
FOUND = COLUMNS.replace("attrs::text", "attrs")
DECLARED: dict[str, Any] = {
    "mode": "upsert",
    "key": ["id", "region"],
    "schema": [
        {"name": "id", "type": "long", "required": True},
        {"name": "region", "type": "string", "required": True},
        {"name": "amount", "type": "decimal(12,2)", "encoding": "text"},
        {"name": "placed", "type": "timestamptz"},
        {"name": "day", "type": "date"},
        {"name": "body", "type": "string"},
        {"name": "attrs", "type": "string"},
        {"name": "done", "type": "boolean"},
        {"name": "note", "type": "string"},
    ],
}
# Large and without a pattern, so PostgreSQL keeps it apart from its row.
LARGE = "(SELECT string_agg(md5((random() * 1e9)::text), '') FROM generate_series(1, 300))"
INSERT = "INSERT INTO orders (id, region, amount, placed, day, body, attrs)"


@pytest.fixture
def lake(tmp_path: Path, broker: Broker, source: Source) -> Callable[..., Lake]:
    """The table of a table of the source; `parts` go into its declaration."""

    def open_lake(table: str, **parts: Any) -> Lake:
        return Lake.open(tmp_path, broker, source.topic(table), source={"format": "debezium-json"}, **parts)

    return open_lake


@pytest.mark.parametrize("how", ["merge-on-read", pytest.param("copy-on-write", marks=pytest.mark.slow)])
def test_the_table_has_what_the_database_has_after_every_kind_of_change(
    source: Source, lake: Callable[..., Lake], how: str
) -> None:
    source.execute(ORDERS)
    source.execute(f"""{INSERT} SELECT n, 'eu', n * 1.01, timestamptz '2026-01-01' + n * interval '1 hour', date '2026-01-01' + n,
        CASE WHEN n % 3 = 0 THEN {LARGE} END, jsonb_build_object('n', n) FROM generate_series(1, 20) AS n""")
    source.follow()
    orders = lake("orders", **DECLARED, properties={"write.update.mode": how}, partition_by=["bucket(2, id)"])
    assert_same(orders, source, "orders", COLUMNS, FOUND)

    for changes in (
        f"{INSERT} VALUES (100, 'us', -0.01, '1969-12-31 23:59:59.999999+00', '0001-01-01', 'é 漢 😀', '{{\"a\": [1, null]}}')",
        "UPDATE orders SET amount = amount + 1, placed = NULL WHERE id < 5",
        "DELETE FROM orders WHERE id IN (5, 6)",
        "UPDATE orders SET id = 107 WHERE id = 7",  # another bucket, another key
        "UPDATE orders SET region = 'us' WHERE id = 9",  # its body is not sent: it stands in the row of the old key
        "UPDATE orders SET done = true WHERE body IS NOT NULL",  # nor is any of theirs
        f"DELETE FROM orders WHERE id = 1; {INSERT} VALUES (1, 'eu', 5, NULL, NULL, {LARGE}, NULL);"
        "UPDATE orders SET amount = 6 WHERE id = 1; DELETE FROM orders WHERE id = 1;"
        f"{INSERT} VALUES (1, 'eu', 7, NULL, NULL, 'last', NULL)",
        "UPDATE orders SET id = 112 WHERE id = 12; UPDATE orders SET done = false WHERE id = 112; UPDATE orders SET id = 12 WHERE id = 112",
        f"BEGIN; {INSERT} VALUES (500, 'eu', 5, NULL, NULL, 'gone', NULL); ROLLBACK",
        "UPDATE orders SET id = -id; UPDATE orders SET id = 1 - id",
    ):
        source.execute(changes)
        assert_same(orders, source, "orders", COLUMNS, FOUND)
    orders.refold(*{orders.key(clock_ms() - ago) for ago in (0, HOUR_MS)})
    assert_same(orders, source, "orders", COLUMNS, FOUND)

    source.execute(f"TRUNCATE orders; {INSERT} VALUES (1, 'eu', 1, NULL, NULL, {LARGE}, NULL)")
    assert_same(orders, source, "orders", COLUMNS, FOUND)
    source.execute("UPDATE orders SET done = true; TRUNCATE orders")
    assert_same(orders, source, "orders", COLUMNS, FOUND)
    assert orders.quarantined() == []
    assert orders.lag() == 0


@contextmanager
def restless(source: Source) -> Iterator[Callable[[], None]]:
    """Rows that change all the time; what it gives returns when some more have."""
    stop, done, rng = Event(), 0, random.Random(7)

    def change() -> None:
        nonlocal done
        while not stop.wait(0.01):
            key, other = rng.randint(1, 60), rng.randint(1, 60)
            with suppress(psycopg2.OperationalError, psycopg2.errors.UniqueViolation):  # the server may be dead, a key taken
                source.execute(rng.choice((
                    f"UPDATE orders SET amount = coalesce(amount, 0) + 1, done = NOT done WHERE id = {key}",
                    f"DELETE FROM orders WHERE id = {key}",
                    f"{INSERT} VALUES ({key}, 'eu', 0, now(), NULL, {LARGE}, NULL)",
                    f"UPDATE orders SET id = {other} WHERE id = {key}",
                )))  # fmt: skip
                done += 1

    def await_more() -> None:
        enough = done + 20
        wait_until(lambda: done >= enough, 30)

    thread = Thread(target=change)
    thread.start()
    try:
        yield await_more
    finally:
        stop.set()
        thread.join()


def commit_once(table: Lake) -> None:
    """A run that ends with its next commit, for the changes do not."""
    commits = len(table.reports)
    table.ingest(stop=lambda: len(table.reports) > commits)


@pytest.mark.slow
@pytest.mark.parametrize("who", ["connect", "database"])
def test_whoever_is_killed_while_rows_change_the_table_has_what_the_database_has(
    source: Source, lake: Callable[..., Lake], database: PostgresServer, connect: LocalConnect, who: str
) -> None:
    # By default a change that is sent again after its row has gone lacks a large value that nobody has any more.
    source.execute(f"{ORDERS}; ALTER TABLE orders REPLICA IDENTITY FULL")
    source.follow()
    orders = lake("orders", **DECLARED)
    victim = {"connect": connect, "database": database}[who]
    with restless(source) as await_more:
        source.await_position()
        await_more()
        source.settle()
        commit_once(orders)
        victim.kill()
        victim.start()
        if who == "connect":
            source.follow_again()  # what it had sent since it last noted its position comes again
        await_more()
        commit_once(orders)

    assert_same(orders, source, "orders", COLUMNS, FOUND)
    assert orders.quarantined() == []


def test_a_snapshot_that_is_taken_while_rows_change_undoes_none_of_the_changes(
    source: Source, lake: Callable[..., Lake]
) -> None:
    # By default a row that changes while its chunk is read is sent as the change alone, without the large value.
    source.execute(f"{ORDERS}; ALTER TABLE orders REPLICA IDENTITY FULL")
    source.execute("CREATE TABLE signals (id text PRIMARY KEY, type text NOT NULL, data text)")
    source.execute(f"{INSERT} SELECT n, 'eu', n, now(), NULL, {LARGE}, NULL FROM generate_series(1, 60) AS n")
    source.follow(snapshot_mode="no_data", signal_data_collection="public.signals", incremental_snapshot_chunk_size="7")
    orders = lake("orders", **DECLARED)
    with restless(source) as await_more:
        await_more()
        wanted = '{"data-collections": ["public.orders"], "type": "incremental"}'
        source.execute("INSERT INTO signals VALUES ('one', 'execute-snapshot', %s)", [wanted])
        await_more()
        source.settle()
        commit_once(orders)
        await_more()
    wait_until(lambda: source.execute("SELECT count(*) FROM signals WHERE type = 'snapshot-window-close'") >= [(5,)], 30)

    assert_same(orders, source, "orders", COLUMNS, FOUND)
    assert orders.quarantined() == []


def test_a_column_that_is_added_while_changes_come_is_in_the_table_from_when_it_is_declared_and_before_after_a_replay(
    source: Source, lake: Callable[..., Lake]
) -> None:
    source.execute(f"{ORDERS}; {INSERT} VALUES (1, 'eu', 1, NULL, NULL, {LARGE}, NULL), (2, 'eu', 2, NULL, NULL, NULL, NULL)")
    source.follow()
    orders = lake("orders", **DECLARED)
    assert_same(orders, source, "orders", COLUMNS, FOUND)

    source.execute("ALTER TABLE orders ADD COLUMN weight int; UPDATE orders SET weight = 10 * id")
    assert_same(orders, source, "orders", COLUMNS, FOUND)
    columns = [*DECLARED["schema"], {"name": "weight", "type": "int"}]
    orders.spec = make_spec(orders.topic, source={"format": "debezium-json"}, **{**DECLARED, "schema": columns})
    source.execute(f"UPDATE orders SET weight = 11 WHERE id = 1; {INSERT} VALUES (3, 'eu', 3, NULL, NULL, NULL, NULL)")
    assert_same(orders, source, "orders WHERE id <> 2", f"{COLUMNS}, weight", f"{FOUND}, weight")

    orders.refold(*{orders.key(clock_ms() - ago) for ago in (0, HOUR_MS)})
    assert_same(orders, source, "orders", f"{COLUMNS}, weight", f"{FOUND}, weight")
