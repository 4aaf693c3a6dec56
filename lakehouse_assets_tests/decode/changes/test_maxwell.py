"""Maxwell's messages as changes.

Messages named FLINK are lines of Apache Flink's test data, flink-formats/flink-json/src/test/resources/maxwell-data.txt
(Apache-2.0). Those named DOCS are of zendesk/maxwell's documentation (Apache-2.0): docs/docs/dataformat.md, bootstrapping.md and
producers.md (keys). Values of types are of its tests, src/test/resources/sql/json/test_bit, test_blob, test_set, test_bignum,
test_invalid_time, test_time, test_json and test_zero_created_at.
"""

import datetime
from decimal import Decimal
from typing import Any

import pytest

from lakehouse_assets_tests.decode.changes.streams import bad_of, declare, decode, rows_of

FLINK_INSERT = (
    '{"database":"test","table":"product","type":"insert","ts":1596684883,"xid":7125,"xoffset":0,"data":{"id":101,"name":"scooter",'
    '"description":"Small 2-wheel scooter","weight":3.14},"primary_key_columns": ["id"]}'
)
FLINK_UPDATE = (
    '{"database":"test","table":"product","type":"update","ts":1596684893,"xid":7152,"commit":true,"data":{"id":106,"name":"hammer",'
    '"description":"18oz carpenter hammer","weight":1.0},"old":{"description":"16oz carpenter\'s hammer"},"primary_key_columns": ["id"]}'
)
FLINK_DELETE = (
    '{"database":"test","table":"product","type":"delete","ts":1596684914,"xid":7250,"commit":true,"data":{"id":111,"name":"scooter",'
    '"description":"Big 2-wheel scooter ","weight":5.17},"primary_key_columns": ["id"]}'
)
DOCS_INSERT = (
    '{"database":"test","table":"e","type":"insert","ts":1477053217,"xid":23396,"commit":true,"position":"master.000006:800911",'
    '"server_id":23042,"thread_id":108,"primary_key": [1, "2016-10-21 05:33:37.523000"],"primary_key_columns": ["id", "c"],'
    '"data":{"id":1,"m":4.2341,"c":"2016-10-21 05:33:37.523000","comment":"I am a creature of light."}}'
)
DOCS_CREATE = (
    '{"type":"table-create","database":"test","table":"e","def":{"database":"test","charset":"utf8mb4","table":"e","columns":['
    '{"type":"int","name":"id","signed":true},{"type":"double","name":"m"},{"type":"timestamp","name":"c","column-length":6},'
    '{"type":"varchar","name":"comment","charset":"latin1"}],"primary-key":["id"]},"ts":1477053126000,"sql":"create table test.e '
    '( id int(10) not null primary key auto_increment, m double, c timestamp(6), comment varchar(255) charset \'latin1\' )",'
    '"position":"master.000006:800050"}'
)
DOCS_BOOTSTRAP = [
    '{"database":"fooDB","table":"barTable","type":"bootstrap-start","ts":1450557744,"data":{}}',
    '{"database":"fooDB","table":"barTable","type":"bootstrap-insert","ts":1450557744,"data":{"txt":"hello"}}',
    '{"database":"fooDB","table":"barTable","type":"bootstrap-insert","ts":1450557744,"data":{"txt":"bootstrap!"}}',
    '{"database":"fooDB","table":"barTable","type":"bootstrap-complete","ts":1450557744,"data":{}}',
]
DOCS_KEY = b'{ "database":"test_tb","table":"test_tbl","pk.id":4,"pk.part2":"hello"}'
ARRAY_KEY = b'["test_tb","test_tbl",[{"id":4},{"part2":"hello"}]]'

PRODUCTS = declare("maxwell-json", {"id": "long", "name": "string", "weight": "double"})


def _message(kind: str, data: Any, old: Any = None, **more: Any) -> dict[str, Any]:
    return {"database": "d", "table": "t", "type": kind, "ts": 1, "data": data, **({} if old is None else {"old": old}), **more}


def test_each_message_is_a_change() -> None:
    found = decode(PRODUCTS, [FLINK_INSERT, FLINK_UPDATE, FLINK_DELETE])
    assert rows_of(found) == [
        ("insert", {"id": 101, "name": "scooter", "weight": 3.14}),
        ("update", {"id": 106, "name": "hammer", "weight": 1.0}),
        ("delete", {"id": 111}),
    ]
    assert found.messages.tolist() == [0, 1, 2]
    assert found.deletes.tolist() == [False, False, True]
    assert (found.positions, found.old_keys, found.unavailable) == (None, None, {})
    assert {path: one.count for path, one in found.unknown.fields.items()} == {("description",): 2}


