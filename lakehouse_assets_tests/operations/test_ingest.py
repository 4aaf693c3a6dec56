"""Ingestion over a real broker: every message once, whatever the topic holds."""

import multiprocessing
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from lakehouse_assets.model.errors import (
    BadRecordError,
    OffsetsExpiredError,
    SourceUnavailableError,
    StorageError,
    TableDiffersError,
    TopicMissingError,
    TopicReplacedError,
    TopicTruncatedError,
    WorkerLostError,
)
from lakehouse_assets.model.offsets import NO_OFFSETS
from lakehouse_assets.operations.waiting import read_waiting
from lakehouse_assets_tests import faults
from lakehouse_assets_tests.builders import append_foreign_rows, expire, make_message, make_spec, roll_back
from lakehouse_assets_tests.faults import EFFECTS, Fault
from lakehouse_assets_tests.operations.lake import Lake, hours_ago

pytestmark = pytest.mark.kafka

MakeLake = Callable[..., Lake]


def test_every_message_of_every_topic_partition_lands_once(lake: MakeLake) -> None:
    table = lake(topic_partitions=3)
    table.produce(500, partition=0)
    table.produce(700, partition=2)

    result = table.ingest()

    assert (result.row_count, result.ended, result.rowless) == (1200, "caught up", NO_OFFSETS)
    table.assert_holds({0: list(range(500)), 2: list(range(700))})


def test_a_second_run_goes_on_where_the_first_ended(lake: MakeLake) -> None:
    table = lake()
    table.produce(10)
    table.ingest()
    table.produce(5)

    again = table.reopened()
    result = again.ingest()

    assert result.row_count == 5
    assert [report.lag_before for report in again.reports] == [5]
    assert [report.lag_after for report in again.reports] == [0]
    table.assert_holds({0: list(range(15))})


def test_nothing_new_makes_no_commit(lake: MakeLake) -> None:
    table = lake()
    table.produce(10)
    table.ingest()

    result = table.reopened().ingest()

    assert result.commits == 0
    assert len(table.table.snapshots()) == 1


def test_an_empty_topic_makes_an_empty_table(lake: MakeLake) -> None:
    table = lake(topic_partitions=2)

    result = table.ingest()

    assert result.commits == 0
    table.assert_holds({})


def test_tombstones_are_passed_over(lake: MakeLake) -> None:
    table = lake()
    table.broker.produce(table.topic, [make_message(1), None, make_message(2), None, None])

    result = table.ingest()

    assert result.row_count == 2
    assert sum(report.skipped_count for report in table.reports) == 3
    table.assert_holds({0: [0, 2]})


def test_tombstones_alone_make_no_commit_and_no_lag(lake: MakeLake) -> None:
    table = lake()
    table.broker.produce(table.topic, [None, None, None])

    result = table.ingest()

    assert result.commits == 0
    assert result.rowless == table.ranges({0: [(0, 3)]})
    assert table.lag(result.rowless) == 0


def test_tombstones_that_another_run_took_along_do_not_block_this_one(lake: MakeLake) -> None:
    """The first run has read past them; the second commits them with its rows; the first goes on behind."""
    table = lake()
    table.broker.produce(table.topic, [None, None])
    other = table.reopened()
    calls: list[int] = []

    def stop() -> bool:
        calls.append(1)
        return False

    def meddle(now: list[bool]) -> int:
        # Called between reading the tombstones and the commit of what follows them.
        if calls and not now:
            now.append(True)
            table.produce(3)
            other.ingest()
            table.produce(3)
        return hours_ago(0)

    done: list[bool] = []
    first = table.reopened()
    first.now_ms = lambda: meddle(done)
    first.ingest(stop)
    table.reopened().ingest()

    table.assert_holds({0: [2, 3, 4, 5, 6, 7]})


@pytest.mark.parametrize("abort", [True, False])
def test_control_records_at_the_end_are_no_lag_and_no_commit(lake: MakeLake, abort: bool) -> None:
    table = lake()
    table.broker.produce_in_transaction(table.topic, [make_message(1)] * 3)
    table.ingest()
    offsets = table.broker.produce_in_transaction(table.topic, [make_message(2)] * 3, abort=abort)

    result = table.reopened().ingest()

    assert result.commits == (0 if abort else 1)
    assert table.lag(result.rowless) == read_waiting(table.systems, table.spec).lag == 0
    assert [row[1] for row in table.positions()] == [0, 1, 2, *([] if abort else offsets)]


