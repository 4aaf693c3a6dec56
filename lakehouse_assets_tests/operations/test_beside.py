"""Columns from keys and headers, from Kafka to what DuckDB finds in the table, also after a stay in quarantine."""

from collections.abc import Callable

import pytest

from lakehouse_assets.model.column_spec import ColumnSpec
from lakehouse_assets.operations.peek import peek_newest
from lakehouse_assets.operations.replay import run_replay
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import make_message
from lakehouse_assets_tests.operations.lake import Lake

pytestmark = pytest.mark.kafka

COLUMNS = [
    {"name": "id", "type": "long", "required": True},
    {"name": "key", "type": "string", "from_key": True, "required": True},
    {"name": "trace", "type": "string", "from_header": "trace"},
]


def test_keys_and_headers_become_columns_and_bad_ones_are_kept(lake: Callable[..., Lake]) -> None:
    table = lake(schema=COLUMNS)
    table.broker.produce(table.topic, [make_message(0)], key=b"a", headers=[("trace", b"x"), ("trace", b"y")])
    table.broker.produce(table.topic, [make_message(1), None], key=b"\xff")
    table.broker.produce(table.topic, [make_message(2)])
    table.broker.produce(table.topic, [None, make_message(3)], key=b"b", headers=[("other", b"x")])

    table.ingest()

    found = judge.query(table.table, 'SELECT id, "key", trace FROM {table} ORDER BY id')
    assert found == [(0, "a", "y"), (3, "b", None)]
    table.assert_holds({0: [0, 5]}, bad={0: [1, 3]})
    assert [message.reading.row for message in peek_newest(table.systems, table.spec, 1)] == [{"id": 3, "key": "b", "trace": None}]


def test_a_replay_has_key_and_headers_too(lake: Callable[..., Lake]) -> None:
    table = lake(schema=COLUMNS)
    as_number = ColumnSpec(name="id", type="long", required=True, **{"from": "number"})
    right, table.spec = table.spec, table.spec.model_copy(update={"columns": (as_number, *table.spec.columns[1:])})
    table.broker.produce(table.topic, [make_message(7)], key=b"a", headers=[("trace", b"x")])
    table.ingest()
    table.spec = right

    result = run_replay(table.systems, table.spec, table.now_ms)

    assert (result.moved, result.still_bad) == (1, 0)
    assert judge.query(table.table, 'SELECT id, "key", trace FROM {table}') == [(7, "a", "x")]
