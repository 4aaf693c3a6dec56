"""A declaration from the changes of a database's rows: format, key and types are recognised, and no change is bad by it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse_assets.declarations.drafting import render_draft
from lakehouse_assets.declarations.loading import load_declarations
from lakehouse_assets.decode.changes.building import build_change_decoder
from lakehouse_assets.decode.changes.decoded import ChangeMessages
from lakehouse_assets.decode.changes.drafting import infer_from_changes
from lakehouse_assets.decode.changes.sampling import find_changes
from lakehouse_assets.model.drafts import Draft, RowDraft
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets_tests.decode.changes.captures import columns_of_all_types, read_capture
from lakehouse_assets_tests.decode.test_inference import KEYS, SCALARS, VALUES

SOURCE = {"version": "3.6.3.Final", "connector": "postgresql", "name": "shop", "lsn": 27016056, "snapshot": "false"}
CANAL_TYPES = {"id": "bigint unsigned", "n": "int(11)", "price": "decimal(10,2)", "name": "varchar(20)", "at": "datetime(6)"}


def debezium(after: Any, before: Any = None, op: str = "c") -> dict[str, Any]:
    return {"before": before, "after": after, "source": SOURCE, "transaction": None, "op": op, "ts_ms": 1795446541732}


def canal(kind: str, *rows: dict[str, str | None], **more: Any) -> dict[str, Any]:
    described = {"database": "shop", "table": "t", "pkNames": ["id"], "isDdl": False, "mysqlType": CANAL_TYPES, "sqlType": {}}
    return {"type": kind, "data": list(rows), "old": None, "es": 1, "ts": 2, "id": 3, "sql": "", **described, **more}


def maxwell(kind: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"database": "shop", "table": "t", "type": kind, "ts": 1, "xid": 1, "data": data, **more}


def wrap(fields: Sequence[dict[str, Any]], payload: Any) -> dict[str, Any]:
    return {"schema": {"type": "struct", "fields": list(fields), "optional": False}, "payload": payload}


def sample(values: Sequence[Any], keys: Sequence[Any] | None = None) -> ChangeMessages:
    def text(value: Any) -> bytes | None:
        return None if value is None else json.dumps(value, separators=(",", ":")).encode()

    return ChangeMessages(list(map(text, values)), list(map(text, keys or [None] * len(values))), [None] * len(values))


def draft(messages: ChangeMessages, total: int = 1000) -> Draft:
    found = find_changes(messages)
    assert found is not None
    return infer_from_changes(found, messages, total)


def write(folder: Path, drafted: Draft) -> TableSpec:
    """The declaration of the file that `lakehouse new` writes."""
    file = folder / "draft.yaml"
    file.write_text(render_draft("shop.t", "t", drafted), encoding="utf-8")
    declared = load_declarations(file)
    assert [problem for broken in declared.broken for problem in broken.problems] == []
    return declared.specs[0]


def types_of(drafted: Draft) -> dict[str, str]:
    return {column.name: str(column.type) for column in drafted.columns}


def test_canals_types_are_those_that_mysql_declares(tmp_path: Path) -> None:
    row = {"id": "18446744073709551615", "n": "-5", "price": "12.50", "name": "a", "at": "2026-11-25 10:00:00.123456"}
    ddl = canal("ALTER", isDdl=True, data=None, pkNames=None, mysqlType=None)
    messages = sample([ddl, canal("INSERT", row, {**row, "id": "2", "name": None}), canal("DELETE", {**row, "id": "3"})])

    drafted = draft(messages)
    spec = write(tmp_path, drafted)

    assert (spec.source.format, spec.mode, spec.key) == ("canal-json", "upsert", ("id",))
    assert types_of(drafted) == {
        "id": "decimal(20, 0)", "n": "int", "price": "decimal(10, 2)", "name": "string", "at": "timestamp",
    }  # fmt: skip
    assert [column.name for column in spec.columns if column.required] == ["id"]
    assert build_change_decoder(spec, lambda _: None).decode(messages).bad == ()
    assert drafted.message_count == 3


@pytest.mark.parametrize(
    ("more", "key"),
    [({"primary_key_columns": ["Id"]}, None), ({}, {"database": "shop", "table": "t", "pk.id": 7})],
)
def test_maxwells_key_is_in_the_message_or_in_its_key(tmp_path: Path, more: dict[str, Any], key: Any) -> None:
    row = {"Id": 7, "name": "a", "at": "2026-11-25 10:00:00", "price": 1.5}
    messages = sample([maxwell("insert", row, **more), maxwell("bootstrap-start", {}), maxwell("delete", row, **more)], [key] * 3)

    drafted = draft(messages)
    spec = write(tmp_path, drafted)

    assert (spec.source.format, spec.key) == ("maxwell-json", ("Id",))
    assert types_of(drafted) == {"Id": "long", "name": "string", "at": "timestamp", "price": "double"}
    assert build_change_decoder(spec, lambda _: None).decode(messages).bad == ()


@pytest.mark.parametrize("kind", ["debezium-json", "canal-json", "maxwell-json"])
def test_of_several_tables_in_a_topic_the_most_frequent_one_is_drafted(tmp_path: Path, kind: str) -> None:
    def change(table: str, row: dict[str, Any]) -> dict[str, Any]:
        if kind == "debezium-json":
            return {**debezium(row), "source": {**SOURCE, "schema": "shop", "table": table}}
        if kind == "canal-json":
            types = {name: "int(11)" if name == "id" else "varchar(9)" for name in row}
            return canal("INSERT", {name: str(value) for name, value in row.items()}, table=table, mysqlType=types)
        return maxwell("insert", row, table=table, primary_key_columns=["id"])

    orders = [change("an order: #1", {"id": number, "customer": "a"}) for number in range(4)]
    lines = [change("lines", {"id": "x", "product": "b"})] * 3
    messages = sample([*lines, *orders], [{"id": 1}] * 7)

    drafted = draft(messages)
    spec = write(tmp_path, drafted)

    assert spec.source.tables == ("shop.an order: #1",)
    assert ([column.name for column in spec.columns], spec.key) == (["id", "customer"], ("id",))
    assert (drafted.unreadable, drafted.message_count) == ({}, 7)
    assert "tables:" not in render_draft("shop.t", "t", draft(sample(orders, [{"id": 1}] * 4)))


def test_a_topic_of_plain_rows_is_no_stream_of_changes() -> None:
    assert find_changes(sample([{"id": 1, "op": "c"}, {"before": 1, "after": 2}, {"type": "INSERT", "data": "x"}])) is None
    assert find_changes(sample([])) is None


def test_where_no_message_says_the_key_the_file_asks_for_it(tmp_path: Path) -> None:
    text = render_draft("shop.t", "t", draft(sample([debezium({"a": 1}), debezium(None, {"a": 1}, "d")])))
    (tmp_path / "t.yaml").write_text(text)

    (broken,) = load_declarations(tmp_path).broken

    assert "\nkey: []                             # no message says it" in text
    assert [(problem.path, problem.found) for problem in broken.problems] == [("key", "an empty list")]


def test_a_column_by_which_changes_are_bad_stays_where_its_type_is_known_and_the_file_says_so(tmp_path: Path) -> None:
    row = {"id": "1", "n": "5", "price": "1.00", "name": "a", "at": "2026-11-25 10:00:00"}
    messages = sample([canal("INSERT", row), canal("INSERT", {**row, "id": "2", "at": "0000-00-00 00:00:00"})])

    drafted = draft(messages)
    found = build_change_decoder(write(tmp_path, drafted), lambda _: None).decode(messages)

    assert "1 changes are bad by it: field 'at' of the row: found the string '0000-00-00" in render_draft("shop.t", "t", drafted)
    assert [one.index for one in found.bad] == [1]


def test_a_column_by_which_changes_would_be_bad_is_left_out_where_its_type_is_a_guess(tmp_path: Path) -> None:
    messages = sample([debezium({"id": 1, "a": None}), debezium({"id": 2, "a": {"x y": 1}})], [{"id": 1}, {"id": 2}])
    messages.values[1] = messages.values[1].replace(b'"x y":1', b'"x y":1,"x y":2')  # type: ignore[index,union-attr]

    drafted = draft(messages)

    assert types_of(drafted) == {"id": "long"}
    assert list(drafted.left_out) == ["a"]
    assert build_change_decoder(write(tmp_path, drafted), lambda _: None).decode(messages).bad == ()


@pytest.mark.parametrize(
    ("capture", "topic", "key"),
    [
        ("schemaless_precise_adaptive", "customers", ("id",)),
        ("schemaless_precise_adaptive", "lines", ("order_id", "line_no")),
        ("schemaless_precise_adaptive", "part", ("id", "d")),
        ("schemaless_precise_adaptive", "Mixed_Case", ("id",)),
        ("schemas_precise_adaptive", "customers", ("id",)),
        ("schemas_precise_adaptive", "lines", ("order_id", "line_no")),
        ("schemaless_string_connect", "lines", ("order_id", "line_no")),
    ],
)
def test_what_debezium_really_sends_becomes_a_declaration_by_which_no_change_is_bad(
    tmp_path: Path, capture: str, topic: str, key: tuple[str, ...]
) -> None:
    messages = read_capture(capture, topic)

    spec = write(tmp_path, draft(messages))

    assert (spec.source.format, spec.key) == ("debezium-json", key)
    assert build_change_decoder(spec, lambda _: None).decode(messages).bad == ()


def test_debeziums_schemas_give_the_types(tmp_path: Path) -> None:
    drafted = draft(read_capture("schemas_precise_adaptive", "customers"))

    assert {name: kind for name, kind in types_of(drafted).items() if name in ("id", "balance", "created_at", "tags")} == {
        "id": "int", "balance": "decimal(12, 2)", "created_at": "timestamptz", "tags": "list<string>",
    }  # fmt: skip
    all_types = draft(read_capture("schemas_precise_adaptive", "alltypes"))
    assert all_types.left_out == {}
    assert types_of(all_types) == {
        "id": "long", **{one.name: str(one.type) for one in columns_of_all_types("schemas_precise_adaptive")[1:]},
        "c_timetz": "string", "c_point": "struct<x: double, y: double, wkb: binary, srid: int>", "c_money": "decimal(38, 2)",
    }  # fmt: skip
    write(tmp_path, all_types)


def test_of_several_schemas_the_newest_counts() -> None:
    def change(kind: str) -> dict[str, Any]:
        fields = [{"type": "int32", "field": "id"}, {"type": kind, "field": "n"}, {"type": "array", "field": "of_no_type"}]
        return wrap([{"type": "struct", "fields": fields, "field": "after"}], debezium({"id": 1, "n": 2, "of_no_type": [1]}))

    drafted = draft(sample([change("int32"), change("int64")], [wrap([], {"id": 1})] * 2))

    assert types_of(drafted) == {"id": "int", "n": "long", "of_no_type": "list<long>"}


def test_without_schemas_the_file_says_how_to_declare_what_looks_like_numbers() -> None:
    assert "encoding: base64" in render_draft("shop.t", "t", draft(read_capture("schemaless_precise_adaptive", "customers")))
    assert "encoding: base64" not in render_draft("shop.t", "t", draft(read_capture("schemas_precise_adaptive", "customers")))


@pytest.mark.parametrize(
    ("size", "buckets"),
    [(0, 1), (512 * 2**20, 1), (512 * 2**20 + 1, 2), (2**30 + 1, 4), (5 * 2**30, 16), (2**50, 256)],
)
def test_buckets_hold_256_to_512_mib_and_small_tables_have_none(size: int, buckets: int) -> None:
    assert RowDraft(("id",), 1, size, "id", says_types=True).buckets == buckets


def test_the_number_of_rows_is_estimated_from_how_many_changes_are_of_the_same_row(tmp_path: Path) -> None:
    row = {"n": "5", "price": "1.00", "name": "a" * 180, "at": "2026-11-25 10:00:00", "shop": "x"}
    changes = [canal("UPDATE", {"id": str(i % 5), **row}) for i in range(10)]

    drafted = draft(sample(changes), total=100_000_000)

    assert drafted.changes is not None
    assert drafted.changes.count == 50_000_000
    text = render_draft("shop.t", "t", drafted)
    assert '\npartition_by: ["bucket(8, id)"]\n' in text
    assert "\n# At most about 50,000,000 rows, of " in text
    few = render_draft("shop.t", "t", draft(sample(changes), total=1000))
    assert "\n# At most about 500 rows, of 0 MiB in files: few files hold them." in few
    assert '\n# partition_by: ["bucket(4, id)"]\n' in few


def test_of_a_composite_key_the_column_with_the_most_values_is_spread() -> None:
    rows = [{"id": str(i), "n": "1", "price": "1.00", "name": "a", "at": "2026-11-25 10:00:00"} for i in range(5)]

    drafted = draft(sample([canal("INSERT", row, pkNames=["n", "id"]) for row in rows]))

    assert drafted.changes is not None
    assert (drafted.changes.key, drafted.changes.spread) == (("n", "id"), "id")


NAMES = KEYS | st.sampled_from(["_operation", "_is_deleted", "_source_position", "_deleted", "key", "text"])
TEXTS = SCALARS.map(lambda value: None if value is None else str(value))


def _as_debezium(row: dict[str, Any]) -> dict[str, Any]:
    return debezium(row)


def _as_canal(row: dict[str, Any]) -> dict[str, Any]:
    return canal("INSERT", row, mysqlType={"key": "bigint"}, pkNames=["key"])


def _as_maxwell(row: dict[str, Any]) -> dict[str, Any]:
    return maxwell("insert", row, primary_key_columns=["key"])


@pytest.mark.parametrize(("wrapped", "values"), [(_as_debezium, VALUES), (_as_canal, TEXTS), (_as_maxwell, VALUES)])
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_whatever_the_rows_of_a_database_hold_the_file_is_valid_and_no_change_is_bad(
    tmp_path: Path, wrapped: Any, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.dictionaries(NAMES, values, max_size=5), min_size=1, max_size=6))
    rows = [{**row, "key": str(i) if wrapped is _as_canal else i} for i, row in enumerate(rows)]
    messages = sample([wrapped(row) for row in rows], [{"key": row["key"]} for row in rows])

    drafted = draft(messages)
    spec = write(tmp_path, drafted)

    assert spec.key == ("key",)
    assert {column.path[0] for column in drafted.columns} | drafted.left_out.keys() >= {name for row in rows for name in row}
    bad = build_change_decoder(spec, lambda _: None).decode(messages).bad
    assert len(bad) <= sum(drafted.unreadable.values())
