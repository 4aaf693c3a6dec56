"""Our Avro decoders beside an independent one: the same values, the same verdicts, whatever the schema and the bytes."""

import io
import math
import struct
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lakehouse_assets.decode.avro.lockstep import FEWEST
from lakehouse_assets.model.types import parse_type
from lakehouse_assets_tests.decode.avro.messages import body_of, decoder, framed, record
from lakehouse_assets_tests.decode.declared import DeclaredColumn, column
from lakehouse_assets_tests.properties.avro_types import AvroType, avro_types

FEW, MANY = 3, FEWEST + 3  # so few are read by the exact decoder, so many by the fast one
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


class Message:
    """A record schema of drawn fields, with its columns."""

    def __init__(self, fields: list[AvroType]) -> None:
        self.fields = {f"f{place}": field for place, field in enumerate(fields)}
        self.schema = record(*((name, field.schema) for name, field in self.fields.items()))
        self.columns = [column(name, parse_type(field.declared)) for name, field in self.fields.items()]
        self.values = st.fixed_dictionaries({name: field.values for name, field in self.fields.items()})

    def row_of(self, read: dict[str, Any]) -> dict[str, Any]:
        return {name: field.row_value(read[name]) for name, field in self.fields.items()}


def read_by_oracle(schema: Any, body: bytes, reader: Any = None) -> Any:
    stream = io.BytesIO(body)
    value = fastavro.schemaless_reader(stream, fastavro.parse_schema(schema), None if reader is None else fastavro.parse_schema(reader))
    if stream.read(1):
        raise EOFError("junk")
    return value


def same(left: Any, right: Any) -> bool:
    """Equal, also NaN to NaN."""
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left) and math.isnan(right):
        return True
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def assert_rows(columns: list[DeclaredColumn], schema: Any, values: list[bytes], rows: list[Any], reader: Any = None) -> None:
    decoded = decoder(columns, schema, reader).decode(values)

    assert decoded.bad == ()
    decoded.table.validate(full=True)
    found = decoded.table.to_pylist(maps_as_pydicts=None)
    for mine, theirs in zip(found, rows, strict=True):
        assert same(mine, theirs), (mine, theirs)


def write(schema: Any, value: Any) -> bytes:
    try:
        return body_of(schema, value)
    except (ValueError, OverflowError, struct.error):
        assume(False)
        raise


