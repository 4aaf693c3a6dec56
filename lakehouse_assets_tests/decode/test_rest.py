"""The column `_rest` keeps what no other column reads, as it was written."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lakehouse_assets.decode.json_decoder import JsonDecoder
from lakehouse_assets.model.types import parse_type
from lakehouse_assets_tests.builders import make_spec
from lakehouse_assets_tests.decode.declared import column, decoder

L, REST, MAP = column("l", "long"), column("_rest", "string"), column("m", parse_type("map<string,long>"))


def rest_of(reader: JsonDecoder, *values: bytes) -> list[str | None]:
    decoded = reader.decode(values)
    assert not decoded.bad
    kept: list[str | None] = decoded.table.column("_rest").to_pylist()
    return kept


@pytest.mark.parametrize("columns", [(L, REST), (L, MAP, REST)], ids=["fast", "exact"])
@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b'{"l":1}', None),
        (b"{}", None),
        (b'{"l":1,"x":null}', '{"x":null}'),
        (b'{"x":1.50,"l":1,"y":12345678901234567890123456789012345678901}', '{"x":1.50,"y":12345678901234567890123456789012345678901}'),
        (b' { "l" : 1 , "x" : [ 1,  2 ] , "e":1e400 } ', '{"x":[ 1,  2 ],"e":1e400}'),
        ('{"ü":"ä\\u00e4\\n\\"}","l":1}'.encode(), '{"ü":"ä\\u00e4\\n\\"}"}'),
        (b'{"x":1,"x":2,"l":1}', '{"x":1,"x":2}'),
        (b'{"\\u006c":1,"l2":{"l":1}}', '{"l2":{"l":1}}'),
        (b'{"x":"' + b"9" * 5000 + b'","n":' + b"9" * 5000 + b"}", '{"x":"' + "9" * 5000 + '","n":' + "9" * 5000 + "}"),
    ],
)  # fmt: skip
def test_fields_are_kept_as_they_were_written(columns: tuple[object, ...], value: bytes, kept: str | None) -> None:
    reader = decoder(*columns)  # type: ignore[arg-type]

    assert rest_of(reader, value) == [kept]
    assert rest_of(reader, *[b'{"l":1}'] * 100, value, b'{"l":2}') == [None] * 100 + [kept, None]
    assert rest_of(reader, value) == [kept]


def test_rest_stands_where_it_is_declared_and_belongs_to_its_row_among_bad_ones() -> None:
    reader = decoder(REST, L)
    values = [json.dumps({"l": i, "x": i} if i % 3 else {"l": "bad", "x": i}).encode() for i in range(3000)]

    decoded = reader.decode(values)

    assert decoded.table.column_names == ["_rest", "l"]
    assert decoded.table.to_pylist() == [{"_rest": f'{{"x":{i}}}', "l": i} for i in range(3000) if i % 3]
    assert len(decoded.bad) == 1000


def test_a_table_of_nothing_but_rest_keeps_whole_messages() -> None:
    reader = decoder(REST)

    assert rest_of(reader, b'{"a": 1}', b"{}") == ['{"a":1}', None]
    assert [bad.code for bad in reader.decode([b"[]", b'{"a": 1}']).bad] == ["not_an_object"]
    assert reader.decode([]).table.column_names == ["_rest"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "l", "}", '"']), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    messages=st.lists(st.dictionaries(st.sampled_from(["x", "y", "\\", "a b", "ü"]), VALUES, max_size=4), min_size=1, max_size=5),
    indent=st.sampled_from([None, 1]), ascii_only=st.booleans(),
)  # fmt: skip
def test_what_was_in_a_message_is_in_its_row(messages: list[dict[str, object]], indent: int | None, ascii_only: bool) -> None:
    values = [json.dumps({"l": 1, **m}, indent=indent, ensure_ascii=ascii_only).encode() for m in messages]

    for columns in ((L, REST), (L, MAP, REST)):
        kept = rest_of(decoder(*columns), *values)
        assert [json.loads(text) if text else {} for text in kept] == messages


@pytest.mark.parametrize(
    "wrong", [{"type": "long"}, {"required": True}, {"from": "x"}, {"from_header": "h"}], ids=["type", "required", "from", "header"]
)
def test_a_rest_of_another_kind_is_a_mistake(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="a column _rest of another kind"):
        make_spec(schema=[{"name": "id", "type": "long"}, {"name": "_rest", "type": "string"} | wrong])


def test_a_rest_of_avro_messages_is_a_mistake() -> None:
    with pytest.raises(ValidationError, match="_rest of JSON messages only"):
        make_spec(schema=[{"name": "_rest", "type": "string"}], source={"format": "avro"})
