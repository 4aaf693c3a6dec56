"""Many values at once: order, isolation of bad values, and the two decoders judging alike."""

import json
from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.decode.columns import arrow_schema
from lakehouse_assets.decode.exact import ExactDecoder
from lakehouse_assets.decode.fast import FastDecoder, FastRead
from lakehouse_assets.decode.json_decoder import JsonDecoder
from lakehouse_assets.decode.wire import plan_wire_schema
from lakehouse_assets.model.types import ListType, MapType, Primitive, StructField, StructType
from lakehouse_assets_tests.decode.declared import DeclaredColumn, column, decoder

WIDE = (
    column("i", "int"),
    column("l", "long", required=True),
    column("f", "float"),
    column("d", "double"),
    column("p", Primitive("decimal", (6, 2))),
    column("s", "string"),
    column("b", "boolean"),
    column("day", "date"),
    column("t", "time"),
    column("ts", "timestamp"),
    column("tz", "timestamptz"),
    column("ms", "timestamptz", epoch="milliseconds"),
    column("u", "uuid"),
    column("x", "binary"),
    column("h", Primitive("fixed", (3,))),
    column("inner", "long", path="o.a.b"),
    column("other", "timestamp", path="o.c"),
    column("ls", ListType(Primitive("timestamptz"))),
    column("st", StructType((StructField("a", Primitive("decimal", (4, 1))), StructField("u", Primitive("uuid"))))),
)  # fmt: skip
KEYS = [
    "i",
    "l",
    "f",
    "d",
    "p",
    "s",
    "b",
    "day",
    "t",
    "ts",
    "tz",
    "ms",
    "u",
    "x",
    "h",
    "o",
    "ls",
    "st",
    "zz",
    "\\u006c",
]
LITERALS = [
    "null", "true", "0", "-0", "-0.0", "1", "1.0", "1.5", "2147483648", "9223372036854775808", "1e3", "1e39", "1e400", "1e-400",
    "0.123", "12345", "99999.9", "253402300799999", "253402300800000", "16777217.0000000001", "3.4028235677973366e38", "9" * 400,
    "NaN", "-Infinity", "Inf", "nan", "01", "+1", ".5", "1.", '""', '"a"', '"NaN"', '"1.5"', '" 1"', '"+1"', '".5"', '"5."',
    '"1e1"', '"2024-02-29"', '"2023-02-29"', '"0000-01-01"', '"10:20"', '"10:20:30.1234567"', '"24:00"', '"10"',
    '"2026-11-01T10:20:30"', '"2026-11-01T10:20:30.1234567Z"', '"2026-11-01 10:20+01"', '"2026-11-01T10Z"', '"2026-11-01T10:20:60Z"',
    '"2026-02-30T10:20:30.1234567Z"', '"0001-01-01T00:00+01:00"', '"2026-11-01T10:20:30+24:00"', '"2026-11-01T10:20:30\\n"',
    '"0f8fad5b-d9cb-469f-a165-70867728950e"', '"0F8FAD5B-D9CB-469F-A165-70867728950E"', '"0f8fad5bxd9cb-469f-a165-70867728950e"',
    '"éf8fad5b-d9cb-469f-a165-7086772895"', '"AAEC"', '"AAE="', '"AA=="', '"AB=="', '"A"', '"\\ud800"', '"\\ud83d\\ude00"', '"\\udc00"',
    '"a\\u0000"', '"a\0b"', '"a\nb"', '"\\x"', "{}", "[]", '{"b": 1}', '{"a": {"b": 7}, "c": "2026-11-01T10:20"}', '{"a": null}',
    '{"a": {"b": 1, "b": 2}}', '{"a": 1.5, "u": null}', '{"a": 12345}', '["2026-11-01T10:20:30.1234567Z", null]', '["x"]', "[1]",
    "[[1]]", "[" * 300 + "]" * 300, '{"a":' * 300 + "1" + "}" * 300, "[" * 300, "/**/1", "'a'",
]  # fmt: skip
SPLICES = [
    b"", b" ", b"\n", b"{}", b"{} ", b"\n{}", b"{}{}", b"{}\n{}", b"{}null{}", b'{"l":1}\n{"l":2}', b'{"l":1', b',"i":2}', b'{"l":', b"1}", b'{"s":"', b'"}',
    b'"', b"}", b"{", b"[", b"]", b"{}\0", b"{}\0{}", b'\xef\xbb\xbf{"l":1}', b'{"s":"\xff","l":1}', b'{"s":"\xc3', b'\xa9","l":1}', b'{"l":1}\xc2\x85',
    b'{"l":1}\x0c', b'\t{"l":1}\r\n', b'{"l":1},', b"1", b"null", b'{"l":1,}', b'{"\xff":1,"l":1}', b'{"l":1,"l\\u0000":2}', b'{"l":1}/**/',
]  # fmt: skip


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Objects of declared and other keys with valid and hostile values; keys may repeat."""
    keys = draw(st.lists(st.sampled_from(KEYS), max_size=5))
    pairs = [f'"{key}":{draw(st.sampled_from(LITERALS))}' for key in keys]
    return ("{" + ",".join(['"l":1', *pairs] if draw(st.booleans()) else pairs) + "}").encode()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A document cut, or with a byte replaced."""
    document = draw(documents())
    place = draw(st.integers(0, len(document)))
    return (
        document[:place]
        + draw(st.sampled_from([b"", b"\0", b"\n", b"}", b"{", b"\xff", b'"', b"\\"]))
        + document[place + 1 :]
    )


