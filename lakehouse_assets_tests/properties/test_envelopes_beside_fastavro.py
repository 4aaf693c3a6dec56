"""Debezium's envelopes of random rows, written by fastavro, become the rows that were written."""

import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lakehouse_assets.decode.avro.lockstep import FEWEST
from lakehouse_assets.decode.changes.debezium_avro import DebeziumAvroDecoder
from lakehouse_assets.decode.changes.decoded import ChangeMessages
from lakehouse_assets.decode.changes.table_names import TableNames
from lakehouse_assets.model.types import parse_type
from lakehouse_assets_tests.decode.avro.messages import VARIABLE_SCALE_DECIMAL, connect, record
from lakehouse_assets_tests.decode.changes.envelopes import Stream, row
from lakehouse_assets_tests.decode.declared import column
from lakehouse_assets_tests.properties.avro_types import AvroType, avro_types
from lakehouse_assets_tests.properties.test_avro_beside_fastavro import read_by_oracle, same, write

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
_KEY = record(("id", "long"), name="shop.public.items.Key")
_OPERATIONS = {"c": "insert", "u": "update", "r": "read"}


@pytest.mark.parametrize("times", [1, FEWEST], ids=["exact", "fast"])
@UNHURRIED
@given(st.lists(avro_types(), min_size=1, max_size=3), st.data())
def test_rows_and_deletions_are_what_was_written(times: int, fields: list[AvroType], data: st.DataObject) -> None:
    named = {f"f{place}": field for place, field in enumerate(fields)}
    schema = row(("id", "long"), *((name, field.schema) for name, field in named.items()))
    rows = st.fixed_dictionaries({"id": st.integers(-3, 3), **{name: field.values for name, field in named.items()}})
    written = data.draw(st.lists(st.tuples(st.sampled_from("curd"), rows), min_size=1, max_size=4))
    stream = Stream(schema, _KEY)
    columns = [column("id", "long", required=True), *(column(name, parse_type(field.declared)) for name, field in named.items())]
    values, keys, expected = [], [], []
    for op, value in written:
        body = write(schema, value)
        read = read_by_oracle(schema, body)
        try:
            values.append(stream.change(op, None if op == "d" else value, value if op == "d" else None))
        except (ValueError, OverflowError):
            assume(False)
        keys.append(stream.key({"id": value["id"]}))
        row_there: dict[str, Any] = {name: None if op == "d" else field.row_value(read[name]) for name, field in named.items()}
        expected.append((_OPERATIONS.get(op, "delete"), {"id": value["id"], **row_there}))

    messages = ChangeMessages(values * times, keys * times, [None] * len(values) * times)
    found = DebeziumAvroDecoder(columns, ["id"], stream.schemas.get, TableNames()).decode(messages)

    assert found.bad == ()
    found.table.validate(full=True)
    assert found.operations is not None
    changes = zip(found.operations.to_pylist(), found.table.to_pylist(maps_as_pydicts=None), strict=True)
    for mine, theirs in zip(changes, expected * times, strict=True):
        assert mine[0] == theirs[0]
        assert same(mine[1], theirs[1]), (mine, theirs)


_ROW = row(
    ("id", "long"),
    ("name", ["null", "string"]),
    ("tags", {"type": "array", "items": "string"}),
    ("price", ["null", VARIABLE_SCALE_DECIMAL]),
    ("at", ["null", connect("string", "time.ZonedTimestamp")]),
)
_KINDS = {"name": "string", "tags": "list<string>", "price": "decimal(10, 2)", "at": "timestamptz"}
_VALUE = {"id": 1, "name": "n", "tags": ["a", "b"], "price": {"scale": 1, "value": b"\x0b"}, "at": "2026-11-27T01:02:03Z"}


@UNHURRIED
@given(st.data())
def test_broken_bytes_are_one_bad_message_and_harm_no_other(data: st.DataObject) -> None:
    stream = Stream(_ROW, _KEY)
    columns = [column("id", "long", required=True), *(column(name, parse_type(kind)) for name, kind in _KINDS.items())]
    good = [stream.change("c", _VALUE, lsn=7), stream.change("d", None, _VALUE, lsn=8), stream.change("u", _VALUE, _VALUE)]
    octets = bytearray(data.draw(st.sampled_from(good)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(octets) - 1))
        octets[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    place = data.draw(st.integers(0, FEWEST))
    values = (good * FEWEST)[: FEWEST + 1]
    values.insert(place, bytes(octets))
    keys = [stream.key({"id": 1})] * len(values)
    found = DebeziumAvroDecoder(columns, ["id"], stream.schemas.get, TableNames()).decode(ChangeMessages(values, keys, [None] * len(values)))

    truncating, bad = [one.message for one in found.truncations], [one.index for one in found.bad]
    assert sum(place in fate for fate in (found.messages.tolist(), bad, found.skipped.tolist(), truncating)) == 1
    others = [index for index in range(len(values)) if index != place]
    assert [index for index in found.messages.tolist() if index != place] == others
    found.table.validate(full=True)
    rows = found.table.filter(found.messages != place).to_pylist()
    assert rows == [_row_of(values[index], good) for index in others]


def _row_of(value: bytes, good: list[bytes]) -> dict[str, Any]:
    if value == good[1]:
        return {"id": 1, **dict.fromkeys(_KINDS)}
    at = datetime.datetime(2026, 11, 27, 1, 2, 3, tzinfo=datetime.UTC)
    return {"id": 1, "name": "n", "tags": ["a", "b"], "price": Decimal("1.10"), "at": at}
