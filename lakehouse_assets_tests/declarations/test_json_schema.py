from typing import Any

import pytest
from pydantic import BaseModel

from lakehouse_assets.declarations.json_schema import (
    build_json_schema,
    read_committed_json_schema,
    render_json_schema,
)
from lakehouse_assets.model.column_spec import ColumnSpec
from lakehouse_assets.model.layout_spec import PartitionsSpec
from lakehouse_assets.model.source_spec import SourceSpec
from lakehouse_assets.model.spec import ChecksSpec, TableSpec
from lakehouse_assets.model.sql_table_spec import InputSpec, ResultTimeSpec, SqlTableSpec


def test_the_committed_schema_is_current() -> None:
    assert read_committed_json_schema() == render_json_schema(), "run `lakehouse schema` and commit it"


@pytest.mark.parametrize("model", [TableSpec, SqlTableSpec, InputSpec, ResultTimeSpec, SourceSpec, ColumnSpec, PartitionsSpec, ChecksSpec])
def test_every_model_and_field_is_described(model: type[BaseModel]) -> None:
    assert model.__doc__
    assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_defaults_are_written_as_people_write_them() -> None:
    schema = build_json_schema()
    keys: dict[str, Any] = schema["$defs"]["TableSpec"]["properties"]

    found = {
        key: keys[key]["default"]
        for key in ("commit_interval", "commit_size", "run_time_limit", "buffer_size")
    }
    assert found == {
        "commit_interval": "10s",
        "commit_size": "1GiB",
        "run_time_limit": "5m",
        "buffer_size": "256MiB",
    }
    assert keys["checks"]["default"] == {"max_lag": 1_000_000, "max_age": "15m", "complete_within": None}


def test_unknown_keys_and_missing_ones_are_marked_by_editors() -> None:
    models = build_json_schema()["$defs"]
    schema = models["TableSpec"]

    assert schema["required"] == ["table", "source"]
    columns, key = schema["allOf"]
    assert columns["if"]["properties"]["source"]["properties"]["format"]["enum"] == ["avro", "protobuf", "debezium-avro"]
    assert columns["else"] == {"required": ["schema"]}
    assert key["if"]["properties"]["mode"] == {"const": "upsert"}
    assert key["then"]["required"] == ["key"]
    assert schema["additionalProperties"] is False
    assert models["ColumnSpec"]["additionalProperties"] is False
    assert "from" in models["ColumnSpec"]["properties"]


def test_a_file_with_sql_is_a_table_that_is_computed() -> None:
    schema = build_json_schema()

    assert schema["if"] == {"required": ["sql"]}
    assert (schema["then"], schema["else"]) == ({"$ref": "#/$defs/SqlTableSpec"}, {"$ref": "#/$defs/TableSpec"})
    assert schema["$defs"]["SqlTableSpec"]["required"] == ["table", "sql"]
    assert schema["$defs"]["SqlTableSpec"]["additionalProperties"] is False


def test_icebergs_properties_are_offered_and_others_allowed() -> None:
    properties = build_json_schema()["$defs"]["TableSpec"]["properties"]["properties"]

    assert "write.target-file-size-bytes" in properties["properties"]
    assert properties["additionalProperties"] == {"type": ["string", "number", "boolean"]}
