"""Changes of a database's rows, as Debezium sends them, in an upsert table."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from lakehouse_assets.model.errors import BadRecordError
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.operations.lake import Lake

pytestmark = pytest.mark.kafka

MakeLake = Callable[..., Lake]

_ABSENT = "__debezium_unavailable_value"
_COLUMNS = [
    {"name": "id", "type": "long", "required": True},
    {"name": "title", "type": "string"},
    {"name": "body", "type": "string"},
]
_DOCS: dict[str, Any] = {"mode": "upsert", "key": ["id"], "source": {"format": "debezium-json"}, "schema": _COLUMNS}


class Source:
    """A database whose log goes to a table's topic."""

    def __init__(self, table: Lake) -> None:
        self._table, self._lsn = table, 100

    def _send(self, key: int | None, value: dict[str, Any] | None, partition: int, headers: Any = None) -> None:
        encoded = None if value is None else json.dumps(value).encode()
        name = None if key is None else json.dumps({"id": key})
        self._table.broker.produce(self._table.topic, [encoded], key=name, partition=partition, headers=headers)

    def _say(self, op: str, key: int | None, after: dict[str, Any] | None, partition: int, lsn: int | None, headers: Any = None) -> None:
        self._lsn += 1
        before = {"id": key, "title": "", "body": ""} if op == "d" else None
        source = {"lsn": self._lsn if lsn is None else lsn}
        self._send(key, {"before": before, "after": after, "source": source, "op": op}, partition, headers)

    def put(self, key: int, title: str, body: str, op: str = "u", *, partition: int = 0, lsn: int | None = None) -> None:
        self._say(op, key, {"id": key, "title": title, "body": body}, partition, lsn)

    def delete(self, key: int, *, partition: int = 0, lsn: int | None = None) -> None:
        self._say("d", key, None, partition, lsn)
        self._send(key, None, partition)

    def delete_for_new_key(self, old: int, new: int) -> None:
        header = [("__debezium.newkey", json.dumps({"id": new}).encode())]
        self._say("d", old, None, 0, None, header)
        self._send(old, None, 0, header)

    def create_from_old_key(self, old: int, new: int, title: str, body: str = _ABSENT) -> None:
        header = [("__debezium.oldkey", json.dumps({"id": old}).encode())]
        self._say("c", new, {"id": new, "title": title, "body": body}, 0, None, header)

    def truncate(self, *, partition: int = 0, lsn: int | None = None) -> None:
        self._say("t", None, None, partition, lsn)


def _rows(table: Lake, columns: str = "id, title, body") -> list[tuple[object, ...]]:
    found = judge.query(table.table, f"SELECT {columns} FROM {{table}} ORDER BY ALL")
    assert len({row[0] for row in found}) == len(found)
    return found


def test_a_value_that_the_source_leaves_out_stays_as_it_was_within_and_across_commits(lake: MakeLake) -> None:
    table = lake(**_DOCS)
    source = Source(table)
    source.put(1, "a", "big one", "r")
    source.put(2, "a", "big two", "c")
    source.put(2, "b", _ABSENT)
    table.ingest()
    assert _rows(table) == [(1, "a", "big one"), (2, "b", "big two")]
    source.put(1, "b", _ABSENT)
    source.put(1, "c", _ABSENT)
    table.ingest()
    assert _rows(table) == [(1, "c", "big one"), (2, "b", "big two")]


@pytest.mark.parametrize("cut", [False, True])
def test_a_row_whose_key_changed_keeps_what_the_source_leaves_out(lake: MakeLake, cut: bool) -> None:
    table = lake(**_DOCS)
    source = Source(table)
    source.put(1, "a", "big", "c")
    table.ingest()
    source.delete_for_new_key(1, 2)
    if cut:
        table.ingest()
        assert _rows(table) == []
    source.create_from_old_key(1, 2, "b")
    table.ingest()
    assert _rows(table) == [(2, "b", "big")]


def test_a_value_that_nobody_has_makes_the_message_bad_until_it_is_there(lake: MakeLake) -> None:
    table = lake(**_DOCS)
    source = Source(table)
    source.put(1, "a", _ABSENT)
    source.put(2, "a", "two")
    table.ingest()
    assert _rows(table) == [(2, "a", "two")]
    assert table.quarantined() == [(0, 0)]
    assert table.reports[-1].bad_codes == {"unavailable_value": 1}
    assert table.lag() == 0
    source.put(1, "b", "one", "r")
    table.ingest()
    assert _rows(table) == [(1, "b", "one"), (2, "a", "two")]
    hour = table.key(table.now_ms())
    table.refold(hour)
    assert _rows(table) == [(1, "b", "one"), (2, "a", "two")]
    assert table.quarantined() == []


def test_a_table_that_stops_at_bad_messages_names_the_one_that_lacks_a_value(lake: MakeLake) -> None:
    table = lake(on_bad_record="fail", **_DOCS)
    source = Source(table)
    source.put(2, "a", "two")
    source.put(1, "a", _ABSENT)
    with pytest.raises(BadRecordError, match="REPLICA IDENTITY FULL") as caught:
        table.ingest()
    assert "offset 1" in str(caught.value)
    assert table.lag() == 2


def test_rows_that_were_deleted_can_be_marked_with_their_last_values(lake: MakeLake) -> None:
    table = lake(on_delete="mark", **_DOCS)
    source = Source(table)
    source.put(1, "a", "one", "c")
    source.put(2, "a", "two", "c")
    source.delete(2)
    source.delete(3)
    table.ingest()
    shown = "id, title, body, _is_deleted"
    assert _rows(table, shown) == [(1, "a", "one", False), (2, "a", "two", True)]
    source.delete(1)
    table.ingest()
    source.put(2, "b", "two again", "c")
    table.ingest()
    assert _rows(table, shown) == [(1, "a", "one", True), (2, "b", "two again", False)]
    assert table.quarantined() == []


def test_truncation_takes_every_row_out_that_was_there_before(lake: MakeLake) -> None:
    table = lake(**_DOCS)
    source = Source(table)
    source.put(1, "a", "one", "c")
    table.ingest()
    source.put(2, "a", "two", "c")
    source.truncate()
    source.put(3, "a", "three", "c")
    table.ingest()
    assert _rows(table) == [(3, "a", "three")]
    source.truncate()
    table.ingest()
    assert _rows(table) == []
    assert table.lag() == 0


def test_of_a_key_that_moved_to_another_topic_partition_no_older_change_wins(lake: MakeLake) -> None:
    table = lake(topic_partitions=2, **_DOCS)
    source = Source(table)
    source.put(1, "new", "n", partition=1, lsn=50)
    source.put(2, "new", "n", partition=1, lsn=50)
    table.ingest()
    source.put(1, "old", "o", partition=0, lsn=20)
    source.put(2, "newer", "m", partition=0, lsn=60)
    table.ingest()
    assert _rows(table) == [(1, "new", "n"), (2, "newer", "m")]
    merge = table.reports[-1].merge
    assert merge is not None
    assert merge.stale == 1
