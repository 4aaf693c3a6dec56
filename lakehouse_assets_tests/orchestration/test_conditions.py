"""When partitions downstream of tables are asked for, as Dagster evaluates it, tick by tick."""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg
import pytest

from lakehouse_assets.orchestration.conditions import OnLate, hour_is_complete, on_update
from lakehouse_assets_tests.orchestration.world import (
    COMPLETE,
    FLIGHTS,
    ROLLUP,
    START,
    World,
    day,
    days,
    hour,
    hours,
    rollup,
)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def test_an_hour_runs_once_when_it_is_complete_and_never_before(instance: dg.DagsterInstance) -> None:
    world = World(instance, rollup(hour_is_complete()))
    assert world.tick(3.1) == set()

    world.completed(0, 1)
    assert world.tick(3.2) == {hour(0), hour(1)}
    assert world.tick(3.3) == set()
    world.ran(hour(0))
    world.ran(hour(1))
    assert world.tick(3.4) == set()

    world.completed(2)
    assert world.tick(3.5) == {hour(2)}


def test_a_new_asset_runs_for_everything_that_is_complete_already(instance: dg.DagsterInstance) -> None:
    world = World(instance, rollup(hour_is_complete()))
    world.completed(*range(5))
    assert world.tick(7) == {hour(number) for number in range(5)}
    assert world.tick(7.1) == set()


@pytest.mark.parametrize("on_late", ["report", "rerun"])
def test_a_lost_cursor_runs_nothing_twice(instance: dg.DagsterInstance, on_late: OnLate) -> None:
    world = World(instance, rollup(hour_is_complete(on_late)))
    world.completed(0, 1, 2)
    world.ran(hour(0))
    assert world.tick(3) == {hour(1), hour(2)}
    world.started(hour(1))
    world.ran(hour(2))

    world.cursor = None
    assert world.tick(3.1) == set()


def test_late_rows_leave_an_hour_as_it_is_or_run_it_again(instance: dg.DagsterInstance) -> None:
    for on_late, expected in (("report", set()), ("rerun", {hour(0)})):
        world = World(instance, rollup(hour_is_complete(on_late)))  # type: ignore[arg-type]
        world.tick(1)
        world.completed(0)
        assert world.tick(1.1) == {hour(0)}
        world.ran(hour(0))
        assert world.tick(1.2) == set()

        world.completed(0)
        assert world.tick(1.3) == expected
        assert world.tick(1.4) == set()
        instance.wipe_assets([ROLLUP, COMPLETE])


def test_rows_that_are_late_for_a_run_that_works_run_it_again_when_it_has_ended(instance: dg.DagsterInstance) -> None:
    world = World(instance, rollup(hour_is_complete("rerun")))
    world.completed(0)
    assert world.tick(1) == {hour(0)}
    run = world.started(hour(0))
    world.completed(0)  # after it has read, before it has written
    assert world.tick(1.1) == set()
    assert world.tick(1.2) == set()

    world.ended(run)
    assert world.tick(1.3) == {hour(0)}
    assert world.tick(1.4) == set()


def test_rows_that_are_late_between_a_tick_and_the_next_are_not_lost(instance: dg.DagsterInstance) -> None:
    world = World(instance, rollup(hour_is_complete("rerun")))
    world.completed(0)
    assert world.tick(1) == {hour(0)}
    run = world.started(hour(0))
    world.completed(0)
    world.ended(run)
    assert world.tick(1.1) == {hour(0)}
    world.ran(hour(0))
    assert world.tick(1.2) == set()


def test_clocks_that_differ_lose_no_late_rows(instance: dg.DagsterInstance) -> None:
    world, ahead = World(instance, rollup(hour_is_complete("rerun"))), 24 * 365  # the daemon's clock, of that of events
    world.completed(0)
    assert world.tick(ahead) == {hour(0)}
    run = world.started(hour(0))
    world.completed(0)
    world.ended(run)
    assert world.tick(ahead + 0.1) == {hour(0)}


@pytest.mark.parametrize("on_late", ["report", "rerun"])
def test_a_run_that_failed_is_not_repeated_until_there_is_news(instance: dg.DagsterInstance, on_late: OnLate) -> None:
    world = World(instance, rollup(hour_is_complete(on_late)))
    world.completed(0)
    assert world.tick(1) == {hour(0)}
    world.ran(hour(0), is_failing=True)
    for minute in range(1, 4):
        assert world.tick(1 + minute / 60) == set()

    world.completed(0)
    assert world.tick(1.1) == ({hour(0)} if on_late == "rerun" else set())
    world.completed(1)
    assert world.tick(2) == {hour(1)}


def test_a_day_waits_for_all_of_its_hours(instance: dg.DagsterInstance) -> None:
    # Its own partitions include the running day, whose later hours do not exist yet.
    world = World(instance, rollup(hour_is_complete(), days(end_offset=1)))
    assert world.tick(5.5) == set()
    world.completed(*range(5))
    assert world.tick(5.6) == set()
    world.completed(*range(5, 23))
    assert world.tick(23.9) == set()
    assert world.tick(30) == set()
    world.completed(23)
    assert world.tick(30.1) == {day(0)}
    assert world.tick(30.2) == set()


def test_a_running_hour_is_never_complete(instance: dg.DagsterInstance) -> None:
    world = World(instance, rollup(hour_is_complete(), hours(end_offset=1)))
    world.completed(0)
    assert world.tick(1.5) == {hour(0)}
    assert world.tick(1.9) == set()


