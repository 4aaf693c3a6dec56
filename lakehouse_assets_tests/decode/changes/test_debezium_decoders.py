"""The two decoders of Debezium's JSON judge alike, whatever the messages."""

import base64
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.decode.changes.debezium import DebeziumDecoder
from lakehouse_assets.decode.changes.debezium_exact import ExactDebezium
from lakehouse_assets.decode.changes.debezium_fast import FastDebezium, FastRead
from lakehouse_assets.decode.changes.decoded import ChangeMessages, DecodedChanges
from lakehouse_assets.decode.changes.table_names import TableNames
from lakehouse_assets.decode.decoded import Headers
from lakehouse_assets.model.types import parse_type
from lakehouse_assets_tests.decode.declared import DeclaredColumn, column

PLACEHOLDER = "__debezium_unavailable_value"
_DECLARED = [
    ("i", "int"), ("f", "float"), ("d", "double"), ("b", "boolean"), ("s", "string"), ("p", "decimal(6, 2)"), ("q", "decimal(20, 0)"),
    ("day", "date"), ("tz", "timestamptz"), ("u", "uuid"), ("x", "binary"), ("h", "fixed[3]"), ("li", "list<int>"), ("ls", "list<string>"),
    ("lp", "list<decimal(4, 1)>"), ("st", "struct<a: int, t: time>"),
]  # fmt: skip
WIDE = (
    column("l", "long", required=True),
    *(column(name, parse_type(kind)) for name, kind in _DECLARED),
    column("pt", parse_type("decimal(6, 2)"), encoding="text"),
    column("pb", parse_type("decimal(6, 2)"), encoding="base64"),
    column("xh", parse_type("binary"), encoding="hex"),
    column("r", "string", required=True),
    *(column(f"t_{unit}", "time", epoch=unit) for unit in ("milliseconds", "microseconds", "nanoseconds")),
    *(column(f"ts_{unit}", "timestamp", epoch=unit) for unit in ("milliseconds", "microseconds", "nanoseconds")),
    column("lt", parse_type("list<timestamp>"), epoch="milliseconds"),
    column("inner", "long", path="o.a"),
)
KEY = ("l",)


def _b64(octets: bytes) -> str:
    return json.dumps(base64.b64encode(octets).decode())


