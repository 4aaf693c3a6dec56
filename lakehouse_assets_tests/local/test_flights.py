"""The demo's messages: the same ones every time, and none left out after a restart."""

import json
from collections import Counter
from itertools import islice

import pytest

from lakehouse_assets.local.flights import PARTITION_COUNT, DemoMessage, find_flights, read_flights


def _first(count: int, produced: dict[int, int] | None = None) -> list[DemoMessage]:
    return list(islice(read_flights(find_flights(), produced or {}), count))


def test_a_flight_is_json_with_integers_and_a_time_in_utc() -> None:
    message = _first(1)[0]

    assert message.key == b"UA"
    assert json.loads(message.value) == {
        "year": 2013, "month": 1, "day": 1, "dep_time": 517, "sched_dep_time": 515, "dep_delay": 2, "arr_time": 830,
        "sched_arr_time": 819, "arr_delay": 11, "carrier": "UA", "flight": 1545, "tailnum": "N14228", "origin": "EWR",
        "dest": "IAH", "air_time": 227, "distance": 1400, "hour": 5, "minute": 15, "time_hour": "2013-01-01T10:00:00Z",
    }  # fmt: skip
    assert b".0" not in message.value


def test_what_a_flight_lacks_is_absent() -> None:
    cancelled = next(m for m in _first(2000) if "dep_time" not in json.loads(m.value))

    assert {"carrier", "flight", "time_hour"} <= json.loads(cancelled.value).keys()
    assert not any(value is None or value == "" for value in json.loads(cancelled.value).values())


def test_a_carrier_always_goes_to_the_same_partition() -> None:
    messages = _first(2000)

    assert {m.partition for m in messages} == set(range(PARTITION_COUNT))
    assert len({(m.key, m.partition) for m in messages}) == len({m.key for m in messages})


@pytest.mark.parametrize("lost", [0, 3])
def test_after_a_crash_each_partition_goes_on_where_it_ends_whatever_the_others_have(lost: int) -> None:
    messages = _first(3000)
    # What was in flight may have reached one partition and not another.
    produced = Counter(m.partition for m in messages[:1000])
    produced[1] -= lost

    rest = _first(1000, dict(produced))

    for partition in range(PARTITION_COUNT):
        expected = [m for m in messages if m.partition == partition][produced[partition] :]
        found = [m for m in rest if m.partition == partition]
        assert found == expected[: len(found)]
