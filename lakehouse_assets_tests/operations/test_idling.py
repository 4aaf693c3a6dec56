"""The watermark of a table whose topics are silent moves by few empty commits, and only where an hour becomes complete."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table import Table

from lakehouse_assets.model.completeness import HOUR_MS
from lakehouse_assets.model.offsets import LogBounds, TopicPartition
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.watermark import WatermarkMove
from lakehouse_assets.operations.drain import run_drain
from lakehouse_assets.operations.idling import run_idle_move
from lakehouse_assets.operations.status import TableStatus, read_status
from lakehouse_assets.systems.catalog import require_table
from lakehouse_assets.systems.commit import publish
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets.systems.table_times import read_table_times
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import make_delivery, make_ranges, make_spec, make_systems, make_table
from lakehouse_assets_tests.operations.lake import Lake, clock_ms, never

COLUMNS = [{"name": "id", "type": "long", "required": True}, {"name": "at", "type": "timestamptz"}]
EVENT_TIME = {"column": "at", "max_disorder": "1m", "idle_after": "10m"}
MINUTE = 60_000
FIRST, SECOND = TopicPartition("clicks", 0), TopicPartition("clicks", 1)


class Silent:
    """A table of two topic partitions of which it has everything there is; time is what a test says."""

    def __init__(self, folder: Path, **parts: Any) -> None:
        self.systems = make_systems(folder)
        self.spec: TableSpec = make_spec(**({"schema": COLUMNS, "event_time": EVENT_TIME} | parts))
        make_table(self.systems.catalog, self.spec)
        self.stops = {0: 0, 1: 0}

    @property
    def table(self) -> Table:
        return require_table(self.systems.catalog, self.spec.table)

    def put(self, partition: int, ms: int) -> None:
        """A message stamped when it happened, in the table at once."""
        stop = self.stops[partition]
        log = TopicPartition("clicks", partition)
        move = WatermarkMove({log: ms}, frozenset([FIRST, SECOND]), frozenset(), MINUTE)
        delivery = make_delivery(self.table, {partition: range(stop, stop + 1)}, files=[], watermark=move)
        publish(self.systems.catalog, self.spec.table, delivery.__class__(**_with(delivery, newest_ms={log: ms})))
        self.stops[partition] = stop + 1

    def look(self, now_ms: int, lacking: int = 0) -> bool:
        """Whether a look at this time commits anything; `lacking` messages of the second topic partition are not in the table."""
        table, ledger = self.table, read_ledger(self.table)
        assert ledger is not None
        bounds = {TopicPartition("clicks", p): LogBounds(0, stop + lacking * p) for p, stop in self.stops.items()}
        missing = make_ranges({1: [(self.stops[1], self.stops[1] + lacking)]})
        head = table.current_snapshot()
        status = TableStatus({}, ledger, bounds, missing, head.timestamp_ms if head else None, table=table)
        return run_idle_move(self.systems, self.spec, status, now_ms) is not None

    @property
    def watermark(self) -> int | None:
        return read_table_times(self.table).watermark_ms


def _with(delivery: Any, **parts: Any) -> dict[str, Any]:
    return {name: getattr(delivery, name) for name in delivery.__slots__} | parts


def full_hour() -> int:
    """The end of the next hour: that of the hour that runs may be a moment away, and nothing idle by then."""
    return (clock_ms() // HOUR_MS + 2) * HOUR_MS


def test_a_topic_partition_that_falls_silent_lets_the_watermark_go_without_a_row(tmp_path: Path) -> None:
    lake, hour = Silent(tmp_path), full_hour()
    lake.put(0, hour - 30 * MINUTE)
    lake.put(1, hour + 5 * MINUTE)
    assert lake.watermark == hour - 31 * MINUTE

    assert not lake.look(hour - 21 * MINUTE)
    assert lake.look(hour + 10 * MINUTE)
    assert lake.watermark == hour + 4 * MINUTE
    assert not lake.look(hour + 20 * HOUR_MS)
    assert lake.watermark == hour + 4 * MINUTE


def test_a_topic_partition_of_which_messages_are_missing_is_not_idle(tmp_path: Path) -> None:
    lake, hour = Silent(tmp_path), full_hour()
    lake.put(1, hour - 30 * MINUTE)
    lake.put(0, hour + 5 * MINUTE)

    assert not lake.look(hour + 30 * MINUTE, lacking=1)
    assert lake.look(hour + 30 * MINUTE)


def test_topics_without_any_message_let_it_follow_the_clock_by_one_commit_an_hour(tmp_path: Path) -> None:
    lake, hour = Silent(tmp_path, event_time=EVENT_TIME | {"follow_clock": True}), full_hour() + HOUR_MS
    assert not lake.look(clock_ms())  # nobody knows yet that they have been silent for ten minutes
    assert lake.look(hour)
    commits = [now for now in range(hour, hour + 3 * HOUR_MS, 5 * MINUTE) if lake.look(now)]

    assert commits == [hour + 15 * MINUTE, hour + HOUR_MS + 15 * MINUTE, hour + 2 * HOUR_MS + 15 * MINUTE]
    assert lake.watermark == hour + 2 * HOUR_MS + 4 * MINUTE


def test_without_being_told_to_it_does_not_follow_the_clock(tmp_path: Path) -> None:
    lake, hour = Silent(tmp_path), full_hour()
    lake.put(0, hour - 20 * MINUTE)

    assert lake.look(hour + 5 * HOUR_MS)  # both are idle: the largest event time counts
    assert lake.watermark == hour - 21 * MINUTE
    assert not lake.look(hour + 9 * HOUR_MS)


@pytest.mark.parametrize(("declared", "intervals"), [(None, 10), ("3", 3), ("nonsense", 10)])
def test_between_empty_commits_lie_as_many_commit_intervals_as_the_table_says(
    tmp_path: Path, declared: str | None, intervals: int
) -> None:
    properties = {"flink.max-continuous-empty-commits": declared} if declared else {}
    lake = Silent(tmp_path, event_time=EVENT_TIME | {"follow_clock": True}, properties=properties)
    spec, hour = lake.spec, full_hour() + HOUR_MS
    lake.spec = spec.model_copy(update={"commit_interval": spec.run_time_limit * 12})  # an hour
    lake.put(0, hour - 2 * HOUR_MS)
    committed_ms = lake.table.metadata.snapshots[-1].timestamp_ms

    assert not lake.look(committed_ms + intervals * HOUR_MS - 1)
    assert lake.look(committed_ms + intervals * HOUR_MS)


def test_a_topic_partition_that_never_had_a_message_is_idle_though_old_snapshots_are_gone(tmp_path: Path) -> None:
    lake, hour = Silent(tmp_path), full_hour()
    lake.put(0, hour - 30 * MINUTE)
    began_ms = lake.table.metadata.snapshots[0].timestamp_ms
    lake.put(0, hour + 5 * MINUTE)
    lake.table.maintenance.expire_snapshots().by_id(lake.table.metadata.snapshots[0].snapshot_id).commit()
    assert lake.table.metadata.snapshots[0].timestamp_ms >= began_ms

    assert lake.look(hour + 6 * MINUTE)
    assert lake.watermark == hour + 4 * MINUTE


@pytest.mark.kafka
def test_a_call_of_a_person_moves_it_too(tmp_path: Path, broker: Broker, topic: Callable[..., str]) -> None:
    event_time = EVENT_TIME | {"follow_clock": True, "complete_for": "day"}
    lake = Lake.open(tmp_path, broker, topic(2), schema=COLUMNS, event_time=event_time)
    later = clock_ms() + 20 * MINUTE

    def drain(now_ms: int) -> None:
        run_drain(
            lake.systems, lake.spec, stop=never, on_progress=lambda _left, _report: None, on_retry=lambda _e, _s: None,
            now_ms=lambda: now_ms,
        )  # fmt: skip

    drain(later - 20 * MINUTE)
    assert read_table_times(lake.table).watermark_ms is None
    drain(later)
    drain(later + 1)

    assert read_table_times(lake.table).watermark_ms == later - 11 * MINUTE
    assert len(lake.table.metadata.snapshots) == 1
    assert read_status(lake.systems, lake.spec).commits[0].operation == "move-watermark"
    assert len([name for name in lake.table.metadata.refs if name.startswith("complete-")]) == 31
