"""Slices: keys, times and offsets of an asset partition."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.model.slices import SliceClock, TimeSlice, boundary_times, slice_offsets, to_ms

START = datetime(2026, 11, 1, tzinfo=UTC)
HOURS, DAYS = SliceClock("hour", START), SliceClock("day", START)
HOUR_MS = 3_600_000


@given(st.sampled_from([HOURS, DAYS]), st.integers(0, 400 * 24 * HOUR_MS))
def test_a_time_lies_in_the_window_of_its_key(clock: SliceClock, after_ms: int) -> None:
    time_ms = clock.start_ms + after_ms

    begin, end = clock.window_ms(clock.key(time_ms))

    assert begin <= time_ms < end
    assert end - begin == clock.length_ms
    assert begin == clock.begin_ms(time_ms)


@pytest.mark.parametrize(
    ("clock", "key"), [(HOURS, "2026-11-01-13:00"), (DAYS, "2026-11-05")], ids=["hour", "day"]
)
def test_a_key_round_trips(clock: SliceClock, key: str) -> None:
    assert clock.key(clock.window_ms(key)[0]) == key


@given(
    st.sampled_from([HOURS, DAYS]),
    st.integers(0, to_ms(START) - 1),
)
def test_a_time_before_the_first_partition_lies_in_it(clock: SliceClock, time_ms: int) -> None:
    assert clock.begin_ms(time_ms) == clock.start_ms


@pytest.mark.parametrize("key", ["2026-11-01", "2026-11-01T13:00", "", "2026-13-01-00:00"])
def test_a_key_of_another_form_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="does not match|unconverted"):
        HOURS.window_ms(key)


@pytest.mark.parametrize("change", ["2026-03-29", "2026-10-25"])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_hours_around_a_change_of_clocks_are_the_same_on_every_machine(change: str, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SliceClock("hour", datetime(2026, 1, 1, tzinfo=UTC))
    midnight = datetime.fromisoformat(f"{change}T00:00+00:00")
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        keys = [clock.key(to_ms(midnight + timedelta(hours=i))) for i in range(-24, 48)]
        windows = [clock.window_ms(key) for key in keys]
    finally:
        monkeypatch.undo()
        time.tzset()

    assert len(set(keys)) == 72
    assert [begin for begin, _ in windows[1:]] == [end for _, end in windows[:-1]]
    assert {end - begin for begin, end in windows} == {HOUR_MS}
    assert keys[24] == f"{change}-00:00"


def test_the_first_partition_reaches_back_to_the_beginning_of_the_table() -> None:
    begin, end = HOURS.window_ms("2026-11-01-00:00")
    boundaries = {0: {begin: 100, end: 200}, 1: {begin: 7, end: 7}}

    assert slice_offsets(HOURS, "2026-11-01-00:00", boundaries, {0: 40}) == {0: (40, 200), 1: (0, 7)}


def test_a_later_partition_begins_at_its_own_boundary() -> None:
    begin, end = HOURS.window_ms("2026-11-01-01:00")

    assert slice_offsets(HOURS, "2026-11-01-01:00", {0: {begin: 100, end: 200}}, {0: 40}) == {0: (100, 200)}


def test_neighbouring_partitions_share_a_boundary_so_nothing_lies_between_them() -> None:
    keys = [HOURS.key(to_ms(START + timedelta(hours=i))) for i in range(4)]
    times = boundary_times(HOURS, keys)
    boundaries = {0: {time: 10 * i for i, time in enumerate(times)}}

    slices = [slice_offsets(HOURS, key, boundaries, {})[0] for key in keys]

    assert slices == [(0, 10), (10, 20), (20, 30), (30, 40)]


def test_a_range_of_time_is_made_of_slices() -> None:
    day = TimeSlice.between(START + timedelta(days=2), START + timedelta(days=3))

    hours = HOURS.split(day)

    assert len(hours) == 24
    assert [hours[0].start_ms, *(hour.stop_ms for hour in hours)] == [day.start_ms, *(hour.start_ms for hour in hours[1:]), day.stop_ms]
    assert (DAYS.split(day), DAYS.split(hours[3])) == ([day], [hours[3]])


def test_a_slice_of_time_that_does_not_last_is_refused() -> None:
    with pytest.raises(ValueError, match="ends no later than it begins"):
        TimeSlice(HOUR_MS, HOUR_MS)


def test_a_slice_of_time_says_in_utc_from_when_to_when() -> None:
    within = TimeSlice.between(START, START + timedelta(hours=1))

    assert str(within) == "2026-11-01T00:00:00Z to 2026-11-01T01:00:00Z"
    assert (within.start, within.stop) == (START, START + timedelta(hours=1))
    assert within.stop_ms - within.start_ms == HOUR_MS
