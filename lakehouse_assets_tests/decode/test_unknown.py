"""Fields that no column reads are counted, named and given a type, whichever decoder reads the messages."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.declarations.loading import load_declarations
from lakehouse_assets.decode.exact import ExactDecoder
from lakehouse_assets.decode.json_decoder import JsonDecoder
from lakehouse_assets.model.types import parse_type
from lakehouse_assets.model.unknown import MAX_NAMES, UnknownField, UnknownFields
from lakehouse_assets_tests.decode.declared import column, decoder

L = column("l", "long")


def encode(*messages: Any) -> list[bytes]:
    return [message if isinstance(message, bytes) else json.dumps(message).encode() for message in messages]


def found(unknown: UnknownFields) -> dict[str, tuple[int, str]]:
    return {field.name: (field.count, field.kind) for field in unknown.ranked}


CASES: dict[str, tuple[list[Any], list[Any], dict[str, tuple[int, str]]]] = {
    "none": ([L], [{"l": 1}, {}], {}),
    "one in some": ([L], [{"l": 1, "x": 2}, {"l": 2}, {"l": 3, "x": 3}], {"x": (2, "long")}),
    "null is no value": ([L], [{"l": 1, "x": None}, {"l": 2, "x": True}], {"x": (1, "boolean")}),
    "whole numbers and fractions": ([L], [{"x": 1}, {"x": 1.5}], {"x": (2, "double")}),
    "large numbers": ([L], [{"x": 1}, {"x": 2**63}], {"x": (2, "decimal(38, 0)")}),
    "no one type": ([L], [{"x": 1}, {"x": "a"}], {"x": (2, "")}),
    "an object": ([L], [{"x": {"a": 1}}, {"x": {"b": ["s"]}}], {"x": (2, "struct<a: long, b: list<string>>")}),
    "keys that are data": ([L], [{"x": {f"k{i}": 1}} for i in range(99)], {"x": (99, "map<string, long>")}),
    "an empty list": ([L], [{"x": []}, {"x": [[1]]}], {"x": (2, "list<list<long>>")}),
    "in the object around a column": (
        [L, column("u", "long", path="user.id")], [{"user": {"id": 1, "age": 3}}, {"user": None}], {"user.age": (1, "long")},
    ),
    "in a struct": (
        [column("s", parse_type("struct<a:struct<b:int>>"))], [{"s": {"a": {"b": 1, "c": 2}, "d": "x"}}, {"s": {"a": None}}],
        {"s.a.c": (1, "long"), "s.d": (1, "string")},
    ),
    "in structs of a list, once a message": (
        [column("s", parse_type("list<struct<a:int>>"))], [{"s": [{"a": 1, "b": 1}, {"b": 2}]}, {"s": [{"a": 1}]}, {"s": [None]}],
        {"s.b": (1, "long")},
    ),
    "in structs of a map": (
        [column("s", parse_type("map<string,struct<a:int>>"))], [{"s": {"k": {"a": 1, "b": 1}}}, {"s": {}}], {"s.b": (1, "long")},
    ),
    "names with dots and quotes": ([L], [{'a.b "c"': 1}], {'a.b "c"': (1, "long")}),
}  # fmt: skip


@pytest.mark.parametrize(("columns", "messages", "expected"), CASES.values(), ids=CASES)
def test_unknown_fields_are_counted_by_each_way_of_decoding(
    columns: list[Any], messages: list[Any], expected: dict[str, tuple[int, str]]
) -> None:
    values = encode(*messages)
    exact = ExactDecoder(columns).decode(values, range(len(values)))
    assert not exact.bad
    learning = JsonDecoder(columns)

    for unknown in (exact.unknown, *(learning.decode(values).unknown for _ in range(3))):
        assert found(unknown) == expected
        assert (unknown.messages, unknown.looked_at) == (len(messages), len(messages))


def test_bad_messages_are_not_counted_among_them() -> None:
    values = encode({"l": 1, "x": 1}, {"l": "bad", "x": 1}, b"nonsense", {"l": 2}, {"l": "bad", "y": 1})

    for _ in range(2):
        decoded = decoder(L).decode(values * 50)
        assert (decoded.unknown.messages, found(decoded.unknown)) == (100, {"x": (50, "long")})


def test_a_field_that_only_bad_messages_have_is_learnt_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    loads = json.loads
    values = encode(*({"l": i} if i % 10 else {"x": i} for i in range(1000)))
    monkeypatch.setattr(json, "loads", lambda value: parsed.append(value) or loads(value))
    reader = decoder(column("l", "long", required=True))

    counts = [found(reader.decode(values).unknown) for _ in range(5)]

    assert counts == [{}] * 5
    assert len(parsed) == 1000


MEMBERS = st.sampled_from(["a", "b", "c"])
SCALARS = st.sampled_from([1, 7, True, "s", None, [], [1], {"a": 1}, {"a": {"b": "s"}}])
MESSAGES = st.fixed_dictionaries(
    {}, optional={"l": st.integers(0, 9), "s": st.dictionaries(MEMBERS, SCALARS), "x": SCALARS, "y": st.integers(), "u": st.dictionaries(MEMBERS, SCALARS)}
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(batches=st.lists(st.lists(MESSAGES, min_size=1, max_size=6), min_size=1, max_size=4))
def test_the_fast_decoder_counts_as_the_exact_one_does(batches: list[list[dict[str, Any]]]) -> None:
    columns = [L, column("s", parse_type("struct<z:int>")), column("u", "string", path="u.q")]
    fast, exact = JsonDecoder(columns), ExactDecoder(columns)
    for batch in batches:
        values = encode(*batch)

        counted, expected = fast.decode(values).unknown, exact.decode(values, range(len(values))).unknown

        assert {f.path: f.count for f in counted.ranked} == {f.path: f.count for f in expected.ranked}


def test_a_field_that_turns_up_late_in_a_long_batch_is_found() -> None:
    messages = [{"l": i, "often": i} for i in range(20_000)]
    messages[17_345]["rare"] = "x"

    unknown = decoder(L).decode(encode(*messages)).unknown

    assert found(unknown) == {"often": (20_000, "long"), "rare": (1, "string")}
    assert unknown.looked_at == 20_000


def test_fields_of_several_kinds_are_looked_at_in_a_sample_which_says_so() -> None:
    values = encode(*({"l": i, "x": i if i % 2 else "s", "text": "t" * 100} for i in range(60_000)))

    unknown = decoder(L).decode(values).unknown

    assert unknown.messages == 60_000
    assert 0 < unknown.looked_at < 30_000
    assert [(f.name, unknown.share(f)) for f in unknown.ranked] == [("text", 1.0), ("x", 1.0)]


def test_an_explosion_of_keys_stays_bounded() -> None:
    values = encode(*({"l": i} | {f"key-{i}-{j}": j for j in range(200)} for i in range(1_000)))
    tracemalloc.start()

    unknown = decoder(L).decode(values).unknown
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(unknown.fields) == MAX_NAMES
    assert unknown.other_names > 500
    assert peak < 16 * 2**20  # the names alone, if they were kept, would take more


def test_a_message_of_ten_thousand_new_keys_beside_others_is_no_harm() -> None:
    values = encode({"l": 1} | {f"k{i}": {"a": [i]} for i in range(10_000)}, *({"l": i} for i in range(5_000)))

    decoded = decoder(L).decode(values)

    assert decoded.table.num_rows == 5_001
    assert len(decoded.unknown.fields) == MAX_NAMES


@pytest.mark.parametrize(
    ("path", "kind", "line"),
    [
        (("price",), "double", "- {name: price, type: double}"),
        (("user", "age"), "long", "- {name: user_age, type: long, from: user.age}"),
        (("a.b",), "long", '- {name: a_b, type: long, from: ["a.b"]}'),
        (("größe",), "long", '- {name: gr__e, type: long, from: ["größe"]}'),
        (("1st",), "string", '- {name: field_1st, type: string, from: ["1st"]}'),
        (("_kafka_offset",), "long", "- {name: field_kafka_offset, type: long, from: _kafka_offset}"),
        (("x: y}\n- {",), "long", '- {name: x__y_____, type: long, from: ["x: y}\\n- {"]}'),
        (("s",), "struct<a: long>", '- {name: s, type: "struct<a: long>"}'),
        (("d",), "decimal(38, 0)", '- {name: d, type: "decimal(38, 0)"}'),
    ],
)
def test_the_line_to_add_is_a_column_that_reads_the_field(tmp_path: Any, path: tuple[str, ...], kind: str, line: str) -> None:
    assert UnknownField(path, 1, kind).line == line

    file = tmp_path / "table.yaml"
    file.write_text(f"table: ods.t\nsource: {{topic: t}}\nschema:\n  {line}\n")
    (spec,) = load_declarations(file).specs
    assert spec.columns[0].path == path


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("long", "long", "long"),
        ("long", "double", "double"),
        ("long", "decimal(38, 0)", "decimal(38, 0)"),
        ("long", "string", ""),
        ("", "long", ""),
        ("list<long>", "list<double>", "list<double>"),
        ("struct<a: long>", "struct<b: list<string>, a: double>", "struct<a: double, b: list<string>>"),
        ("struct<a: long>", "struct<a: string>", ""),
        ("map<string, long>", "struct<a: long, b: double>", "map<string, double>"),
        ("map<string, long>", "struct<a: string>", ""),
        ("map<string, long>", "list<long>", ""),
        ("list<" * 50 + "long" + ">" * 50, "list<long>", ""),
    ],
)
def test_types_seen_in_parts_are_joined(one: str, other: str, both: str) -> None:
    parts = [UnknownFields(2, 2, {("x",): UnknownField(("x",), 1, kind)}) for kind in (one, other)]

    assert found(parts[0].joined(parts[1])) == {"x": (2, both)}
    assert found(parts[1].joined(parts[0]))["x"][0] == 2


def test_no_line_is_given_for_what_has_no_one_type_and_for_endless_names() -> None:
    assert UnknownField(("x",), 1, "").line == ""
    assert UnknownField(("x" * 500,), 1, "long").line == ""
    assert len(UnknownField(("x" * 500,), 1, "long").name) < 100
    assert UnknownField(("s", "b"), 1, "long", is_inside=True).line == "b: long   # in the type of s"
