"""Whatever stands anywhere in a message of Canal's or Maxwell's: it is a change, or skipped, or bad, and it harms no other."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse_assets.decode.changes.building import build_change_decoder
from lakehouse_assets.decode.changes.decoded import ChangeMessages, DecodedChanges
from lakehouse_assets.model.schemas import RegisteredSchema
from lakehouse_assets_tests.decode.changes import test_canal, test_maxwell
from lakehouse_assets_tests.decode.changes.streams import declare

_COLUMNS = {
    "id": "long", "name": "string", "weight": "double", "day": "date", "price": "decimal(10, 2)", "at": "timestamptz",
    "blob": "binary", "kind": "string", "tags": "list<string>", "flag": "boolean", "token": "uuid", "c": "timestamp",
}  # fmt: skip
_CANAL_ROW = {
    "id": "1", "name": "a", "weight": "1.5", "day": "2026-02-28", "price": "1.50", "blob": "\u00ff", "kind": "2", "tags": '["x"]',
    "flag": "1", "token": "00112233-4455-6677-8899-aabbccddeeff", "c": "2026-02-28 01:02:03",
}  # fmt: skip
_TYPES = {"id": "bigint", "blob": "blob", "kind": "enum('a','b')", "tags": "json", "flag": "tinyint(1)", "price": "decimal(10,2)"}
_MAXWELL_ROW = {**_CANAL_ROW, "id": 1, "weight": 1.5, "blob": "AAE=", "kind": "b", "tags": ["x"], "flag": 1}
_MESSAGES: dict[str, list[Any]] = {
    "canal-json": [
        *map(json.loads, (test_canal.FLINK_INSERT, test_canal.FLINK_UPDATE, test_canal.FLINK_DELETE, test_canal.TIDB_INSERT)),
        {"type": "UPDATE", "data": [_CANAL_ROW], "old": [{"id": "2"}], "mysqlType": _TYPES, "sqlType": {"kind": 4, "blob": 2004}},
    ],
    "maxwell-json": [
        *map(json.loads, (test_maxwell.FLINK_INSERT, test_maxwell.FLINK_UPDATE, test_maxwell.DOCS_INSERT, test_maxwell.DOCS_BOOTSTRAP[1])),
        {"type": "update", "data": _MAXWELL_ROW, "old": {"id": 2}, "position": "bin.000001:4", "xoffset": 3},
    ],
}
_HUGE = "a number of 5,000 digits"
_KEYS = [None, b'{"id": 1}', test_maxwell.DOCS_KEY, test_maxwell.ARRAY_KEY, b"[]", b"\xff"]
_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
    | st.sampled_from(["INSERT", "DELETE", "TRUNCATE", "update", "set('a')", "9" * 5000, "0000-00-00", _HUGE, -1, 2**64])
)  # fmt: skip
_ANYTHING = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(sorted(_TYPES)), inner, max_size=2)
)


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, item in inner for place in _places(item, (*at, key)))]


def _with(value: Any, place: tuple[Any, ...], other: Any) -> Any:
    if not place:
        return other
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[place[0]] = _with(value[place[0]], place[1:], other)
    return changed


@pytest.mark.parametrize("kind", sorted(_MESSAGES))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_every_message_has_one_fate_and_the_others_keep_theirs(kind: str, data: st.DataObject) -> None:
    spec = declare(kind, _COLUMNS)
    good = data.draw(st.sampled_from(_MESSAGES[kind]))
    message = good
    for _ in range(data.draw(st.integers(1, 3))):
        message = _with(message, data.draw(st.sampled_from(_places(message))), data.draw(_ANYTHING))
    odd = data.draw(st.sampled_from([_text(message), None, b"\xff"]) if data.draw(st.integers(0, 9)) == 0 else st.just(_text(message)))
    key = data.draw(st.sampled_from(_KEYS))

    found = _decode(spec, [_text(good), odd, _text(good)], key)
    alone = _decode(spec, [_text(good)], None)
    fates = [int(1 in found.messages), len([one for one in found.bad if one.index == 1]), int(1 in found.skipped)]
    fates.append(len([one for one in found.truncations if one.message == 1]))
    assert sum(fates) == 1
    found.table.validate(full=True)
    for index in (0, 2):
        assert found.table.filter(found.messages == index).to_pylist() == alone.table.to_pylist()


def _text(message: Any) -> bytes:
    return json.dumps(message).replace(f'"{_HUGE}"', "9" * 5000).encode()


def _decode(spec: Any, values: list[bytes | None], key: bytes | None) -> DecodedChanges:
    decoder = build_change_decoder(spec, lambda _: RegisteredSchema("AVRO", ""))
    return decoder.decode(ChangeMessages(values, [key] * len(values), [None] * len(values)))
