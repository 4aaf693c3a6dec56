"""Upsert tables of MySQL's changes, as Canal and Maxwell send them."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from lakehouse_assets.model.errors import SeveralTablesError
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.decode.changes.test_canal import (
    FLINK_CREATE,
    FLINK_DELETE,
    FLINK_INSERT,
    FLINK_UPDATE,
)
from lakehouse_assets_tests.operations.lake import Lake

pytestmark = pytest.mark.kafka

MakeLake = Callable[..., Lake]
_COLUMNS = [
    {"name": "id", "type": "long", "required": True},
    {"name": "name", "type": "string"},
    {"name": "weight", "type": "double"},
]


def _declare(kind: str, **more: Any) -> dict[str, Any]:
    return {"mode": "upsert", "key": ["id"], "source": {"format": kind}, "schema": _COLUMNS, **more}


def _send(table: Lake, *messages: str | dict[str, Any], partition: int = 0) -> list[int]:
    values = [message if isinstance(message, str) else json.dumps(message) for message in messages]
    return table.broker.produce(table.topic, [value.encode() for value in values], partition=partition)


def _rows(table: Lake) -> list[Any]:
    return judge.query(table.table, "SELECT id, name, weight FROM {table} ORDER BY id")


def _canal(kind: str, data: Any, old: Any = None) -> dict[str, Any]:
    return {"type": kind, "data": data, "old": old, "isDdl": kind == "TRUNCATE", "mysqlType": {"id": "int"}, "sqlType": {"id": 4}}


def test_messages_of_canal_become_rows_of_the_table(lake: MakeLake) -> None:
    table = lake(**_declare("canal-json"))
    _send(table, FLINK_INSERT, FLINK_CREATE, FLINK_UPDATE, FLINK_DELETE)
    table.ingest()
    assert _rows(table) == [(101, "scooter", 5.17)]
    moved = [{"id": "7", "name": "scooter", "weight": "1"}, {"id": "8", "name": "new", "weight": None}]
    _send(table, _canal("UPDATE", moved[:1], [{"id": "101"}]), _canal("INSERT", moved[1:]))
    table.ingest()
    assert _rows(table) == [(7, "scooter", 1.0), (8, "new", None)]
    _send(table, _canal("TRUNCATE", None), _canal("INSERT", [{"id": "9", "name": "last", "weight": "2"}]))
    table.ingest()
    assert _rows(table) == [(9, "last", 2.0)]


def test_a_message_of_several_rows_is_taken_or_kept_in_quarantine_as_a_whole(lake: MakeLake) -> None:
    table = lake(**_declare("canal-json"))
    good, bad = {"id": "1", "name": "a", "weight": "1"}, {"id": None, "name": "b", "weight": "1"}
    offsets = _send(table, _canal("INSERT", [good]), _canal("UPDATE", [{**good, "name": "c"}, bad], [{"name": "a"}, {"name": "x"}]))
    table.ingest()
    assert _rows(table) == [(1, "a", 1.0)]
    assert table.quarantined() == [(0, offsets[1])]
    assert table.lag() == 0


def _maxwell(kind: str, data: dict[str, Any], place: int | None = None, old: Any = None) -> dict[str, Any]:
    position = {} if place is None else {"position": f"mysql-bin.000002:{place}"}
    return {"type": kind, "database": "d", "table": "t", "ts": 1, "data": data, **position, **({} if old is None else {"old": old})}


def test_what_maxwell_leaves_out_of_an_update_stays_and_the_older_place_in_the_binlog_never_wins(lake: MakeLake) -> None:
    table = lake(2, **_declare("maxwell-json"))
    _send(table, _maxwell("bootstrap-start", {}), _maxwell("bootstrap-insert", {"id": 1, "name": "a", "weight": 1.5}))
    table.ingest()
    _send(table, _maxwell("update", {"id": 1, "name": "b"}, 40, {"name": "a"}))
    table.ingest()
    assert _rows(table) == [(1, "b", 1.5)]
    _send(table, _maxwell("update", {"id": 1, "name": "older", "weight": 9.0}, 20, {"name": "a"}), partition=1)
    table.ingest()
    assert _rows(table) == [(1, "b", 1.5)]
    _send(table, _maxwell("delete", {"id": 1, "name": "b", "weight": 1.5}, 50), partition=1)
    table.ingest()
    assert _rows(table) == []


def _orders(table: str, key: int) -> bytes:
    message = {"database": "shop", "table": table, "type": "insert", "ts": 1, "xid": 1, "data": {"id": key, "name": "t"}}
    return json.dumps(message).encode()


def test_changes_of_a_second_table_stop_the_table_in_the_same_run_and_in_later_ones(lake: MakeLake) -> None:
    table = lake(**_declare("maxwell-json"))
    table.broker.produce(table.topic, [_orders("orders", 1)])
    table.ingest()
    table.broker.produce(table.topic, [_orders("users", 1)])
    with pytest.raises(SeveralTablesError, match=r"found those of shop.orders, shop.users.*source: \{tables: \[shop.orders\]\}"):
        table.reopened().ingest()
    assert table.lag() == 1
    other = lake(**_declare("maxwell-json"))
    other.broker.produce(other.topic, [_orders("orders", 1), _orders("users", 1)])
    with pytest.raises(SeveralTablesError):
        other.ingest()
    assert other.table.metadata.current_snapshot() is None