LITERALS = [
    "null", "true", "0", "1", "-0", "2", "1.0", "1.5", "2147483648", "9223372036854775807", "-9223372036854775808", "1e3", "1e400", "12.345",
    "99999.9", "-12.5", "1234", "86399999", "86400000", "86399999999", "86399999999999", "1772323199123", "1772323199123456", "20512",
    "1772323199123456789", "-9223372036832400000", "9223372036825200000", "253402300799999", "253402300800000", "-1", "2932896", "2932897", "-719163",
    '""', '"a"', '"NaN"', '"Infinity"', '"-Infinity"', '"1"', '"1234"', '"0012"', '"1.50"', '"-12.34"', '"+1"', '"1E+2"', '"1e2"', '" 1"', '"12345678"',
    '"2026-02-28"', '"2026-02-28Z"', '"infinity"', '"10:20:30.123456"', '"10:20:30Z"', '"24:00:00"', '"2026-02-28T23:59:59.123456"',
    '"2026-02-28T23:59:59.123456Z"', '"2026-02-28T23:59:59+02:00"', '"9999-12-31T23:59:59Z"', '"0f8fad5b-d9cb-469f-a165-70867728950e"',
    _b64(b"\x04\x1a"), _b64(b"\xff"), _b64(b"\x7f" * 8), _b64(b"\x80" * 8), _b64(b"\x80" + b"\0" * 7), _b64(b"\x01" * 9), _b64(b"\0" * 20), '"BBo"', '"B=o="', '"===="', '"BB=="',
    '"AB=="', '"deadbeef"', '"deadbeef00"', '"DEAD"', '"ab_-"', '"ab+/"', '"abc"', '"AAEC"', "{}", '{"a": 1}', '{"a": 1, "t": "10:20"}', '{"a": null}', '{"a": "x"}',
    '{"scale": 1, "value": "AQ=="}', '{"scale": 40000, "value": "AQ=="}', '{"scale": 1, "value": "AQ==", "a": 1}', '{"scale": 2, "value": null}',
    '{"scale": -2, "value": "/w=="}', '{"scale": 2}', "[]", "[1, null]", '["a", null]', '["1.5"]', '["Dw=="]', "[1.5]", '["x", 1]', "[1772323199123]",
    f'"{PLACEHOLDER}"', '"\\u005f_debezium_unavailable_value"', _b64(PLACEHOLDER.encode()), f'["{PLACEHOLDER}"]', f'["{PLACEHOLDER}", "b"]',
    str(list(PLACEHOLDER.encode())), f'{{"{PLACEHOLDER}": "{PLACEHOLDER}"}}', f'{{"{PLACEHOLDER}": 1, "a": 1}}', f'"{PLACEHOLDER.encode().hex()}"',
    '["b68a35a7-17ad-35b3-af2a-ae46edb4545a"]', "NaN", "[[1]]", '"\\ud800"', '"a\\u0000"', "[" * 300 + "]" * 300, '{"a": 1, "a": 2}',
]  # fmt: skip
OPERATIONS = [*("c", "u", "d", "r") * 4, "t", "m", "x", None]
SOURCES = [
    '{"lsn": 5}', '{"lsn": null}', "null", '{"lsn": -5}', '{"lsn": 1.5}', '{"file": "b.000003", "pos": 4, "row": 2}', '{"file": "x", "pos": 4, "row": 2}',
    '{"file": "b.000003", "pos": null}', '{"file": "b.000003", "pos": 4294967296, "row": 4000}', '{"scn": "17"}', '{"scn": "x"}', '{"lsn": 5, "lsn": 6}', "[]",
    '{"schema": "a", "db": "d", "table": "t"}', '{"db": "d", "table": "t", "lsn": 5}', '{"schema": "", "db": "d", "table": "o"}', '{"schema": 1, "table": "t"}',
    '{"schema": "a", "table": null}', '{"schema": "a", "schema": "b", "table": "t"}', '{"schema": "\\u0000", "table": "t"}', '{"table": "\\ud800"}', '{"db": "a"}',
]  # fmt: skip
KEYS = [
    b'{"l": 1}', b'{"l": 2}', b'{"l":1}', None, b"", b"{}", b'{"l": null}', b'{"other": 1}', b'{"l": "1"}', b"{", b"\xff", b'{"l": 1}\n{"l": 2}', b'{"l": 1, "l": 2}',
    b'{"schema":{"type":"struct","fields":[{"type":"int64","field":"l"}]},"payload":{"l":3}}', b'{"schema":null,"payload":{"l":3}}', b'{"schema":1',
    b"4", b'"4"', b"null", b"[4]", b'{"schema":null,"payload":4}',
]  # fmt: skip
HEADERS: list[Headers | None] = [None, [], [("__debezium.oldkey", b'{"l": 9}')], [("__debezium.oldkey", b"x")], [("__debezium.oldkey", b"")], [("a", None)]]
_TYPES = {
    "p": ("bytes", "org.apache.kafka.connect.data.Decimal", "2"), "q": ("bytes", "org.apache.kafka.connect.data.Decimal", "3"),
    "ts_nanoseconds": ("int64", "io.debezium.time.MicroTimestamp", ""), "t_nanoseconds": ("int32", "io.debezium.time.Time", ""),
    "x": ("bytes", "", ""), "h": ("string", "", ""), "day": ("int32", "io.debezium.time.Date", ""), "s": ("bytes", "org.apache.kafka.connect.data.Decimal", "2"),
    "pt": ("string", "", ""), "l": ("int64", "", ""),
}  # fmt: skip


def _schema() -> bytes:
    fields = [
        {"type": kind, "name": name or None, "parameters": {"scale": scale} if scale else None, "field": field}
        for field, (kind, name, scale) in _TYPES.items()
    ]
    images = [{"type": "struct", "fields": fields, "field": image} for image in ("before", "after")]
    return json.dumps({"type": "struct", "fields": images}).encode()


PREFIXES = [b"", b"", b'{"schema":%s,"payload":' % _schema(), b'{"schema": {}, "payload":', b'{"schema":null,"payload":']


