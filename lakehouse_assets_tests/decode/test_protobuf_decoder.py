"""Protobuf messages become columns: the same whatever decodes them, and as Protobuf's own runtime reads them."""

import struct
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.decode.decoded import BrokenSchema, Decoded
from lakehouse_assets.decode.protobuf.decoder import ProtobufDecoder
from lakehouse_assets.decode.protobuf.derive import derive_columns
from lakehouse_assets.decode.protobuf.schema import CompiledSchema, compile_schema
from lakehouse_assets.model.schemas import RegisteredSchema
from lakehouse_assets.model.types import parse_type
from lakehouse_assets_tests.decode.declared import DeclaredColumn


def col(name: str, kind: str, *, path: tuple[str, ...] = (), required: bool = False, epoch: str | None = None) -> DeclaredColumn:
    return DeclaredColumn(name, parse_type(kind), required, path or (name,), epoch)


HEAD = b"\0\0\0\0\7\0"  # schema 7, its first message
EVERYTHING = """
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

message Order {
  enum State { NEW = 0; PAID = 1; GONE = -3; }
  message Line { string article = 1; optional sint32 amount = 2; Order order = 3; }
  message Nothing {}
  bool flag = 1;
  int32 i32 = 2;
  int64 i64 = 3;
  uint32 u32 = 4;
  uint64 u64 = 5;
  sint32 s32 = 6;
  sint64 s64 = 7;
  fixed32 f32 = 8;
  fixed64 f64 = 9;
  sfixed32 sf32 = 10;
  sfixed64 sf64 = 11;
  float single = 12;
  double twice = 13;
  string text = 14;
  bytes raw = 15;
  State state = 16;
  optional int64 maybe = 17;
  optional string word = 18;
  Line line = 19;
  repeated Line lines = 20;
  repeated int32 numbers = 21;
  repeated sint64 loose = 22 [packed = false];
  repeated double prices = 23;
  repeated string tags = 24;
  map<string, int64> counts = 25;
  map<string, Line> by_name = 26;
  oneof choice { string left = 27; int64 right = 28; Line both = 29; bool unread = 30; }
  google.protobuf.Timestamp at = 31;
  google.protobuf.Int64Value boxed = 32;
  repeated State states = 33;
  Nothing nothing = 34;
  repeated google.protobuf.Timestamp times = 35;
  string unread_text = 1000;
}
message Other { int64 i64 = 1; }
"""
LINE = "struct<article: string, amount: int>"
COLUMNS = [
    col("flag", "boolean"), col("i32", "int"), col("i64", "long"), col("u32", "long"), col("u64", "long"),
    col("s32", "int"), col("s64", "long"), col("f32", "long"), col("f64", "long"), col("sf32", "int"),
    col("sf64", "long"), col("single", "float"), col("twice", "double"), col("text", "string"),
    col("raw", "binary"), col("state", "string"), col("maybe", "long"), col("word", "string"),
    col("line", LINE), col("lines", f"list<{LINE}>"), col("numbers", "list<int>"), col("loose", "list<long>"),
    col("prices", "list<double>"), col("tags", "list<string>"), col("counts", "map<string, long>"),
    col("by_name", f"map<string, {LINE}>"), col("left", "string"), col("right", "long"),
    col("both", "struct<article: string>"), col("at", "timestamptz"), col("boxed", "long"),
    col("states", "list<string>"), col("times", "list<timestamptz>"),
]  # fmt: skip


@cache
def everything() -> CompiledSchema:
    return compile_schema(EVERYTHING)


def order_class() -> Any:
    message = everything().find_message([0])
    assert message is not None
    return GetMessageClass(message)


def decoder_of(columns: Any = COLUMNS, text: str = EVERYTHING, **parts: Any) -> ProtobufDecoder:
    return ProtobufDecoder(columns, lambda _: RegisteredSchema("PROTOBUF", text, **parts))


@cache
def shared_decoder() -> ProtobufDecoder:
    return decoder_of()


def decode_one_by_one(decoder: ProtobufDecoder, values: list[bytes]) -> tuple[list[str], list[tuple[int, str, str]]]:
    """So few at a time that the fast decoder is not asked."""
    rows, bad = [], []
    for index, value in enumerate(values):
        decoded = decoder.decode([value])
        rows += shown(decoded)
        bad += [(index, one.code, one.reason) for one in decoded.bad]
    return rows, bad


