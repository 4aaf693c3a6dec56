"""A day on which the clock is put back, with producers whose clocks are wrong: every hour is complete once, and is what it was then."""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from lakehouse_assets.model.completeness import HOUR_MS
from lakehouse_assets.model.slices import to_ms
from lakehouse_assets.operations.idling import run_idle_move
from lakehouse_assets.operations.status import read_status
from lakehouse_assets.systems.table_times import read_table_times
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.operations.lake import Lake

pytestmark = pytest.mark.kafka

BERLIN = ZoneInfo("Europe/Berlin")
PUT_BACK = datetime(2026, 10, 25, 1, tzinfo=UTC)  # from 03:00 to 02:00
MINUTE = 60_000
DISORDER = 5 * MINUTE
SKEW = {0: -3 * MINUTE, 1: 20 * MINUTE, 2: 0}  # of the clock of each topic partition's producer
COLUMNS = [{"name": "id", "type": "long", "required": True}, {"name": "at", "type": "timestamptz"}]
EVENT_TIME = {"column": "at", "max_disorder": "5m", "idle_after": "30m", "complete_for": "day", "late_horizon": "30d"}


class Day:
    """Three producers that write local times with their offsets, as `02:30:00+02:00` and an hour later `02:30:00+01:00`."""

    def __init__(self, lake: Lake, begin: datetime) -> None:
        self.lake, self.now, self.rng = lake, to_ms(begin), random.Random(7)
        self.newest: dict[int, int] = {}
        self.counts: dict[int, int] = {}  # rows of each hour when it became complete
        self.local_hours: set[str] = set()
        self.watermark = 0

    def send(self, partition: int, event_ms: int) -> None:
        local = datetime.fromtimestamp(event_ms / 1000, BERLIN).isoformat()
        self.local_hours.add(f"{local[:13]}{local[-6:]}")
        value = json.dumps({"id": event_ms, "at": local}).encode()
        self.lake.broker.produce(self.lake.topic, [value], partition=partition, timestamp_ms=self.now + SKEW[partition])
        self.newest[partition] = max(event_ms, self.newest.get(partition, 0))

    def pass_hour(self, silent: frozenset[int]) -> None:
        """Each producer sends every ten minutes, none of it older than allowed; then a run, and a look of the sensor."""
        for _ in range(6):
            self.now += 10 * MINUTE
            for partition in SKEW.keys() - silent:
                self.send(partition, self.now + SKEW[partition] - self.rng.randrange(DISORDER))
        self.run()

    def run(self) -> None:
        lake = self.lake
        lake.now_ms = lambda: self.now
        lake.ingest()
        status = read_status(lake.systems, lake.spec)
        # The snapshots are of the real clock, which is later: by the simulated one nothing was committed for long.
        run_idle_move(lake.systems, lake.spec, status, self.now)
        watermark = read_table_times(lake.table).watermark_ms
        assert watermark is not None
        assert watermark >= self.watermark
        begun = self.watermark or watermark // HOUR_MS * HOUR_MS
        for hour in range(begun // HOUR_MS * HOUR_MS, watermark // HOUR_MS * HOUR_MS, HOUR_MS):
            assert hour not in self.counts
            self.counts[hour] = self.count(hour)
        self.watermark = watermark

    def count(self, hour: int) -> int:
        begin, end = (datetime.fromtimestamp(ms / 1000, UTC).isoformat() for ms in (hour, hour + HOUR_MS))
        ((count,),) = judge.query(
            self.lake.table,
            f"""SELECT count(*) FROM {{table}} WHERE "at" >= TIMESTAMPTZ '{begin}' AND "at" < TIMESTAMPTZ '{end}'""",
        )
        assert isinstance(count, int)
        return count


@pytest.mark.parametrize("hours", [5, pytest.param(30, marks=pytest.mark.slow)])
def test_each_hour_is_complete_once_and_has_the_rows_that_it_had_then_and_those_that_came_late(
    tmp_path: Path, broker: Broker, topic: Callable[..., str], hours: int
) -> None:
    lake = Lake.open(tmp_path, broker, topic(3, {"retention.ms": "-1"}), schema=COLUMNS, event_time=EVENT_TIME)
    day = Day(lake, PUT_BACK - timedelta(hours=hours // 2))

    for number in range(hours):
        day.pass_hour(silent=frozenset({2}) if number >= hours // 2 else frozenset())
        active = [newest for partition, newest in day.newest.items() if partition != 2 or number < hours // 2]
        assert day.watermark == min(active) - DISORDER
    day.send(2, day.now - 2 * HOUR_MS)
    day.run()

    late = read_table_times(lake.table).late_rows
    assert late == {(day.now - 2 * HOUR_MS) // HOUR_MS * HOUR_MS: 1}
    assert sorted(day.counts) == list(range(min(day.counts), day.watermark // HOUR_MS * HOUR_MS, HOUR_MS))
    assert len(day.counts) >= hours - 2
    assert {hour: day.count(hour) for hour in day.counts} == {hour: n + late.get(hour, 0) for hour, n in day.counts.items()}
    assert {"2026-10-25T02+02:00", "2026-10-25T02+01:00"} <= day.local_hours
    closed = {ref for ref in lake.table.metadata.refs if ref.startswith("complete-2026-10-2")}
    assert "complete-2026-10-24" in closed
    assert ("complete-2026-10-25" in closed) == (hours == 30 and day.watermark >= to_ms(datetime(2026, 10, 26, tzinfo=UTC)))
