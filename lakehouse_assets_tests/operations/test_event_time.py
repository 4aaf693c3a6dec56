"""How far a table is complete stands in it, and moves with its rows."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lakehouse_assets.model.errors import TableDiffersError
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.model.offsets import TopicPartition
from lakehouse_assets.operations.compacting import run_compact
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.systems.table_times import TableTimes, read_table_times
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import make_spec, roll_back
from lakehouse_assets_tests.operations.lake import Lake, clock_ms, hours_ago

pytestmark = pytest.mark.kafka

COLUMNS = [{"name": "id", "type": "long", "required": True}, {"name": "at", "type": "timestamptz"}]
EVENT_TIME = {"column": "at", "max_disorder": "1m"}
HOUR, MINUTE = 3_600_000, 60_000
WATERMARK = "lakehouse.event-time-watermark"

Open = Callable[..., Lake]


@pytest.fixture
def lake(tmp_path: Path, broker: Broker, topic: Callable[..., str]) -> Open:
    """A table over a topic of two partitions."""
    return lambda **parts: Lake.open(tmp_path, broker, topic(2), **({"schema": COLUMNS, "event_time": EVENT_TIME} | parts))


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()


def send(table: Lake, partition: int, *events_ms: int | None, **how: int) -> None:
    times = [iso(ms) if ms is not None else None for ms in events_ms]
    values = [json.dumps({"id": i, "at": at}).encode() for i, at in enumerate(times)]
    table.broker.produce(table.topic, values, partition=partition, **how)


def watermark(table: Lake) -> int | None:
    """As other engines find it, in the property and in the summary of the newest snapshot."""
    now = table.reopened().table
    summary = now.metadata.current_snapshot().summary  # type: ignore[union-attr]
    assert summary is not None
    assert summary.additional_properties.get(WATERMARK) == now.properties.get(WATERMARK)
    text = now.properties.get(WATERMARK)
    return int(text) if text is not None else None


def test_it_is_there_once_every_topic_partition_has_rows_and_is_the_least_of_them(lake: Open) -> None:
    table, now = lake(), hours_ago(0)
    send(table, 0, now - 3 * MINUTE, now - 5 * MINUTE)
    table.ingest()
    assert watermark(table) is None

    send(table, 1, now - 20 * MINUTE)
    table.ingest()
    assert watermark(table) == now - 21 * MINUTE
    assert table.reports[-1].watermark_ms == now - 21 * MINUTE

    send(table, 1, now - MINUTE, now - 2 * MINUTE)
    table.ingest()
    assert watermark(table) == now - 4 * MINUTE


def test_neither_a_rollback_nor_an_hour_again_nor_compaction_moves_it(lake: Open) -> None:
    table, now = lake(), hours_ago(0)
    for partition in (0, 1):
        send(table, partition, now - 30 * MINUTE)
    table.ingest()
    first = table.table.metadata.current_snapshot_id
    for partition in (0, 1):
        send(table, partition, now - 10 * MINUTE)
    table.ingest()
    assert watermark(table) == now - 11 * MINUTE

    policy = MaintenanceSpec(small_files=2)
    assert run_compact(MaintenanceTask(table.systems.catalog, table.spec.table, policy, clock_ms)).snapshot_ids
    assert watermark(table) == now - 11 * MINUTE

    table.replace(table.key(hours_ago(0)))
    assert watermark(table) == now - 11 * MINUTE

    assert first is not None
    roll_back(table.table, first)
    send(table, 0, now - 9 * MINUTE)
    table.reopened().ingest()
    assert watermark(table) == now - 11 * MINUTE


def test_rows_that_leave_a_complete_hour_are_heard_of_too_and_the_column_stays_what_it_was(lake: Open) -> None:
    table, now = lake(), hours_ago(0)
    for partition in (0, 1):
        send(table, partition, now - 3 * HOUR, now)
    table.ingest()
    where = f"\"at\" >= TIMESTAMPTZ '{iso(now - HOUR)}'"
    table.spec = make_spec(table.topic, schema=COLUMNS, event_time=EVENT_TIME, where=where)

    table.replace(table.key(hours_ago(0)))

    assert len(table.positions()) == 2
    assert read_table_times(table.reopened().table).late_rows == {now - 3 * HOUR: 2}

    columns = [*COLUMNS, {"name": "sent_at", "type": "timestamptz"}]
    table.spec = make_spec(table.topic, schema=columns, event_time=EVENT_TIME | {"column": "sent_at"})
    with pytest.raises(TableDiffersError, match="is of the column 'at', and the declaration says 'sent_at'"):
        table.ingest()


def test_times_far_ahead_and_missing_ones_are_counted_and_late_rows_by_their_hour(lake: Open) -> None:
    table, now = lake(), hours_ago(0)
    for partition in (0, 1):
        send(table, partition, now, now + 100 * HOUR, None)
    table.ingest()
    report = table.reports[-1]
    assert (report.event_times.ahead_count, report.event_times.null_count, report.late_rows) == (2, 2, {})
    assert watermark(table) == now - MINUTE

    send(table, 0, now - 3 * HOUR, now - 3 * HOUR + MINUTE, now - 30 * MINUTE, now + MINUTE)
    table.ingest()
    assert table.reports[-1].late_rows == {now - 3 * HOUR: 2}
    assert read_table_times(table.reopened().table) == TableTimes("at", now - MINUTE, {now - 3 * HOUR: 2})


def test_what_an_hour_again_puts_into_complete_hours_is_late_too_and_a_rollback_forgets_none_of_it(lake: Open) -> None:
    table, now = lake(), hours_ago(0)
    for partition in (0, 1):
        send(table, partition, now - 3 * HOUR, now)
    table.ingest()
    first = table.reopened().table.metadata.current_snapshot_id
    table.replace(table.key(hours_ago(0)))
    late = {now - 3 * HOUR: 2}
    assert read_table_times(table.reopened().table).late_rows == late

    assert first is not None
    roll_back(table.table, first)
    send(table, 0, now - 2 * HOUR)
    table.reopened().ingest()
    assert read_table_times(table.reopened().table).late_rows == late | {now - 2 * HOUR: 1}


def test_an_idle_topic_partition_stops_holding_it_and_what_flink_asks_for_is_there(lake: Open) -> None:
    table = lake(
        event_time={**EVENT_TIME, "idle_after": "10m"}, properties={"flink.store-watermark": "true"}
    )
    now = hours_ago(0)
    send(table, 1, now - 2 * HOUR, timestamp_ms=clock_ms() - 11 * MINUTE)
    send(table, 0, now - MINUTE)
    table.ingest()

    assert watermark(table) == now - 2 * MINUTE
    assert table.table.properties["flink.current-watermark"] == str(now - 2 * MINUTE)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_upsert_table_has_one_too_and_every_process_tells_of_its_share(lake: Open, workers: int) -> None:
    table, now = lake(mode="upsert", key=["id"], workers=workers), hours_ago(0)
    send(table, 0, now - 5 * MINUTE)
    send(table, 1, now - 7 * MINUTE)
    table.ingest()

    assert watermark(table) == now - 8 * MINUTE
    assert table.ledger.settled_ms == {
        TopicPartition(table.topic, 0): now - 5 * MINUTE, TopicPartition(table.topic, 1): now - 7 * MINUTE
    }  # fmt: skip