def shown(decoded: Decoded) -> list[str]:
    """Rows as text, in which NaN equals itself."""
    return [repr(row) for row in decoded.table.to_pylist()]


INT32, INT64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
LINES = st.fixed_dictionaries({}, optional={"article": WORDS, "amount": INT32})
TIMES = st.builds(lambda s, n: {"seconds": s, "nanos": n}, st.integers(-62_135_596_800, 253_402_300_799), st.integers(0, 999_999_999))
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "flag": st.booleans(), "i32": INT32, "i64": INT64, "u32": st.integers(0, 2**32 - 1), "u64": st.integers(0, 2**63 - 1),
    "s32": INT32, "s64": INT64, "f32": st.integers(0, 2**32 - 1), "f64": st.integers(0, 2**63 - 1), "sf32": INT32, "sf64": INT64,
    "single": st.floats(width=32), "twice": st.floats(), "text": WORDS, "raw": st.binary(max_size=6),
    "state": st.sampled_from([0, 1, -3]), "maybe": INT64, "word": WORDS, "line": LINES, "lines": st.lists(LINES, max_size=3),
    "numbers": st.lists(INT32, max_size=4), "loose": st.lists(INT64, max_size=4), "prices": st.lists(st.floats(), max_size=3),
    "tags": st.lists(WORDS, max_size=3), "counts": st.dictionaries(WORDS, INT64, max_size=3), "left": WORDS, "right": INT64,
    "both": LINES, "unread": st.booleans(), "at": TIMES, "boxed": st.builds(lambda v: {"value": v}, INT64),
    "states": st.lists(st.sampled_from([0, 1, -3]), max_size=3), "nothing": st.just({}), "times": st.lists(TIMES, max_size=2),
    "unread_text": WORDS,
}  # fmt: skip
CONTENTS = st.fixed_dictionaries({}, optional=FIELDS)
MESSAGES = CONTENTS.map(lambda parts: order_class()(**parts))


def expect(message: Any) -> dict[str, Any]:
    """What a message is, by the class that Protobuf makes of the whole schema."""
    row: dict[str, Any] = {}
    for column in COLUMNS:
        name = column.name
        field = message.DESCRIPTOR.fields_by_name[name]
        found = getattr(message, name)
        if not field.is_repeated and field.has_presence and not message.HasField(name):
            row[name] = None
        elif name in ("line", "both"):
            row[name] = expect_line(found, name == "line")
        elif name == "lines":
            row[name] = [expect_line(one) for one in found]
        elif name == "by_name":
            row[name] = sorted((key, expect_line(one)) for key, one in found.items())
        elif name == "counts":
            row[name] = sorted(found.items())
        elif name in ("state", "states"):
            names = {0: "NEW", 1: "PAID", -3: "GONE"}
            row[name] = names[found] if name == "state" else [names[one] for one in found]
        elif name == "boxed":
            row[name] = found.value
        elif name == "at":
            row[name] = expect_time(found)
        elif name == "times":
            row[name] = [expect_time(one) for one in found]
        else:
            row[name] = list(found) if field.is_repeated else found
    return row


def expect_line(line: Any, with_amount: bool = True) -> dict[str, Any]:
    amount = {"amount": line.amount if line.HasField("amount") else None} if with_amount else {}
    return {"article": line.article, **amount}


def expect_time(stamp: Any) -> datetime:
    return datetime(1970, 1, 1, tzinfo=ZoneInfo("UTC")) + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)


def sorted_maps(row: dict[str, Any]) -> dict[str, Any]:
    return {name: sorted(value) if name in ("counts", "by_name") else value for name, value in row.items()}


@settings(max_examples=25, deadline=None)
@given(st.lists(MESSAGES, min_size=1, max_size=5))
def test_every_kind_of_field_is_read_as_protobuf_reads_it(messages: list[Any]) -> None:
    messages = messages * 32
    decoded = shared_decoder().decode([HEAD + message.SerializeToString() for message in messages])

    assert not decoded.bad
    assert [repr(sorted_maps(row)) for row in decoded.table.to_pylist()] == [repr(expect(message)) for message in messages]


BODIES = st.lists(MESSAGES.map(lambda message: message.SerializeToString()), max_size=3).map(b"".join)


