"""Several topics, or a pattern of them, in one table: each row says where it is from, and each topic is exact by itself."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from lakehouse_assets.model.errors import (
    OffsetsExpiredError,
    TopicGoneError,
    TopicMissingError,
    TopicReplacedError,
)
from lakehouse_assets.operations.accepting import run_accept_loss
from lakehouse_assets.operations.audit import audit_positions
from lakehouse_assets_tests import faults, judge
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import make_message
from lakehouse_assets_tests.faults import EFFECTS, Crash, Fault
from lakehouse_assets_tests.operations.lake import Lake, clock_ms, hours_ago

pytestmark = pytest.mark.kafka

MakeTopic = Callable[..., str]
BAD = b'{"id": "no number"}'


@pytest.fixture
def lake(tmp_path: Path, broker: Broker) -> Callable[..., Lake]:
    """`lake(topics=[...])` or `lake(topic_pattern=...)` opens a table of topics that are there."""

    def open_lake(folder: str = "lake", *, declaration: Mapping[str, object] | None = None, **source: object) -> Lake:
        return Lake.open(tmp_path / folder, broker, "", source={"topic": None, **source}, **(declaration or {}))

    EFFECTS.arm(None)
    return open_lake


def held(table: Lake) -> dict[str, list[tuple[int, int]]]:
    """Partition and offset of every row, by topic, as DuckDB finds them."""
    rows = judge.query(table.table, "SELECT _kafka_topic, _kafka_partition, _kafka_offset FROM {table} ORDER BY ALL")
    found: dict[str, list[tuple[int, int]]] = {}
    for topic, partition, offset in rows:
        found.setdefault(str(topic), []).append((partition, offset))  # type: ignore[arg-type]
    return found


def put(table: Lake, topic: str, count: int, partition: int = 0, **how: object) -> None:
    table.broker.produce(topic, [make_message(i) for i in range(count)], partition=partition, **how)  # type: ignore[arg-type]


def assert_exact(table: Lake, rows: Mapping[str, list[tuple[int, int]]]) -> None:
    """The rows are these; ledger and lag agree."""
    assert held(table) == {topic: positions for topic, positions in rows.items() if positions}
    audit = audit_positions(table.table, table.ledger, table.quarantine)
    assert not audit.duplicates
    assert not audit.unledgered
    assert table.lag() == 0


def numbers(count: int, partition: int = 0, start: int = 0) -> list[tuple[int, int]]:
    return [(partition, offset) for offset in range(start, start + count)]


def test_rows_of_several_topics_say_which_they_are_from(lake: Callable[..., Lake], topic: MakeTopic) -> None:
    one, two = topic(2), topic(1)
    table = lake(topics=[one, two])
    put(table, one, 5)
    put(table, one, 3, partition=1)
    put(table, two, 4)

    result = table.ingest()
    put(table, two, 2)
    table.reopened().ingest()

    assert result.commits == 1
    assert_exact(table, {one: numbers(5) + numbers(3, 1), two: numbers(6)})


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_hour_is_replaced_in_all_topics_in_one_snapshot(
    lake: Callable[..., Lake], topic: MakeTopic, workers: int
) -> None:
    one, two = topic(), topic()
    table = lake(topics=[one, two], declaration={"workers": workers})
    for hour in (2, 1, 0):
        put(table, one, 3, timestamp_ms=hours_ago(hour))
        put(table, two, 2, timestamp_ms=hours_ago(hour))
    table.ingest()
    before = len(table.table.snapshots())

    table.reopened().replace(table.key(hours_ago(1)))

    assert len(table.table.snapshots()) == before + 1
    assert_exact(table, {one: numbers(9), two: numbers(6)})


def test_a_hole_in_one_topic_is_filled_by_its_hour_alone(lake: Callable[..., Lake], topic: MakeTopic) -> None:
    """Equal partition and offset in another topic must not be mistaken for it."""
    one, two = topic(), topic()
    table = lake(topics=[one, two])
    put(table, one, 3, timestamp_ms=hours_ago(1))
    put(table, two, 3, timestamp_ms=hours_ago(3))
    table.ingest()
    table.table.delete(f"_kafka_topic = '{one}' and _kafka_offset = 1")
    assert held(table)[one] == [(0, 0), (0, 2)]

    table.reopened().replace(table.key(hours_ago(1)))

    assert_exact(table, {one: numbers(3), two: numbers(3)})


def test_bad_messages_of_equal_offsets_in_two_topics_are_both_kept(lake: Callable[..., Lake], topic: MakeTopic) -> None:
    one, two = topic(), topic()
    table = lake(topics=[one, two])
    for name in (one, two):
        table.broker.produce(name, [make_message(0), BAD])

    table.ingest()
    table.reopened().replace(table.key(hours_ago(0)))

    assert table.quarantine is not None
    rows = judge.query(table.quarantine, 'SELECT topic, "partition", "offset" FROM {table} ORDER BY ALL')
    assert rows == sorted([(one, 0, 1), (two, 0, 1)])
    assert_exact(table, {one: numbers(1), two: numbers(1)})


def test_a_topic_that_begins_to_match_joins_from_its_oldest_message(lake: Callable[..., Lake], topic: MakeTopic) -> None:
    one = topic()
    table = lake(topic_pattern=f"{one}.*", start="latest")
    put(table, one, 3)
    table.ingest()
    put(table, one, 2)
    table.reopened().ingest()
    assert_exact(table, {one: numbers(2, start=3)})

    two = table.broker.create_topic(f"{one}_later")
    put(table, two, 4)
    assert table.reopened().lag() == 4
    table.reopened().ingest()

    assert_exact(table, {one: numbers(2, start=3), two: numbers(4)})


def test_a_topic_that_joined_begins_where_it_did_also_after_a_rollback(lake: Callable[..., Lake], topic: MakeTopic) -> None:
    one = topic()
    table = lake(topic_pattern=f"{one}.*")
    put(table, one, 3)
    table.ingest()
    first = table.table.current_snapshot()
    assert first is not None
    two = table.broker.create_topic(f"{one}_later")
    put(table, two, 4)
    table.reopened().ingest()

    table.table.manage_snapshots().rollback_to_snapshot(first.snapshot_id).commit()
    table.broker.delete_records(two, {0: 2})

    with pytest.raises(OffsetsExpiredError, match=f"{two}-0 offsets 0 to 1"):
        table.reopened().ingest()


def test_a_pattern_without_topics_and_a_topic_that_is_gone_are_errors(lake: Callable[..., Lake], topic: MakeTopic) -> None:
    one = topic()
    other = f"{one}_b"
    table = lake(topic_pattern=f"{one}.*")
    nothing = lake("nothing", topic_pattern=f"{one}_none_.*")
    with pytest.raises(TopicMissingError, match="_none_"):
        nothing.ingest()

    table.broker.create_topic(other)
    put(table, one, 1)
    put(table, other, 1)
    table.ingest()
    table.broker.delete_topic(other)

    with pytest.raises(TopicGoneError, match=other):
        table.reopened().ingest()

    run_accept_loss(table.systems, table.spec, "tenant left", other, clock_ms)
    put(table, one, 1)
    table.reopened().ingest()
    assert held(table) == {one: numbers(2), other: numbers(1)}

    table.broker.create_topic(other)
    with pytest.raises(TopicReplacedError, match=other):
        table.reopened().ingest()


def test_a_crash_around_the_commit_leaves_every_topic_exact(
    lake: Callable[..., Lake], topic: MakeTopic, tmp_path: Path
) -> None:
    one, two = topic(), topic()
    table = lake(topics=[one, two])
    put(table, one, 3)
    put(table, two, 3)

    for when in ("before", "after"):
        EFFECTS.arm(Fault("commit", when, faults.crash))  # type: ignore[arg-type]
        with pytest.raises(Crash):
            table.reopened().ingest()
        EFFECTS.arm(None)
        put(table, two, 1)

    table.reopened().ingest()

    assert_exact(table, {one: numbers(3), two: numbers(5)})


def test_a_table_of_one_topic_takes_a_second_and_goes_back_to_one(lake: Callable[..., Lake], topic: MakeTopic) -> None:
    """Rows from before the column are of the first topic; a table that has it says the topic of every new row."""
    one, two = topic(), topic()
    table = lake(topic=one)
    put(table, one, 3, timestamp_ms=hours_ago(1))
    table.ingest()

    both = lake(topics=[one, two])
    put(both, one, 1)
    put(both, two, 2, timestamp_ms=hours_ago(1))
    both.ingest()
    rows = judge.query(both.table, "SELECT _kafka_topic, _kafka_offset FROM {table} ORDER BY ALL NULLS FIRST")
    assert rows == [(None, 0), (None, 1), (None, 2), *sorted([(one, 3), (two, 0), (two, 1)])]
    both.reopened().replace(both.key(hours_ago(1)))
    assert_exact(both, {one: numbers(4), two: numbers(2)})

    again = lake(topic=one)
    put(again, one, 1)
    again.ingest()
    assert_exact(again, {one: numbers(5), two: numbers(2)})
