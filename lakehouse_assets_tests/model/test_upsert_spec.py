"""What upsert tables declare, and the properties of another platform's DDL."""

import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lakehouse_assets.declarations.loading import load_declarations
from lakehouse_assets.model.mistakes import Mistake
from lakehouse_assets.model.spec import TableSpec

CHANGES = {"topic": "shop.public.orders", "format": "debezium-json"}
COLUMNS = [
    {"name": "id", "type": "long", "required": True},
    {"name": "shop", "type": "string", "required": True},
    {"name": "at", "type": "timestamptz"},
    {"name": "twice", "type": "long", "required": True, "expr": "id * 2"},
]
UPSERT = {"table": "shop.orders", "source": CHANGES, "schema": COLUMNS, "mode": "upsert", "key": ["id"]}


def make_spec(**changes: Any) -> TableSpec:
    return TableSpec.model_validate({name: value for name, value in {**UPSERT, **changes}.items() if value is not None})


def find_mistakes(**changes: Any) -> dict[str, Mistake]:
    with pytest.raises(ValidationError) as raised:
        make_spec(**changes)
    return {".".join(map(str, one["loc"])): one["ctx"]["error"].args[0] for one in raised.value.errors()}


def source(kind: str, **more: Any) -> dict[str, Any]:
    return {"topic": "orders", "format": kind, **more}


def test_an_upsert_table_merges_on_read_unless_it_says_otherwise() -> None:
    assert (make_spec().is_upsert, make_spec().copy_on_write) == (True, False)
    assert make_spec(properties={"write.update.mode": "copy-on-write"}).copy_on_write
    assert make_spec(properties={"write.delete.mode": "copy-on-write"}).copy_on_write
    assert not make_spec(properties={"write.merge.mode": "copy-on-write"}).copy_on_write


def test_a_table_of_changes_knows_where_they_stand_in_the_source() -> None:
    plain = make_spec(source=source("json"))

    assert "_source_position" in make_spec().metadata_columns
    assert "_source_position" not in plain.metadata_columns
    assert "_is_deleted" not in plain.metadata_columns
    assert "_is_deleted" in make_spec(on_delete="mark").metadata_columns


@pytest.mark.parametrize("kind", ["json", "avro", "protobuf", "debezium-json", "debezium-avro", "canal-json", "maxwell-json"])
def test_every_format_can_be_upserted(kind: str) -> None:
    assert make_spec(source=source(kind)).is_upsert


def test_columns_of_a_registry_are_checked_against_the_key_of_an_upsert_table() -> None:
    spec = make_spec(source=source("debezium-avro"), schema=None, on_delete="mark")
    assert spec.columns == ()

    known = spec.with_columns_of(SOURCE, [{"name": "id", "type": "long", "required": True}])

    assert (known.key, known.mode, known.on_delete) == (("id",), "upsert", "mark")
    with pytest.raises(ValidationError, match="_is_deleted"):
        spec.with_columns_of(SOURCE, [*COLUMNS[:1], {"name": "_is_deleted", "type": "boolean"}])


SOURCE: Any = object()


def test_the_log_of_changes_is_an_append_table_with_what_a_deletion_may_lack() -> None:
    log = make_spec(keep_change_log=True, where="id > 5", properties={"write.wap.enabled": "false"}).change_log
    assert log is not None

    assert (log.table, log.mode, log.key, log.where, log.has_expressions) == ("shop.orders__changes", "append", (), None, False)
    assert [(column.name, column.required) for column in log.columns] == [("id", False), ("shop", False), ("at", False)]
    assert list(log.metadata_columns)[-2:] == ["_source_position", "_operation"]
    assert (str(log.partition_by[0]), log.properties) == ("day(_kafka_timestamp)", {"write.wap.enabled": "false"})
    assert log.state == make_spec(keep_change_log=True, where="id > 5", properties={"write.wap.enabled": "false"})
    assert pickle.loads(pickle.dumps(log)) == log
    assert (log.change_log, make_spec().change_log, make_spec().state) == (None, None, None)


def test_a_log_of_changes_has_the_columns_that_the_registry_gives_the_table() -> None:
    log = make_spec(source=source("debezium-avro"), schema=None, keep_change_log=True).change_log
    assert log is not None

    known = log.with_columns_of(SOURCE, [{"name": "id", "type": "long", "required": True}])

    assert (known.table, known.columns[0].required) == ("shop.orders__changes", False)
    assert known.state is not None
    assert known.state.columns[0].required