@st.composite
def broken_bodies(draw: st.DrawFn) -> bytes:
    """Cut, flipped, or with something put in: now and then it still is a message."""
    body = bytearray(draw(BODIES))
    at = draw(st.integers(0, max(0, len(body) - 1)))
    match draw(st.sampled_from(["cut", "flip", "insert"])):
        case "cut":
            return bytes(body[:at])
        case "flip" if body:
            body[at] ^= draw(st.integers(1, 255))
            return bytes(body)
        case _:
            return bytes(body[:at]) + draw(st.binary(min_size=1, max_size=12)) + bytes(body[at:])


@settings(max_examples=60, deadline=None)
@given(st.lists(BODIES | broken_bodies(), min_size=1, max_size=8))
def test_speed_changes_no_result_whatever_the_bytes_are(bodies: list[bytes]) -> None:
    values = [HEAD + body for body in bodies]
    values += [HEAD + order_class()(i64=i, text="good").SerializeToString() for i in range(40)]

    fast = shared_decoder().decode(values)

    rows, bad = decode_one_by_one(shared_decoder(), values)
    assert [(one.index, one.code, one.reason) for one in fast.bad] == bad
    assert shown(fast) == rows
    assert not [one for one in fast.bad if one.index >= len(bodies)]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"\x12", "broken_protobuf"),  # a tag without its value
        (b"\x10" + b"\xff" * 10 + b"\x01", "broken_protobuf"),  # a number of eleven bytes
        (b"\x72\xff\xff\xff\xff\x0f", "broken_protobuf"),  # text longer than the message
        (b"\x07", "broken_protobuf"),  # field 0, wire type 7
        (b"\x1c", "broken_protobuf"),  # the end of a group that never began
        (b"\x72\x01\xff", "invalid_utf8"),
        (b"\x28" + b"\xff" * 9 + b"\x01", "out_of_range"),  # 2^64 - 1
        (b"\x80\x01\x07", "out_of_range"),  # a state that has no name
        (b"\xfa\x01\x07\x08\xff\xff\xff\xff\xff\x7f", "out_of_range"),  # a time after the year 9999
        (b"\xfa\x01\x0b\x10" + b"\xff" * 9 + b"\x01", "out_of_range"),  # -1 nanoseconds
    ],
)  # fmt: skip
def test_a_bad_message_is_bad_alone(body: bytes, code: str) -> None:
    values = [HEAD + order_class()(i64=i).SerializeToString() for i in range(100)]
    values[50] = HEAD + body

    decoded = shared_decoder().decode(values)

    assert [(one.index, one.code) for one in decoded.bad] == [(50, code)]
    assert decoded.table.column("i64").to_pylist() == [*range(50), *range(51, 100)]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", "empty"),
        (b"\x01\0\0\0\7\0", "wrong_magic_byte"),
        (b'{"i64": 1}', "wrong_magic_byte"),
        (b"\0\0\0\0", "broken_protobuf"),
        (b"\0\0\0\0\7", "broken_protobuf"),
        (b"\0\0\0\0\7\x02", "broken_protobuf"),
        (b"\0\0\0\0\7\xff\xff\xff\xff\xff\xff", "broken_protobuf"),
        (b"\0\0\0\0\7\x02\x04", "unknown_message_type"),
        (b"\0\0\0\0\7\x02\x01", "broken_protobuf"),
    ],
)
def test_a_value_that_names_no_schema_and_type_is_bad(value: bytes, code: str) -> None:
    (bad,) = decoder_of().decode([value]).bad

    assert bad.code == code


def test_messages_of_several_schemas_and_types_stay_in_their_order() -> None:
    other = "syntax = 'proto2'; message A { message B { optional int64 i64 = 3; } optional string text = 1 [default = 'x']; }"
    texts = {7: EVERYTHING, 8: other, 9: "syntax = 'proto3'; message {"}
    kinds = {10: "AVRO"}
    schema_of = lambda i: RegisteredSchema(kinds.get(i, "PROTOBUF"), texts.get(i, "{}")) if i in {*texts, *kinds} else None  # noqa: E731
    decoder = ProtobufDecoder([col("i64", "long"), col("text", "string")], schema_of)
    row = lambda i: order_class()(i64=i, text="t").SerializeToString()  # noqa: E731
    shapes = [
        lambda i: HEAD + row(i),
        lambda i: b"\0\0\0\0\7\x02\x02" + b"\x08" + bytes([i]),  # Other
        lambda i: b"\0\0\0\0\7\x02\x00" + row(i),  # [0] in its long form
        lambda i: b"\0\0\0\0\x08\x04\0\0\x18" + bytes([i]),  # A.B
        lambda i: b"\0\0\0\0\x08\0",  # A
        lambda i: b"\0\0\0\0\x09\0",
        lambda i: b"\0\0\0\0\x0a\0",
        lambda i: b"\0\0\0\0\x0b\0",
    ]
    values = [shape(i) for i in range(100) for shape in shapes]

    decoded = decoder.decode(values)

    expected = [pair for i in range(100) for pair in [(i, "t"), (i, None), (i, "t"), (i, None), (None, None)]]
    assert [(row["i64"], row["text"]) for row in decoded.table.to_pylist()] == expected
    assert [one.code for one in decoded.bad] == ["broken_schema", "wrong_schema_kind", "unknown_schema_id"] * 100
    assert [one.index % 8 for one in decoded.bad] == [5, 6, 7] * 100


