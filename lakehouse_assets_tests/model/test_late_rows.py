"""Rows that come when their hour was complete are counted until their slice is old."""

from lakehouse_assets.model.completeness import DAY_MS, HOUR_MS
from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.watermark import Arrivals, EventTimes, count_late


def test_rows_of_complete_hours_are_added_up_and_others_are_not() -> None:
    ledger = Ledger({}, watermark_ms=5 * HOUR_MS, late_rows={2 * HOUR_MS: 7})
    arrivals = Arrivals(EventTimes(hours={2 * HOUR_MS: 1, 4 * HOUR_MS: 2, 5 * HOUR_MS: 3}), HOUR_MS, DAY_MS)

    assert count_late(ledger, arrivals).late_rows == {2 * HOUR_MS: 8, 4 * HOUR_MS: 2}


def test_nothing_is_late_before_there_is_a_watermark() -> None:
    assert count_late(Ledger({}), Arrivals(EventTimes(hours={0: 1}), HOUR_MS, DAY_MS)).late_rows == {}


def test_they_are_forgotten_when_their_slice_ended_longer_ago_than_the_horizon() -> None:
    watermark_ms = 3 * DAY_MS + 12 * HOUR_MS
    hours = {hour * HOUR_MS: 1 for hour in range(3 * 24)}
    ledger = Ledger({}, watermark_ms=watermark_ms, late_rows=hours)

    by_hour = count_late(ledger, Arrivals(EventTimes(hours=hours), HOUR_MS, 2 * HOUR_MS)).late_rows
    by_day = count_late(ledger, Arrivals(EventTimes(hours=hours), DAY_MS, DAY_MS)).late_rows

    assert by_hour == {}
    assert by_day == {hour * HOUR_MS: 2 for hour in range(2 * 24, 3 * 24)}


def test_what_was_told_once_stays_told_after_the_table_was_taken_back() -> None:
    older = Ledger({"a": "id"}, watermark_ms=1, late_rows={0: 1, HOUR_MS: 5})
    promised = Ledger({"a": "other"}, watermark_ms=2, late_rows={0: 3})

    assert older.never_before(promised) == Ledger({"a": "id"}, watermark_ms=2, late_rows={0: 3, HOUR_MS: 5})