def test_what_was_materialized_by_hand_too_early_runs_again_when_it_is_complete(instance: dg.DagsterInstance) -> None:
    world = World(instance, rollup(hour_is_complete()))
    world.tick(1)
    world.ran(hour(0))
    assert world.tick(1.1) == set()
    world.completed(0)
    assert world.tick(1.2) == {hour(0)}
    world.ran(hour(0))
    assert world.tick(1.3) == set()


def test_what_is_materialized_by_hand_meanwhile_is_not_asked_for(instance: dg.DagsterInstance) -> None:
    world = World(instance, rollup(hour_is_complete()))
    world.completed(0)
    run = world.started(hour(0))  # a new asset, which somebody fills before the first tick
    assert world.tick(1) == set()
    world.ended(run)
    assert world.tick(1.1) == set()


def test_nothing_runs_for_hours_before_the_tables_first_one(instance: dg.DagsterInstance) -> None:
    world = World(instance, rollup(hour_is_complete(), hours(start=START - timedelta(days=2))))
    world.completed(0)
    assert world.tick(2) == {hour(0)}


def test_tables_of_kafkas_hours_and_what_is_read_whole_hold_nothing_back(instance: dg.DagsterInstance) -> None:
    @dg.asset(partitions_def=hours(1))
    def aircraft() -> None: ...

    condition = hour_is_complete("rerun", whole=[aircraft.key])
    world = World(instance, rollup(condition, deps=(COMPLETE, FLIGHTS, aircraft)), aircraft)
    world.completed(0)
    assert world.tick(2) == {hour(0)}
    world.ran(hour(0))
    world.updated(FLIGHTS, hour(0))
    world.updated(aircraft.key, hour(0))
    assert world.tick(2.1) == set()


def test_all_of_several_tables_must_be_complete(instance: dg.DagsterInstance) -> None:
    weather = dg.AssetSpec(["ods", "weather__complete"], partitions_def=hours(1))
    world = World(instance, rollup(hour_is_complete(), deps=(COMPLETE, weather)), weather)
    world.completed(0, 1)
    assert world.tick(2) == set()
    world.updated(weather.key, hour(1))
    assert world.tick(2.1) == {hour(1)}


def test_a_chain_goes_link_by_link_also_over_a_failure(instance: dg.DagsterInstance) -> None:
    hourly = dg.AssetKey(["dm", "hourly"])
    middle = dg.AssetSpec(hourly, deps=[COMPLETE], partitions_def=hours(), automation_condition=hour_is_complete())
    world = World(instance, rollup(hour_is_complete(), days(), deps=(hourly,)), dg.AssetsDefinition(specs=[middle]))
    world.completed(*range(24))
    assert world.tick(25) == set()
    for number in range(23):
        world.updated(hourly, hour(number))
    assert world.tick(25.1) == set()
    world.updated(hourly, hour(23))
    assert world.tick(25.2) == {day(0)}


def test_an_asset_may_depend_on_its_own_hour_before(instance: dg.DagsterInstance) -> None:
    before = dg.AssetDep(ROLLUP, partition_mapping=dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1))
    world = World(instance, rollup(hour_is_complete(), deps=(COMPLETE, before)))
    world.completed(0, 1)
    assert world.tick(3) == {hour(0)}
    assert world.tick(3.1) == set()
    world.ran(hour(0))
    assert world.tick(3.2) == {hour(1)}


def test_it_composes_with_dagsters_own_conditions(instance: dg.DagsterInstance) -> None:
    recent = dg.AutomationCondition.in_latest_time_window(timedelta(hours=2))
    world = World(instance, rollup(hour_is_complete() & recent))
    world.completed(0, 1, 2, 3)
    assert world.tick(4) == {hour(2), hour(3)}


def test_what_failed_is_tried_again_where_another_condition_says_so(instance: dg.DagsterInstance) -> None:
    failed = dg.AutomationCondition.cron_tick_passed("0 * * * *") & dg.AutomationCondition.execution_failed()
    world = World(instance, rollup(hour_is_complete() | failed))
    world.completed(0)
    assert world.tick(1.1) == {hour(0)}
    world.ran(hour(0), is_failing=True)
    assert world.tick(1.9) == set()
    assert world.tick(2.1) == {hour(0)}
    world.ran(hour(0))
    assert world.tick(3.1) == set()


def test_a_table_that_is_a_whole_runs_when_an_input_has_changed_and_at_most_once_a_minute(instance: dg.DagsterInstance) -> None:
    @dg.asset(key=ROLLUP, deps=[FLIGHTS], automation_condition=on_update())
    def view() -> None: ...

    world = World(instance, view)
    minute = 1 / 60
    before = world.tick(0)
    world.updated(FLIGHTS, hour(0))
    first = world.tick(minute)
    instance.report_runless_asset_event(dg.AssetMaterialization(ROLLUP))
    quiet = world.tick(3 * minute)
    world.updated(FLIGHTS, hour(0))
    changed = world.tick(4 * minute)
    instance.report_runless_asset_event(dg.AssetMaterialization(ROLLUP))
    world.updated(FLIGHTS, hour(0))
    too_early = world.tick(4.5 * minute)
    later = world.tick(5 * minute)

    assert (before, first, quiet, changed, too_early, later) == (set(), {None}, set(), {None}, set(), {None})