def test_a_recursive_type_is_read_as_deep_as_the_columns_go() -> None:
    deep = order_class()(line={"article": "a", "order": {"line": {"article": "b", "order": {"i64": 5}}}})
    columns = [col("inner", "struct<article: string, order: struct<i64: long>>", path=("line", "order", "line"))]

    for count in (1, 50):
        decoded = decoder_of(columns).decode([HEAD + deep.SerializeToString()] * count)
        assert decoded.table.to_pylist() == [{"inner": {"article": "b", "order": {"i64": 5}}}] * count


def test_nesting_without_end_is_no_stack_overflow() -> None:
    bomb = b""
    for _ in range(3000):
        bomb = b"\x1a" + varint(len(bomb)) + bomb  # Line.order
        bomb = b"\x9a\x01" + varint(len(bomb)) + bomb  # Order.line
    groups = b"\x0b" * 100_000

    for body in (bomb, groups):
        values = [HEAD + body] + [HEAD + b"\x18\x01"] * 50
        decoded = decoder_of([col("i64", "long")]).decode(values)
        assert decoded.table.num_rows >= 50
        assert shown(decoded) == decode_one_by_one(decoder_of([col("i64", "long")]), values)[0]


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def test_long_lists_are_not_read_step_by_step_for_ever() -> None:
    loose = b"\xb0\x01\x02" * 200_000
    values = [HEAD + loose] + [HEAD + b"\x18\x05"] * 99

    decoded = decoder_of([col("i64", "long"), col("loose", "list<long>")]).decode(values)

    assert not decoded.bad
    assert decoded.table.column("loose").to_pylist()[0] == [1] * 200_000


@pytest.mark.parametrize("count", [1, 50])
def test_text_numbers_and_bytes_become_what_is_declared_by_the_rules_for_json(count: int) -> None:
    text = """syntax = "proto3"; message M { string uuid = 1; string price = 2; string day = 3; int64 ms = 4; bytes code = 5;
        string when = 6; int32 small = 7; }"""
    columns = [
        col("uuid", "uuid"), col("price", "decimal(9, 2)"), col("day", "date"),
        col("ms", "timestamptz", epoch="milliseconds"), col("code", "fixed[3]"), col("when", "timestamptz"),
        col("small", "double"),
    ]  # fmt: skip
    message = compile_schema(text).find_message([0])
    assert message is not None
    make = GetMessageClass(message)
    good = {
        "uuid": "00000000-0000-0000-0000-00000000000a", "price": "1.50", "day": "2026-11-27", "ms": 1000, "code": b"abc",
        "when": "2026-11-27T01:00:00Z", "small": 3,
    }  # fmt: skip
    decoder = decoder_of(columns, text)
    for part, wrong in [("uuid", "x"), ("price", "1.555"), ("day", "2026-13-01"), ("code", b"abcd"), ("when", "now")]:
        values = [HEAD + make(**good).SerializeToString()] * count
        values.append(HEAD + make(**{**good, part: wrong}).SerializeToString())
        decoded = decoder.decode(values)
        assert [one.index for one in decoded.bad] == [count]
        assert part in decoded.bad[0].reason
        row = decoded.table.to_pylist()[0]
        assert (str(row["uuid"]), str(row["price"]), str(row["day"]), row["code"], row["small"]) == (good["uuid"], "1.50", "2026-11-27", b"abc", 3.0)
        assert row["ms"] == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize("count", [1, 50])
