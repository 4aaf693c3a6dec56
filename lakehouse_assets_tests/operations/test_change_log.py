"""The log of an upsert table's changes: an append table beside it, with a ledger of its own."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lakehouse_assets_tests import judge
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import make_systems
from lakehouse_assets_tests.decode.avro.messages import record
from lakehouse_assets_tests.decode.changes.envelopes import KEYS, VALUES, Stream, envelope, row
from lakehouse_assets_tests.faults import FAULTY
from lakehouse_assets_tests.operations.lake import Lake, clock_ms
from lakehouse_assets_tests.registry import Registry

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("registry")]

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


def test_table_and_log_have_the_columns_of_the_registry_and_follow_it(
    tmp_path: Path, broker: Broker, topic: Callable[..., str], registry: Registry
) -> None:
    parts: dict[str, Any] = {"mode": "upsert", "key": ["id"], "keep_change_log": True, "on_delete": "mark"}
    opened = Lake.open(tmp_path, broker, topic(2), schema=None, source={"format": "debezium-avro"}, **parts)
    state = replace(opened, systems=make_systems(tmp_path, broker.bootstrap_servers, registry.url, **FAULTY))
    assert state.spec.change_log is not None
    log = replace(state, spec=state.spec.change_log, reports=[])
    key = record(("id", "long"), name="shop.public.items.Key")

    def put(value: dict[str, Any], op: str, lsn: int, item: int, **fields: Any) -> None:
        ids = {VALUES: registry.register(f"{state.topic}-value", envelope(value))}
        ids[KEYS] = registry.register(f"{state.topic}-key", key)
        stream = Stream(value, key)
        image = {"id": item, **fields}
        change = stream.change(op, *((None, image) if op == "d" else (image, None)), lsn=lsn)
        framed = (b"\0" + ids[number].to_bytes(4) + part[5:] for number, part in ((VALUES, change), (KEYS, stream.key({"id": item}))))
        broker.produce(state.topic, [next(framed)], key=next(framed), partition=item % 2)

    first = row(("id", "long"), ("text", ["null", "string"]))
    put(first, "c", 1, 1, text="a")
    put(first, "c", 2, 2, text="b")
    put(first, "d", 3, 2, text=None)
    state.ingest()
    replace(log, spec=log.spec.model_copy(update={"workers": 2})).ingest()
    put(row(("id", "long"), ("text", ["null", "string"]), ("note", ["null", "string"])), "u", 4, 1, text="c", note="n")
    for table in (state, log):
        table.ingest()

    assert judge.query(state.table, "SELECT id, text, note, _is_deleted FROM {table} ORDER BY ALL") == [
        (1, "c", "n", False), (2, "b", None, True),
    ]  # fmt: skip
    assert judge.query(log.table, "SELECT _source_position, _operation, id, text, note FROM {table} ORDER BY 1") == [
        (1, "insert", 1, "a", None), (2, "insert", 2, "b", None), (3, "delete", 2, None, None), (4, "update", 1, "c", "n"),
    ]  # fmt: skip
    assert not log.table.schema().find_field("id").required
    assert log.reports[-1].column_source is not None