def test_what_waits_begins_with_a_message_that_is_to_become_a_row(lake: MakeLake) -> None:
    table = lake(topic_partitions=3)
    for partition in range(3):
        table.produce(1, partition=partition)
    table.ingest()
    for partition, values in enumerate(([None, None], [None, make_message(1), None], [None] * 1001)):
        table.broker.produce(table.topic, values, partition=partition)

    waiting = read_waiting(table.systems, table.spec).missing

    assert waiting == table.ranges({1: [(2, 4)], 2: [(1, 1002)]})  # of the third, not even the beginning is looked at


def test_a_second_look_at_control_records_makes_no_endless_run(lake: MakeLake) -> None:
    table = lake(topic_partitions=2)
    table.broker.produce_in_transaction(table.topic, [make_message(2)] * 3, abort=True)
    table.produce(1, partition=1)

    assert table.ingest().commits == 1
    assert table.reopened().ingest().commits == 0
    assert table.lag() == 0


def test_a_bad_record_stops_the_table_at_its_offset(lake: MakeLake) -> None:
    table = lake(on_bad_record="fail")
    table.broker.produce(
        table.topic, [make_message(i) for i in range(7)] + [b'{"id": "no number"}', make_message(8)]
    )

    with pytest.raises(BadRecordError, match="offset 7") as caught:
        table.ingest()

    assert (caught.value.log, caught.value.offset) == (table.log(), 7)
    assert table.positions() == [(0, offset) for offset in range(7)]
    assert table.ledger.held == table.ranges({0: [(0, 7)]})


def test_a_second_run_stops_at_the_bad_record_again_and_adds_nothing(lake: MakeLake) -> None:
    table = lake(on_bad_record="fail")
    table.broker.produce(table.topic, [make_message(1), b"nonsense", make_message(3)])

    for attempt in (table, table.reopened()):
        with pytest.raises(BadRecordError, match="offset 1 "):
            attempt.ingest()

    assert table.positions() == [(0, 0)]
    assert len(table.table.snapshots()) == 1


def test_a_bad_record_between_tombstones_and_other_topic_partitions_is_named_exactly(lake: MakeLake) -> None:
    table = lake(on_bad_record="fail", topic_partitions=2)
    table.produce(4, partition=1)
    table.broker.produce(table.topic, [None, make_message(1), None, b"[]", None])

    with pytest.raises(BadRecordError) as caught:
        table.ingest()

    assert (caught.value.log, caught.value.offset) == (table.log(), 3)
    assert [row for row in table.positions() if row[0] == 0] == [(0, 1)]
    assert table.held().stop <= 3


@pytest.mark.parametrize("workers", [1, 2])
def test_staging_in_several_processes_lands_the_same_rows(lake: MakeLake, workers: int) -> None:
    table = lake(topic_partitions=4, workers=workers)
    for partition in range(4):
        table.produce(50 + partition, partition=partition)

    table.ingest()

    table.assert_holds({partition: list(range(50 + partition)) for partition in range(4)})


@pytest.mark.slow
def test_a_worker_whose_topic_partitions_are_quiet_goes_on_while_another_works(lake: MakeLake) -> None:
    table = lake(topic_partitions=2, workers=2)
    table.produce(5, partition=0)

    def keep_one_busy(_: object) -> None:
        if len(table.reports) <= 8:  # by then the other has been quiet for several commit intervals
            table.produce(5, partition=0)
        elif len(table.reports) == 9:
            table.produce(5, partition=1)

    table.ingest(on_commit=keep_one_busy)

    table.assert_holds({0: list(range(45)), 1: list(range(5))})


def test_a_worker_killed_in_the_middle_loses_and_doubles_nothing(lake: MakeLake) -> None:
    table = lake(topic_partitions=2, workers=2)
    table.produce(20, partition=0)
    table.produce(20, partition=1)

    def kill_one(_: object) -> None:
        if len(table.reports) == 1:
            table.produce(20, partition=0)
            table.produce(20, partition=1)
            multiprocessing.active_children()[0].kill()

    table.ingest(on_commit=kill_one)

    assert [type(error) for error in table.retries] == [WorkerLostError]
    table.assert_holds({0: list(range(40)), 1: list(range(40))})


