"""A table of many changes is what plain SQL over the raw messages says that it must be: an oracle of a few lines."""

import random
from collections.abc import Callable

import duckdb
import pyarrow as pa
import pytest

from lakehouse_assets_tests import judge
from lakehouse_assets_tests.change_streams import COLUMNS, PLACEHOLDER, Row, Sent, Shop, fold, is_bad
from lakehouse_assets_tests.operations.lake import Lake, hours_ago

pytestmark = pytest.mark.kafka

MakeLake = Callable[..., Lake]
PARTITIONS = 3

# Of plain rows and of Debezium's alike. A value that a change leaves out is the last one since the row came into being.
ORACLE = f"""
    WITH messages AS (
        SELECT p, o, value, CAST(key ->> 'id' AS BIGINT) AS key, value ->> 'op' AS op FROM raw
        WHERE value IS NULL OR json_valid(value)
    ), changes AS (
        SELECT p, o, value IS NULL OR coalesce(op = 'd', false) AS is_delete, key,
            CASE WHEN op IS NULL THEN CAST(value AS JSON) ELSE (value -> 'after') END AS row
        FROM messages
    ), lives AS (
        SELECT *, CASE WHEN is_delete THEN key ELSE CAST(row ->> 'id' AS BIGINT) END AS id, row ->> 'name' AS name,
            count(*) FILTER (is_delete) OVER (PARTITION BY p, id ORDER BY o) AS life
        FROM changes WHERE is_delete OR (row -> 'n') IS NOT NULL
    ), filled AS (
        SELECT *, last_value(CASE WHEN name IS DISTINCT FROM '{PLACEHOLDER}' THEN struct_pack(name := name) END IGNORE NULLS)
            OVER (PARTITION BY p, id, life ORDER BY o) AS kept
        FROM lives WHERE id IS NOT NULL
    )
    SELECT id, kept.name, CAST(row ->> 'n' AS BIGINT), p, o FROM filled
    QUALIFY row_number() OVER (PARTITION BY p, id ORDER BY o DESC) = 1 AND NOT is_delete ORDER BY ALL
"""


def ask_oracle(sent: list[Sent]) -> list[tuple[object, ...]]:
    """Rows of the table, by SQL over the messages."""
    columns = {
        "p": [one.partition for one in sent],
        "o": [one.offset for one in sent],
        "key": [one.message.key and one.message.key.decode() for one in sent],
        "value": [one.message.value and one.message.value.decode() for one in sent],
    }
    return duckdb.connect().register("raw", pa.table(columns)).execute(ORACLE).fetchall()


def send_changes(table: Lake, shop: Shop, events: int) -> list[Sent]:
    """What happens in the shop, in its topic."""
    sent: list[Sent] = []
    stamp = hours_ago(0)
    waiting: dict[int, list] = {p: [] for p in range(shop.partitions)}  # type: ignore[type-arg]
    for _ in range(events):
        for p, messages in shop.happen():
            waiting[p] += messages
    for p, messages in waiting.items():
        offsets = table.broker.send(table.topic, messages, p, stamp)
        sent += [Sent(p, offset, stamp, message) for offset, message in zip(offsets, messages, strict=True)]
    return sent


@pytest.mark.parametrize("mode", ["merge-on-read", "copy-on-write"])
@pytest.mark.parametrize("kind", ["json", "debezium-json"])
def test_a_table_of_many_changes_is_what_sql_makes_of_the_raw_messages(lake: MakeLake, kind: str, mode: str) -> None:
    properties = {f"write.{verb}.mode": mode for verb in ("update", "delete", "merge")}
    declared = {"schema": COLUMNS, "source": {"format": kind}, "mode": "upsert", "key": ["id"], "partition_by": ["bucket(4, id)"]}
    table = lake(PARTITIONS, **declared, properties=properties)
    shop = Shop(random.Random(7), kind, PARTITIONS, keys=100, rekeys_whole=True)

    sent: list[Sent] = []
    for _ in range(4):
        fresh = send_changes(table, shop, 800)
        sent += fresh
        table.reopened().ingest()

    rows = judge.query(table.table, "SELECT id, name, n, _kafka_partition, _kafka_offset FROM {table} ORDER BY ALL")
    assert rows == ask_oracle(sent)
    assert table.quarantined() == sorted((one.partition, one.offset) for one in sent if is_bad(one.message))


def test_the_two_oracles_agree() -> None:
    shop = Shop(random.Random(7), "debezium-json", PARTITIONS, keys=100, rekeys_whole=True)
    sent: list[Sent] = []
    stops = [0] * PARTITIONS
    for _ in range(3000):
        for p, messages in shop.happen():
            sent += [Sent(p, stops[p] + i, 0, message) for i, message in enumerate(messages)]
            stops[p] += len(messages)

    folded = fold(sent)

    assert {key: Row(*values) for key, *values in ask_oracle(sent)} == folded  # type: ignore[misc, arg-type]
    assert {key: (row.name, row.n) for key, row in folded.items()} == shop.rows