@st.composite
def images(draw: st.DrawFn) -> str:
    """A row, mostly a good one."""
    parts = {one.path[0]: draw(st.sampled_from(LITERALS)) for one in draw(st.lists(st.sampled_from(WIDE), max_size=3))}
    parts = {"l": draw(st.sampled_from(["1", "2", "1"])), "r": '"r"', **parts}
    extra = draw(st.sampled_from(["", ', "zz": 1', ', "l": 1', ', "r": null']))
    return "{" + ", ".join(f'"{name}": {value}' for name, value in parts.items()) + extra + "}"


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes | None, bytes | None, Headers | None]:
    """Value, key and headers."""
    after, before = draw(images()), draw(st.one_of(st.just("null"), images(), st.sampled_from(["[]", "{}", '{"l": "x"}'])))
    operation = draw(st.sampled_from(OPERATIONS))
    if operation == "d" and draw(st.booleans()):
        after = "null"
    source = draw(st.sampled_from(['{"lsn": 7}', *SOURCES]))
    value = f'{{"before": {before}, "after": {after}, "source": {source}, "op": {json.dumps(operation)}, "transaction": null}}'
    encoded = value.encode()
    prefix = draw(st.sampled_from(PREFIXES))
    encoded = prefix + encoded + b"}" if prefix else encoded
    found: bytes | None = draw(
        st.sampled_from([encoded] * 6 + [None, encoded[:-1], encoded + b"\n{}", b" " + encoded, b'{"ts_ms": 1}', b"{}"])
    )
    return found, draw(st.sampled_from(KEYS[:3] * 3 + KEYS)), draw(st.sampled_from(HEADERS))


def _columns(of: Sequence[tuple[bytes | None, bytes | None, Headers | None]]) -> ChangeMessages:
    values, keys, headers = zip(*of, strict=True)
    return ChangeMessages(values, keys, headers)


def _bits(array: pa.ChunkedArray) -> pa.Array:
    """Floats as their bits, so that -0.0 is not 0.0 and NaN is NaN."""
    kinds = {pa.float32(): pa.int32(), pa.float64(): pa.int64()}
    return array.combine_chunks().view(kinds[array.type]) if array.type in kinds else array.combine_chunks()


def assert_same(found: DecodedChanges, expected: DecodedChanges, key: Sequence[str] = KEY) -> None:
    """All that is of account in both is the same."""
    found.table.validate(full=True)
    assert found.bad == expected.bad
    assert found.messages.tolist() == expected.messages.tolist()
    assert found.deletes.tolist() == expected.deletes.tolist()
    assert found.skipped.tolist() == expected.skipped.tolist()
    assert found.truncations == expected.truncations
    assert found.tables == expected.tables
    assert found.positions == expected.positions
    assert found.operations == expected.operations
    lacking = {name: mask.tolist() for name, mask in found.unavailable.items() if mask.any()}
    assert lacking == {name: mask.tolist() for name, mask in expected.unavailable.items() if mask.any()}
    old, expected_old = found.old_keys, expected.old_keys
    assert (old and old.to_pylist()) == (expected_old and expected_old.to_pylist())
    assert found.table.schema == expected.table.schema
    for name in found.table.column_names:
        held = ~found.unavailable.get(name, np.zeros(len(found), np.bool_)) & (~found.deletes | (name in key))
        one, other = (_bits(table.column(name)).filter(pa.array(held)) for table in (found.table, expected.table))
        assert one.equals(other), name


@given(st.lists(messages(), min_size=1, max_size=10), st.sampled_from([(), (), ("a.t",), ("d.*", "*.o"), ("*",)]))
@settings(max_examples=80, deadline=None, print_blob=True)
def test_the_decoder_gives_what_the_exact_decoder_gives(
    batch: list[tuple[bytes | None, bytes | None, Headers | None]], wanted: Sequence[str]
) -> None:
    found = DebeziumDecoder(WIDE, KEY, TableNames(wanted)).decode(_columns(batch))
    assert_same(found, ExactDebezium(WIDE, KEY, TableNames(wanted)).decode(_columns(batch), range(len(batch))))


def _message(declared: DeclaredColumn, literal: str, prefix: bytes) -> bytes:
    row = {"l": "1", "r": '"r"', declared.path[0]: literal}
    after = ", ".join(f'"{name}": {value}' for name, value in row.items())
    value = f'{{"before": null, "after": {{{after}}}, "source": null, "op": "c"}}'.encode()
    return prefix + value + b"}" if prefix else value


def _judge_alike(batch: Sequence[bytes]) -> None:
    messages = ChangeMessages(batch, [None] * len(batch), [None] * len(batch))
    assert_same(DebeziumDecoder(WIDE, KEY, TableNames()).decode(messages), ExactDebezium(WIDE, KEY, TableNames()).decode(messages, range(len(batch))))


@given(st.sampled_from(WIDE), st.lists(st.sampled_from(LITERALS), min_size=1, max_size=3), st.sampled_from(PREFIXES[1:3]))
@settings(max_examples=100, deadline=None, print_blob=True)
def test_a_column_is_read_alike(declared: DeclaredColumn, literals: list[str], prefix: bytes) -> None:
    _judge_alike([_message(declared, literal, prefix) for literal in [*literals, *literals]])


