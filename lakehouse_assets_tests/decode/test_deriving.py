"""Derived columns and the filter: a batch gives what its rows give one by one, and an error makes one row bad."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.decode.columns import arrow_schema
from lakehouse_assets.decode.decoded import Decoded, Decoder, Messages
from lakehouse_assets.decode.decoder import build_decoder
from lakehouse_assets.model.errors import DeclarationError
from lakehouse_assets_tests.builders import make_spec

COLUMNS = [
    {"name": "id", "type": "long"}, {"name": "text", "type": "string"}, {"name": "amount", "type": "double"},
    {"name": "sold_at", "type": "timestamptz"},
]  # fmt: skip


def no_schema(*_: object) -> Any:
    raise AssertionError("JSON has no schemas")


def make_decoder(*derived: dict[str, Any], **parts: Any) -> Decoder:
    """A decoder of a table with these derived columns."""
    return build_decoder(make_spec(schema=[*COLUMNS, *derived], **parts), no_schema)


def decode(decoder: Decoder, *messages: dict[str, Any] | bytes) -> Decoded:
    values = [m if isinstance(m, bytes) else json.dumps(m).encode() for m in messages]
    return decoder.decode(Messages(values, [None] * len(values), [None] * len(values)))


def derive(sql: str, kind: str, *messages: dict[str, Any], **parts: Any) -> tuple[list[Any], dict[int, str]]:
    """The derived values of the good messages, and the codes of the bad ones by their index."""
    decoded = decode(make_decoder({"name": "derived", "type": kind, "expr": sql, **parts}), *messages)
    return decoded.table.column("derived").to_pylist(), {bad.index: bad.code for bad in decoded.bad}


@pytest.mark.parametrize(
    ("sql", "kind", "expected"),
    [
        ("id > 1", "boolean", False),
        ("id + 1", "int", 2),
        ("id + 1", "long", 2),
        ("amount", "float", 2.5),
        ("amount / id", "double", 2.5),
        ("CAST(amount AS DECIMAL(9, 2))", "decimal(10,3)", Decimal("2.500")),
        ("upper(text) || '-' || id", "string", "ABC-1"),
        ("CAST(sold_at AS DATE)", "date", date(2026, 11, 27)),
        ("CAST(CAST(sold_at AS TIMESTAMP) AS TIME)", "time", time(10, 30)),
        ("CAST(sold_at AS TIMESTAMP)", "timestamp", datetime(2026, 11, 27, 10, 30)),
        ("sold_at + INTERVAL 1 HOUR", "timestamptz", datetime(2026, 11, 27, 11, 30, tzinfo=UTC)),
        ("CAST('00000000-0000-0000-0000-00000000000' || id AS UUID)", "uuid", UUID(int=1)),
        ("encode(text)", "fixed[3]", b"abc"),
        ("encode(text)", "binary", b"abc"),
    ],
)
def test_a_derived_column_has_the_declared_type(sql: str, kind: str, expected: object) -> None:
    message = {"id": 1, "text": "abc", "amount": 2.5, "sold_at": "2026-11-27T10:30:00Z"}
    spec = make_spec(schema=[*COLUMNS, {"name": "derived", "type": kind, "expr": sql}])

    decoded = decode(build_decoder(spec, no_schema), message, {})

    assert decoded.table.schema == arrow_schema(spec.columns)
    assert decoded.table.column("derived").to_pylist() == [expected, None]
    assert decode(build_decoder(spec, no_schema)).table.schema == arrow_schema(spec.columns)


def test_columns_stand_in_the_order_of_the_declaration() -> None:
    columns = [{"name": "twice", "type": "long", "expr": "id * 2"}, *COLUMNS]

    decoded = decode(build_decoder(make_spec(schema=columns), no_schema), {"id": 4})

    assert decoded.table.to_pylist() == [{"twice": 8, "id": 4, "text": None, "amount": None, "sold_at": None}]


def test_where_leaves_out_what_is_not_true_and_keeps_the_order() -> None:
    decoder = make_decoder(where="id % 2 = 0")

    decoded = decode(decoder, *({"id": i} for i in range(5000)), {})

    assert decoded.table.column("id").to_pylist() == list(range(0, 5000, 2))
    assert decoded.filtered.tolist() == [*range(1, 5000, 2), 5000]
    assert decoded.rows(5001).tolist() == list(range(0, 5000, 2))
    assert decoded.bad == ()


def test_a_row_that_raises_is_bad_with_the_sentence_of_duckdb_and_no_other_is() -> None:
    number = {"name": "number", "type": "int", "expr": "CAST(text AS INT)"}
    decoder = make_decoder(number, where="id > 0 AND 10 // CAST(amount AS INT) > 0")

    good = {"id": 1, "amount": 1, "text": "7"}
    decoded = decode(decoder, good, {**good, "text": "x"}, b"nonsense", {**good, "id": 0}, {**good, "amount": 1e20}, good)

    assert decoded.table.column("number").to_pylist() == [7, 7]
    assert decoded.filtered.tolist() == [3]
    assert [(bad.index, bad.code) for bad in decoded.bad] == [
        (1, "expression_failed"), (2, "invalid_json"), (4, "expression_failed"),
    ]  # fmt: skip
    assert decoded.bad[0].reason == (
        "column 'number' (CAST(text AS INT)): Conversion Error: Could not convert string 'x' to INT32 when casting from source "
        "column text"
    )
    assert decoded.bad[2].reason.startswith("where (id > 0 AND 10 // CAST(amount AS INT) > 0): Conversion Error: Type DOUBLE")


def test_where_protects_derived_columns_from_messages_of_another_kind() -> None:
    decoder = make_decoder({"name": "number", "type": "int", "expr": "CAST(text AS INT)"}, where="id = 1")

    decoded = decode(decoder, {"id": 2, "text": "no number"}, {"id": 1, "text": "5"})

    assert (decoded.bad, decoded.filtered.tolist()) == ((), [0])


def test_an_error_that_duckdb_does_not_try_is_found_row_by_row() -> None:
    messages = [{"id": i, "text": "Europe/Berlin", "sold_at": "2026-01-01T00:00:00Z"} for i in range(50)]
    messages[13]["text"] = messages[44]["text"] = "Atlantis"
    zone = {"name": "local", "type": "timestamp", "expr": "sold_at AT TIME ZONE text"}
    other = {"name": "number", "type": "int", "expr": "CAST(id AS INT)"}

    decoded = decode(make_decoder(zone, other), *messages)

    assert [bad.index for bad in decoded.bad] == [13, 44]
    assert "Unknown TimeZone 'Atlantis'" in decoded.bad[1].reason
    assert decoded.table.column("number").to_pylist() == [i for i in range(50) if i not in (13, 44)]


def test_every_bad_row_of_a_bad_batch_is_named_once() -> None:
    numbers = [{"name": name, "type": "int", "expr": "CAST(text AS INT)"} for name in ("one", "two")]

    decoded = decode(make_decoder(*numbers), *({"id": i, "text": "x" if i % 10 else "5"} for i in range(3000)))

    assert [bad.index for bad in decoded.bad] == [i for i in range(3000) if i % 10]
    assert {bad.reason[:13] for bad in decoded.bad} == {"column 'one' "}
    assert decoded.table.column("id").to_pylist() == list(range(0, 3000, 10))


def test_an_overflow_is_bad_and_never_wraps() -> None:
    assert derive("id * 2", "int", {"id": 2**30}, {"id": 5}) == ([10], {0: "expression_failed"})
    assert derive("id * id", "long", {"id": 2**40}, {"id": 5}) == ([25], {0: "expression_failed"})
    assert derive("id", "decimal(3,1)", {"id": 100}, {"id": 99}) == ([Decimal("99.0")], {0: "expression_failed"})


def test_what_duckdb_can_hold_and_the_table_can_not_is_bad() -> None:
    years = "CAST(sold_at AS TIMESTAMP) + to_years(CAST(id AS INT))"
    stamp = {"sold_at": "2026-01-01T00:00:00Z"}
    assert derive(years, "timestamp", {"id": 8000, **stamp}, {"id": 1, **stamp})[1] == {0: "expression_failed"}
    assert derive(f"CAST({years} AS DATE)", "date", {"id": -3000, **stamp}, {"id": 1, **stamp})[1] == {0: "expression_failed"}
    assert derive("TIME '24:00:00'", "time", {"id": 1})[1] == {0: "expression_failed"}
    assert derive("encode(text)", "fixed[3]", {"text": "ab"}, {"text": "abc"}) == ([b"abc"], {0: "expression_failed"})
    assert derive("amount * 1e308", "double", {"amount": 1e300}, {"amount": 1.0}) == ([1e308], {0: "expression_failed"})


def test_a_division_by_zero_is_null_and_null_where_required_is_bad() -> None:
    assert derive("id / 0", "double", {"id": 1}) == ([None], {})
    assert derive("id / amount", "double", {"id": 1, "amount": 0}) == ([None], {})
    assert derive("id // 0", "long", {"id": 1}, required=True) == ([], {0: "missing_required"})


def test_a_wrong_expression_is_a_declaration_error_also_without_a_file() -> None:
    with pytest.raises(DeclarationError, match=r"ods\.clicks:1: where: found the function 'random'"):
        make_decoder(where="random() < 0.5")


ROWS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3),
        "text": st.sampled_from(["", "1", "x", "2026-01-01", "Ä", "a-b"]) | st.text(max_size=5),
        "amount": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-2, 2),
        "sold_at": st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(lambda t: t.isoformat() + "Z"),
    },
)
DERIVED = [
    {"name": "number", "type": "int", "expr": "CAST(text AS INT)"},
    {"name": "square", "type": "long", "expr": "id * id"},
    {"name": "cents", "type": "long", "expr": "CAST(round(amount * 100) AS BIGINT)"},
    {"name": "part", "type": "string", "expr": "split_part(text, '-', CAST(id AS INT)) || coalesce(text, '')"},
    {"name": "later", "type": "timestamptz", "expr": "sold_at + to_days(CAST(amount AS INT))"},
    {"name": "ratio", "type": "double", "expr": "amount / id"},
]


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(ROWS, max_size=20),
    derived=st.lists(st.sampled_from(DERIVED), unique_by=lambda column: column["name"]),
    where=st.sampled_from([None, "id > 0", "CAST(text AS INT) > 0", "amount / id IS NULL", "length(text) + id > 2"]),
)
def test_a_batch_gives_what_its_rows_give_one_by_one(
    rows: Sequence[dict[str, Any]], derived: list[dict[str, Any]], where: str | None
) -> None:
    decoder = make_decoder(*derived, **({"where": where} if where else {}))

    whole = decode(decoder, *rows)
    single = [decode(decoder, row) for row in rows]

    assert len(whole.table) + len(whole.bad) + len(whole.filtered) == len(rows)
    assert whole.filtered.tolist() == [i for i, one in enumerate(single) if len(one.filtered)]
    assert whole.bad == tuple(replace(bad, index=i) for i, one in enumerate(single) for bad in one.bad)
    assert whole.table.to_pylist() == pa.concat_tables([one.table for one in single] or [whole.table]).to_pylist()
