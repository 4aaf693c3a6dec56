"""Columns from keys and headers."""

from typing import Any

import pytest

from lakehouse_assets.decode.decoded import Messages
from lakehouse_assets.decode.decoder import build_decoder
from lakehouse_assets_tests.builders import make_spec

VALUE = b'{"id": 7}'
ID = {"name": "id", "type": "long", "required": True}


def decode(columns: list[dict[str, Any]], *messages: tuple[bytes, bytes | None, list[tuple[str, bytes | None]] | None]) -> Any:
    """Rows and (index, code) of bad ones of messages, each as value, key and headers."""
    decoder = build_decoder(make_spec(schema=columns), lambda _: None)
    decoded = decoder.decode(Messages(*map(list, zip(*messages, strict=True))))
    return decoded.table.to_pylist(), [(bad.index, bad.code) for bad in decoded.bad], [bad.reason for bad in decoded.bad]


@pytest.mark.parametrize(
    ("kind", "key", "found"),
    [
        ("string", "käse".encode(), "käse"),
        ("string", b"", ""),
        ("string", None, None),
        ("binary", b"\xff\0", b"\xff\0"),
        ("long", b"-9223372036854775808", -(2**63)),
        ("int", b"007", 7),
    ],
)
def test_a_whole_key_is_a_value(kind: str, key: bytes | None, found: object) -> None:
    rows, bad, _ = decode([ID, {"name": "k", "type": kind, "from_key": True}], (VALUE, key, None))

    assert (rows, bad) == ([{"id": 7, "k": found}], [])


@pytest.mark.parametrize(
    ("kind", "key", "code"),
    [
        ("string", b"\xff", "invalid_utf8"),
        ("int", b"2147483648", "out_of_range"),
        ("long", b"0x10", "wrong_type"),
        ("long", b"", "wrong_type"),
        ("long", b"1.0", "wrong_type"),
        ("long", "١".encode(), "wrong_type"),
    ],
)
def test_a_key_that_is_none_is_a_bad_message_and_costs_no_other(kind: str, key: bytes, code: str) -> None:
    good = (VALUE, b"1", None)
    rows, bad, reasons = decode([{"name": "k", "type": kind, "from_key": True}, ID], good, (VALUE, key, None), good)

    assert bad == [(1, code)]
    assert reasons[0].startswith("the key: found b")
    assert len(rows) == 2


def test_a_path_leads_into_keys_that_are_json() -> None:
    columns = [
        {"name": "user", "type": "long", "from_key": "user.id", "required": True},
        {"name": "at", "type": "timestamptz", "from_key": ["at"], "epoch": "seconds"},
        ID,
    ]
    rows, bad, reasons = decode(
        columns,
        (VALUE, b'{"user": {"id": 1}, "at": 0}', None),
        (VALUE, b'{"user": 5}', None),
        (VALUE, None, None),
        (VALUE, b"{}", None),
        (VALUE, b'{"user": {"id": 2}}', None),
    )

    assert [(row["user"], str(row["at"])) for row in rows] == [(1, "1970-01-01 00:00:00+00:00"), (2, "None")]
    assert bad == [(1, "wrong_type"), (2, "missing_required"), (3, "missing_required")]
    assert reasons[0] == "the key: field 'user.id': found the number 5, expected an object around 'id'"
    assert reasons[1] == "field 'user.id' of the key is missing or null, expected long"


def test_the_last_header_of_a_name_counts() -> None:
    columns = [ID, {"name": "trace", "type": "string", "from_header": "trace_id"}, {"name": "raw", "type": "binary", "from_header": "raw"}]
    rows, bad, _ = decode(
        columns,
        (VALUE, None, [("trace_id", b"a"), ("raw", b"\xff"), ("trace_id", b"b")]),
        (VALUE, None, [("trace_id", b"a"), ("trace_id", None)]),
        (VALUE, None, None),
        (VALUE, None, [("trace_id", b"\xff")]),
    )

    assert [(row["trace"], row["raw"]) for row in rows] == [("b", b"\xff"), (None, None), (None, None)]
    assert bad == [(3, "invalid_utf8")]


def test_a_required_header_that_is_missing_is_a_bad_message() -> None:
    _, bad, reasons = decode([{"name": "t", "type": "int", "from_header": "t", "required": True}], (b"whatever", None, []))

    assert bad == [(0, "missing_required")]
    assert reasons == ["the header 't' is missing or null, expected int"]


def test_a_message_that_is_bad_twice_is_bad_once_and_rows_keep_their_order() -> None:
    columns = [{"name": "k", "type": "string", "from_key": True}, ID]
    rows, bad, _ = decode(
        columns, (VALUE, b"0", None), (b"{", b"\xff", None), (b'{"id": 2}', b"2", None), (VALUE, b"\xfe", None), (b"[]", b"4", None)
    )

    assert rows == [{"k": "0", "id": 7}, {"k": "2", "id": 2}]
    assert bad == [(1, "invalid_json"), (3, "invalid_utf8"), (4, "not_an_object")]


def test_a_table_of_nothing_but_a_key_does_not_look_at_values() -> None:
    rows, bad, _ = decode([{"name": "k", "type": "string", "from_key": True}], (b"\xff", b"a", None), (b"", b"b", None))

    assert (rows, bad) == ([{"k": "a"}, {"k": "b"}], [])


def test_no_message_gives_no_row() -> None:
    decoder = build_decoder(make_spec(schema=[{"name": "k", "type": "long", "from_key": "a"}, ID]), lambda _: None)

    decoded = decoder.decode(Messages([], [], []))

    assert (decoded.table.num_rows, decoded.table.column_names) == (0, ["k", "id"])
