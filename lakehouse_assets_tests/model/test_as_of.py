"""What is meant by a tag, an id and a time, and what is no longer there."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.model.as_of import AsOf, History, KnownSnapshot, find_snapshot, read_pin_name
from lakehouse_assets.model.errors import SnapshotMissingError

START = datetime(2026, 11, 1, tzinfo=UTC)
MINUTE_MS = 60_000


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def make_history(*log: int, gone: frozenset[int] = frozenset(), last: int = 4, **refs: int) -> History:
    """Snapshots 1 to `last` were made one after the other, a minute apart; `log` says which one was current in each minute."""
    numbers = [number for number in range(1, last + 1) if number not in gone]
    before = {one: log[log.index(one) - 1] if log.index(one) else None for one in numbers}
    snapshots = {one: KnownSnapshot(before[one] if before[one] in numbers else None, one) for one in numbers}
    begin = int(START.timestamp() * 1000)
    entries = [(begin + i * MINUTE_MS, one) for i, one in enumerate(log) if one not in gone]
    return History("ods.clicks", {"main": log[-1], **refs}, snapshots, last, entries)


LINEAR = make_history(1, 2, 3, 4, training=2)


@pytest.mark.parametrize(
    ("as_of", "found"),
    [
        ("training", 2), ("main", 4), (3, 3), ("3", 3),
        (at(0), 1), (at(0.99), 1), (at(1), 2), (at(3), 4), (at(99), 4),
        ("2026-11-01T00:01", 2), ("2026-11-01T00:01:30Z", 2), ("2026-11-01T01:02:00+01:00", 3),
        (at(2).astimezone(timezone(timedelta(hours=-5))), 3), ("2026-11-01", 1),
    ],
)  # fmt: skip
def test_a_snapshot_is_meant_by_a_name_an_id_or_a_time(as_of: AsOf, found: int) -> None:
    assert find_snapshot(LINEAR, as_of) == found


def test_a_name_comes_before_a_number_and_a_time() -> None:
    history = make_history(1, 2, 3, 4, **{"3": 1, "2026-11-01": 2})

    assert (find_snapshot(history, "3"), find_snapshot(history, "2026-11-01"), find_snapshot(history, 3)) == (1, 2, 3)


@pytest.mark.parametrize(
    ("as_of", "reason"),
    [
        (9, "none of its 4 snapshots has this id"),
        ("trainin", "it is no tag of the table, no snapshot id, and no time"),
        (at(-1), "the oldest state that it still has is of 2026-11-01T00:00:00Z"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_said_with_what_there_is(as_of: AsOf, reason: str) -> None:
    with pytest.raises(SnapshotMissingError) as caught:
        find_snapshot(LINEAR, as_of)

    assert caught.value.reason == reason
    assert caught.value.refs == ("main", "training")


def test_the_nearest_name_is_offered() -> None:
    with pytest.raises(SnapshotMissingError, match="Did you mean 'training'"):
        find_snapshot(LINEAR, "trainin")


def test_a_table_without_rows_was_never_anything() -> None:
    with pytest.raises(SnapshotMissingError, match="has no snapshot yet"):
        find_snapshot(History("ods.clicks", {}, {}, 0, []), "main")


def test_a_time_whose_snapshot_expired_is_not_that_of_the_one_before_which_a_tag_keeps() -> None:
    history = make_history(1, 2, 3, 4, gone=frozenset({2, 3}), kept=1)

    with pytest.raises(SnapshotMissingError, match="what was current then has expired; the next .* is of 2026-11-01T00:03:00Z"):
        find_snapshot(history, at(1.5))
    assert [find_snapshot(history, as_of) for as_of in ("kept", at(0), at(3))] == [1, 1, 4]


def test_a_time_before_a_rollback_is_what_was_current_then() -> None:
    history = make_history(1, 2, 1, 3, last=3)

    assert [find_snapshot(history, at(minute)) for minute in range(4)] == [1, 2, 1, 3]


def test_what_was_rolled_back_and_expired_is_missed() -> None:
    history = make_history(1, 2, 1, 3, gone=frozenset({2}), last=3)

    with pytest.raises(SnapshotMissingError, match="expired"):
        find_snapshot(history, at(1))
    assert find_snapshot(history, at(2)) == 1


@given(st.lists(st.integers(1, 9), unique=True, max_size=8).map(frozenset), st.integers(0, 10 * MINUTE_MS))
def test_a_time_is_read_as_it_was_or_not_at_all(gone: frozenset[int], ms: int) -> None:
    history = make_history(*range(1, 11), gone=gone, last=10)
    expected = min(ms // MINUTE_MS + 1, 10)

    try:
        found = find_snapshot(history, START + timedelta(milliseconds=ms))
    except SnapshotMissingError:
        found = None

    assert found == expected or (found is None and (gone & {expected, expected + 1}))


@pytest.mark.parametrize("name", ["2026_11", "12", "2026-11-01", "", "a b", "-x", "ä", "a" * 129])
def test_a_name_that_could_be_read_as_something_else_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="begins with a letter"):
        read_pin_name(name)