@pytest.mark.slow
@pytest.mark.parametrize("declared", WIDE, ids=lambda one: one.name)
def test_every_literal_is_read_alike(declared: DeclaredColumn) -> None:
    fast, exact = DebeziumDecoder(WIDE, KEY, TableNames()), ExactDebezium(WIDE, KEY, TableNames())
    for literal in LITERALS:
        for prefix in PREFIXES[1:3]:
            messages = ChangeMessages([_message(declared, literal, prefix)] * 2, [None] * 2, [None] * 2)
            assert_same(fast.decode(messages), exact.decode(messages, range(2)))


def test_the_fast_decoder_reads_what_debezium_usually_sends() -> None:
    values = {
        "i": "5", "f": "1.5", "d": "0.1", "b": "true", "s": '"text"', "p": _b64(b"\x04\x1a"), "q": _b64(b"\x7f" * 8), "day": "20512", "x": '"AP8+"',
        "tz": '"2026-02-28T21:59:59.123456Z"', "u": '"0f8fad5b-d9cb-469f-a165-70867728950e"', "h": '"AAEC"', "li": "[1, null]", "ls": "[]",
        "lp": '["Dw==", null]', "pt": '"1.50"', "pb": _b64(b"\xff"), "xh": '"dead"', "t_milliseconds": "86399999", "t_nanoseconds": "86399999999999",
        "ts_microseconds": "1772323199123456", "ts_nanoseconds": "1772323199123456789", "lt": "[1772323199123]", "l": "1", "r": '"r"',
    }  # fmt: skip
    after = ", ".join(f'"{name}": {value}' for name, value in values.items())
    message = f'{{"before": null, "after": {{{after}}}, "source": {{"lsn": 4}}, "op": "u"}}'.encode()
    read = FastDebezium(WIDE, KEY, TableNames(), None).decode([message, message], needs_before=False)
    assert isinstance(read, FastRead)
    assert not read.suspects.any()
    _judge_alike([message, message])


@pytest.mark.parametrize(
    "mode",
    [
        {"p": "12.5", "q": "1.0", "day": '"2026-02-28"', "ts_microseconds": '"2026-02-28T23:59:59.123456Z"', "b": "0"},
        {"p": '"12.50"', "q": '"12345"', "day": '"2026-02-28Z"', "t_microseconds": '"23:59:59.123456Z"', "x": '"deadbeef00"'},
    ],
)
def test_the_fast_decoder_learns_how_values_are_encoded(mode: dict[str, str]) -> None:
    after = ", ".join(f'"{name}": {value}' for name, value in {"l": "1", "r": '"r"', **mode}.items())
    message = f'{{"before": null, "after": {{{after}}}, "source": {{"lsn": 4}}, "op": "c"}}'.encode()
    usual = b'{"before": null, "after": {"l": 1, "r": "r", "p": "Dw==", "day": 20512, "b": true}, "source": null, "op": "c"}'
    decoder = FastDebezium(WIDE, KEY, TableNames(), None)
    for batch in ([usual] * 3, [message] * 3, [usual] * 3):
        read = decoder.decode(batch, needs_before=False)
        assert isinstance(read, FastRead)
        assert not read.suspects.any()
    _judge_alike([usual, message, usual, message])


def _change(number: int, **parts: str) -> bytes:
    after = ", ".join(f'"{name}": {value}' for name, value in {"l": str(number), "r": '"r"', "s": '"%s"' % ("x" * 500), **parts}.items())
    return f'{{"before": null, "after": {{{after}}}, "source": {{"lsn": {number}}}, "op": "c"}}'.encode()