VALUES = st.one_of(documents(), documents(), st.sampled_from(SPLICES), damaged(), st.just(b'{"l":1}'))


def table_of(rows: pa.Table) -> pa.Table:
    """Floats as their bits, so that -0.0 is not 0.0."""
    bits = {"f": pa.int32(), "d": pa.int64()}
    for name, kind in bits.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, name, rows.column(name).combine_chunks().view(kind))
    return rows


@given(st.lists(VALUES, min_size=1, max_size=12))
@settings(max_examples=150, deadline=None, print_blob=True)
def test_the_decoder_gives_what_the_exact_decoder_gives(values: list[bytes]) -> None:
    whole = JsonDecoder(WIDE).decode(values)
    judged = ExactDecoder(WIDE).decode(values, range(len(values)))
    whole.table.validate(full=True)
    assert whole.bad == judged.bad
    assert table_of(whole.table).equals(table_of(judged.table))


@given(st.sampled_from(WIDE), st.sampled_from(LITERALS))
@settings(max_examples=150, deadline=None, print_blob=True)
def test_what_the_fast_decoder_accepts_the_exact_one_accepts_with_the_same_value(
    declared: DeclaredColumn, literal: str
) -> None:
    value = f'{{"l":1,"{declared.path[0]}":{literal}}}'.encode()
    wire_schema = plan_wire_schema(WIDE)
    assert wire_schema is not None
    read = FastDecoder(WIDE, wire_schema).decode([value, value])
    if isinstance(read, FastRead) and not read.suspects.any():
        judged = ExactDecoder(WIDE).decode([value, value], range(2))
        assert judged.bad == ()
        assert table_of(judged.table).equals(table_of(read.table))


@pytest.mark.parametrize(
    "splice",
    [
        [b'{"a":1', b',"b":2}'],
        [b'{"a":1}{"a":2}', b" "],
        [b'{"a":1}\n{"a":2}', b""],
        [b'{"a":1}\n{"a":2}', b'{"a":', b"3}"],
        [b'{"a":1}{"a":2}', b'{"b":{', b'"c":1}}'],
        [b'{"a":1}{}', b"{}\0}"],
        [b'{"a":1}null{"a":2}', b'{"b":"', b'"}'],
        [b'{"a":1}{"a":2}', b'{"b":[{}', b"{}]}"],
    ],
)
def test_values_that_only_together_are_json_are_bad_each(splice: list[bytes]) -> None:
    good = b'{"a":7}'
    decoded = decoder(column("a", "long")).decode([good, *splice, good])
    assert [bad.index for bad in decoded.bad] == list(range(1, len(splice) + 1))
    assert decoded.table.column("a").to_pylist() == [7, 7]