def test_rows_of_a_bootstrap_are_reads_and_its_marks_say_nothing() -> None:
    found = decode(declare("maxwell-json", {"txt": "string"}, key=["txt"]), DOCS_BOOTSTRAP)
    assert rows_of(found) == [("read", {"txt": "hello"}), ("read", {"txt": "bootstrap!"})]
    assert found.messages.tolist() == [1, 2]
    assert found.skipped.tolist() == [0, 3]


def test_changes_of_schemas_say_nothing_of_rows() -> None:
    kinds = ["table-alter", "table-drop", "database-create", "database-alter", "database-drop"]
    found = decode(PRODUCTS, [DOCS_CREATE, *({"type": kind, "database": "d", "table": "t"} for kind in kinds)])
    assert found.skipped.tolist() == [0, 1, 2, 3, 4, 5]
    assert not found.bad


def test_positions_sort_by_file_offset_and_row_of_the_transaction() -> None:
    parts: list[dict[str, Any]] = [
        {"position": "mysql-bin.000003:1234", "xoffset": 0},
        {"position": "mysql-bin.000003:1234", "xoffset": 1},
        {"position": "mysql-bin.000003:1234", "commit": True},
        {"position": "mysql-bin.000003:1235", "xoffset": 5000},
        {"position": "mysql-bin.000003:4294967295"},
        {"position": "mysql-bin.000010:4"},
    ]
    found = decode(PRODUCTS, [_message("insert", {"id": 1}, **part) for part in parts] + [DOCS_INSERT, FLINK_INSERT])
    assert found.positions is not None
    positions = found.positions.to_pylist()
    assert positions[:6] == sorted(set(positions[:6]))
    assert positions[0] == (3 << 43) + (1234 << 11)
    assert positions[6] == (6 << 43) + (800911 << 11) + 2047
    assert positions[7] is None


@pytest.mark.parametrize("position", ["", "bin:x", "bin:4", "mysql-bin.1048576:4", "mysql-bin.000001", 7, None])
def test_what_is_no_position_is_none(position: Any) -> None:
    found = decode(PRODUCTS, [_message("insert", {"id": 1}, position=position)])
    assert len(found) == 1
    assert found.positions is None


def test_another_key_is_a_deletion_of_the_old_one_and_the_row_of_the_new() -> None:
    spec = declare("maxwell-json", {"id": "long", "part": "string", "name": "string"}, key=["part", "id"])
    data = {"id": 1, "part": "b", "name": "x"}
    found = decode(spec, [_message("update", data, {"part": "a"}, position="bin.000001:7"), _message("update", data, {"name": "y"})])
    assert rows_of(found) == [
        ("delete", {"id": 1, "part": "a"}),
        ("update", {"id": 1, "part": "b", "name": "x"}),
        ("update", {"id": 1, "part": "b", "name": "x"}),
    ]
    assert found.messages.tolist() == [0, 0, 1]
    assert found.old_keys is not None
    assert found.old_keys.to_pylist() == [{"part": None, "id": None}, {"part": "a", "id": 1}, {"part": None, "id": None}]
    assert found.positions is not None
    assert found.positions.to_pylist() == [(1 << 43) + (7 << 11)] * 2 + [None]


def test_where_nulls_are_left_out_an_old_value_tells_a_new_null_from_no_change() -> None:
    found = decode(PRODUCTS, [_message("update", {"id": 1, "name": "b"}, {"weight": 3.5}), _message("update", {"id": 1}, {"name": "b"})])
    assert rows_of(found) == [("update", {"id": 1, "name": "b"}), ("update", {"id": 1})]
    assert {name: mask.tolist() for name, mask in found.unavailable.items()} == {"weight": [False, True]}


def test_no_value_takes_out_the_row_that_the_key_names() -> None:
    spec = declare("maxwell-json", {"Id": "long", "part2": "string", "name": "string"}, key=["Id", "part2"])
    keys = [DOCS_KEY, ARRAY_KEY, None, b'{"database":"d","table":"t","_uuid":"x"}', b'"x"', b"", b'["d","t",["x"]]']
    found = decode(spec, [None] * len(keys), keys)
    assert rows_of(found) == [("delete", {"Id": 4, "part2": "hello"})] * 2
    assert bad_of(found) == [
        (2, "missing_required"),
        (3, "missing_required"),
        (4, "wrong_type"),
        (5, "empty"),
        (6, "wrong_type"),
    ]