@pytest.mark.slow
def test_a_bad_record_in_a_worker_names_itself_and_what_came_before_it_lands(lake: MakeLake) -> None:
    table = lake(on_bad_record="fail", topic_partitions=2, workers=2)
    table.produce(5, partition=0)
    table.broker.produce(table.topic, [make_message(1), b"nonsense"], partition=1)

    with pytest.raises(BadRecordError, match="offset 1 "):
        table.ingest()

    assert [row for row in table.positions() if row[0] == 1] == [(1, 0)]


def test_a_run_goes_on_with_what_arrives_and_stops_at_a_commit_boundary(lake: MakeLake) -> None:
    table = lake()
    table.produce(10)
    stopping: list[bool] = []

    def more(_: object) -> None:
        if len(table.reports) < 3:
            table.produce(10)
        else:
            stopping.append(True)

    result = table.ingest(lambda: bool(stopping), more)

    assert result.ended == "stopped"
    table.assert_holds({0: list(range(30))})


def test_topic_partitions_added_while_a_run_works_are_read_by_it(lake: MakeLake) -> None:
    table = lake()
    table.produce(10)

    def grow(_: object) -> None:
        if len(table.reports) == 1:
            table.broker.add_partitions(table.topic, 3)
            table.produce(4, partition=2)
            table.produce(4, partition=0)

    table.ingest(on_commit=grow)
    table.reopened().ingest()

    table.assert_holds({0: list(range(14)), 2: list(range(4))})


def test_offsets_that_retention_dropped_are_an_error_with_numbers(lake: MakeLake) -> None:
    table = lake()
    table.produce(10)
    table.ingest()
    table.produce(10)
    table.broker.delete_records(table.topic, {0: 15})

    with pytest.raises(OffsetsExpiredError, match=r"offsets 10 to 14 \(5 offsets\)") as caught:
        table.ingest()

    assert caught.value.missing == {table.log(): (10, 15)}
    assert table.positions() == [(0, offset) for offset in range(10)]


def test_retention_of_what_the_table_has_is_no_error(lake: MakeLake) -> None:
    table = lake()
    table.produce(10)
    table.ingest()
    table.broker.delete_records(table.topic, {0: 10})
    table.produce(3)

    table.reopened().ingest()

    table.assert_holds({0: list(range(13))})


def test_a_new_table_begins_at_the_oldest_message_that_kafka_holds(lake: MakeLake) -> None:
    table = lake()
    table.produce(10)
    table.broker.delete_records(table.topic, {0: 4})

    table.ingest()

    table.assert_holds({0: list(range(4, 10))})


def test_a_new_table_that_starts_latest_holds_only_what_comes_after(lake: MakeLake) -> None:
    table = lake(source={"start": "latest"})
    table.produce(10)
    table.ingest()
    table.produce(5)

    table.reopened().ingest()

    table.assert_holds({0: list(range(10, 15))})


def test_a_new_table_that_starts_at_a_time_begins_at_the_first_message_from_then(lake: MakeLake) -> None:
    start = hours_ago(2)
    table = lake(source={"start": datetime.fromtimestamp(start / 1000, UTC).isoformat()})
    table.produce(4, timestamp_ms=start - 1)
    table.produce(4, timestamp_ms=start)

    table.ingest()

    table.assert_holds({0: [4, 5, 6, 7]})


def test_a_topic_that_was_deleted_and_created_again_stops_the_table(lake: MakeLake) -> None:
    table = lake()
    table.produce(10)
    table.ingest()
    table.broker.delete_topic(table.topic)
    table.broker.create_topic(table.topic)
    table.produce(20)

    with pytest.raises(TopicReplacedError):
        table.reopened().ingest()
    with pytest.raises(TopicReplacedError):
        table.reopened().lag()

    assert table.positions() == [(0, offset) for offset in range(10)]


def test_a_topic_replaced_between_reading_and_commit_lands_nothing(lake: MakeLake) -> None:
    table = lake()
    table.ingest()
    table.produce(10)

    def replace_topic(_: str) -> None:
        table.broker.delete_topic(table.topic)
        table.broker.create_topic(table.topic)

    EFFECTS.arm(Fault("create", "before", replace_topic))
    with pytest.raises((TopicReplacedError, TopicMissingError)):
        table.ingest()

    assert table.positions() == []


def test_a_missing_topic_is_said_to_be_missing(lake: MakeLake) -> None:
    table = lake()
    table.broker.delete_topic(table.topic)

    with pytest.raises(TopicMissingError, match="does not exist"):
        table.ingest()


