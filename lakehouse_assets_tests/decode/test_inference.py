"""Columns guessed from messages: which types, and that every message becomes a row by them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse_assets.declarations.drafting import render_draft
from lakehouse_assets.declarations.loading import load_declarations
from lakehouse_assets.decode.inference import infer_from_messages
from lakehouse_assets.decode.json_decoder import JsonDecoder
from lakehouse_assets.model.drafts import ColumnDraft, Draft

UUID = "6f1e1c52-6f0f-4c0a-9a55-0f1d9d9e7a10"


def infer(*values: Any) -> Draft:
    """A draft from messages whose field `a` has these values; `...` is a message without it."""
    return infer_from_messages([json.dumps({} if value is ... else {"a": value}).encode() for value in values])


def column(*values: Any) -> ColumnDraft:
    (found,) = infer(*values).columns
    return found


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, -5], "long"),
        ([2**63 - 1, -(2**63)], "long"),
        ([1, 2**63], "decimal(38, 0)"),
        ([1, 0.5], "double"),
        ([10**15, 0.30000000000000004], "double"),
        ([True, False], "boolean"),
        (["x", ""], "string"),
        (["2026-11-25T10:00:00Z", "2026-11-25 10:00+01:00"], "timestamptz"),
        (["2026-11-25T10:00:00"], "timestamp"),
        (["2026-11-25T10:00:00", "2026-11-25T10:00:00Z"], "string"),
        (["2026-11-25", "0001-01-01"], "date"),
        (["2026-02-30"], "string"),
        (["10:30:00"], "time"),
        ([UUID], "uuid"),
        ([UUID, "x"], "string"),
        (["00123"], "string"),
        (["1.50", 2], "decimal(38, 2)"),
        ([[1, None], []], "list<long>"),
        ([[{"x": 1}], [{"y": "z"}]], "list<struct<x: long, y: string>>"),
        ([{"x": 1, "y": None}, {"x": None}], "struct<x: long>"),
        ([{"x": 1}, {"a b": 2}], "map<string, long>"),
        ([{"x": 1, "X": 2}], "map<string, long>"),
        ([{f"k{i}": i for i in range(101)}], "map<string, long>"),
    ],
)
def test_the_type_is_the_narrowest_that_surely_takes_every_value(values: list[Any], kind: str) -> None:
    assert str(column(*values).type) == kind


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([None, ...], "only null was seen"),
        ([1, "x"], "texts and whole numbers were seen, which no one type reads"),
        ([[], []], "its items have no type"),
        ([{}], "only empty objects were seen"),
        ([{"a b": 1, "c": "x"}], "the values of its keys have no one type"),
        ([{"b": {}}], "no member of it has a type"),
    ],
)
def test_a_field_without_a_type_is_left_out_and_the_reason_is_given(values: list[Any], reason: str) -> None:
    draft = infer(*values)

    assert draft.columns == ()
    assert draft.left_out["a"] == reason


def test_a_number_with_more_digits_than_a_double_keeps_is_a_decimal() -> None:
    draft = infer_from_messages([b'{"a": 0.1234567890123456789}'])

    assert str(draft.columns[0].type) == "decimal(38, 19)"


def test_only_what_every_message_has_is_required() -> None:
    assert column(1, 2).required
    assert not column(1, ...).required
    assert not column(1, None).required
    assert column(1, None, ..., 2).share == 0.5


def test_what_no_declaration_reads_is_counted_and_says_nothing_of_the_columns() -> None:
    draft = infer_from_messages([b'{"a": 1}', b"{", b"[1]", b"", b'{"b": 1, "b": 2}', b'{"c": "\\ud800"}'])

    assert [c.name for c in draft.columns] == ["a"]
    assert draft.columns[0].required
    assert draft.unreadable == {"invalid_json": 2, "not_an_object": 1, "empty": 1, "duplicate_key": 1}


def test_names_that_are_no_column_names_are_read_from_where_they_are() -> None:
    keys = ["id", "ID", "user id", "user_id", "é", "1st", "_kafka_offset", "_rest", "a.b", "x" * 300]
    draft = infer_from_messages([json.dumps(dict.fromkeys(keys, 1)).encode()])

    assert {c.path[0]: c.name for c in draft.columns} == {
        "id": "id", "ID": "ID_2", "user id": "user_id_2", "user_id": "user_id", "é": "field", "1st": "field_1st",
        "_kafka_offset": "kafka_offset", "_rest": "rest", "a.b": "a_b", "x" * 300: "x" * 300,
    }  # fmt: skip


def test_numbers_that_look_like_times_are_said_to_and_stay_numbers() -> None:
    draft = infer_from_messages([b'{"created_at": 1790000000000, "count": 1790000000000, "ts": 1790000000}'])

    assert {c.name: (str(c.type), c.hint.split(":")[0]) for c in draft.columns} == {
        "created_at": ("long", "looks like milliseconds since 1970"),
        "count": ("long", ""),
        "ts": ("long", "looks like seconds since 1970"),
    }


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20),
    st.dates().map(str), st.datetimes().map(lambda t: t.isoformat()), st.datetimes().map(lambda t: t.isoformat() + "Z"),
    st.times().map(str), st.uuids().map(str), st.decimals(allow_nan=False, allow_infinity=False).map(str),
)  # fmt: skip
KEYS = st.one_of(
    st.sampled_from(["id", "Id", "a.b", "true", "null", "_rest", "_kafka_offset", "", "name: x", "- {", "# no", '"', "'", "\n- evil: 1"]),
    st.text(max_size=12),
    st.just("!!python/object/apply:os.system"),
    st.text(alphabet="abc_1", min_size=1, max_size=4),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
MESSAGES = st.lists(st.dictionaries(KEYS, VALUES, max_size=6), min_size=1, max_size=8)


@given(messages=MESSAGES)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_whatever_a_topic_holds_the_file_is_valid_and_every_message_becomes_a_row(
    tmp_path: Path, messages: list[dict[str, Any]]
) -> None:
    values = [json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass") for message in messages]
    draft = infer_from_messages(values)
    fields = {key for message in messages for key in message}
    assert {c.path[0] for c in draft.columns} | {key for key in fields if key in draft.left_out} == fields or draft.unreadable
    if not draft.columns:
        return
    file = tmp_path / "draft.yaml"
    file.write_text(render_draft("ods.clicks", "clicks", draft), encoding="utf-8")

    declared = load_declarations(file)

    assert [problem for broken in declared.broken for problem in broken.problems] == []
    (spec,) = declared.specs
    assert [(c.name, c.path, c.type, c.required) for c in spec.columns] == [
        (c.name, c.path, c.type, c.required) for c in draft.columns
    ]
    bad = JsonDecoder(spec.columns).decode(values).bad
    assert len(bad) <= sum(draft.unreadable.values())
    assert len(values) == draft.message_count + sum(draft.unreadable.values())


def test_the_column_that_the_draft_proposes_for_what_it_left_out_keeps_it(tmp_path: Path) -> None:
    values = [b'{"id": 1, "mixed": "x"}', b'{"id": 2, "mixed": 3}']
    text = render_draft("ods.clicks", "clicks", infer_from_messages(values))
    proposed = re.search(r"# Left out. A column (\{.*\}) would keep whole fields", text)
    assert proposed is not None
    file = tmp_path / "draft.yaml"
    file.write_text(text.replace("\nmode: ", f"  - {proposed[1]}\n\nmode: "))

    (spec,) = load_declarations(file).specs

    rows = JsonDecoder(spec.columns).decode(values).table.to_pylist()
    assert [json.loads(row["_rest"]) for row in rows] == [{"mixed": "x"}, {"mixed": 3}]