@pytest.mark.parametrize("odd", [b"{", b"", None, _change(5, l="null"), _change(5, i='"x"'), _change(5, d='"NaN"'), _change(5, s=f'"{PLACEHOLDER}"')])
@pytest.mark.parametrize("every", [2, 700])
def test_an_odd_message_among_many_keeps_its_place(odd: bytes | None, every: int) -> None:
    size = 400 if every == 2 else 6000
    values = [odd if number % every == every // 2 else _change(number) for number in range(size)]
    messages = ChangeMessages(values, [b'{"l": 7}'] * size, [[("__debezium.oldkey", b'{"l": 9}')]] * size)
    found = DebeziumDecoder(WIDE, KEY, TableNames()).decode(messages)
    assert sorted([*found.messages.tolist(), *(one.index for one in found.bad)]) == list(range(size))
    numbers = np.array(found.table.column("l").to_pylist())
    usual = np.array([values[index] is not odd for index in found.messages.tolist()])
    assert numbers[usual].tolist() == found.messages[usual].tolist()
    assert_same(found, ExactDebezium(WIDE, KEY, TableNames()).decode(messages, range(size)))


def test_fields_that_no_column_reads_are_seen_in_any_number_of_messages() -> None:
    values = [_change(number, **({"added": "1"} if number > 2900 else {})) for number in range(3000)]
    messages = ChangeMessages(values, [None] * 3000, [None] * 3000)
    unknown = DebeziumDecoder(WIDE, KEY, TableNames()).decode(messages).unknown
    assert unknown.fields.keys() == {("added",)}
    assert unknown.messages == 3000


def test_deletions_take_their_keys_from_messages_and_from_before() -> None:
    gone = b'{"before": {"l": 5}, "after": null, "source": {"lsn": 9}, "op": "d"}'
    values = [_change(0), gone, None, gone, gone, gone, None]
    keys = [None, b'{"l": 6}', b'{"l": 7}', None, b"{", b'{"schema":{"type":"struct"},"payload":{"l":8}}', None]
    messages = ChangeMessages(values, keys, [None] * 7)
    found = DebeziumDecoder(WIDE, KEY, TableNames()).decode(messages)
    assert found.table.column("l").to_pylist() == [0, 6, 7, 5, 5, 8]
    assert [one.index for one in found.bad] == [6]
    assert_same(found, ExactDebezium(WIDE, KEY, TableNames()).decode(messages, range(7)))


@pytest.mark.parametrize(
    ("kind", "literals"),
    [
        ("string", ['"a"', '"b"']), ("uuid", ['"0f8fad5b-d9cb-469f-a165-70867728950e"', '"0F8FAD5B-d9cb-469f-a165-70867728950e"']),
        ("decimal(6, 2)", [_b64(b"\x04\x1a"), '"12.34"', "1.5", "15", '"1234"']), ("date", ["20512", '"2026-02-28"']), ("binary", ['"AP8+"', '"dead"']),
        ("timestamptz", ['"2026-02-28T21:59:59.123456Z"']), ("int", ["1", "2147483648"]), ("boolean", ["true", "1"]),
    ],
)  # fmt: skip
def test_keys_of_every_type_are_read_alike(kind: str, literals: list[str]) -> None:
    columns = (column("n", "int"), column("k", parse_type(kind), required=True))
    values: list[bytes | None] = []
    keys: list[bytes | None] = []
    for literal in literals:
        image = f'{{"k": {literal}, "n": 1}}'
        for operation, before, after in (("c", "null", image), ("u", image, image), ("d", image, "null"), ("d", "null", "null")):
            values.append(f'{{"before": {before}, "after": {after}, "op": "{operation}"}}'.encode())
            keys.append(None if before == image else f'{{"k": {literal}}}'.encode())
        values.append(None)
        keys.append(keys[-1])
    for batch in (slice(None), *(slice(start, start + 5) for start in range(0, len(values), 5))):
        messages = ChangeMessages(values[batch], keys[batch], [None] * len(values[batch]))
        expected = ExactDebezium(columns, ["k"], TableNames()).decode(messages, range(len(messages)))
        assert_same(DebeziumDecoder(columns, ["k"], TableNames()).decode(messages), expected, ["k"])


def test_no_messages_give_an_empty_table() -> None:
    found = DebeziumDecoder(WIDE, KEY, TableNames()).decode(ChangeMessages([], [], []))
    assert len(found) == 0
    assert found.table.column_names == [one.name for one in WIDE]


@pytest.mark.parametrize("literal", ['"x"', "{}", "[1]", "1.5", "null", '"\\ud800"', "NaN"])
def test_rows_of_other_tables_do_not_make_the_rest_slow_or_wrong(literal: str) -> None:
    """The columns of another table may have any types, and its name may stand in front of them or behind."""
    mine = b'{"before": null, "after": {"l": 5, "r": "r"}, "source": {"schema": "a", "db": "d", "table": "t", "lsn": 5}, "op": "c"}'
    other = mine.replace(b'"table": "t"', b'"table": "o"').replace(b'"l": 5', b'"l": %s' % literal.encode())
    database = mine.replace(b'"schema": "a"', b'"schema": null')
    batch = [*[other, mine] * 60, database, mine.replace(b'"l": 5', b'"l": "x"'), other]
    messages = ChangeMessages(batch, [None] * len(batch), [None] * len(batch))
    for wanted in (["a.t"], ["d.*"], ["*.t"]):
        found = DebeziumDecoder(WIDE, KEY, TableNames(wanted)).decode(messages)
        assert_same(found, ExactDebezium(WIDE, KEY, TableNames(wanted)).decode(messages, range(len(batch))))
        assert found.tables <= {"a.t", "d.t"}
