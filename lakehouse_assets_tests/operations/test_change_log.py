"""The log of an upsert table's changes: an append table beside it, with a ledger of its own."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lakehouse_assets_tests import judge
from lakehouse_assets_tests.operations.lake import Lake, clock_ms

pytestmark = pytest.mark.kafka

MakeLake = Callable[..., Lake]
_TYPES = {"id": "bigint", "text": "varchar(9)"}


def _change(kind: str, *rows: tuple[int, str | None], **more: Any) -> bytes:
    data = [{"id": str(key), "text": text} for key, text in rows]
    return json.dumps(
        {"type": kind, "data": data, "isDdl": False, "mysqlType": _TYPES, "pkNames": ["id"], "old": None} | more
    ).encode()


@pytest.fixture
def both(lake: MakeLake) -> tuple[Lake, Lake]:
    state = lake(source={"format": "canal-json"}, mode="upsert", key=["id"], keep_change_log=True)
    log = state.spec.change_log
    assert log is not None
    return state, replace(state, spec=log, reports=[])


def _rows(log: Lake) -> list[tuple[Any, ...]]:
    return judge.query(log.table, "SELECT _kafka_offset, _operation, id, text FROM {table} ORDER BY ALL")


def test_every_change_is_kept_whatever_became_of_the_row(both: tuple[Lake, Lake]) -> None:
    state, log = both
    ddl = json.dumps({"type": "ALTER", "isDdl": True, "data": None}).encode()
    messages = [_change("INSERT", (1, "a"), (2, "b")), ddl, _change("UPDATE", (1, "c"), old=[{"text": "a"}]), b"{"]
    state.broker.produce(state.topic, [*messages, _change("DELETE", (2, "b"))])
    state.broker.produce(state.topic, [None], key="2")

    state.ingest()
    log.ingest()

    assert judge.query(state.table, "SELECT id, text FROM {table} ORDER BY ALL") == [(1, "c")]
    assert _rows(log) == [(0, "insert", 1, "a"), (0, "insert", 2, "b"), (2, "update", 1, "c"), (4, "delete", 2, None)]
    report = log.reports[0]
    assert (report.read_count, report.row_count, report.filtered_count, report.skipped_count) == (6, 4, 1, 1)
    assert log.quarantined() == [(0, 3)]
    assert (state.lag(), log.lag()) == (0, 0)
    assert judge.read_every_snapshot(log.table)[-1] == 4


def test_materializing_an_hour_of_the_log_replaces_its_rows(both: tuple[Lake, Lake]) -> None:
    state, log = both
    state.broker.produce(state.topic, [_change("INSERT", (1, "a"), (2, "b")), _change("DELETE", (1, "a"))])
    log.ingest()
    before = _rows(log)
    log.table.delete("_operation = 'delete'")

    log.replace(log.key(clock_ms()))

    assert _rows(log) == before
    log.ingest()
    assert _rows(log) == before
