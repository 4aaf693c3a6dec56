"""Change decoders for tests, as a declaration opens them, and what they give as plain values."""

import json
from collections.abc import Sequence
from typing import Any

from lakehouse_assets.decode.changes.building import build_change_decoder
from lakehouse_assets.decode.changes.decoded import ChangeMessages, DecodedChanges
from lakehouse_assets.model.schemas import RegisteredSchema
from lakehouse_assets.model.spec import TableSpec

Message = bytes | str | dict[str, Any] | None


def declare(kind: str, columns: dict[str, Any], key: Sequence[str] = ("id",), tables: Sequence[str] = ()) -> TableSpec:
    """An upsert table of such messages; columns by name: a type, or all of the declaration. `tables`: those of the source."""
    parts = [{"name": name, **(of if isinstance(of, dict) else {"type": of}), "required": name in key} for name, of in columns.items()]
    return TableSpec(table="shop.items", source={"topic": "t", "format": kind, "tables": tables}, schema=parts, mode="upsert", key=key)


def decode(spec: TableSpec, values: Sequence[Message], keys: Sequence[bytes | None] | None = None) -> DecodedChanges:
    """Decode messages without headers; a value that is no text or bytes is written as JSON."""
    octets = [value if value is None or isinstance(value, bytes) else _text(value).encode() for value in values]
    decoder = build_change_decoder(spec, lambda _: RegisteredSchema("AVRO", ""))
    return decoder.decode(ChangeMessages(octets, keys or [None] * len(values), [None] * len(values)))


def _text(value: str | dict[str, Any]) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def rows_of(found: DecodedChanges) -> list[tuple[str, Any]]:
    """What each change does: the source's word, and the row, without nulls."""
    rows = [{name: value for name, value in row.items() if value is not None} for row in found.table.to_pylist()]
    assert found.operations is not None
    assert len(rows) == len(found.messages) == len(found.deletes)
    return list(zip(found.operations.to_pylist(), rows, strict=True))


def bad_of(found: DecodedChanges) -> list[tuple[int, str]]:
    """Indices and codes of the bad ones."""
    return [(one.index, one.code) for one in found.bad]