@pytest.mark.parametrize(
    ("changes", "place", "found", "allowed"),
    [
        ({"key": None}, "mode", "upsert without a key", "mode: upsert with key"),
        ({"key": []}, "key", "an empty list", "at least one column"),
        ({"key": ["twice"]}, "key.0", "'twice', which is derived", "without expr and"),
        (
            {"source": source("json"), "schema": [{**COLUMNS[0], "from_header": "h"}]},
            "key.0",
            "'id', which is in a header",
            "without expr and from_header",
        ),
        ({"key": ["at"]}, "key.0", "'at', which is optional", "required: true"),
        ({"mode": "append"}, "mode", "debezium-json with mode: append", "keep_change_log: true"),
        ({"mode": None}, "source.format", "debezium-json with mode: append", "mode: upsert"),
        ({"mode": None, "source": source("json"), "on_delete": "mark"}, "on_delete", "on_delete with mode: append", "upsert"),
        (
            {"mode": None, "source": source("json"), "keep_change_log": True},
            "keep_change_log",
            "keep_change_log with mode: append",
            "upsert",
        ),
        (
            {"source": source("json"), "keep_change_log": True},
            "keep_change_log",
            "keep_change_log for messages of json",
            "a second table with mode: append",
        ),
        (
            {"schema": [*COLUMNS, {"name": "k", "type": "string", "from_key": True}]},
            "schema.4.from_key",
            "from_key in messages of debezium-json",
            "columns of the row",
        ),
        (
            {"schema": [*COLUMNS, {"name": "k", "type": "string", "from_header": "h"}]},
            "schema.4.from_header",
            "from_header in messages of debezium-json",
            "columns of the row",
        ),
        ({"schema": [*COLUMNS, {"name": "_rest", "type": "string"}]}, "schema", "the column _rest of debezium-json messages", ""),
        ({"schema": [*COLUMNS, {"name": "_Operation", "type": "string"}]}, "schema.4.name", "'_Operation'", "the platform's own"),
        ({"schema": [*COLUMNS, {"name": "_deleted", "type": "string"}]}, "schema.4.name", "'_deleted'", "Iceberg keeps them"),
        ({"source": {**CHANGES, "schema_file": "a.avsc"}}, "source.schema_file", "'a.avsc' for messages of debezium-json", ""),
        (
            {"mode": None, "key": None, "source": source("json", tables=["a.b"])},
            "source.tables",
            "a.b for messages of json",
            "the changes of a database",
        ),
        ({"schema": None}, "schema", "no key 'schema'", "schema: the columns"),
        ({"partition_by": ["bucket(4, ids)"]}, "partition_by.0", "the column 'ids'", "columns of the table"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_place_and_what_is_allowed(changes: dict[str, Any], place: str, found: str, allowed: str) -> None:
    mistakes = find_mistakes(**changes)

    assert list(mistakes) == [place]
    assert mistakes[place].found == found
    assert allowed in mistakes[place].allowed


def test_the_properties_of_the_other_platform_say_what_the_declaration_says() -> None:
    spec = make_spec(
        properties={
            "iceberg.format.version": 2,
            "partition.bucket.source": "id",
            "partition.bucket.num": 10,
            "write.sink.mode": "copy-on-write",
            "write.merge.mode": "merge-on-read",
            "engine.hive.enabled": True,
        },
        partition_by=["shop"],
    )

    assert [str(field) for field in spec.partition_by] == ["shop", "bucket(10, id)"]
    assert spec.copy_on_write
    assert spec.properties == {
        "format-version": "2",
        "write.update.mode": "copy-on-write",
        "write.delete.mode": "copy-on-write",
        "write.merge.mode": "merge-on-read",
        "engine.hive.enabled": "true",
    }
    assert TableSpec.model_validate(spec.model_dump(mode="json", by_alias=True)) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_a_bucket_that_is_declared_already_is_declared_once() -> None:
    buckets = {"partition.bucket.source": "id", "partition.bucket.num": "10"}

    assert [str(field) for field in make_spec(properties=buckets, partition_by=["bucket( 10,id )"]).partition_by] == ["bucket(10, id)"]


@pytest.mark.parametrize(
    ("properties", "place", "found", "suggestion"),
    [
        ({"iceberg.format.version": 1}, "iceberg.format.version", "'1'", None),
        ({"write.sink.mode": "copyonwrite"}, "write.sink.mode", "'copyonwrite'", "copy-on-write"),
        ({"write.update.mode": "merge_on_read"}, "write.update.mode", "'merge_on_read'", "merge-on-read"),
        (
            {"write.sink.mode": "copy-on-write", "write.delete.mode": "merge-on-read"},
            "write.sink.mode",
            "'copy-on-write' beside write.delete.mode: merge-on-read",
            None,
        ),
        (
            {"write.update.mode": "copy-on-write", "write.delete.mode": "merge-on-read"},
            "write.delete.mode",
            "'merge-on-read' beside write.update.mode: copy-on-write",
            None,
        ),
        ({"partition.bucket.num": 10}, "partition.bucket.num", "partition.bucket.num without partition.bucket.source", None),
        ({"partition.bucket.source": "id"}, "partition.bucket.source", "partition.bucket.source without partition.bucket.num", None),
        ({"partition.bucket.source": "id", "partition.bucket.num": 0}, "partition.bucket.num", "'0'", None),
        ({"partition.bucket.source": "shpo", "partition.bucket.num": 9}, "partition.bucket.source", "the column 'shpo'", "shop"),
        ({"partition.bucket.source": "id", "partition.bucket.num": None}, "partition.bucket.num", "nothing", None),
        (
            {"partition.bucket.source": "shop", "partition.bucket.num": 10},
            "partition.bucket.num",
            "10 beside partition_by: bucket(16, shop)",
            None,
        ),
    ],
)  # fmt: skip
def test_a_wrong_or_contradicting_property_is_a_mistake(
    properties: dict[str, Any], place: str, found: str, suggestion: str | None
) -> None:
    mistakes = find_mistakes(properties=properties, partition_by=["bucket(16, shop)"])

    mistake = mistakes[f"properties.{place}"]
    assert (mistake.found, mistake.suggestion) == (found, suggestion)


def test_a_mistake_of_an_upsert_table_is_shown_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "orders.yaml").write_text(
        "table: shop.orders\n"
        "source: {topic: orders, format: debezium-jsn}\n"
        "schema:\n"
        "  - {name: id, type: long, required: true}\n"
        "mode: upsert\n"
        "properties:\n"
        "  partition.bucket.source: idd\n"
        "  partition.bucket.num: 16\n"
    )

    (broken,) = load_declarations(tmp_path).broken

    assert [(p.line, p.path, p.found, p.suggestion) for p in broken.problems] == [
        (2, "source.format", "'debezium-jsn'", "debezium-json"),
        (5, "mode", "upsert without a key", None),
        (7, "properties.partition.bucket.source", "the column 'idd'", "id"),
    ]


@pytest.mark.parametrize(
    "parts",
    [
        {"type": "decimal(5, 2)", "encoding": "text"},
        {"type": "list<decimal(5, 2)>", "encoding": "base64"},
        {"type": "fixed[4]", "encoding": "hex"},
        {"type": "time", "epoch": "microseconds"},
        {"type": "list<timestamp>", "epoch": "milliseconds"},
        {"type": "timestamptz", "epoch": "nanoseconds"},
    ],
)
def test_what_debezium_does_not_say_of_its_values_is_declared_for_debezium_alone(parts: dict[str, str]) -> None:
    columns = [*COLUMNS, {"name": "v", **parts}]
    assert make_spec(schema=columns).columns[-1].name == "v"
    mistake = find_mistakes(schema=columns, source=source("json"))["schema"]
    assert "debezium-json only" in mistake.allowed
    assert "of json messages" in mistake.found


@pytest.mark.parametrize(
    ("parts", "place"),
    [
        ({"type": "string", "encoding": "text"}, "encoding"),
        ({"type": "binary", "encoding": "text"}, "encoding"),
        ({"type": "decimal(5, 2)", "encoding": "hex"}, "encoding"),
        ({"type": "date", "epoch": "milliseconds"}, "epoch"),
    ],
)
def test_an_encoding_is_one_of_its_type(parts: dict[str, str], place: str) -> None:
    mistakes = find_mistakes(schema=[*COLUMNS, {"name": "v", **parts}])
    assert f"on a column of type {parts['type']}" in mistakes[f"schema.4.{place}"].found
