"""What change streams bring: each of these once, in one batch and across batches, merged on read and copied on write."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from lakehouse_assets_tests import judge
from lakehouse_assets_tests.change_streams import PLACEHOLDER, Message, debezium, key_of
from lakehouse_assets_tests.operations.stream import MakeStream, Stream, gone

pytestmark = pytest.mark.kafka

MODES = ["merge-on-read", "copy-on-write"]


HOW = [
    pytest.param((True, "copy-on-write"), id="one batch, copied"),
    pytest.param((False, "merge-on-read"), id="across batches, merged"),
    pytest.param((True, "merge-on-read"), id="one batch, merged", marks=pytest.mark.slow),
    pytest.param((False, "copy-on-write"), id="across batches, copied", marks=pytest.mark.slow),
]


@pytest.fixture(params=HOW)
def stream(request: pytest.FixtureRequest, open_stream: MakeStream) -> Stream:
    """Of one topic partition."""
    whole, mode = request.param
    return open_stream(whole=whole, mode=mode)


def test_insert_update_delete_and_insert_of_one_key_leave_the_last_row(stream: Stream) -> None:
    change = stream.change

    stream.send(change("c", 1, "a"), change("u", 1, "b"), change("d", 1), gone(1), change("c", 1, "c", 4), change("c", 2, "z"))

    assert stream.rows == {1: ("c", 4), 2: ("z", 0)}
    stream.send(change("u", 1, "d"), change("d", 1), gone(1))
    assert stream.rows == {2: ("z", 0)}


def test_changes_of_the_same_millisecond_and_position_follow_their_offsets(stream: Stream) -> None:

    stream.send(*(stream.change("u", 1, name, position=7) for name in "abc"))

    assert stream.rows == {1: ("c", 0)}


def test_a_row_whose_key_changes_stands_under_the_new_key_alone(stream: Stream) -> None:
    change = stream.change

    stream.send(change("c", 1, "large"), change("c", 2, "other"))
    stream.send(change("d", 1), gone(1), change("c", 5, PLACEHOLDER, 9, old=1))
    assert stream.rows == {5: ("large", 9), 2: ("other", 0)}

    stream.send(change("d", 5), gone(5), change("c", 6, PLACEHOLDER, old=5), change("d", 6), gone(6), change("c", 7, "x", old=6))
    assert stream.rows == {7: ("x", 0), 2: ("other", 0)}


def test_a_tombstone_alone_deletes_and_one_that_comes_first_is_no_matter(stream: Stream) -> None:

    stream.send(gone(1), stream.change("c", 1, "a"), stream.change("c", 2, "b"), gone(2), gone(3))

    assert stream.rows == {1: ("a", 0)}
    stream.send(gone(1))
    assert stream.rows == {}


@pytest.mark.parametrize("mode", MODES)
def test_an_update_that_moves_a_row_to_another_partition_takes_it_out_of_the_old_one(open_stream: MakeStream, mode: str) -> None:
    stream = open_stream(whole=mode == "copy-on-write", mode=mode, partition_by=["truncate(1, name)"])
    change = stream.change

    stream.send(change("c", 1, "abc"), change("c", 2, "axy"), change("u", 1, "bcd"), change("u", 1, None), change("u", 2, "c"))

    assert stream.rows == {1: (None, 0), 2: ("c", 0)}
    stream.send(change("d", 1), gone(1), change("u", 2, "axy"))
    assert stream.rows == {2: ("axy", 0)}


def test_a_value_that_an_update_leaves_out_stays_and_the_placeholder_never_comes(stream: Stream) -> None:
    change = stream.change

    stream.send(change("c", 1, "large"), change("u", 1, PLACEHOLDER, 1), change("u", 1, PLACEHOLDER, 2), change("c", 2, None))
    assert stream.rows == {1: ("large", 2), 2: (None, 0)}

    stream.send(change("u", 2, PLACEHOLDER, 5), change("u", 1, "small", 3), change("u", 1, PLACEHOLDER, 4))
    assert stream.rows == {1: ("small", 4), 2: (None, 5)}


def test_a_value_that_nothing_knows_is_quarantined_and_its_row_stays_as_it_was(open_stream: MakeStream) -> None:
    stream = open_stream()

    stream.send(stream.change("u", 1, PLACEHOLDER, 1), stream.change("c", 2, "b"))

    assert stream.rows == {2: ("b", 0)}
    assert stream.lake.quarantined() == [(0, 0)]


def test_reads_of_a_snapshot_that_overlap_with_the_stream_leave_each_row_once(stream: Stream) -> None:
    change = stream.change

    stream.send(change("r", 1, "a"), change("u", 1, "b"), change("r", 1, "b"), change("r", 2, "x"), change("d", 2), gone(2))

    assert stream.rows == {1: ("b", 0)}


def test_the_end_of_a_log_that_is_sent_again_changes_nothing(stream: Stream) -> None:
    change = stream.change
    log = [change("c", 1, "a"), change("u", 1, "b"), change("c", 2, "x"), change("d", 2), gone(2), change("c", 3, "y", 1)]

    stream.send(*log)
    before = stream.rows
    stream.whole = True
    stream.send(*log[2:])
    stream.send(*log)

    assert stream.rows == before == {1: ("b", 0), 3: ("y", 1)}


def test_messages_without_a_key_are_quarantined_one_by_one_deletions_too(open_stream: MakeStream) -> None:
    stream = open_stream()
    lost = json.dumps({"op": "c", "before": None, "after": {"name": "x"}, "source": {"lsn": 5}}).encode()

    stream.send(stream.change("c", 1, "a"), Message(None, lost), gone(None), Message(key_of(1), b"no JSON"), stream.change("u", 1))

    assert stream.rows == {1: (None, 0)}
    assert stream.lake.quarantined() == [(0, 1), (0, 2), (0, 3)]
    assert stream.lake.lag() == 0


def test_after_a_truncation_only_what_came_later_is_there(stream: Stream) -> None:
    change = stream.change
    truncation = Message(None, debezium("t", 5000, None, None))

    stream.send(change("c", 1, "a"), change("c", 2, "b"))
    stream.send(change("c", 3, "c"), truncation, change("c", 4, "d", position=5001), change("c", 1, "new", position=5002))
    assert stream.rows == {4: ("d", 0), 1: ("new", 0)}

    stream.send(Message(None, debezium("t", 6000, None, None)))
    assert stream.rows == {}


def test_messages_that_say_nothing_of_rows_are_skipped(open_stream: MakeStream) -> None:
    stream = open_stream()
    beat = Message(b'{"serverName":"shop"}', b'{"ts_ms":1795446514100}')
    begin = {"status": "BEGIN", "id": "571:5", "event_count": None, "data_collections": None, "ts_ms": 1}

    stream.send(stream.change("c", 1, "a"), beat, Message(b'{"id":"571"}', json.dumps(begin).encode()), stream.change("u", 1, "b"))

    assert stream.rows == {1: ("b", 0)}
    assert stream.lake.quarantined() == []


@pytest.mark.parametrize("mode", MODES)
def test_of_changes_of_one_key_in_two_topic_partitions_the_later_in_the_source_wins(open_stream: MakeStream, mode: str) -> None:
    stream = open_stream(2, mode=mode)
    change = stream.change

    stream.send(change("u", 1, "new", position=20), change("c", 2, "old", position=5))
    stream.send(change("u", 1, "old", position=10), change("u", 2, "new", position=6), partition=1)
    assert stream.rows == {1: ("new", 0), 2: ("new", 0)}

    stream.send(change("d", 2, position=7))
    stream.send(change("d", 1, position=15), partition=1)
    assert stream.rows == {1: ("new", 0)}


@pytest.mark.parametrize(("mode", "layout"), [("merge-on-read", ["bucket(3, a)"]), ("copy-on-write", ["truncate(1, name)"])])
def test_a_key_of_two_columns_is_one_key(open_stream: MakeStream, mode: str, layout: Sequence[str]) -> None:
    columns = [{"name": "a", "type": "long", "required": True}, {"name": "b", "type": "string", "required": True}]
    columns.append({"name": "name", "type": "string"})
    stream = open_stream(mode=mode, schema=columns, key=["a", "b"], partition_by=layout, source={"format": "json"})

    def put(a: int, b: str, name: str | None) -> Message:
        key = {"a": a, "b": b}
        return Message(json.dumps(key).encode(), None if name is None else json.dumps({**key, "name": name}).encode())

    stream.send(put(1, "x", "one"), put(1, "y", "two"), put(2, "x", "three"), put(1, "x", "four"))
    stream.send(put(1, "y", None), put(2, "x", "five"), put(2, "y", "six"), put(3, "z", None))

    rows = judge.query(stream.lake.table, "SELECT a, b, name FROM {table} ORDER BY ALL")
    assert rows == [(1, "x", "four"), (2, "x", "five"), (2, "y", "six")]


KEYS: dict[str, tuple[Any, Any]] = {
    "string": ("a'b\"c", "ä"),
    "int": (-1, 2**31 - 1),
    "long": (0, 2**53 + 1),
    "decimal(12,2)": ("1.10", "-9999999999.99"),
    "date": ("1969-12-31", "2026-11-27"),
    "time": ("00:00:00", "23:59:59.999999"),
    "timestamp": ("2026-11-27T12:00:00.000001", "1969-12-31T23:59:59"),
    "timestamptz": ("2026-11-27T12:00:00+02:00", "1970-01-01T00:00:00Z"),
    "uuid": ("123e4567-e89b-12d3-a456-426614174000", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    "binary": ("AAH/", "YWJj"),
    "boolean": (True, False),
}


@pytest.mark.parametrize("layout", [pytest.param([], marks=pytest.mark.slow), ["bucket(4, id)"]], ids=["no partitions", "buckets"])
@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_every_type_are_found_again(open_stream: MakeStream, kind: str, layout: list[str]) -> None:
    if kind == "boolean" and layout:
        layout = ["id"]  # there are no buckets of these
    columns = [{"name": "id", "type": kind, "required": True}, {"name": "name", "type": "string"}]
    stream = open_stream(schema=columns, partition_by=layout, source={"format": "json"})
    one, other = KEYS[kind]

    def put(identity: Any, name: str | None) -> Message:
        key = {"id": identity}
        return Message(json.dumps(key).encode(), None if name is None else json.dumps({**key, "name": name}).encode())

    stream.send(put(one, "a"), put(other, "b"))
    stream.send(put(one, "c"))
    assert judge.query(stream.lake.table, "SELECT name FROM {table} ORDER BY ALL") == [("b",), ("c",)]

    stream.send(put(other, None))
    assert judge.query(stream.lake.table, "SELECT name FROM {table} ORDER BY ALL") == [("c",)]
    assert stream.lake.quarantined() == []