def documents_with(bad: dict[int, bytes], size: int) -> list[bytes]:
    values = [json.dumps({"a": index, "s": "x" * 50}).encode() for index in range(size)]
    for index, value in bad.items():
        values[index] = value
    return values


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{",
        b'{"a":"1"}',
        b'{"a":1.5}',
        b'{"a":99999999999999999999}',
        b'{"b":1}',
        b'{"a":1,"a":2}',
        b'{"a":1,"b":NaN}',
        b'{"a":1,"b":"\xff"}',
    ],
)
@pytest.mark.parametrize("every", [1, 10, 500, 20_000, 60_000])
def test_a_bad_value_among_many_costs_only_itself(bad: bytes, every: int) -> None:
    size = 30_000 if every > 10 else 3000
    at = range(every // 3, size, every)
    decoded = decoder(column("a", "long", required=True), column("s", "string")).decode(
        documents_with(dict.fromkeys(at, bad), size)
    )
    assert [found.index for found in decoded.bad] == list(at)
    assert decoded.table.column("a").to_pylist() == [index for index in range(size) if index not in set(at)]


def test_a_good_value_that_only_the_exact_decoder_takes_keeps_its_place() -> None:
    values = documents_with({700: b'{"a":700,"z":1e400}', 1500: b"{", 1900: b'{"a":1900}\n'}, 2000)
    decoded = decoder(column("a", "long")).decode(values)
    assert [bad.index for bad in decoded.bad] == [1500]
    assert decoded.table.column("a").to_pylist() == [index for index in range(2000) if index != 1500]


@pytest.mark.parametrize("document", [b"null", b"null\n{}", b" null", b"{}null{}", b"[null]"])
def test_a_null_in_place_of_an_object_is_bad_and_crashes_nothing(document: bytes) -> None:
    for values in ([document], [document, b'{"a":1}'], [b'{"a":1}', document]):
        decoded = decoder(column("a", "long")).decode(values)
        assert [values[bad.index] for bad in decoded.bad] == [document]
        assert decoded.table.num_rows == len(values) - 1


def test_values_of_very_different_size_stay_in_order() -> None:
    values = [
        b'{"a":%d,"s":"%s"}' % (index, b"y" * (3_000_000 if index % 7 == 3 else 1)) for index in range(20)
    ]
    decoded = decoder(column("a", "long")).decode(values)
    assert decoded.table.column("a").to_pylist() == list(range(20))


def test_no_values_give_an_empty_table_of_the_declared_types() -> None:
    decoded = JsonDecoder(WIDE).decode([])
    assert decoded.table.schema == arrow_schema(WIDE)
    assert decoded.table.num_rows == 0


def test_only_bad_values_give_an_empty_table_of_the_declared_types() -> None:
    decoded = JsonDecoder(WIDE).decode([b"{", b""])
    assert decoded.table.schema == arrow_schema(WIDE)
    assert [bad.code for bad in decoded.bad] == ["invalid_json", "empty"]


@pytest.mark.parametrize(
    "columns",
    [
        (column("a", "long"), column("m", MapType(Primitive("string"), Primitive("string")))),
        (
            column("a", "long"),
            column("whole", StructType((StructField("x", Primitive("long")),)), path="o"),
            column("x", "long", path="o.x"),
        ),
        (column("a", "long"), column("same", "double", path="a")),
    ],
)
def test_a_table_that_arrow_cannot_read_is_decoded_exactly(columns: Sequence[DeclaredColumn]) -> None:
    chosen = JsonDecoder(columns)
    decoded = chosen.decode([b'{"a":1,"m":{"k":"v"},"o":{"x":5}}', b"{", b'{"a":2}'])
    assert decoded.table.column("a").to_pylist() == [1, 2]
    assert [bad.index for bad in decoded.bad] == [1]
