"""Tables that declare no columns: the newest schema of their subject gives them, and brings the table along."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lakehouse_assets.model.errors import BrokenSchemaError, SchemaMovedError, SubjectMissingError
from lakehouse_assets.operations.ingest import CommitReport
from lakehouse_assets.operations.peek import peek_newest
from lakehouse_assets.orchestration.metadata import commit_metadata
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import make_systems
from lakehouse_assets_tests.decode.avro.messages import body_of, messages, record
from lakehouse_assets_tests.faults import FAULTY
from lakehouse_assets_tests.operations.lake import Lake, hours_ago
from lakehouse_assets_tests.registry import Registry

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("registry")]

V1 = record({"name": "id", "type": "long", "doc": "The number."}, ("text", ["null", "string"]))
NOTE = {"name": "note", "type": ["null", "string"], "default": None}
V2 = record({"name": "id", "type": "long", "doc": "The number."}, ("text", ["null", "string"]), NOTE)

MakeLake = Callable[..., Lake]


@pytest.fixture
def bare_lake(tmp_path: Path, broker: Broker, topic: Callable[..., str], registry: Registry) -> MakeLake:
    """`bare_lake(**declaration)` creates a topic of Avro messages and opens its table, which declares no columns."""

    def open_lake(**declaration: Any) -> Lake:
        source = {"format": "avro", **declaration.pop("source", {})}
        lake = Lake.open(tmp_path, broker, topic(), schema=None, source=source, **declaration)
        return replace(lake, systems=make_systems(tmp_path, broker.bootstrap_servers, registry.url, **FAULTY))

    return open_lake


def columns_of(lake: Lake) -> list[tuple[str, str, bool]]:
    fields = lake.table.schema().fields
    return [(field.name, str(field.field_type), field.required) for field in fields if not field.name.startswith("_kafka")]


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_table_is_created_from_the_newest_version_and_the_commit_says_which(
    bare_lake: MakeLake, registry: Registry, broker: Broker, workers: int
) -> None:
    lake = bare_lake(key=["id"], partition_by=["bucket(4, id)"], workers=workers)
    schema_id = registry.register(f"{lake.topic}-value", V1)
    broker.produce(lake.topic, messages(V1, [{"id": 1, "text": "a"}, {"id": 2, "text": None}], schema_id))

    lake.ingest()

    assert columns_of(lake) == [("id", "long", True), ("text", "string", False)]
    assert lake.table.schema().find_field("id").doc == "The number."
    assert judge.query(lake.table, "SELECT id, text FROM {table} ORDER BY id") == [(1, "a"), (2, None)]
    shown = commit_metadata(lake.spec, lake.reports[0], 2)
    assert shown["registry_schema_version"].value == 1
    assert shown["registry_schema"].value == f"{lake.topic}-value"
    assert [message.reading.row for message in peek_newest(lake.systems, lake.spec, 1)] == [{"id": 2, "text": None}]


def test_a_new_optional_field_evolves_the_table_in_the_middle_of_a_run_and_no_value_of_it_is_lost(
    bare_lake: MakeLake, registry: Registry, broker: Broker
) -> None:
    lake = bare_lake()
    subject = f"{lake.topic}-value"
    first = registry.register(subject, V1)
    broker.produce(lake.topic, messages(V1, [{"id": 1, "text": "a"}], first))

    def go_on(_: CommitReport) -> None:
        if len(lake.reports) == 1:
            second = registry.register(subject, V2)
            broker.produce(lake.topic, messages(V2, [{"id": 2, "text": "b", "note": "new"}], second))
            broker.produce(lake.topic, messages(V1, [{"id": 3, "text": "c"}], first))

    lake.ingest(on_commit=go_on)

    assert columns_of(lake) == [("id", "long", True), ("text", "string", False), ("note", "string", False)]
    found = judge.query(lake.table, "SELECT id, text, note FROM {table} ORDER BY id")
    assert found == [(1, "a", None), (2, "b", "new"), (3, "c", None)]
    lake.assert_holds({0: [0, 1, 2]})
    assert {type(error) for error in lake.retries} == {SchemaMovedError}
    versions = [commit_metadata(lake.spec, report, 1)["registry_schema_version"].value for report in lake.reports]
    assert versions[0] == 1
    assert versions[-1] == 2


def test_defaults_and_aliases_of_the_newest_version_count_for_older_messages(
    bare_lake: MakeLake, registry: Registry, broker: Broker
) -> None:
    lake = bare_lake()
    subject = f"{lake.topic}-value"
    old = record(("id", "int"), ("was", "string"))
    new = record(
        ("id", "long"), {"name": "now", "aliases": ["was"], "type": "string"}, {"name": "count", "type": "int", "default": 7}
    )
    schema_id = registry.register(f"{lake.topic}-other", old)
    registry.register(subject, new)
    broker.produce(lake.topic, messages(old, [{"id": i, "was": "a"} for i in range(50)], schema_id))

    lake.ingest()

    assert judge.query(lake.table, 'SELECT DISTINCT "now", "count" FROM {table}') == [("a", 7)]
    assert columns_of(lake)[0] == ("id", "long", True)


def test_a_slice_is_replaced_by_the_newest_version_too(bare_lake: MakeLake, registry: Registry, broker: Broker) -> None:
    lake = bare_lake()
    schema_id = registry.register(f"{lake.topic}-value", V2)
    hour = hours_ago(2)
    broker.produce(lake.topic, messages(V2, [{"id": 1, "text": "a", "note": "n"}], schema_id), timestamp_ms=hour)

    lake.replace(lake.key(hour))

    assert judge.query(lake.table, "SELECT id, note FROM {table}") == [(1, "n")]


def test_a_subject_that_is_missing_is_named(bare_lake: MakeLake) -> None:
    lake = bare_lake()

    with pytest.raises(SubjectMissingError, match=f"{lake.topic}-value"):
        lake.ingest()


@pytest.mark.parametrize(
    ("schema", "declaration", "reason"),
    [
        (record(("f", ["string", "int"])), {}, "'f' is one of int, string"),
        (record(("_kafka_offset", "long")), {}, "_kafka_offset"),
        (V1, {"key": ["idd"]}, "'idd'"),
        (V1, {"partition_by": ["day(id)"]}, "day of 'id'"),
    ],
)
def test_a_schema_that_gives_no_columns_for_the_declaration_is_an_error(
    bare_lake: MakeLake, registry: Registry, schema: Any, declaration: dict[str, Any], reason: str
) -> None:
    lake = bare_lake(**declaration)
    registry.register(f"{lake.topic}-value", schema)

    with pytest.raises(BrokenSchemaError, match=reason) as caught:
        lake.ingest()

    assert f"'{lake.topic}-value', version 1" in str(caught.value)


def test_a_schema_file_gives_columns_too(bare_lake: MakeLake, broker: Broker, tmp_path: Path) -> None:
    file = tmp_path / "v1.avsc"
    file.write_text(json.dumps(V1))
    lake = bare_lake(source={"schema_file": str(file)})
    broker.produce(lake.topic, [body_of(V1, {"id": 5, "text": None})])

    lake.ingest()

    assert judge.query(lake.table, "SELECT id, text FROM {table}") == [(5, None)]
    assert "registry_schema_version" not in commit_metadata(lake.spec, lake.reports[0], 1)


def test_a_field_that_leaves_the_subject_or_is_widened_there_keeps_its_column(
    bare_lake: MakeLake, registry: Registry, broker: Broker
) -> None:
    lake = bare_lake()
    subject = f"{lake.topic}-value"
    old = record(("id", "int"), ("gone", "string"))
    new = record(("id", "long"), {"name": "more", "type": "int", "default": 5})
    first = registry.register(subject, old)
    broker.produce(lake.topic, messages(old, [{"id": 1, "gone": "a"}], first))
    lake.ingest()
    second = registry.register(subject, new)
    broker.produce(lake.topic, messages(new, [{"id": 2**40, "more": 6}], second))
    broker.produce(lake.topic, messages(old, [{"id": 3, "gone": "b"}], first))

    lake.ingest()

    assert columns_of(lake) == [("id", "long", True), ("gone", "string", False), ("more", "int", False)]
    found = judge.query(lake.table, "SELECT id, gone, more FROM {table} ORDER BY _kafka_offset")
    assert found == [(1, "a", None), (2**40, None, 6), (3, None, 5)]
