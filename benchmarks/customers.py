"""Customers of ten columns, as rows of a table and as the changes that Debezium sends of them, about 690 bytes each."""

import random
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.clicks import COUNTRIES

SCHEMA = [
    {"name": "id", "type": "long", "required": True},
    {"name": "name", "type": "string"},
    {"name": "email", "type": "string"},
    {"name": "status", "type": "string"},
    {"name": "balance", "type": "double"},
    {"name": "city", "type": "string"},
    {"name": "country", "type": "string"},
    {"name": "updated_at", "type": "long"},
    {"name": "notes", "type": "string"},
    {"name": "active", "type": "boolean"},
]
STATUSES = ["new", "regular", "premium", "blocked"]
T0_MS = 1_790_000_000_000
_INSERTS, _DELETES = 0.20, 0.05


def build_rows(ids: "np.ndarray[tuple[int], np.dtype[np.int64]]", version: int, seed: int = 7) -> pa.Table:
    """One row for each id; another version has other values."""
    rng = np.random.default_rng([seed, version])
    n = len(ids)

    def text(numbers: object) -> pa.Array:
        return pc.cast(pa.array(numbers), pa.string())

    def join(*parts: object) -> pa.Array:
        return pc.binary_join_element_wise(*parts, "")

    rows = pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "name": join("Customer ", text(ids), f" v{version}"),
            "email": join("user", text(ids), "@example.com"),
            "status": pa.array(np.array(STATUSES)[rng.integers(0, len(STATUSES), n)]),
            "balance": np.round(rng.random(n) * 10_000, 2),
            "city": join("City-", text(rng.integers(0, 5_000, n))),
            "country": pa.array(np.array(COUNTRIES)[rng.integers(0, len(COUNTRIES), n)]),
            "updated_at": pa.array(np.full(n, T0_MS + version)),
            "notes": join("n", text(rng.integers(10**15, 10**16, n))),
            "active": pa.array(rng.random(n) < 0.9),
        }
    )
    return rows.cast(rows.schema.set(0, pa.field("id", pa.int64(), nullable=False)))


def generate_changes(count: int, keys: int, first_key: int = 0, seed: int = 9) -> Iterator[tuple[int, bytes, bytes]]:
    """Id, key and value of `count` changes of `keys` customers: three quarters updates, a fifth inserts, the rest deletes."""
    rng = random.Random(seed)  # noqa: S311 - test data
    for i in range(count):
        key, drawn = first_key + rng.randrange(keys), rng.random()
        op = "d" if drawn < _DELETES else "c" if drawn < _DELETES + _INSERTS else "u"
        before = "null" if op == "c" else _customer(rng, key, i - 1)
        after = "null" if op == "d" else _customer(rng, key, i)
        value = (
            f'{{"before":{before},"after":{after},"source":{{"version":"3.6.3.Final","connector":"postgresql","name":"shop",'
            f'"ts_ms":{T0_MS + i},"snapshot":"false","db":"shop","sequence":"[\\"{i * 8}\\",\\"{i * 8 + 4}\\"]",'
            f'"schema":"public","table":"customers","txId":{5000 + i // 10},"lsn":{10_000_000 + i},"xmin":null}},'
            f'"transaction":null,"op":"{op}","ts_ms":{T0_MS + i + 5}}}'
        )
        yield key, f'{{"id":{key}}}'.encode(), value.encode()


def _customer(rng: random.Random, key: int, version: int) -> str:
    return (
        f'{{"id":{key},"name":"Customer {key} v{version}","email":"user{key}@example.com","status":"{rng.choice(STATUSES)}",'
        f'"balance":{rng.randrange(1_000_000) / 100},"city":"City-{rng.randrange(5_000)}","country":"{rng.choice(COUNTRIES)}",'
        f'"updated_at":{T0_MS + version},"notes":"n{rng.getrandbits(64):016x}",'
        f'"active":{"true" if rng.random() < 0.9 else "false"}}}'
    )


def fill_topic_with_changes(servers: str, topic: str, count: int, keys: int, partitions: int, first_key: int = 0) -> float:
    """Create a topic and produce changes; all of one customer to one topic partition. Their mean size in bytes."""
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(30)
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 50, "batch.size": 1_000_000})
    size = 0
    for customer, key, value in generate_changes(count, keys, first_key):
        size += len(value)
        while True:
            try:
                producer.produce(topic, value, key, customer % partitions)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()
    return size / count