@pytest.mark.parametrize("kind", ["insert", "update", "delete", "bootstrap-insert"])
@pytest.mark.parametrize("row", [{"name": "a"}, {"id": None, "name": "a"}])
def test_rows_without_their_key_are_bad_one_by_one_deletions_included(kind: str, row: dict[str, Any]) -> None:
    assert bad_of(decode(PRODUCTS, [_message(kind, row), FLINK_DELETE])) == [(0, "missing_required")]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"\xff", "invalid_utf8"),
        ("17", "not_an_object"),
        (_message("upsert", {"id": 1}), "unknown_operation"),
        ({"data": {"id": 1}}, "unknown_operation"),
        (_message("insert", None), "wrong_type"),
        (_message("insert", [{"id": 1}]), "wrong_type"),
        (_message("update", {"id": 1}, ["x"]), "wrong_type"),
        ('{"type":"insert","data":{"id":1,"id":2}}', "duplicate_key"),
        (_message("update", {"id": 1, "name": "a"}, {"id": "x"}), "wrong_type"),
    ],
)
def test_what_is_no_message_of_maxwell_s_is_bad(message: Any, code: str) -> None:
    assert bad_of(decode(PRODUCTS, [message])) == [(0, code)]


@pytest.mark.parametrize(
    ("declared", "found", "expected"),
    [
        ("long", 18446744073709551615, "out_of_range"),
        ("decimal(20, 0)", 18446744073709551615, Decimal(18446744073709551615)),
        ("decimal(10, 4)", 123.4321, Decimal("123.4321")),
        ("long", 14913110, 14913110),
        ("boolean", 1, True),
        ("boolean", 3, "wrong_type"),
        ("int", 2026, 2026),
        ("float", 4.5, 4.5),
        ("double", "x", "wrong_type"),
        ("binary", "AAECAw==", b"\x00\x01\x02\x03"),
        ("binary", "AAECAw=", "invalid_text"),
        ("fixed(4)", "AAECAw==", b"\x00\x01\x02\x03"),
        ("fixed(10)", "AAECAw==", "out_of_range"),
        ("uuid", "AAECAwQFBgcICQoLDA0ODw==", "00010203-0405-0607-0809-0a0b0c0d0e0f"),
        ("list<string>", ["foo", "baz"], ["foo", "baz"]),
        ("list<string>", [], []),
        ("string", ["bar", "baz"], '["bar","baz"]'),
        ("string", {"foo": "bar", "baz": [1, 2, 3, {"hello": "inside an array"}], "bar": 123.4321}, None),
        ("struct<foo: string, bar: double>", {"foo": "bar", "baz": [1], "bar": 123.4321}, {"foo": "bar", "bar": 123.4321}),
        ("timestamp", "0000-00-00 00:00:00", "invalid_text"),
        ("timestamp", "0001-01-01 00:00:00.000000", datetime.datetime(1, 1, 1)),
        ("timestamp", "2012-01-01 22:32:34.123", datetime.datetime(2012, 1, 1, 22, 32, 34, 123000)),
        ("timestamptz", "2012-01-01 22:32:34.1234", datetime.datetime(2012, 1, 1, 22, 32, 34, 123400, datetime.UTC)),
        ("timestamptz", "0000-00-00 00:00:00.0000", "invalid_text"),
        ("timestamptz", "2012-02-30 22:32:34", "out_of_range"),
        ("timestamptz", 5, "wrong_type"),
        ("date", "0000-00-00", "invalid_text"),
        ("date", "1979-10-01", datetime.date(1979, 10, 1)),
        ("time", "12:23:33.123456", datetime.time(12, 23, 33, 123456)),
        ("string", "00:00:00.000", "00:00:00.000"),
    ],
)
def test_values_become_the_declared_type(declared: str, found: Any, expected: Any) -> None:
    spec = declare("maxwell-json", {"id": "long", "value": declared})
    decoded = decode(spec, [_message("insert", {"id": 1, "value": found})])
    value = decoded.bad[0].code if decoded.bad else decoded.table["value"].to_pylist()[0]
    if expected is None:
        expected = '{"foo":"bar","baz":[1,2,3,{"hello":"inside an array"}],"bar":123.4321}'
    assert (str(value) if declared == "uuid" else value) == expected
