"""Derived columns and `where` over changes."""

import json

from lakehouse_assets.decode.changes.building import build_change_decoder
from lakehouse_assets.decode.changes.decoded import ChangeMessages, DecodedChanges
from lakehouse_assets.model.schemas import RegisteredSchema
from lakehouse_assets.model.spec import TableSpec

_ABSENT = "__debezium_unavailable_value"


def _decode(rows: list[dict[str, object] | None], **parts: object) -> DecodedChanges:
    """Debezium's messages of these rows; None is a deletion of the key 1."""
    columns = [
        {"name": "id", "type": "long", "required": True},
        {"name": "name", "type": "string"},
        {"name": "body", "type": "string"},
        {"name": "length", "type": "long", "expr": "length(body)"},
    ]
    source = {"topic": "shop.public.docs", "format": "debezium-json"}
    spec = TableSpec(**{"table": "shop.docs", "source": source, "schema": columns, "mode": "upsert", "key": ["id"]} | parts)
    decoder = build_change_decoder(spec, lambda _: RegisteredSchema("AVRO", ""))
    values = [
        json.dumps({"before": {"id": 1} if row is None else None, "after": row, "source": {"lsn": 7}, "op": "d" if row is None else "u"})
        for row in rows
    ]
    keys = [json.dumps({"id": 1 if row is None else row["id"]}).encode() for row in rows]
    return decoder.decode(ChangeMessages([value.encode() for value in values], keys, [None] * len(rows)))


def test_a_row_that_where_leaves_out_now_is_taken_out_and_counted_as_filtered() -> None:
    found = _decode(
        [{"id": 2, "name": "a", "body": "xy"}, {"id": 3, "name": "gone", "body": ""}, None, {"id": 4, "name": "b", "body": None}],
        where="name <> 'gone'",
    )
    assert found.messages.tolist() == [0, 1, 2, 3]
    assert found.deletes.tolist() == [False, True, True, False]
    assert found.filtered.tolist() == [1]
    rows = found.table.to_pylist()
    assert rows[0] == {"id": 2, "name": "a", "body": "xy", "length": 2}
    assert (rows[1]["id"], rows[2]["id"]) == (3, 1)
    assert rows[3] == {"id": 4, "name": "b", "body": None, "length": None}


def test_what_is_derived_of_a_value_that_did_not_change_stays_as_it_is() -> None:
    found = _decode([{"id": 2, "name": "a", "body": _ABSENT}, {"id": 3, "name": "b", "body": "xyz"}])
    assert {name: mask.tolist() for name, mask in found.unavailable.items()} == {"body": [True, False], "length": [True, False]}
    assert not found.bad


def test_an_expression_over_a_value_that_is_not_there_and_others_makes_the_message_bad_rather_than_wrong() -> None:
    columns = [
        {"name": "id", "type": "long", "required": True},
        {"name": "body", "type": "string"},
        {"name": "both", "type": "string", "expr": "body || id"},
    ]
    found = _decode([{"id": 2, "body": _ABSENT}, {"id": 3, "body": "x"}], schema=columns)
    assert [(one.index, one.code) for one in found.bad] == [(0, "unavailable_value")]
    assert found.table.to_pylist() == [{"id": 3, "body": "x", "both": "x3"}]
    found = _decode([{"id": 2, "name": "a", "body": _ABSENT}], where="body IS NOT NULL")
    assert [(one.index, one.code) for one in found.bad] == [(0, "unavailable_value")]
    assert not len(found)


def test_a_message_for_which_an_expression_fails_is_bad_and_the_others_keep_their_order() -> None:
    columns = [
        {"name": "id", "type": "long", "required": True},
        {"name": "name", "type": "string"},
        {"name": "number", "type": "int", "expr": "CAST(name AS INT)"},
    ]
    found = _decode([{"id": 2, "name": "5"}, {"id": 3, "name": "x"}, None, {"id": 4, "name": "6"}], schema=columns)
    assert [(one.index, one.code) for one in found.bad] == [(1, "expression_failed")]
    assert found.messages.tolist() == [0, 2, 3]
    assert found.deletes.tolist() == [False, True, False]
    assert [row["number"] for row in found.table.to_pylist()] == [5, None, 6]
