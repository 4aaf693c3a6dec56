"""Topics of every compression, and messages of 10 MB: all arrive as they were sent, in bounded memory."""

import json
import multiprocessing
import random
import re
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest

from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.model.offsets import TopicPartition
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import make_message
from lakehouse_assets_tests.operations.lake import Lake

pytestmark = pytest.mark.kafka

MakeLake = Callable[..., Lake]

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}  # as they stand in the attributes of a record batch
LARGE = 10_000_000
TAKES_LARGE = {"max.message.bytes": "10500000"}
SENDS_LARGE = {"message.max.bytes": "10500000"}


@cache
def make_text(seed: int, length: int = LARGE) -> str:
    """Text that compresses to about a third, as messages do."""
    some = random.Random(seed)
    words = [some.randbytes(6).hex() for _ in range(5000)]
    return " ".join(some.choices(words, k=length // 13 + 1))[:length]


def codecs_in_log(kafka: LocalKafka, topic: str) -> set[int]:
    """What the broker's own file says of each record batch of topic partition 0."""
    log = (kafka.folder / "data" / f"{topic}-0" / f"{0:020}.log").read_bytes()
    found, at = set(), 0
    while at < len(log):
        found.add(log[at + 22] & 7)
        at += 12 + int.from_bytes(log[at + 8 : at + 12])
    return found


@pytest.mark.parametrize("side", ["producer", "broker"])
@pytest.mark.parametrize("codec", CODECS)
def test_messages_arrive_from_topics_of_every_compression(lake: MakeLake, kafka: LocalKafka, codec: str, side: str) -> None:
    setting = {"compression.type": codec if codec != "none" or side == "producer" else "uncompressed"}
    table = lake(settings=setting if side == "broker" else None)
    values = [make_message(i) for i in range(2000)]
    table.broker.produce(table.topic, [*values, b"nonsense"], client=setting if side == "producer" else {})
    assert codecs_in_log(kafka, table.topic) == {CODECS[codec]}

    table.ingest()

    table.assert_holds({0: list(range(2000))}, bad={0: [2000]})
    rows = judge.query(table.table, "SELECT id, text FROM {table} ORDER BY _kafka_offset")
    assert rows == [(i, f"text {i}") for i in range(2000)]


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_messages_of_10_mb_arrive_whole_the_bad_ones_in_quarantine(lake: MakeLake, codec: str) -> None:
    table = lake(settings=TAKES_LARGE)
    texts = [make_text(seed) for seed in range(2)]
    bad = json.dumps({"id": "no number", "text": texts[0]}).encode()
    cut = json.dumps({"id": 3, "text": texts[1]}).encode()[:-1]
    values = [make_message(0), json.dumps({"id": 1, "text": texts[0]}).encode(), bad, cut, make_message(4)]
    table.broker.produce(table.topic, values, client={**SENDS_LARGE, "compression.type": codec})

    table.ingest()

    table.assert_holds({0: [0, 1, 4]}, bad={0: [2, 3]})
    assert judge.query(table.table, "SELECT sha256(text) FROM {table} WHERE id = 1") == [(digest(texts[0]),)]
    assert table.quarantine is not None
    kept = judge.query(table.quarantine, 'SELECT error_code, sha256("value"), length(error) < 200 FROM {table} ORDER BY "offset"')
    assert kept == [("wrong_type", digest(bad), True), ("invalid_json", digest(cut), True)]


def digest(content: bytes | str) -> str:
    """In DuckDB's spelling."""
    return sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def test_large_messages_are_read_a_few_at_a_time_also_behind_small_ones(
    topic: Callable[..., str], broker: Broker, lake: MakeLake
) -> None:
    name = topic(settings=TAKES_LARGE)
    values = [make_message(i) for i in range(30_000)] + [make_text(0).encode()] * 12 + [make_message(0)]
    broker.produce(name, values, client={**SENDS_LARGE, "compression.type": "lz4"})
    source = lake().systems.source
    sizes: list[tuple[int, int]] = []

    with source.reader("ods.clicks", {TopicPartition(name, 0): (0, len(values))}) as reader:
        while not reader.is_finished:
            batch = reader.read(30.0)
            sizes.append((len(batch), sum(len(value or b"") for value in batch.values)))

    assert sum(count for count, _ in sizes) == len(values)
    assert 20_000 <= max(count for count, _ in sizes) < 20_500
    assert max(size for _, size in sizes) < 200_000_000  # those of one poll, where nothing said yet how large they are
    assert all(size < 60_000_000 for _, size in sizes[3:])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_large_messages(lake: MakeLake) -> None:
    peaks = []
    for count in (15, 60):
        table = lake(settings=TAKES_LARGE)
        values = (json.dumps({"id": i, "text": make_text(i % 3)}).encode() for i in range(count))
        table.broker.produce(table.topic, values, client={**SENDS_LARGE, "compression.type": "zstd"})
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks.append(pool.apply(ingest_and_weigh, (table.folder, table.broker.bootstrap_servers, table.topic)))
        assert judge.query(table.table, "SELECT count(*), sum(length(text)) FROM {table}") == [(count, count * LARGE)]

    assert peaks[1] < min(900, peaks[0] * 1.3), peaks


def ingest_and_weigh(folder: Path, servers: str, topic: str) -> float:
    """Peak memory of this process in MB after a run with a small buffer."""
    Lake.open(folder, Broker(servers), topic, buffer_size="32MiB").ingest()
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024
