"""Each rule of the language of values, judged by both decoders: what is a row, with which value, and what is bad, and why."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from lakehouse_assets.decode.decoded import Decoded
from lakehouse_assets.model.types import DataType, ListType, MapType, Primitive, StructField, StructType
from lakehouse_assets_tests.decode.declared import DeclaredColumn, column, decoder

PRICE = Primitive("decimal", (6, 2))
FIXED = Primitive("fixed", (3,))
UUID_TEXT = "0f8fad5b-d9cb-469f-a165-70867728950e"
POINT = StructType((StructField("x", Primitive("long")), StructField("at", Primitive("date"))))


def decode_alone_and_among_good(
    declared: DeclaredColumn, document: bytes, good: bytes
) -> tuple[Decoded, Decoded]:
    """One value is decoded alone, and between good ones, where the fast decoder works."""
    chosen = decoder(declared)
    return chosen.decode([document]), chosen.decode([good, document, good])


def value_of(declared: DeclaredColumn, document: bytes) -> Any:
    alone, among = decode_alone_and_among_good(declared, document, document)
    assert alone.bad == among.bad == ()
    (value,) = alone.table.column(0).to_pylist()
    assert among.table.column(0).to_pylist() == [value] * 3
    return value


def code_of(declared: DeclaredColumn, document: bytes) -> str:
    chosen = decoder(declared)
    (bad,) = chosen.decode([document]).bad
    among = chosen.decode([b"{}", document, b"{}"]).bad
    assert [(found.code, found.reason) for found in among if found.index == 1] == [(bad.code, bad.reason)]
    assert bad.index == 0
    return bad.code


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("boolean", "true", True),
        ("boolean", "false", False),
        ("int", "-2147483648", -(2**31)),
        ("long", "9223372036854775807", 2**63 - 1),
        ("long", "-9223372036854775808", -(2**63)),
        ("long", "-0", 0),
        ("float", "0.1", 0.10000000149011612),
        ("float", "16777217.0000000001", 16777218.0),
        ("double", "1", 1.0),
        ("double", "1e-400", 0.0),
        ("double", "1.7976931348623157e308", 1.7976931348623157e308),
        ("double", "123456789012345678901234567890", 1.2345678901234568e29),
        (PRICE, "1.5", Decimal("1.50")),
        (PRICE, '"1.5"', Decimal("1.50")),
        (PRICE, "-9999.99", Decimal("-9999.99")),
        (PRICE, "1.5000", Decimal("1.50")),
        (PRICE, "1e3", Decimal("1000.00")),
        (PRICE, "0e99", Decimal("0.00")),
        ("string", '"\\u00e9\\ud83d\\ude00"', "é😀"),
        ("string", '"a\\u0000b"', "a\0b"),
        ("date", '"2024-02-29"', date(2024, 2, 29)),
        ("date", '"0001-01-01"', date(1, 1, 1)),
        ("date", '"9999-12-31"', date(9999, 12, 31)),
        ("time", '"23:59"', time(23, 59)),
        ("time", '"23:59:58.1"', time(23, 59, 58, 100_000)),
        ("time", '"23:59:58.123456789"', time(23, 59, 58, 123456)),
        ("timestamp", '"2026-11-01T10:20"', datetime(2026, 11, 1, 10, 20)),
        ("timestamp", '"2026-11-01 10:20:30.5"', datetime(2026, 11, 1, 10, 20, 30, 500_000)),
        ("timestamp", '"1969-12-31T23:59:59.9999999"', datetime(1969, 12, 31, 23, 59, 59, 999_999)),
        ("timestamptz", '"2026-11-01T10:20:30Z"', datetime(2026, 11, 1, 10, 20, 30, tzinfo=UTC)),
        ("timestamptz", '"2026-11-01T10:20:30.123456789+05:30"', datetime(2026, 11, 1, 4, 50, 30, 123456, UTC)),
        ("timestamptz", '"2026-11-01T10:20:30-0100"', datetime(2026, 11, 1, 11, 20, 30, tzinfo=UTC)),
        ("timestamptz", '"2026-11-01T10:20:30+01"', datetime(2026, 11, 1, 9, 20, 30, tzinfo=UTC)),
        ("uuid", f'"{UUID_TEXT}"', UUID(UUID_TEXT)),
        ("uuid", f'"{UUID_TEXT.upper()}"', UUID(UUID_TEXT)),
        ("binary", '"AAEC"', b"\0\1\2"),
        ("binary", '""', b""),
        (FIXED, '"AAEC"', b"\0\1\2"),
        (ListType(Primitive("long")), "[1, null, 3]", [1, None, 3]),
        (ListType(Primitive("uuid")), f'["{UUID_TEXT}", null]', [UUID(UUID_TEXT), None]),
        (ListType(ListType(Primitive("date"))), '[["2024-02-29"], [], null]', [[date(2024, 2, 29)], [], None]),
        (POINT, '{"at": "2024-02-29", "x": 1, "more": {}}', {"x": 1, "at": date(2024, 2, 29)}),
        (POINT, "{}", {"x": None, "at": None}),
        (MapType(Primitive("string"), Primitive("long")), '{"a": 1, "b": null}', [("a", 1), ("b", None)]),
        (MapType(Primitive("string"), Primitive("uuid")), f'{{"a": "{UUID_TEXT}"}}', [("a", UUID(UUID_TEXT))]),
        ("long", "null", None),
        (POINT, "null", None),
    ],
)  # fmt: skip
def test_a_value_that_fits_its_type_is_kept_exactly(kind: str | DataType, text: str, expected: Any) -> None:
    assert value_of(column("a", kind), f'{{"a": {text}}}'.encode()) == expected


@pytest.mark.parametrize(
    ("epoch", "number", "expected"),
    [
        ("seconds", "1793528430", datetime(2026, 11, 1, 10, 20, 30, tzinfo=UTC)),
        ("milliseconds", "1793528430001", datetime(2026, 11, 1, 10, 20, 30, 1000, UTC)),
        ("microseconds", "-1", datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)),
        ("seconds", "-62135596800", datetime(1, 1, 1, tzinfo=UTC)),
        ("milliseconds", "253402300799999", datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC)),
    ],
)
def test_an_epoch_integer_is_read_in_its_declared_unit(epoch: str, number: str, expected: datetime) -> None:
    assert value_of(column("a", "timestamptz", epoch=epoch), f'{{"a": {number}}}'.encode()) == expected
    assert value_of(column("a", "timestamp", epoch=epoch), f'{{"a": {number}}}'.encode()) == expected.replace(
        tzinfo=None
    )


@pytest.mark.parametrize(
    ("epoch", "number", "code"),
    [
        ("seconds", "253402300800", "out_of_range"),
        ("seconds", "9223372036854775807", "out_of_range"),
        ("milliseconds", "-62135596800001", "out_of_range"),
        ("microseconds", "9223372036854775808", "out_of_range"),
        ("milliseconds", "1.5", "wrong_type"),
        ("milliseconds", '"2026-11-01T10:20:30Z"', "wrong_type"),
        ("milliseconds", "true", "wrong_type"),
    ],
)
def test_an_epoch_outside_of_the_calendar_or_of_another_kind_is_bad(
    epoch: str, number: str, code: str
) -> None:
    assert code_of(column("a", "timestamptz", epoch=epoch), f'{{"a": {number}}}'.encode()) == code


@pytest.mark.parametrize(
    ("kind", "text", "code"),
    [
        ("boolean", "1", "wrong_type"),
        ("boolean", '"true"', "wrong_type"),
        ("int", "2147483648", "out_of_range"),
        ("long", "9223372036854775808", "out_of_range"),
        ("long", "9" * 6000, "out_of_range"),
        ("long", "1.0", "wrong_type"),
        ("long", "1e3", "wrong_type"),
        ("long", "true", "wrong_type"),
        ("long", '"1"', "wrong_type"),
        ("float", "3.5e38", "out_of_range"),
        ("double", "1e400", "out_of_range"),
        ("double", '"1.5"', "wrong_type"),
        ("double", "false", "wrong_type"),
        (PRICE, "1.555", "out_of_range"),
        (PRICE, "12345", "out_of_range"),
        (PRICE, "12345678901234567890e-18", "out_of_range"),
        (PRICE, "99999.9", "out_of_range"),
        (PRICE, "1e999999999999999999999", "out_of_range"),
        (PRICE, "1e-999999999999999999999", "out_of_range"),
        (PRICE, '"1,5"', "invalid_text"),
        (PRICE, '" 1"', "invalid_text"),
        (PRICE, '"NaN"', "invalid_text"),
        (PRICE, "true", "wrong_type"),
        ("string", "1", "wrong_type"),
        ("string", "{}", "wrong_type"),
        ("string", '["a"]', "wrong_type"),
        ("date", '"2023-02-29"', "out_of_range"),
        ("date", '"0000-01-01"', "out_of_range"),
        ("date", '"2023-2-9"', "invalid_text"),
        ("date", '"2023-02-09T00:00"', "invalid_text"),
        ("date", "19000", "wrong_type"),
        ("time", '"24:00"', "invalid_text"),
        ("time", '"12"', "invalid_text"),
        ("time", '"12:00Z"', "invalid_text"),
        ("timestamp", '"2026-11-01T10:20:30Z"', "invalid_text"),
        ("timestamp", '"2026-11-01"', "invalid_text"),
        ("timestamp", '"2026-11-01T10"', "invalid_text"),
        ("timestamp", '"2026-02-30T10:00"', "out_of_range"),
        ("timestamp", '"0000-12-31T10:00"', "out_of_range"),
        ("timestamp", "1793528430", "wrong_type"),
        ("timestamptz", '"2026-11-01T10:20:30"', "invalid_text"),
        ("timestamptz", '"2026-11-01T10Z"', "invalid_text"),
        ("timestamptz", '"2026-11-01T10:20:60Z"', "invalid_text"),
        ("timestamptz", '"2026-11-01T10:20:30+24:00"', "invalid_text"),
        ("timestamptz", '"9999-12-31T23:59:59-01:00"', "out_of_range"),
        ("timestamptz", '"0001-01-01T00:00:00+01:00"', "out_of_range"),
        ("uuid", '"0f8fad5bd9cb469fa16570867728950e"', "invalid_text"),
        ("uuid", f'"{UUID_TEXT[:-1]}g"', "invalid_text"),
        ("uuid", f'"{UUID_TEXT[:-2]}é"', "invalid_text"),
        ("binary", '"AAE"', "invalid_text"),
        ("binary", '"AA_-"', "invalid_text"),
        ("binary", '"AAEC\\n"', "invalid_text"),
        (FIXED, '"AAE="', "out_of_range"),
        (ListType(Primitive("long")), '[1, "2"]', "wrong_type"),
        (ListType(Primitive("date")), '["2024-02-30"]', "out_of_range"),
        (ListType(Primitive("long")), "{}", "wrong_type"),
        (POINT, '{"x": "1"}', "wrong_type"),
        (POINT, '{"x": 1, "x": 2}', "duplicate_key"),
        (POINT, "[]", "wrong_type"),
        (MapType(Primitive("string"), Primitive("long")), '{"a": 1, "a": 2}', "duplicate_key"),
        (MapType(Primitive("string"), Primitive("long")), '{"a": "1"}', "wrong_type"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_its_type_is_bad(kind: str | DataType, text: str, code: str) -> None:
    assert code_of(column("a", kind), f'{{"a": {text}}}'.encode()) == code


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"", "empty"),
        (b" ", "invalid_json"),
        (b"null", "not_an_object"),
        (b"[]", "not_an_object"),
        (b'"{}"', "not_an_object"),
        (b"{", "invalid_json"),
        (b'{"a": 1', "invalid_json"),
        (b'{"a": 1} {"a": 2}', "invalid_json"),
        (b'{"a": 1}\n{"a": 2}', "invalid_json"),
        (b'{"a": 1,}', "invalid_json"),
        (b'{"a": 01}', "invalid_json"),
        (b"{'a': 1}", "invalid_json"),
        (b'{"a": 1}\0', "invalid_json"),
        (b'{"a": 1}\0}', "invalid_json"),
        (b'\xef\xbb\xbf{"a": 1}', "invalid_json"),
        (b'{"b": "\xff"}', "invalid_utf8"),
        (b'{"b": "\xed\xa0\x80"}', "invalid_utf8"),
        ('{"a": 1}'.encode("utf-16"), "invalid_utf8"),
        (b'{"b": "\\ud800"}', "invalid_json"),
        (b'{"b": "\\udc00\\ud800"}', "invalid_json"),
        (b'{"b": "a\nb"}', "invalid_json"),
        (b'{"b": NaN}', "invalid_json"),
        (b'{"b": -Infinity}', "invalid_json"),
        (b'{"b": Inf}', "invalid_json"),
        (b'{"a": 1, "a": 1}', "duplicate_key"),
        (b'{"a": null, "\\u0061": 1}', "duplicate_key"),
        (b'{"b": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too_deep"),
        (b'{"b": ' + b'{"b": ' * 100_000 + b"1" + b"}" * 100_001, "too_deep"),
        (b'{"b": ' + b"[" * 100_000, "too_deep"),
    ],
    ids=lambda found: found[:24] if isinstance(found, bytes) else None,
)
def test_a_document_that_is_no_single_json_object_is_bad(document: bytes, code: str) -> None:
    assert code_of(column("a", "long"), document) == code


@pytest.mark.parametrize(
    "document",
    [
        b'{"a": 1, "b": {"a": {"a": 2}}, "c": [{"a": 3}]}',
        b'{"b": 1, "b": 2, "a": 1}',
        b'\t\r\n {"a": 1}\n',
        b'{\n  "a": 1\n}',
        b'{"a": 1, "b": "NaN, :NaN \\\\ud800 [[[{{{"}',
        b'{"a": 1, "NaN": "Infinity"}',
        b'{"a": 1, "b": ' + b"9" * 6000 + b"}",
        b'{"a": 1, "b": 1e999}',
        b'{"a": 1, "b": ' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"a": 1, "b": [' + b",".join([b"[{}]"] * 2000) + b"]}",
        '{"a": 1, "é😀": "\u2028"}'.encode(),
    ],
    ids=lambda found: found[:24],
)
def test_what_is_not_declared_is_ignored(document: bytes) -> None:
    assert value_of(column("a", "long"), document) == 1


def test_a_missing_field_is_null_and_a_required_one_is_bad() -> None:
    assert value_of(column("a", "long"), b'{"b": 1}') is None
    assert code_of(column("a", "long", required=True), b'{"b": 1}') == "missing_required"
    assert code_of(column("a", "long", required=True), b'{"a": null}') == "missing_required"


@pytest.mark.parametrize(
    "document", [b"{}", b'{"a": null}', b'{"a": {}}', b'{"a": {"b": null}}', b'{"a": {"b": {}}}']
)
def test_a_path_through_a_missing_parent_is_null(document: bytes) -> None:
    assert value_of(column("c", "long", path="a.b.c"), document) is None
    assert code_of(column("c", "long", path="a.b.c", required=True), document) == "missing_required"


def test_a_path_reads_the_inner_value_and_refuses_a_parent_that_is_no_object() -> None:
    assert value_of(column("c", "long", path="a.b.c"), b'{"a": {"x": 1, "b": {"c": 7}}}') == 7
    assert code_of(column("c", "long", path="a.b.c"), b'{"a": {"b": 5}}') == "wrong_type"
    assert code_of(column("c", "long", path="a.b.c"), b'{"a": []}') == "wrong_type"
    assert code_of(column("c", "long", path="a.b.c"), b'{"a": {"b": {}, "b": {"c": 1}}}') == "duplicate_key"


def test_a_bad_value_names_field_found_and_expected_in_short() -> None:
    bad = (
        decoder(column("n", "long", path="user.age")).decode([b'{"user": {"age": "%s"}}' % (b"x" * 500)]).bad
    )
    assert bad[0].reason == f"field 'user.age': found the string '{'x' * 40}…', expected an integer"
