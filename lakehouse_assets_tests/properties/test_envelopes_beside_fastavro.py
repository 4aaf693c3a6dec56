"""Debezium's envelopes of random rows, written by fastavro, become the rows that were written."""

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lakehouse_assets.decode.avro.lockstep import FEWEST
from lakehouse_assets.decode.changes.debezium_avro import DebeziumAvroDecoder
from lakehouse_assets.decode.changes.decoded import ChangeMessages
from lakehouse_assets.model.types import parse_type
from lakehouse_assets_tests.decode.avro.messages import record
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
    found = DebeziumAvroDecoder(columns, ["id"], stream.schemas.get).decode(messages)

    assert found.bad == ()
    found.table.validate(full=True)
    assert found.operations is not None
    changes = zip(found.operations.to_pylist(), found.table.to_pylist(maps_as_pydicts=None), strict=True)
    for mine, theirs in zip(changes, expected * times, strict=True):
        assert mine[0] == theirs[0]
        assert same(mine[1], theirs[1]), (mine, theirs)
