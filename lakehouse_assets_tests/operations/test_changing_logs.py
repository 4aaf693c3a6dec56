"""Logs that change under a table: cut short, compacted, held back by an open transaction."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.model.errors import (
    OffsetsExpiredError,
    SliceIncompleteError,
    TopicReplacedError,
    TopicTruncatedError,
)
from lakehouse_assets_tests import ports
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import HOUR_MS, make_message
from lakehouse_assets_tests.operations.lake import Lake, clock_ms, hours_ago
from lakehouse_assets_tests.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("changing_logs")]

_COMPACTED = {
    "cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "0",
}  # fmt: skip

_EXPIRING = {"retention.ms": "-1", "segment.ms": "100"}


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """A broker that cleans its logs at once, and whose files may be cut."""
    eager = {"log.cleaner.backoff.ms": "100", "log.initial.task.delay.ms": "100", "log.retention.check.interval.ms": "100"}
    with LocalKafka(tmp_path_factory.mktemp("own"), port=ports.port_of(ports.CHANGING_LOGS), settings=eager) as kafka:
        yield kafka


@pytest.fixture
def own_lake(own_kafka: LocalKafka, tmp_path: Path) -> Callable[..., Lake]:
    """`own_lake(topic, **settings)` opens the table of a new topic of that broker."""

    def open_lake(topic: str, **settings: str) -> Lake:
        broker = Broker(own_kafka.bootstrap_servers)
        return Lake.open(tmp_path, broker, broker.create_topic(topic, settings=settings))

    return open_lake


def test_a_log_that_lost_its_end_stops_the_table_until_it_is_rolled_back(
    own_kafka: LocalKafka, own_lake: Callable[..., Lake]
) -> None:
    table = own_lake("cut_short")
    segment = own_kafka.folder / "data" / "cut_short-0" / f"{0:020}.log"
    table.produce(10)
    kept_bytes = segment.stat().st_size
    table.ingest()
    table.produce(10)
    table.ingest()

    cut(own_kafka, segment, kept_bytes)
    with pytest.raises(TopicTruncatedError, match="cut_short-0: the table holds offsets up to 19, .* it ends at 10"):
        table.reopened().lag()
    wait_until(lambda: Broker(own_kafka.bootstrap_servers).produce(table.topic, [make_message(5)]) == [10], 30)
    stopped = table.reopened()
    with pytest.raises(TopicTruncatedError):
        stopped.ingest(stop=lambda: bool(stopped.retries))
    assert len(table.positions()) == 20

    table.table.manage_snapshots().rollback_to_snapshot(table.reports[0].snapshot_id).commit()
    table.reopened().ingest()
    table.assert_holds({0: list(range(11))})


def test_a_compacted_log_gives_what_is_left_of_it(own_lake: Callable[..., Lake]) -> None:
    table = own_lake("compacted", **_COMPACTED)
    for i in range(10):
        table.broker.produce(table.topic, [make_message(i)], key=f"key {i % 3}")
    left = compact(table)

    table.ingest()

    assert 0 < len(left) < 10
    table.assert_holds({0: left}, lag=0)


def test_a_slice_that_the_table_has_whole_and_the_compacted_log_not_is_not_replaced(own_lake: Callable[..., Lake]) -> None:
    table = own_lake("compacted_later", **_COMPACTED)
    for i in range(10):
        table.broker.produce(table.topic, [make_message(i)], key=f"key {i % 3}")
    hour = table.key(clock_ms())
    table.ingest()
    held = table.positions()
    compact(table)

    with pytest.raises(SliceIncompleteError, match="Nothing was deleted"):
        table.replace(hour)

    assert table.positions()[: len(held)] == held


@pytest.mark.parametrize("ending", ["commit", "abort"])
def test_an_open_transaction_holds_back_what_follows_it_in_its_log_alone_until_it_ends(
    lake: Callable[..., Lake], ending: str
) -> None:
    table = lake(topic_partitions=2)
    table.broker.produce_in_transaction(table.topic, [make_message(-1)], abort=True)  # offset 0, and its control record 1
    table.produce(5)
    producer, open_offsets = table.broker.begin_transaction(table.topic, [make_message(5)])
    table.produce(5)
    table.produce(5, partition=1)

    table.ingest()
    table.assert_holds({0: list(range(2, 7)), 1: list(range(5))})
    if ending == "commit":
        producer.commit_transaction(30)
    else:
        producer.abort_transaction(30)
    rowless = table.ingest().rowless

    left = open_offsets if ending == "commit" else []
    table.assert_holds({0: [*range(2, 7), *left, *range(8, 13)], 1: list(range(5))}, lag=table.lag())
    assert table.lag(rowless) == 0


def test_what_retention_took_before_the_table_had_it_stops_the_table_and_names_it(own_lake: Callable[..., Lake]) -> None:
    table = own_lake("expiring", **_EXPIRING)
    table.produce(10, timestamp_ms=hours_ago(3))
    table.ingest()
    table.produce(10, timestamp_ms=hours_ago(2))
    expire_log(table, 20)

    with pytest.raises(OffsetsExpiredError, match="-0 offsets 10 to 19 "):
        table.reopened().ingest()

    assert table.positions() == [(0, offset) for offset in range(10)]


def test_what_retention_took_after_the_table_had_it_is_no_matter(own_lake: Callable[..., Lake]) -> None:
    table = own_lake("expired", **_EXPIRING)
    table.produce(10, timestamp_ms=hours_ago(2))
    table.ingest()
    newer = expire_log(table, 10)

    table.reopened().ingest()

    table.assert_holds({0: list(range(10 + newer))})


def test_retention_between_plan_and_reading_is_an_error_with_both_ends(lake: Callable[..., Lake]) -> None:
    table = lake()
    table.produce(10)
    source, log = table.systems.source, table.log()

    table.broker.delete_records(table.topic, {0: 7})
    with source.reader(table.spec.table, {log: (0, None)}) as reader, pytest.raises(OffsetsExpiredError, match="offsets 0 to 6 "):
        reader.read(30.0)


def test_another_cluster_with_a_topic_of_that_name_is_another_topic(
    own_kafka: LocalKafka, lake: Callable[..., Lake]
) -> None:
    table = lake()
    table.produce(10)
    table.ingest()
    other = Broker(own_kafka.bootstrap_servers)
    other.produce(other.create_topic(table.topic), [make_message(i) for i in range(20)])
    table.broker = other

    with pytest.raises(TopicReplacedError):
        table.reopened().ingest()

    assert len(table.positions()) == 10


def cut(kafka: LocalKafka, segment: Path, size_bytes: int) -> None:
    """Take the end of a log away, as a disk does that was restored from yesterday."""
    kafka.stop()
    with segment.open("r+b") as log:
        log.truncate(size_bytes)
    for derived in (*segment.parent.glob("*.index"), *segment.parent.glob("*.timeindex"), *segment.parent.glob("*.snapshot")):
        derived.unlink()
    (kafka.folder / "data" / ".kafka_cleanshutdown").unlink(missing_ok=True)
    kafka.start()


def expire_log(table: Lake, until: int) -> int:
    """Wait for the broker itself to drop the messages of hours ago, which end at `until`; how many newer ones there are."""
    table.broker.configure(table.topic, "retention.ms", str(HOUR_MS))
    newer = 0

    def is_gone() -> bool:
        nonlocal newer
        newer += len(table.produce(1))  # only a closed segment expires
        return table.systems.source.read_bounds(table.spec.table, [table.log()])[table.log()].low >= until

    wait_until(is_gone, 60)
    return newer


def compact(table: Lake) -> list[int]:
    """Produce until the broker has thrown values away that have a newer one; the offsets that are left, once they stay."""
    left: list[int] = []
    before = len(read_offsets(table))

    def is_compacted() -> bool:
        nonlocal left
        table.broker.produce(table.topic, [make_message()], key="last")  # only a closed segment is cleaned
        time.sleep(0.2)
        left = read_offsets(table)
        return len(left) < before and left == read_offsets(table)

    wait_until(is_compacted, 60)
    return left


def read_offsets(table: Lake) -> list[int]:
    """The offsets at which Kafka has a message now."""
    source, name = table.systems.source, table.spec.table
    bounds = source.read_bounds(name, [table.log()])[table.log()]
    offsets: list[int] = []
    with source.reader(name, {table.log(): (bounds.low, bounds.stop)}) as reader:
        while not reader.is_finished:
            offsets += reader.read(1.0).offsets.tolist()
    return offsets
