"""Which slices of event time are reported as complete: each when the watermark has passed it, once, whatever becomes of the cursor."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from lakehouse_assets.environment import Environment
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.systems import Systems, open_environment
from lakehouse_assets.orchestration.checks import evaluate_check
from lakehouse_assets.orchestration.completeness import MOST_EVENTS, build_complete_sensors
from lakehouse_assets.orchestration.names import complete_key
from lakehouse_assets.orchestration.resources import LakehouseResource
from lakehouse_assets_tests.builders import HOUR_MS
from lakehouse_assets_tests.orchestration.hours import Watermarks, ago, declare, hour


class Reporting:
    """Tables whose watermarks the test moves, and what a daemon makes of the sensor's ticks."""

    def __init__(self, systems: Systems, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.cursor: str | None = None
        self.commit = Watermarks(systems.catalog).commit

    def look(self, *specs: TableSpec) -> dg.SensorResult:
        (sensor,) = build_complete_sensors(specs)
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            result = sensor(context, lakehouse=LakehouseResource())
        assert isinstance(result, dg.SensorResult)
        return result

    def tick(self, *specs: TableSpec, dies_after: int | None = None) -> list[str | None]:
        """The partitions that are reported. A daemon that dies has stored some of the events, and no cursor."""
        result = self.look(*specs)
        for event in result.asset_events[:dies_after]:
            self.instance.report_runless_asset_event(event)
        if dies_after is None:
            self.cursor = result.cursor
        return [event.partition for event in result.asset_events if isinstance(event, dg.AssetMaterialization)]

    def late_rows(self, spec: TableSpec) -> dict[str | None, list[object]]:
        """What the events of each partition tell of late rows, the oldest first."""
        told: dict[str | None, list[object]] = {}
        for record in reversed(self.instance.fetch_materializations(complete_key(spec.table), limit=1000).records):
            assert record.asset_materialization is not None
            told.setdefault(record.partition_key, []).append(record.asset_materialization.metadata["late_rows"].value)
        return told


@pytest.fixture
def systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systems:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    return open_environment(Environment.read())


@pytest.fixture
def reporting(systems: Systems) -> Iterator[Reporting]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Reporting(systems, instance)


def test_a_slice_is_reported_once_when_the_watermark_has_passed_its_end(reporting: Reporting) -> None:
    spec = declare()
    assert reporting.tick(spec) == []  # there is no table

    reporting.commit(spec, ago(4) - 1)
    assert reporting.tick(spec) == []

    reporting.commit(spec, ago(4))
    assert reporting.tick(spec) == [hour(5)]
    assert reporting.tick(spec) == []

    reporting.commit(spec, ago(2) + 60_000)
    assert reporting.tick(spec) == [hour(4), hour(3)]
    newest = reporting.instance.get_latest_materialization_event(complete_key(spec.table))
    assert newest is not None
    assert newest.asset_materialization is not None
    metadata = newest.asset_materialization.metadata
    assert metadata["watermark"].value == (ago(2) + 60_000) / 1000
    assert str(metadata["snapshot_id"].value).isdigit()


def test_an_hour_is_not_told_of_before_it_has_ended_whatever_rows_say(reporting: Reporting) -> None:
    spec = declare()
    reporting.commit(spec, ago(-2))
    assert reporting.tick(spec)[-1] == hour(1)


def test_a_daemon_that_dies_between_events_and_cursor_reports_the_rest_and_nothing_twice(reporting: Reporting) -> None:
    spec = declare()
    reporting.commit(spec, ago(0))
    assert len(reporting.tick(spec, dies_after=2)) == 5
    assert reporting.tick(spec, dies_after=0) == [hour(3), hour(2), hour(1)]
    assert reporting.tick(spec) == [hour(3), hour(2), hour(1)]
    assert reporting.tick(spec) == []


def test_a_lost_cursor_and_an_edited_one_report_nothing_twice(reporting: Reporting) -> None:
    spec = declare()
    reporting.commit(spec, ago(1))
    reporting.commit(spec, ago(0), {ago(3): 2})
    reporting.tick(spec)
    for cursor in (None, "{}", '{"ods.clicks": {"until": "2020-01-01-00:00", "late": {}}}'):
        reporting.cursor = cursor
        assert reporting.tick(spec) == []
    assert reporting.late_rows(spec) == {hour(5): [0], hour(4): [0], hour(3): [2], hour(2): [0], hour(1): [0]}


def test_late_rows_report_their_slice_again_each_time_there_are_more(reporting: Reporting) -> None:
    spec = declare()
    reporting.commit(spec, ago(0))
    reporting.tick(spec)

    reporting.commit(spec, ago(0), {ago(2): 3, ago(0): 7})  # this hour is not complete
    assert reporting.tick(spec) == [hour(2)]
    assert reporting.tick(spec) == []
    reporting.commit(spec, ago(0), {ago(2): 1, ago(4): 1})
    assert reporting.tick(spec, dies_after=1) == [hour(4), hour(2)]
    assert reporting.tick(spec) == [hour(2)]
    assert (reporting.late_rows(spec)[hour(2)], reporting.late_rows(spec)[hour(4)]) == ([0, 3, 4], [0, 1])


def test_late_rows_beyond_the_horizon_are_not_reported(reporting: Reporting) -> None:
    spec = declare(late_horizon="1h")
    reporting.commit(spec, ago(0))
    reporting.tick(spec)
    reporting.commit(spec, ago(0), {ago(5): 1, ago(2): 1})
    assert reporting.tick(spec) == [hour(2)]


def test_days_are_reported_with_the_late_rows_of_all_their_hours(reporting: Reporting) -> None:
    day_ms = 24 * HOUR_MS
    day = ago(0) // day_ms * day_ms
    spec = declare(start_ms=day - 2 * day_ms, every="day", late_horizon="3d")
    reporting.commit(spec, day - HOUR_MS)
    yesterday, before = (datetime.fromtimestamp((day - n * day_ms) / 1000, UTC).strftime("%Y-%m-%d") for n in (1, 2))
    assert reporting.tick(spec) == [before]
    reporting.commit(spec, day, {day - day_ms: 1, day - 2 * day_ms: 2, day - 2 * day_ms + HOUR_MS: 3})
    assert reporting.tick(spec) == [before, yesterday]
    assert reporting.late_rows(spec) == {before: [0, 5], yesterday: [1]}


def test_very_many_slices_are_reported_in_portions(reporting: Reporting) -> None:
    spec, other = declare(start_ms=ago(MOST_EVENTS + 50)), declare("ods.views")
    for one in (spec, other):
        reporting.commit(one, ago(0))
    portions = [reporting.tick(spec, other) for _ in range(3)]
    assert [len(portion) for portion in portions] == [MOST_EVENTS, 55, 0]
    assert len(reporting.late_rows(spec)) == MOST_EVENTS + 50


def test_a_table_that_cannot_be_read_keeps_no_other_waiting(
    reporting: Reporting, systems: Systems, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, good = declare("ods.broken"), declare("ods.good")
    for spec in (broken, good):
        reporting.commit(spec, ago(4))
    with systems.catalog.load_table("ods.broken").transaction() as change:
        change.set_properties({"lakehouse.ledger": "nonsense"})

    assert reporting.tick(broken, good) == [hour(5)]
    with pytest.raises(dg.Failure) as failure:
        reporting.tick(broken)
    assert "ods.broken" in str(failure.value.description)


def test_the_check_says_up_to_when_what_holds_it_back_and_how_many_rows_came_late(reporting: Reporting, systems: Systems) -> None:
    spec = declare()

    def judge() -> dg.AssetCheckEvaluation:
        return evaluate_check("complete", spec, lambda: systems)

    assert (judge().passed, judge().severity) == (True, dg.AssetCheckSeverity.WARN)
    reporting.commit(spec, ago(3) + 60_000)
    behind = judge()
    missing = int(behind.metadata["incomplete_slices"].value)  # type: ignore[arg-type]
    assert (behind.passed, missing) in {(False, 2), (False, 3)}  # the last hour has its quarter of patience
    at = datetime.fromtimestamp(ago(3) / 1000, UTC)
    assert behind.description == (
        f"complete up to {at:%Y-%m-%d %H:00} UTC, though {missing} hours after that should be; "
        f"clicks-0 is at {at:%Y-%m-%d %H:01} UTC"
    )
    assert float(behind.metadata["watermark_behind_seconds"].value) > 3 * 3600 - 61  # type: ignore[arg-type]

    reporting.commit(spec, ago(0), {ago(4): 7})
    done = judge()
    assert (done.passed, done.metadata["incomplete_slices"].value, done.metadata["late_rows"].value) == (True, 0, 7)


def test_the_check_is_recorded_with_each_slice_and_when_it_changes_its_mind(
    reporting: Reporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = declare()

    def checks() -> list[bool]:
        result = reporting.look(spec)
        for event in result.asset_events:
            reporting.instance.report_runless_asset_event(event)
        reporting.cursor = result.cursor
        return [event.passed for event in result.asset_events if isinstance(event, dg.AssetCheckEvaluation)]

    reporting.commit(spec, ago(0))
    assert (checks(), checks()) == ([True], [])
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * 3600)
    assert (checks(), checks()) == ([False], [])
