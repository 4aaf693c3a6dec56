"""The audit behind the checks: what others did to the rows is named offset by offset, and gaps of the topic are no loss."""

from collections.abc import Callable

import pytest

from lakehouse_assets.model.offsets import NO_OFFSETS, TopicRanges
from lakehouse_assets.operations import audit, rereading
from lakehouse_assets.operations.status import read_status
from lakehouse_assets_tests.builders import make_message
from lakehouse_assets_tests.operations.lake import Lake, hours_ago

pytestmark = pytest.mark.kafka

MakeLake = Callable[..., Lake]


def read_lost(table: Lake, found: audit.PositionAudit) -> TopicRanges:
    return read_stamped(table, found).offsets


def read_stamped(table: Lake, found: audit.PositionAudit) -> audit.StampedOffsets:
    return audit.read_lost(table.systems, table.spec, found.gaps, read_status(table.systems, table.spec).bounds)


def test_a_row_that_somebody_deleted_is_lost_and_named(lake: MakeLake) -> None:
    table = lake(topic_partitions=2)
    table.produce(10)
    table.produce(10, partition=1)
    table.ingest()
    table.table.delete("(_kafka_partition = 1 and _kafka_offset >= 7) or (_kafka_partition = 0 and _kafka_offset = 2)")

    found = audit.audit_positions(table.table, table.ledger)

    assert found.row_count == 16
    assert read_lost(table, found) == table.ranges({0: [(2, 3)], 1: [(7, 10)]})


def test_a_row_that_somebody_appended_again_is_twice_there(lake: MakeLake) -> None:
    table = lake()
    table.produce(10)
    table.ingest()
    table.table.append(table.table.scan("_kafka_offset >= 4 and _kafka_offset < 6").to_arrow())

    found = audit.audit_positions(table.table, table.ledger)

    assert found.duplicates == table.ranges({0: [(4, 6)]})
    assert found.gaps == NO_OFFSETS


def test_the_times_of_lost_and_doubled_messages_are_told(lake: MakeLake) -> None:
    table = lake()
    times = [hours_ago(5) + i for i in range(10)]
    table.produce(10, timestamp_ms=times)
    table.ingest()
    table.table.append(table.table.scan("_kafka_offset >= 7").to_arrow())
    table.table.delete("_kafka_offset < 3")

    found = audit.audit_positions(table.table, table.ledger)

    assert read_stamped(table, found).stamps_ms == (times[0], times[2])
    assert audit.stamp_duplicates(table.table, table.ledger, found.duplicates).stamps_ms == (times[7], times[9])
    assert audit.stamp_duplicates(table.table, table.ledger, NO_OFFSETS).stamps_ms is None


def test_control_records_aborted_messages_and_tombstones_are_gaps_of_the_topic(lake: MakeLake) -> None:
    table = lake()
    table.broker.produce_in_transaction(table.topic, [make_message(0)] * 2)  # 0, 1 and a control record
    table.broker.produce_in_transaction(table.topic, [make_message(0)] * 2, abort=True)  # 3 to 5
    table.broker.produce(table.topic, [None, make_message(0)])  # 6 and 7
    table.ingest()

    found = audit.audit_positions(table.table, table.ledger)

    assert found.gaps == table.ranges({0: [(2, 7)]})
    assert read_lost(table, found) == NO_OFFSETS


@pytest.mark.parametrize("near_offsets", [2, 20_000])
def test_of_many_gaps_the_one_that_is_a_loss_is_told(
    lake: MakeLake, monkeypatch: pytest.MonkeyPatch, near_offsets: int
) -> None:
    monkeypatch.setattr(rereading, "_NEAR_OFFSETS", near_offsets)
    table = lake(topic_partitions=2)
    for _ in range(4):
        table.broker.produce_in_transaction(table.topic, [make_message(0)] * 4)  # 0..3, control record 4, 5..8, ...
    table.produce(3, partition=1)
    table.ingest()
    table.table.delete("_kafka_partition = 0 and _kafka_offset = 11")

    found = audit.audit_positions(table.table, table.ledger)

    assert found.gaps == table.ranges({0: [(4, 5), (9, 10), (11, 12), (14, 15), (19, 20)]})
    assert read_lost(table, found) == table.ranges({0: [(11, 12)]})


def test_only_the_newest_offsets_are_looked_at(lake: MakeLake) -> None:
    table = lake()
    table.produce(10)
    table.ingest()
    table.table.delete("_kafka_offset = 2 or _kafka_offset = 8")

    found = audit.audit_positions(table.table, table.ledger, window=5)

    assert (found.row_count, found.gaps) == (4, table.ranges({0: [(8, 9)]}))