@UNHURRIED
@given(st.lists(avro_types(), min_size=1, max_size=4), st.data())
def test_both_decoders_read_what_was_written(fields: list[AvroType], data: st.DataObject) -> None:
    message = Message(fields)
    written = data.draw(st.lists(message.values, min_size=1, max_size=5))
    bodies = [write(message.schema, value) for value in written]
    rows = [message.row_of(read_by_oracle(message.schema, body)) for body in bodies]

    for times in (1, -(-MANY // len(bodies))):
        assert_rows(message.columns, message.schema, [framed(body) for body in bodies] * times, rows * times)


@UNHURRIED
@given(st.lists(avro_types(), min_size=1, max_size=4), st.data())
def test_columns_that_nobody_declared_are_passed_over(fields: list[AvroType], data: st.DataObject) -> None:
    message = Message(fields)
    schema = record(*((name, field.schema) for name, field in message.fields.items()), ("last", "long"))
    written = data.draw(st.lists(message.values, min_size=1, max_size=5))
    bodies = [write(schema, {**value, "last": place}) for place, value in enumerate(written)]
    times = -(-MANY // len(bodies))

    assert_rows([column("last", "long")], schema, [framed(body) for body in bodies] * times, [{"last": i} for i in range(len(bodies))] * times)


def damaged(body: bytes) -> st.SearchStrategy[bytes]:
    flips = st.builds(
        lambda place, octet: body[:place] + bytes([octet]) + body[place + 1 :],
        st.integers(0, max(0, len(body) - 1)),
        st.integers(0, 255) | st.sampled_from([0x7F, 0x80, 0xFF, 1, 2]),
    )
    cuts = st.integers(0, len(body)).map(lambda place: body[:place])
    longer = st.binary(min_size=1, max_size=12).map(lambda junk: body + junk)
    return flips | cuts | longer | st.binary(max_size=20)


@settings(UNHURRIED, max_examples=80)
@given(st.lists(avro_types(), min_size=1, max_size=4), st.data())
def test_damaged_bytes_cost_their_own_message_alone(fields: list[AvroType], data: st.DataObject) -> None:
    message = Message(fields)
    body = write(message.schema, data.draw(message.values))
    broken = data.draw(damaged(body))
    good = message.row_of(read_by_oracle(message.schema, body))
    try:
        verdict: Any = message.row_of(read_by_oracle(message.schema, broken))
    except Exception as error:  # noqa: BLE001 - the oracle's own ways to fail are many
        verdict = error
    for count in (FEW, MANY):
        at = count // 2
        values = [framed(body)] * count
        values[at] = framed(broken)

        decoded = decoder(message.columns, message.schema).decode(values)

        decoded.table.validate(full=True)
        rows = decoded.table.to_pylist(maps_as_pydicts=None)
        if decoded.bad:
            assert [bad.index for bad in decoded.bad] == [at]
        else:
            assert not isinstance(verdict, Exception), f"the oracle refuses it: {verdict!r}"
            assert same(rows.pop(at), verdict)
        for row in rows:
            assert same(row, good)


@UNHURRIED
@given(st.lists(avro_types(), min_size=1, max_size=3), st.data())
def test_both_decoders_agree_on_what_is_bad_and_why_it_is_not(fields: list[AvroType], data: st.DataObject) -> None:
    message = Message(fields)
    body = write(message.schema, data.draw(message.values))
    broken = framed(data.draw(damaged(body)))
    alone = decoder(message.columns, message.schema).decode([broken])
    among = decoder(message.columns, message.schema).decode([broken] * MANY)

    assert [bad.code for bad in among.bad] == [bad.code for bad in alone.bad] * MANY
    assert same(among.table.to_pylist(), alone.table.to_pylist() * MANY)


PROMOTIONS = [("int", "long", "long"), ("int", "float", "float"), ("int", "double", "double"), ("long", "double", "double"),
              ("float", "double", "double"), ("string", "bytes", "binary"), ("bytes", "string", "string")]  # fmt: skip
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False),
    "string": st.text(max_size=9),
    "bytes": st.text(max_size=9).map(str.encode),
}


@UNHURRIED
@given(st.lists(st.sampled_from(PROMOTIONS), min_size=1, max_size=4), st.booleans(), st.data())
def test_a_newer_schema_reads_messages_of_an_older_one(promotions: list[tuple[str, str, str]], nullable: bool, data: st.DataObject) -> None:
    old: Any = record(*((f"f{i}", writer) for i, (writer, _, _) in enumerate(promotions)), ("was", "string"), ("gone", "long"))
    new: Any = record(
        *((f"f{i}", ["null", reader] if nullable else reader) for i, (_, reader, _) in enumerate(promotions)),
        {"name": "is", "aliases": ["was"], "type": "string"},
        {"name": "added", "type": {"type": "array", "items": "int"}, "default": [1, 2]},
        {"name": "inner", "type": record(("a", "int"), ("b", ["null", "string"]), name="Inner"), "default": {"a": 3, "b": None}},
    )
    columns = [column(f"f{i}", declared) for i, (_, _, declared) in enumerate(promotions)]
    columns += [column("is", "string"), column("added", parse_type("list<int>")), column("inner", parse_type("struct<a: int, b: string>"))]
    written = data.draw(
        st.lists(
            st.fixed_dictionaries({f"f{i}": VALUES[writer] for i, (writer, _, _) in enumerate(promotions)} | {"was": st.text(max_size=4), "gone": st.integers(0, 99)}),
            min_size=1,
            max_size=4,
        )
    )
    bodies = [body_of(old, value) for value in written]
    rows = [read_by_oracle(old, body, new) for body in bodies]
    for place, (_, reader, _) in enumerate(promotions):
        if reader == "float":  # the oracle keeps 64 bits
            for row in rows:
                row[f"f{place}"] = struct.unpack("<f", struct.pack("<f", row[f"f{place}"]))[0]

    for times in (1, -(-MANY // len(bodies))):
        assert_rows(columns, old, [framed(body) for body in bodies] * times, rows * times, new)


@pytest.mark.parametrize("count", [FEW, MANY])
def test_a_symbol_that_the_newer_schema_does_not_know_becomes_its_default(count: int) -> None:
    old = record(("color", {"type": "enum", "name": "Color", "symbols": ["RED", "BLUE"]}))
    new = record(("color", {"type": "enum", "name": "Color", "symbols": ["RED", "OTHER"], "default": "OTHER"}))
    bodies = [body_of(old, {"color": color}) for color in ("RED", "BLUE")]
    rows = [read_by_oracle(old, body, new) for body in bodies]

    assert [row["color"] for row in rows] == ["RED", "OTHER"]
    assert_rows([column("color", "string")], old, [framed(body) for body in bodies] * count, rows * count, new)
