"""Keys of messages in Avro: which row a message without a value takes out."""

import datetime
from typing import Any

import pytest

from lakehouse_assets.decode.changes.building import build_change_decoder
from lakehouse_assets.decode.changes.decoded import ChangeMessages, DecodedChanges
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets_tests.decode.avro.messages import body_of, framed, record, registered

_ROW = record(("id", "long"), ("day", {"type": "int", "logicalType": "date"}), ("name", ["null", "string"]))
_KEY = record(("id", "long"), name="Key")
_BARE, _TEXT, _BROKEN = "long", ["null", "string"], {"type": "record"}
_SCHEMAS: dict[int, Any] = {1: _ROW, 2: _KEY, 3: _BARE, 4: _TEXT, 5: _BROKEN, 6: {"type": "int", "logicalType": "date"}}


def _decode(keys: list[bytes | None], key: str = "id", kind: str = "long") -> DecodedChanges:
    columns = [{"name": key, "type": kind, "required": True}, {"name": "name", "type": "string"}]
    spec = TableSpec(table="shop.items", source={"topic": "t", "format": "avro"}, schema=columns, mode="upsert", key=[key])
    known = {number: registered(schema) for number, schema in _SCHEMAS.items()}
    return build_change_decoder(spec, known.get).decode(ChangeMessages([None] * len(keys), keys, [None] * len(keys)))


def _key(schema_id: int, value: Any) -> bytes:
    return framed(body_of(_SCHEMAS[schema_id], value), schema_id)


def test_records_bare_values_and_keys_that_are_no_avro_name_rows_in_the_order_of_the_messages() -> None:
    found = _decode([_key(3, 1), b'{"id": 2}', _key(2, {"id": 3}), b"4", _key(3, 5)])
    assert found.table.to_pylist() == [{"id": number, "name": None} for number in (1, 2, 3, 4, 5)]
    assert found.deletes.tolist() == [True] * 5
    assert found.messages.tolist() == [0, 1, 2, 3, 4]
    assert not found.bad


@pytest.mark.parametrize(
    ("kind", "schema_id", "value", "expected"),
    [("string", 4, "a", "a"), ("date", 6, 20_000, datetime.date(2024, 10, 4)), ("long", 3, -(2**63), -(2**63))],
)
def test_bare_keys_of_any_type(kind: str, schema_id: int, value: Any, expected: Any) -> None:
    assert _decode([_key(schema_id, value)] * 2, kind=kind).table["id"].to_pylist() == [expected] * 2


def test_keys_that_name_no_row_are_bad_one_by_one() -> None:
    keys = [None, _key(4, None), framed(b"", 9), _key(3, 1), framed(b"", 5), _key(2, {"id": 7}) + b"x", framed(b"", 3), b"x"]
    found = _decode(keys)
    assert [(one.index, one.code) for one in found.bad] == [
        (0, "missing_required"),
        (1, "missing_required"),
        (2, "unknown_schema_id"),
        (4, "broken_schema"),
        (5, "broken_avro"),
        (6, "broken_avro"),
        (7, "invalid_json"),
    ]
    assert found.messages.tolist() == [3]


def test_a_key_of_two_columns_is_a_record_with_both() -> None:
    columns = [{"name": name, "type": kind, "required": True} for name, kind in (("id", "long"), ("day", "date"))]
    spec = TableSpec(table="shop.items", source={"topic": "t", "format": "avro"}, schema=columns, mode="upsert", key=["day", "id"])
    known = {number: registered(schema) for number, schema in _SCHEMAS.items()}
    keys: list[bytes | None] = [_key(1, {"id": 1, "day": 2, "name": None}), _key(3, 1)]
    found = build_change_decoder(spec, known.get).decode(ChangeMessages([None, None], keys, [None, None]))
    assert found.table.to_pylist() == [{"id": 1, "day": datetime.date(1970, 1, 3)}]
    assert [(one.index, one.code) for one in found.bad] == [(1, "wrong_type")]