def test_a_table_that_differs_from_its_declaration_is_not_written(lake: MakeLake) -> None:
    table = lake()
    table.produce(3)
    table.ingest()
    table.produce(3)
    other = table.reopened()
    other.spec = make_spec(table.topic, schema=[{"name": "id", "type": "string", "required": True}])

    with pytest.raises(
        TableDiffersError, match="id is declared string, the table has long, which has no safe way there"
    ):
        other.ingest()

    assert len(table.positions()) == 3


def test_after_a_rollback_the_rest_is_read_again(lake: MakeLake) -> None:
    table = lake()
    table.produce(10)
    table.ingest()
    first = table.table.current_snapshot()
    table.produce(10)
    table.reopened().ingest()
    assert first is not None
    roll_back(table.table, first.snapshot_id)
    assert table.lag() == 10

    table.reopened().ingest()

    table.assert_holds({0: list(range(20))})


def test_after_foreign_rows_and_expiry_of_all_our_snapshots_ingestion_goes_on(lake: MakeLake) -> None:
    table = lake()
    table.produce(10)
    table.ingest()
    append_foreign_rows(table.table, 2)
    expire(table.table, [table.table.snapshots()[0].snapshot_id])
    table.produce(5)

    table.reopened().ingest()

    table.assert_holds({0: list(range(15))}, foreign=2)


def test_a_table_that_was_dropped_is_filled_anew(lake: MakeLake) -> None:
    table = lake()
    table.produce(10)
    table.ingest()
    table.systems.catalog.drop_table(table.spec.table)

    table.reopened().ingest()

    table.assert_holds({0: list(range(10))})


def test_a_full_disk_is_an_error_and_the_next_run_needs_no_repair(
    lake: MakeLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse_assets.operations.retrying.MAX_FAILURES_IN_A_ROW", 2)
    table = lake()
    table.ingest()
    table.produce(10)
    EFFECTS.arm(Fault("write", "half", faults.fill_disk, lasting=True))

    with pytest.raises(StorageError, match="No space left on device"):
        table.ingest()
    assert len(table.retries) == 1

    EFFECTS.arm(None)
    table.reopened().ingest()
    table.assert_holds({0: list(range(10))})


def test_a_disk_that_is_full_for_a_moment_costs_a_retry(lake: MakeLake) -> None:
    table = lake()
    table.ingest()
    table.produce(10)
    EFFECTS.arm(Fault("close", "before", faults.fill_disk))

    table.ingest()

    assert [type(error) for error in table.retries] == [StorageError]
    table.assert_holds({0: list(range(10))})


def test_a_broker_that_is_nowhere_is_an_error_of_the_tree(
    lake: MakeLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse_assets.operations.retrying.MAX_FAILURES_IN_A_ROW", 1)
    monkeypatch.setattr("lakehouse_assets.systems.kafka.REQUEST_SECONDS", 1.0)
    table = lake()
    table.broker.bootstrap_servers = "127.0.0.1:1"

    with pytest.raises(SourceUnavailableError, match=r"127\.0\.0\.1:1 did not answer"):
        table.reopened().ingest()


def test_a_ledger_that_is_ahead_of_its_topic_is_an_error_not_a_gap(lake: MakeLake) -> None:
    """An unclean election can cut a topic; offsets that are given out anew would be taken for known ones."""
    table = lake()
    table.produce(3)
    table.ingest()
    ledger = table.table.properties["lakehouse.ledger"].replace("[[0,3]]", "[[0,9]]")
    with table.table.transaction() as transaction:
        transaction.set_properties({"lakehouse.ledger": ledger})

    with pytest.raises(TopicTruncatedError, match="holds offsets up to 8, expected the log to end at 9 or later, it ends at 3"):
        table.ingest(stop=lambda: bool(table.retries))
    with pytest.raises(TopicTruncatedError):
        table.lag()


def test_messages_of_1970_and_of_the_far_future_land(lake: MakeLake) -> None:
    table = lake(
        settings={"message.timestamp.after.max.ms": str(2**62), "message.timestamp.before.max.ms": str(2**62)}
    )
    ten_years = hours_ago(0) + 10 * 365 * 24 * 3_600_000
    table.produce(3, timestamp_ms=[1, ten_years, hours_ago(0)])

    table.ingest()

    table.assert_holds({0: [0, 1, 2]})
    assert set().union(*(report.slice_rows for report in table.reports)) == {
        int(table.spec.partitions.start.timestamp() * 1000), hours_ago(0)
    }  # fmt: skip
