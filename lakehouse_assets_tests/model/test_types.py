import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.model.types import (
    PRIMITIVE_NAMES,
    TYPE_PATTERN,
    DataType,
    ListType,
    MapType,
    Primitive,
    StructField,
    StructType,
    list_maps,
    parse_type,
)

PLAIN = [Primitive(name) for name in PRIMITIVE_NAMES if name not in ("decimal", "fixed")]


def decimals() -> st.SearchStrategy[Primitive]:
    precisions = st.integers(1, 38)
    pairs = precisions.flatmap(lambda precision: st.tuples(st.just(precision), st.integers(0, precision)))
    return pairs.map(lambda pair: Primitive("decimal", pair))


def primitives() -> st.SearchStrategy[Primitive]:
    fixed = st.integers(1, 2**31 - 1).map(lambda length: Primitive("fixed", (length,)))
    return st.one_of(st.sampled_from(PLAIN), decimals(), fixed)


def structs(inner: st.SearchStrategy[DataType]) -> st.SearchStrategy[StructType]:
    names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
    fields = st.lists(
        st.builds(StructField, names, inner), min_size=1, max_size=4, unique_by=lambda f: f.name.lower()
    )
    return fields.map(lambda found: StructType(tuple(found)))


def data_types() -> st.SearchStrategy[DataType]:
    return st.recursive(
        primitives(),
        lambda inner: st.one_of(inner.map(ListType), st.builds(MapType, inner, inner), structs(inner)),
        max_leaves=12,
    )


@given(data_types())
def test_the_text_of_a_type_reads_back_as_the_same_type(kind: DataType) -> None:
    assert parse_type(str(kind)) == kind


@given(data_types())
def test_editors_accept_every_type_that_the_parser_accepts(kind: DataType) -> None:
    assert re.fullmatch(TYPE_PATTERN, str(kind))


@given(st.text(max_size=40))
def test_any_text_is_a_type_or_refused_with_a_sentence(text: str) -> None:
    try:
        answer = str(parse_type(text))
    except ValueError as error:
        answer = str(error)

    assert re.fullmatch(rf"{TYPE_PATTERN}|found .*; allowed: .*\..*", answer, re.DOTALL)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("decimal(10,2)", Primitive("decimal", (10, 2))),
        (" decimal ( 38 , 38 ) ", Primitive("decimal", (38, 38))),
        ("fixed[16]", Primitive("fixed", (16,))),
        ("fixed(16)", Primitive("fixed", (16,))),
        ("list<string>", ListType(Primitive("string"))),
        ("map<string,long>", MapType(Primitive("string"), Primitive("long"))),
        (
            "struct<a:int,b:list<struct<c:date>>>",
            StructType(
                (
                    StructField("a", Primitive("int")),
                    StructField("b", ListType(StructType((StructField("c", Primitive("date")),)))),
                )
            ),
        ),
    ],
)
def test_types_are_read_in_icebergs_spelling(text: str, expected: DataType) -> None:
    assert parse_type(text) == expected


@pytest.mark.parametrize(
    ("text", "found", "allowed", "suggestion"),
    [
        ("strng", "'strng'", "boolean, int, long", "string"),
        ("String", "'String'", "boolean, int, long", "string"),
        ("bigint", "'bigint'", "boolean, int, long", "long"),
        ("", "the end", "boolean, int, long", None),
        ("long long", "'long' in 'long long'", "the end of the type", None),
        ("decimal", "the end in 'decimal'", "'('", None),
        ("decimal(39,2)", "'39' in", "a precision from 1 to 38", None),
        ("decimal(0,0)", "'0' in", "a precision from 1 to 38", None),
        ("decimal(5,6)", "'6' in", "a scale from 0 to 5", None),
        ("fixed", "the end in 'fixed'", "fixed[16]", None),
        ("fixed[0]", "'0' in", "a length in bytes from 1", None),
        ("fixed[16)", "')' in", "']'", None),
        ("list<strng>", "'strng' in 'list<strng>'", "boolean", "string"),
        ("list<string", "the end in", "'>'", None),
        ("map<string>", "'>' in", "','", None),
        ("struct<>", "'>' in", "a field name", None),
        ("struct<a int>", "'int' in", "':'", None),
        ("struct<a:int,A:long>", "'A' in", "each field name once", None),
        ("struct<1a:int>", "'1' in", "a field name", None),
        ("list<" * 1000 + "int" + ">" * 1000, "a type nested 33 deep", "at most 32 levels", None),
    ],
)
def test_a_wrong_type_says_what_was_found_allowed_and_meant(
    text: str, found: str, allowed: str, suggestion: str | None
) -> None:
    with pytest.raises(ValueError, match="found") as raised:
        parse_type(text)

    mistake = raised.value.args[0]
    assert type(raised.value) is ValueError
    assert found in mistake.found
    assert allowed in mistake.allowed
    assert mistake.suggestion == suggestion


def test_maps_are_found_at_every_depth() -> None:
    kind = parse_type("struct<a: list<map<string, map<int, long>>>>")

    assert [str(found) for found in list_maps(kind)] == ["map<string, map<int, long>>", "map<int, long>"]
