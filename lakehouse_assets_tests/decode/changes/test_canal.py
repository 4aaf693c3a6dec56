"""Canal's messages as changes.

Messages named FLINK are lines of Apache Flink's test data, flink-formats/flink-json/src/test/resources/canal-data.txt and
canal-data-with-init.txt (Apache-2.0); those named TIDB are of TiDB's documentation, "TiCDC Canal-JSON Protocol"
(pingcap/docs, ticdc/ticdc-canal-json.md). The shapes of the others follow alibaba/canal: FlatMessage and MQMessageUtils
(the envelope), LogEventConvert and RowsLogBuffer (the text of values).
"""

import datetime
import json
from decimal import Decimal
from typing import Any

import pytest

from lakehouse_assets_tests.decode.changes.streams import bad_of, declare, decode, rows_of

_TYPES = (
    '"mysqlType":{"id":"INTEGER","name":"VARCHAR(255)","description":"VARCHAR(512)","weight":"FLOAT"},'
    '"sqlType":{"id":4,"name":12,"description":12,"weight":7},"pkNames":["id"],"sql":"","database":"inventory","table":"products2"'
)
FLINK_INSERT = (
    '{"data":[{"id":"101","name":"scooter","description":"Small 2-wheel scooter","weight":"3.14"},'
    '{"id":"102","name":"car battery","description":"12V car battery","weight":"8.1"}],"es":1589373515000,"id":3,"isDdl":false,'
    f'"old":null,"ts":1589373515477,"type":"INSERT",{_TYPES}}}'
)
FLINK_INIT = FLINK_INSERT.replace('"INSERT"', '"INIT"')
FLINK_UPDATE = (
    '{"data":[{"id":"101","name":"scooter","description":"Small 2-wheel scooter","weight":"5.17"},'
    '{"id":"102","name":"car battery","description":"12V car battery","weight":"5.17"}],"es":1589373753000,"id":11,"isDdl":false,'
    f'"old":[{{"weight":"3.14"}},{{"weight":"8.1"}}],"ts":1589373753939,"type":"UPDATE",{_TYPES}}}'
)
FLINK_DELETE = (
    '{"data":[{"id":"102","name":"car battery","description":"12V car battery","weight":"5.17"},'
    '{"id":"103","name":"12-pack drill bits","description":"12-pack of drill bits with sizes ranging from #40 to #3","weight":"0.8"}],'
    f'"es":1589374013000,"id":12,"isDdl":false,"old":null,"ts":1589374013680,"type":"DELETE",{_TYPES}}}'
)
FLINK_CREATE = (
    '{"data":null,"database":"inventory","es":1589373566000,"id":13,"isDdl":true,"mysqlType":null,"old":null,"pkNames":null,'
    '"sql":"CREATE TABLE `xj_`.`user02` (`uid` int(0) NOT NULL,`uname` varchar(255) NULL, PRIMARY KEY (`uid`))",'
    '"sqlType":null,"table":"user02","ts":1589373566000,"type":"CREATE"}'
)
TIDB_DROP = (
    '{"id":0,"database":"test","table":"","pkNames":null,"isDdl":true,"type":"QUERY","es":1639633094670,"ts":1639633095489,'
    '"sql":"drop database if exists test","sqlType":null,"mysqlType":null,"data":null,"old":null,"_tidb":{"commitTs":163963309467037594}}'
)
TIDB_INSERT = (
    '{"id":0,"database":"test","table":"tp_int","pkNames":["id"],"isDdl":false,"type":"INSERT","es":1639633141221,"ts":1639633142960,'
    '"sql":"","sqlType":{"c_bigint":-5,"c_int":4,"c_mediumint":4,"c_smallint":5,"c_tinyint":-6,"id":4},"mysqlType":{"c_bigint":"bigint",'
    '"c_int":"int","c_mediumint":"mediumint","c_smallint":"smallint","c_tinyint":"tinyint","id":"int"},"data":[{"c_bigint":'
    '"9223372036854775807","c_int":"2147483647","c_mediumint":"8388607","c_smallint":"32767","c_tinyint":"127","id":"2"}],"old":null,'
    '"_tidb":{"commitTs":163963314122145239}}'
)
TIDB_WATERMARK = (
    '{"id":0,"database":"","table":"","pkNames":null,"isDdl":false,"type":"TIDB_WATERMARK","es":1640007049196,"ts":1640007050284,'
    '"sql":"","sqlType":null,"mysqlType":null,"data":null,"old":null,"_tidb":{"watermarkTs":429918007904436226}}'
)

PRODUCTS = declare("canal-json", {"id": "long", "name": "string", "weight": "double"})


