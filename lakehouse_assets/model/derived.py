"""Columns that a schema of messages gives, before they stand in a declaration."""

from dataclasses import dataclass

from lakehouse_assets.model.types import DataType


@dataclass(frozen=True, slots=True)
class DerivedColumn:
    """A field of a schema as a column."""

    name: str
    type: DataType
    required: bool
    doc: str = ""