def test_a_column_that_the_field_can_never_become_makes_a_message_bad_that_has_it(count: int) -> None:
    columns = [
        col("line", "long"), col("numbers", "long"), col("tags", "map<string, string>"),
        col("maybe", "string"), col("text", "string", required=True, path=("text",)), col("x", "long", path=("word", "x")),
    ]  # fmt: skip
    decoder = decoder_of(columns)
    good = HEAD + order_class()(text="t").SerializeToString()
    assert decoder.decode([good] * count).table.to_pylist() == [{c.name: "t" if c.name == "text" else None for c in columns}] * count

    for parts in ({"line": {}}, {"numbers": [1]}, {"tags": ["a"]}, {"maybe": 1}, {"word": "w"}):
        decoded = decoder.decode([good] * count + [HEAD + order_class()(**parts).SerializeToString()])
        assert [(one.index, one.code) for one in decoded.bad] == [(count, "wrong_type")]


@pytest.mark.parametrize("count", [1, 50])
def test_a_required_column_needs_a_field_that_is_there(count: int) -> None:
    columns = [col("maybe", "long", required=True), col("i64", "long", required=True)]
    there, missing = (HEAD + order_class()(**parts).SerializeToString() for parts in ({"maybe": 0}, {}))

    decoded = decoder_of(columns).decode([there, missing] * count)

    assert {(one.code, one.index % 2) for one in decoded.bad} == {("missing_required", 1)}
    assert decoded.table.to_pylist() == [{"maybe": 0, "i64": 0}] * count


def test_groups_and_defaults_of_proto2_are_read() -> None:
    text = """syntax = "proto2"; message M { optional int64 n = 1 [default = 5]; optional group Part = 2 { optional int64 a = 3; } }"""
    part = b"\x13\x18\x09\x14"
    decoder = decoder_of([col("n", "long"), col("a", "long", path=("part", "a"))], text)

    for count in (1, 50):
        rows = decoder.decode([HEAD + part, HEAD + b"\x08\x01"] * count).table.to_pylist()
        assert rows == [{"n": None, "a": 9}, {"n": 1, "a": None}] * count


def test_imports_come_from_the_registry() -> None:
    text = 'syntax = "proto3"; import "shop/line.proto"; message M { shop.Line line = 1; }'
    line = ("shop/line.proto", 'syntax = "proto3"; package shop; message Line { double price = 1; }')
    decoder = decoder_of([col("price", "double", path=("line", "price"))], text, references=(line,))

    value = HEAD + b"\x0a\x09\x09" + struct.pack("<d", 2.5)

    assert decoder.decode([value]).table.to_pylist() == [{"price": 2.5}]


@pytest.mark.parametrize("name", ["../../x.proto", "/etc/x.proto", "a/../../x.proto", "a\\x.proto", "x\0y", ""])
def test_an_import_can_reach_no_file_outside(name: str) -> None:
    with pytest.raises(BrokenSchema):
        compile_schema('syntax = "proto3";', [(name, 'syntax = "proto3";')])


def test_a_broken_schema_says_what_is_wrong() -> None:
    with pytest.raises(BrokenSchema, match="1:28"):
        compile_schema('syntax = "proto3"; message {')


def test_the_first_message_gives_columns_that_its_messages_fit() -> None:
    text = EVERYTHING.replace("Order order = 3;", "").replace("  Nothing nothing = 34;\n", "")
    derived = derive_columns(RegisteredSchema("PROTOBUF", text))

    types = {one.name: str(one.type) for one in derived}
    assert types["lines"] == "list<struct<article: string, amount: int>>"
    assert types["by_name"] == "map<string, struct<article: string, amount: int>>"
    assert [types[name] for name in ("u64", "state", "at", "boxed", "raw", "single")] == [
        "long", "string", "timestamptz", "long", "binary", "float",
    ]  # fmt: skip
    assert not any(one.required for one in derived)
    columns = [DeclaredColumn(one.name, one.type, path=(one.name,)) for one in derived]
    value = HEAD + order_class()(i64=3, lines=[{"article": "a"}]).SerializeToString()
    assert decoder_of(columns, text).decode([value] * 40).table.column("i64").to_pylist() == [3] * 40


@pytest.mark.parametrize(
    "text",
    ["message M {}", "", "message M { M inner = 1; }", "message N {} message M { N n = 1; }", "message M { map<int32, string> m = 1; }"],
)
def test_a_schema_that_can_give_no_columns_is_refused(text: str) -> None:
    with pytest.raises(BrokenSchema):
        derive_columns(RegisteredSchema("PROTOBUF", f'syntax = "proto3"; {text}'))