def _message(kind: str, data: Any, old: Any = None, **more: Any) -> dict[str, Any]:
    return {"data": data, "old": old, "type": kind, "isDdl": False, "es": 1, "ts": 2, "id": 3, "database": "d", "table": "t", **more}


def test_each_row_of_a_message_is_a_change_in_order() -> None:
    found = decode(PRODUCTS, [FLINK_INSERT, FLINK_UPDATE, FLINK_DELETE])
    assert rows_of(found) == [
        ("insert", {"id": 101, "name": "scooter", "weight": 3.14}),
        ("insert", {"id": 102, "name": "car battery", "weight": 8.1}),
        ("update", {"id": 101, "name": "scooter", "weight": 5.17}),
        ("update", {"id": 102, "name": "car battery", "weight": 5.17}),
        ("delete", {"id": 102}),
        ("delete", {"id": 103}),
    ]
    assert found.messages.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.deletes.tolist() == [False] * 4 + [True] * 2
    assert (found.positions, found.old_keys, found.unavailable) == (None, None, {})
    assert {path: one.count for path, one in found.unknown.fields.items()} == {("description",): 4}


def test_rows_of_a_first_load_are_reads() -> None:
    assert [operation for operation, _ in rows_of(decode(PRODUCTS, [FLINK_INIT]))] == ["read", "read"]


def test_changes_of_schemas_and_marks_say_nothing_of_rows() -> None:
    others = [_message(kind, None, isDdl=kind == "ALTER") for kind in ("QUERY", "ALTER", "XACOMMIT", "MHEARTBEAT")]
    found = decode(PRODUCTS, [FLINK_CREATE, TIDB_DROP, TIDB_WATERMARK, *others])
    assert found.skipped.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert len(found) == 0
    assert not found.bad


def test_rows_count_whatever_a_message_says_of_schemas() -> None:
    assert len(decode(PRODUCTS, [_message("INSERT", [{"id": "1"}], isDdl=True)])) == 1


def test_truncate_takes_every_row_out() -> None:
    truncate = _message("TRUNCATE", None, isDdl=True, sql="truncate table t")
    found = decode(PRODUCTS, [FLINK_INSERT, truncate])
    assert [(one.message, one.position) for one in found.truncations] == [(1, None)]
    assert found.messages.tolist() == [0, 0]


def test_another_key_is_a_deletion_of_the_old_one_and_the_row_of_the_new() -> None:
    rows = [{"id": "3", "name": "b", "weight": "1"}, {"id": "2", "name": "a", "weight": "1"}]
    found = decode(PRODUCTS, [_message("UPDATE", rows, [{"id": "2"}, {"id": "1"}])])
    assert rows_of(found) == [
        ("delete", {"id": 2}),
        ("update", {"id": 3, "name": "b", "weight": 1.0}),
        ("delete", {"id": 1}),
        ("update", {"id": 2, "name": "a", "weight": 1.0}),
    ]
    assert found.old_keys is not None
    assert found.old_keys.to_pylist() == [{"id": None}, {"id": 2}, {"id": None}, {"id": 1}]
    assert found.messages.tolist() == [0, 0, 0, 0]


def test_old_values_that_name_the_same_key_are_no_change_of_it() -> None:
    row = {"id": "1", "name": "b", "weight": "1"}
    found = decode(PRODUCTS, [_message("UPDATE", [row], [{**row, "name": "a"}])])
    assert rows_of(found) == [("update", {"id": 1, "name": "b", "weight": 1.0})]


def test_columns_that_an_update_leaves_out_did_not_change() -> None:
    found = decode(
        PRODUCTS,
        [
            _message("UPDATE", [{"id": "1", "name": "b"}, {"id": "2", "name": None, "weight": None}], [{"name": "a"}, {"name": "b"}]),
            _message("UPDATE", [{"id": "4", "name": "b"}], [{"id": "3"}]),
            _message("INSERT", [{"id": "9"}]),
        ],
    )
    assert {name: mask.tolist() for name, mask in found.unavailable.items()} == {"weight": [True, False, False, True, False]}
    assert found.old_keys is not None
    assert found.old_keys["id"].to_pylist() == [None, None, None, 3, None]


def test_a_message_with_one_bad_row_is_bad_as_a_whole() -> None:
    rows = [{"id": "1", "weight": "1"}, {"id": "2", "weight": "heavy"}]
    found = decode(PRODUCTS, [_message("INSERT", rows), FLINK_INSERT])
    assert bad_of(found) == [(0, "wrong_type")]
    assert found.bad[0].reason == "row 2 of 2: field 'weight' of the row: found the string 'heavy', expected a number"
    assert found.messages.tolist() == [1, 1]
    assert found.unknown.messages == 2


