"""The JSON Schema of a table declaration, for editors: completion, descriptions and marks while typing.

It is coarser than the models, which know the rules between the parts.
"""

import json
from datetime import timedelta
from importlib.resources import files
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from lakehouse_assets.model.properties import ALLOWED_VALUES, PROPERTY_NAMES
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.sql_table_spec import SqlTableSpec
from lakehouse_assets.model.written import format_duration

SCHEMA_FILE = "table.schema.json"


def build_json_schema() -> dict[str, Any]:
    """The schema of one YAML file, from the models: a table that is computed where it has `sql`, else one of Kafka."""
    names, made = models_json_schema(
        [(TableSpec, "validation"), (SqlTableSpec, "validation")], by_alias=True, schema_generator=_Generator
    )
    models = made["$defs"]
    filled, computed = names[(TableSpec, "validation")], names[(SqlTableSpec, "validation")]
    for model in ("TableSpec", "SqlTableSpec"):
        known = models[model]["properties"]["properties"]
        known["properties"] = {name: {"description": _describe_property(name)} for name in PROPERTY_NAMES}
    for model in models.values():
        del model["title"]  # a class of ours, of no use to those who write YAML
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "type": "object",
        "if": {"required": ["sql"]},
        "then": computed,
        "else": filled,
        "$defs": models,
    }


def render_json_schema() -> str:
    """The text of the committed copy, `table.schema.json` in this package."""
    return json.dumps(build_json_schema(), indent=2) + "\n"


def read_committed_json_schema() -> str:
    """The copy that is installed with the package. Read-only."""
    return files(__package__).joinpath(SCHEMA_FILE).read_text(encoding="utf-8")


def _describe_property(name: str) -> str:
    values = ALLOWED_VALUES.get(name)
    return f"Iceberg's own. One of: {', '.join(values)}." if values else "Iceberg's own."


class _Generator(GenerateJsonSchema):
    """Leaves out the titles, which only repeat the keys, and writes defaults as people do."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, timedelta):
            return format_duration(dft)
        return (
            dft.model_dump(mode="json", by_alias=True)
            if isinstance(dft, BaseModel)
            else super().encode_default(dft)
        )
