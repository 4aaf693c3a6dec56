"""Replacing slices over a real broker: exactly the rows of the slice, once, and never fewer than the table had."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from lakehouse_assets.model.errors import SliceIncompleteError, TopicReplacedError
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import HOUR_MS, append_foreign_rows, make_message, publish_replace
from lakehouse_assets_tests.faults import EFFECTS, Fault
from lakehouse_assets_tests.operations.lake import Lake, hours_ago

pytestmark = pytest.mark.kafka

MakeLake = Callable[..., Lake]

AHEAD = {"message.timestamp.after.max.ms": str(2**62), "message.timestamp.before.max.ms": str(2**62)}


def fill_hours(table: Lake, hours: int = 3, per_hour: int = 10) -> list[str]:
    """Ten messages in each of the last hours, the current one included; their partition keys."""
    begins = [hours_ago(hours - 1 - i) for i in range(hours)]
    for begin in begins:
        table.produce(per_hour, timestamp_ms=begin)
    return [table.key(begin) for begin in begins]


def test_a_slice_replaced_twice_leaves_the_same_rows(lake: MakeLake) -> None:
    table = lake()
    keys = fill_hours(table)
    table.ingest()

    first = table.replace(keys[1])
    second = table.reopened().replace(keys[1])

    assert [report.row_count for report in (first[keys[1]], second[keys[1]]) if report] == [10, 10]
    table.assert_holds({0: list(range(30))})
    assert judge.read_every_snapshot(table.table) == [30, 30, 30]


def test_slices_of_a_table_that_has_nothing_yet_bring_their_rows(lake: MakeLake) -> None:
    table = lake()
    keys = fill_hours(table)

    table.replace(keys[1])
    assert table.positions() == [(0, offset) for offset in range(10, 20)]
    assert table.lag() == 20

    table.reopened().ingest()
    table.assert_holds({0: list(range(30))})


def test_earlier_hours_of_a_table_that_began_at_latest_can_be_added_one_by_one(lake: MakeLake) -> None:
    table = lake(source={"start": "latest"})
    keys = fill_hours(table)  # offsets 0 to 9, 10 to 19, 20 to 29
    table.ingest()  # begins in the middle of the current hour
    table.produce(5)
    table.ingest()
    table.assert_holds({0: list(range(30, 35))})

    table.replace(keys[0])
    table.assert_holds({0: [*range(10), *range(30, 35)]})

    table.replace(keys[2])
    table.assert_holds({0: [*range(10), *range(20, 35)]})


def test_the_current_hour_reaches_to_the_end_of_the_log(lake: MakeLake) -> None:
    table = lake()
    keys = fill_hours(table)
    table.ingest()
    table.produce(5)

    table.replace(keys[-1])

    table.assert_holds({0: list(range(35))})


def test_the_first_partition_reaches_back_to_the_beginning(lake: MakeLake) -> None:
    table = lake(settings=AHEAD, partitions={"every": "hour", "start": "2026-11-01T00:00"})
    table.broker.produce(table.topic, [make_message(i) for i in range(4)], timestamp_ms=1)
    fill_hours(table, 1)

    table.replace("2026-11-01-00:00")

    assert table.positions() == [(0, offset) for offset in range(4)]


def test_slices_that_neither_kafka_nor_the_table_knows_are_done_without_a_snapshot(lake: MakeLake) -> None:
    table = lake()
    fill_hours(table)
    table.ingest()

    heard = table.replace(table.key(hours_ago(100)), table.key(hours_ago(-5)))

    assert list(heard.values()) == [None, None]
    assert len(table.table.snapshots()) == 1


def test_a_day_is_replaced_whole(lake: MakeLake) -> None:
    table = lake(partitions={"every": "day", "start": "2026-11-01"})
    begin = hours_ago(48)
    table.produce(20, timestamp_ms=[begin + i * 2 * HOUR_MS for i in range(20)])
    table.ingest()

    table.replace(*{table.key(begin + i * 2 * HOUR_MS) for i in range(20)})

    table.assert_holds({0: list(range(20))})


def test_the_backfill_of_many_hours_makes_one_snapshot_each(lake: MakeLake) -> None:
    table = lake()
    keys = fill_hours(table, 6, 4)
    table.ingest()

    heard = table.replace(*keys)

    assert sorted(heard) == keys
    assert len(table.table.snapshots()) == 7
    table.assert_holds({0: list(range(24))})


def test_a_backfill_that_is_stopped_in_the_middle_can_be_started_again(lake: MakeLake) -> None:
    table = lake()
    keys = fill_hours(table, 4)
    table.ingest()
    commits = table.systems.catalog.commit_count  # type: ignore[attr-defined]

    heard = table.replace(*keys, stop=lambda: table.systems.catalog.commit_count >= commits + 2)  # type: ignore[attr-defined]
    assert sorted(heard) == keys[:2]

    table.reopened().replace(*keys)
    table.assert_holds({0: list(range(40))})


def test_rows_of_others_are_never_touched_by_a_replace(lake: MakeLake) -> None:
    table = lake()
    keys = fill_hours(table)
    table.ingest()
    append_foreign_rows(table.table, 3)

    table.replace(*keys)

    table.assert_holds({0: list(range(30))}, foreign=3)


def test_a_slice_of_which_kafka_dropped_a_part_is_refused_and_nothing_deleted(lake: MakeLake) -> None:
    table = lake()
    keys = fill_hours(table)
    table.ingest()
    table.broker.delete_records(table.topic, {0: 15})

    with pytest.raises(SliceIncompleteError, match="10 to 14 would be lost") as caught:
        table.replace(keys[1])

    assert caught.value.missing == {table.log(): (10, 15)}
    table.assert_holds({0: list(range(30))})
    assert len(table.table.snapshots()) == 1


def test_that_holds_for_the_current_hour(lake: MakeLake) -> None:
    table = lake()
    keys = fill_hours(table)
    table.ingest()
    table.broker.delete_records(table.topic, {0: 27})

    with pytest.raises(SliceIncompleteError, match="20 to 26 would be lost"):
        table.replace(keys[-1])

    table.assert_holds({0: list(range(30))})


def test_one_slice_that_can_not_be_replaced_refuses_all_that_were_asked_for(lake: MakeLake) -> None:
    table = lake()
    keys = fill_hours(table)
    table.ingest()
    table.broker.delete_records(table.topic, {0: 5})

    with pytest.raises(SliceIncompleteError, match=keys[0]):
        table.replace(*keys)

    assert len(table.table.snapshots()) == 1


@pytest.mark.parametrize("low", [10, 20, 30])
def test_slices_that_kafka_holds_whole_may_be_replaced_after_others_expired(lake: MakeLake, low: int) -> None:
    table = lake()
    keys = fill_hours(table)
    table.ingest()
    table.broker.delete_records(table.topic, {0: low})

    table.replace(*keys[low // 10 :])

    table.assert_holds({0: list(range(30))})


def test_a_slice_of_which_kafka_has_nothing_left_is_refused(lake: MakeLake) -> None:
    table = lake()
    keys = fill_hours(table)
    table.ingest()
    table.broker.delete_records(table.topic, {0: 30})

    with pytest.raises(SliceIncompleteError):
        table.replace(keys[1])

    table.assert_holds({0: list(range(30))})


def test_rows_in_the_middle_that_kafka_does_not_give_again_refuse_the_slice(lake: MakeLake) -> None:
    """As log compaction leaves a topic. The aborted messages stand for compacted ones; their rows are put in by hand."""
    table = lake()
    table.produce(3)
    aborted = table.broker.produce_in_transaction(table.topic, [make_message(0)] * 2, abort=True)
    table.produce(3)
    table.ingest()
    publish_replace(
        table.systems.catalog,
        {0: range(aborted[0], aborted[-1] + 1)},
        topic_id=table.ledger.topic_ids[table.topic],
        topic=table.topic,
    )
    before = table.positions()

    with pytest.raises(SliceIncompleteError) as caught:
        table.reopened().replace(table.key(hours_ago(0)))

    assert caught.value.missing == {table.log(): (aborted[0], aborted[-1] + 1)}
    assert table.positions() == before


def test_transactions_and_tombstones_inside_a_slice_are_no_loss(lake: MakeLake) -> None:
    table = lake()
    table.broker.produce(table.topic, [make_message(0), None, make_message(1)])
    table.broker.produce_in_transaction(table.topic, [make_message(0)] * 2, abort=True)
    table.broker.produce_in_transaction(table.topic, [make_message(0)] * 2)
    table.ingest()
    before = table.positions()

    table.replace(table.key(hours_ago(0)))

    assert table.positions() == before
    assert len(before) == 4


def test_a_slice_of_nothing_but_tombstones_and_control_records_makes_no_snapshot(lake: MakeLake) -> None:
    table = lake()
    table.broker.produce(table.topic, [None, None])
    table.broker.produce_in_transaction(table.topic, [make_message(0)] * 2, abort=True)

    heard = table.replace(table.key(hours_ago(0)))

    assert list(heard.values()) == [None]
    assert table.positions() == []


def test_messages_of_the_far_future_and_of_1970_leave_later_hours_addressable(lake: MakeLake) -> None:
    table = lake(settings=AHEAD)
    ten_years = hours_ago(0) + 10 * 365 * 24 * HOUR_MS
    table.produce(4, timestamp_ms=[hours_ago(3), ten_years, 1, hours_ago(3)])
    table.produce(3, timestamp_ms=hours_ago(2))
    table.produce(3, timestamp_ms=[hours_ago(1), 1, ten_years])
    table.produce(3, timestamp_ms=hours_ago(0))
    table.ingest()
    by_hour = [report.slice_rows for report in table.reports]

    heard = {h: table.replace(table.key(hours_ago(h)))[table.key(hours_ago(h))] for h in (3, 2, 1, 0)}

    expected = {3: [(0, 4)], 2: [(4, 7)], 1: [(7, 10)], 0: [(10, 13)]}
    assert {h: report.ranges for h, report in heard.items() if report} == {
        h: table.ranges({0: r}) for h, r in expected.items()
    }
    assert by_hour == [{hours_ago(3): 4, hours_ago(2): 3, hours_ago(1): 3, hours_ago(0): 3}]
    table.assert_holds({0: list(range(13))})


def test_a_topic_that_was_created_again_is_not_replayed_into_the_table(lake: MakeLake) -> None:
    table = lake()
    keys = fill_hours(table)
    table.ingest()
    table.broker.delete_topic(table.topic)
    table.broker.create_topic(table.topic)
    fill_hours(table)

    with pytest.raises(TopicReplacedError):
        table.reopened().replace(keys[1])

    assert len(table.table.snapshots()) == 1


def test_rows_that_are_ingested_while_their_slice_is_replaced_are_there_once(lake: MakeLake) -> None:
    table = lake()
    keys = fill_hours(table)
    table.ingest()
    table.produce(5)
    other = table.reopened()
    EFFECTS.arm(Fault("commit", "before", lambda _: other.ingest() and None))

    table.replace(keys[-1])

    table.assert_holds({0: list(range(35))})


def test_a_slice_that_is_replaced_while_its_rows_are_ingested_is_there_once(lake: MakeLake) -> None:
    table = lake()
    keys = fill_hours(table)
    table.ingest()
    table.produce(5)
    other = table.reopened()
    EFFECTS.arm(Fault("commit", "before", lambda _: other.replace(keys[-1]) and None))

    table.ingest()

    table.assert_holds({0: list(range(35))})


def test_five_replaces_of_one_slice_beside_ingestion_leave_every_row_once(lake: MakeLake) -> None:
    table = lake()
    keys = fill_hours(table)
    table.ingest()
    table.produce(5)
    others = [table.reopened() for _ in range(6)]

    with ThreadPoolExecutor(6) as pool:
        runs = [pool.submit(other.replace, keys[-1]) for other in others[:5]] + [
            pool.submit(others[5].ingest)
        ]
    results = [run.result() for run in runs]

    assert len(results) == 6
    table.assert_holds({0: list(range(35))})


def test_a_table_dropped_while_a_slice_is_replaced_is_an_error_of_the_tree(lake: MakeLake) -> None:
    from lakehouse_assets.model.errors import TableMissingError

    table = lake()
    keys = fill_hours(table)
    table.ingest()
    EFFECTS.arm(Fault("commit", "before", lambda _: table.systems.catalog.drop_table(table.spec.table)))

    with pytest.raises(TableMissingError):
        table.replace(keys[1])