@pytest.mark.parametrize("kind", ["INSERT", "UPDATE", "DELETE"])
@pytest.mark.parametrize("row", [{"name": "a"}, {"id": None, "name": "a"}])
def test_rows_without_their_key_are_bad_one_by_one_deletions_included(kind: str, row: dict[str, Any]) -> None:
    assert bad_of(decode(PRODUCTS, [_message(kind, [row]), FLINK_DELETE])) == [(0, "missing_required")]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"", "empty"),
        (b"{", "invalid_json"),
        (b"[]", "not_an_object"),
        (_message("MERGE", [{"id": "1"}]), "unknown_operation"),
        ({"data": [{"id": "1"}]}, "unknown_operation"),
        (_message("INSERT", None), "missing_required"),
        (_message("DELETE", []), "missing_required"),
        (_message("INSERT", {"id": "1"}), "wrong_type"),
        (_message("INSERT", ["1"]), "wrong_type"),
        ('{"type":"INSERT","data":[{"id":"1","id":"2"}]}', "duplicate_key"),
        (_message("UPDATE", [{"id": "1"}, {"id": "3"}], [{"id": "2"}]), "wrong_type"),
        (_message("DELETE", [{"id": "1.5"}]), "wrong_type"),
    ],
)
def test_what_is_no_message_of_canal_s_is_bad(message: Any, code: str) -> None:
    assert bad_of(decode(PRODUCTS, [message])) == [(0, code)]


def test_old_values_may_be_fewer_than_rows_while_none_says_another_key() -> None:
    rows = [{"id": "1", "name": "a", "weight": None}, {"id": "2", "name": "b", "weight": None}]
    assert len(decode(PRODUCTS, [_message("UPDATE", rows, [{"name": "x"}])])) == 2


def test_no_value_takes_out_the_row_that_the_key_names() -> None:
    found = decode(PRODUCTS, [None, None, None, None], [b'{"id": 7}', b"8", None, b"x"])
    assert rows_of(found) == [("delete", {"id": 7}), ("delete", {"id": 8})]
    assert bad_of(found) == [(2, "missing_required"), (3, "invalid_json")]


def test_positions_are_tidb_s_commits_where_there_are_any() -> None:
    spec = declare("canal-json", {"id": "long", "c_bigint": "long", "c_tinyint": "int"})
    plain = _message("INSERT", [{"id": "1"}])
    found = decode(spec, [TIDB_INSERT, plain, _message("TRUNCATE", None, _tidb={"commitTs": 5})])
    assert rows_of(found)[0] == ("insert", {"id": 2, "c_bigint": 9223372036854775807, "c_tinyint": 127})
    assert found.positions is not None
    assert found.positions.to_pylist() == [163963314122145239, None]
    assert found.truncations[0].position == 5


def _read_value(declared: Any, mysql: str, sql: int | None, text: Any) -> Any:
    """What becomes of one value, or the code of why nothing does."""
    spec = declare("canal-json", {"id": "long", "value": declared})
    types = {"mysqlType": {"id": "bigint", "value": mysql}, "sqlType": {"id": -5, "value": sql}} if sql is not None else {}
    found = decode(spec, [_message("INSERT", [{"id": "1", "value": text}], **types)])
    return found.bad[0].code if found.bad else found.table["value"].to_pylist()[0]


