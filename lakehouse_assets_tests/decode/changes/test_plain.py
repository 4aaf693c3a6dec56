"""Plain messages as changes: values are rows, no value takes the row of the key out."""

import json

import pytest

from lakehouse_assets.decode.changes.building import build_change_decoder
from lakehouse_assets.decode.changes.decoded import ChangeMessages, DecodedChanges
from lakehouse_assets.model.schemas import RegisteredSchema
from lakehouse_assets.model.spec import TableSpec

_COLUMNS = [{"name": "id", "type": "long", "required": True}, {"name": "text", "type": "string"}]


def _decode(messages: list[tuple[bytes | None, bytes | None]], **parts: object) -> DecodedChanges:
    spec = TableSpec(**{"table": "shop.items", "source": {"topic": "items"}, "schema": _COLUMNS, "mode": "upsert", "key": ["id"]} | parts)
    keys, values = [key for key, _ in messages], [value for _, value in messages]
    decoder = build_change_decoder(spec, lambda _: RegisteredSchema("AVRO", ""))
    return decoder.decode(ChangeMessages(values, keys, [None] * len(messages)))


def test_values_are_rows_and_no_value_takes_out_the_row_of_the_key_in_the_order_of_the_messages() -> None:
    found = _decode([(b"1", b'{"id": 1, "text": "a"}'), (b'{"id": 2}', None), (None, b'{"id": 3}'), (b"1", None)])
    assert found.table.to_pylist() == [
        {"id": 1, "text": "a"},
        {"id": 2, "text": None},
        {"id": 3, "text": None},
        {"id": 1, "text": None},
    ]
    assert found.deletes.tolist() == [False, True, False, True]
    assert found.messages.tolist() == [0, 1, 2, 3]
    assert not found.bad


def test_what_names_no_row_is_bad_one_by_one_deletions_included() -> None:
    found = _decode([(b"1", b'{"text": "a"}'), (None, None), (b"x", None), (b'{"other": 1}', None), (b"1", b'{"id": 1}'), (b"", None)])
    assert [(one.index, one.code) for one in found.bad] == [
        (0, "missing_required"),
        (1, "missing_required"),
        (2, "invalid_json"),
        (3, "missing_required"),
        (5, "invalid_json"),
    ]
    assert found.bad[1].reason == "the message has neither a value nor a key, so it names no row"
    assert found.messages.tolist() == [4]


@pytest.mark.parametrize(
    ("kind", "key", "expected"),
    [
        ("string", b"a b", "a b"),
        ("string", b'"a b"', "a b"),
        ("string", b"17", "17"),
        ("string", "ü".encode(), "ü"),
        ("string", b'{"id": "x"}', "x"),
        ("date", b"2026-11-01", "2026-11-01"),
        ("uuid", b"00112233-4455-6677-8899-aabbccddeeff", "00112233-4455-6677-8899-aabbccddeeff"),
        ("decimal(9, 2)", b"17.50", "17.50"),
        ("long", b" 17 ", "17"),
    ],
)
def test_a_bare_key_is_the_value_of_the_only_column(kind: str, key: bytes, expected: str) -> None:
    found = _decode([(key, None)], schema=[{"name": "id", "type": kind, "required": True}, {"name": "text", "type": "string"}])
    assert [str(row["id"]) for row in found.table.to_pylist()] == [expected]
    assert found.deletes.tolist() == [True]


def test_composite_keys_and_keys_within_objects_are_read_by_their_paths() -> None:
    columns = [
        {"name": "shop", "type": "string", "required": True, "from": "at.shop"},
        {"name": "number", "type": "int", "required": True},
    ]
    key = json.dumps({"at": {"shop": "s1"}, "number": 4}).encode()
    found = _decode([(key, None), (b"4", None)], schema=columns, key=["shop", "number"])
    assert found.table.to_pylist() == [{"shop": "s1", "number": 4}]
    assert [one.code for one in found.bad] == ["not_an_object"]


def test_a_column_that_is_the_whole_key_takes_it_as_it_is() -> None:
    columns = [{"name": "id", "type": "string", "required": True, "from_key": True}, {"name": "text", "type": "string"}]
    found = _decode([(b'"a"', b'{"text": "t"}'), (b'"a"', None)], schema=columns)
    assert found.table.to_pylist() == [{"id": '"a"', "text": "t"}, {"id": '"a"', "text": None}]