@pytest.mark.parametrize(
    ("declared", "mysql", "sql", "text", "expected"),
    [
        ("int", "int(11)", 4, "-17", -17),
        ("int", "int unsigned", -5, "4294967295", "out_of_range"),
        ("long", "int unsigned", -5, "4294967295", 4294967295),
        ("long", "bigint unsigned", 3, "18446744073709551615", "out_of_range"),
        ("decimal(20, 0)", "bigint unsigned", 3, "18446744073709551615", Decimal(18446744073709551615)),
        ("int", "year", 12, "2026", 2026),
        ("boolean", "tinyint(1)", -6, "1", True),
        ("boolean", "tinyint(1)", -6, "0", False),
        ("boolean", "tinyint(1)", -6, "2", "wrong_type"),
        ("boolean", "bit(1)", -7, "1", True),
        ("long", "bit(64)", -7, "65", 65),
        ("float", "float", 7, "3.14", 3.140000104904175),
        ("double", "double", 8, "1.0E10", 1e10),
        ("decimal(10, 4)", "decimal(10,4)", 3, "123.4560", Decimal("123.4560")),
        ("decimal(10, 2)", "decimal(10,4)", 3, "123.4567", "out_of_range"),
        ("date", "date", 91, "2026-02-28", datetime.date(2026, 2, 28)),
        ("date", "date", 91, "0000-00-00", "invalid_text"),
        ("time", "time", 92, "08:09:10.5", datetime.time(8, 9, 10, 500000)),
        ("time", "time", 92, "-01:00:00", "invalid_text"),
        ("time", "time", 92, "838:59:59", "invalid_text"),
        ("string", "time", 92, "838:59:59", "838:59:59"),
        ("timestamp", "datetime(6)", 93, "2026-02-28 08:09:10.123456", datetime.datetime(2026, 2, 28, 8, 9, 10, 123456)),
        ("timestamp", "datetime", 93, "0000-00-00 00:00:00", "invalid_text"),
        ("timestamp", "timestamp", 93, "2026-02-28 08:09:10", datetime.datetime(2026, 2, 28, 8, 9, 10)),
        ("timestamptz", "timestamp", 93, "2026-02-28 08:09:10", "invalid_text"),
        ("timestamptz", "varchar(30)", 12, "2026-02-28T08:09:10Z", datetime.datetime(2026, 2, 28, 8, 9, 10, tzinfo=datetime.UTC)),
        ({"type": "timestamptz", "epoch": "seconds"}, "bigint", -5, "60", datetime.datetime(1970, 1, 1, 0, 1, tzinfo=datetime.UTC)),
        ("binary", "blob", 2004, "\x00\xff\x80a", b"\x00\xff\x80a"),
        ("binary", "varbinary(16)", 2004, "é", b"\xe9"),
        ("binary", "blob", 2004, "\u20ac", "invalid_text"),
        ("binary", "varchar(16)", 12, "abc", "wrong_type"),
        ("fixed(2)", "binary(2)", 2004, "ab", b"ab"),
        ("fixed(2)", "binary(3)", 2004, "abc", "out_of_range"),
        ("string", "blob", 2004, "Ã¤", "ä"),
        ("string", "blob", 2004, "\xff", "invalid_utf8"),
        ("string", "text", 2005, "ä", "ä"),
        ("uuid", "char(36)", 1, "00112233-4455-6677-8899-aabbccddeeff", "00112233-4455-6677-8899-aabbccddeeff"),
        ("uuid", "binary(16)", 2004, "".join(map(chr, range(16))), "00010203-0405-0607-0809-0a0b0c0d0e0f"),
        ("string", "json", 12, '{"a": [1, 2.50]}', '{"a": [1, 2.50]}'),
        ("struct<a: list<int>>", "json", 12, '{"a": [1, 2]}', {"a": [1, 2]}),
        ("list<int>", "json", 12, "[1, null]", [1, None]),
        ("list<int>", "json", 12, "[1", "invalid_text"),
        ("string", "enum('a','it''s','c')", 4, "2", "it's"),
        ("string", "enum('2','1')", 4, "2", "1"),
        ("string", "enum('a','b')", 4, "0", ""),
        ("string", "enum('a','b')", 4, "3", "out_of_range"),
        ("string", "ENUM('A','b')", 12, "A", "A"),
        ("string", "enum", 4, "1", "out_of_range"),
        ("string", "set('a','b','c')", -7, "5", "a,c"),
        ("string", "set('a','b','c')", -7, "0", ""),
        ("string", "set('a','b','c')", -7, "8", "out_of_range"),
        ("string", "set('a','b','c')", 12, "a,b", "a,b"),
        ("long", "", None, 17, 17),
        ("double", "", None, 3.5, 3.5),
        ("boolean", "", None, True, True),
        ("string", "", None, "x", "x"),
    ],
)
def test_values_become_the_declared_type(declared: Any, mysql: str, sql: int | None, text: Any, expected: Any) -> None:
    found = _read_value(declared, mysql, sql, text)
    assert (str(found) if declared == "uuid" else found) == expected


def test_a_path_leads_into_values_that_are_objects() -> None:
    spec = declare("canal-json", {"id": "long", "city": {"type": "string", "from": "address.city"}})
    found = decode(spec, [_message("INSERT", [{"id": 1, "address": {"city": "Ulm"}}, {"id": 2}]), _message("INSERT", [{"id": 3, "address": 1}])])
    assert rows_of(found) == [("insert", {"id": 1, "city": "Ulm"}), ("insert", {"id": 2})]
    assert bad_of(found) == [(1, "wrong_type")]


def test_numbers_in_json_columns_stay_as_they_were_written() -> None:
    spec = declare("canal-json", {"id": "long", "value": "string"})
    text = '{"type":"INSERT","data":[{"id":1,"value":{"a":1.50,"b":[true,null,"x\\"ü"],"c":12345678901234567890}}]}'
    value = decode(spec, [text]).table["value"].to_pylist()[0]
    assert value == '{"a":1.50,"b":[true,null,"x\\"ü"],"c":12345678901234567890}'
    assert json.loads(value)["b"] == [True, None, 'x"ü']
