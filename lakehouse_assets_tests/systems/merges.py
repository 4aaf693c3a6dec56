"""Merges changes into tables as a run does, and says what must stand there then."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.systems.changes import Changes
from lakehouse_assets.systems.commit import publish
from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets.systems.merging import RowMerge
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import make_delivery, make_spec, make_table

NAME = "ods.clicks"
Rows = Mapping[Any, str | None]  # a key, and its text; None takes the row out
Mode = Mapping[str, Any]

# The rows of tests are so few that merge-on-read would always write them again; the last mode never does.
MODES: dict[str, Mode] = {
    "merge-on-read": {"copy_on_write": False},
    "copy-on-write": {"copy_on_write": True},
    "marking": {"copy_on_write": False, "small_file_bytes": 0},
}
MARKING = MODES["marking"]
IN_EVERY_MODE = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


def make_upsert_spec(key_type: str = "long", **parts: Any) -> TableSpec:
    """`ods.clicks` with the key `id` and a string."""
    columns = [{"name": "id", "type": key_type, "required": True}, {"name": "text", "type": "string"}]
    return make_spec(mode="upsert", **({"key": ["id"], "schema": columns} | parts))


def make_changes(rows: Rows, key_type: pa.DataType | None = None, **columns: Sequence[Any]) -> Changes:
    """One change for each key. Further columns are given as they are."""
    table = pa.table(
        {"id": pa.array(list(rows), key_type or pa.int64()), "text": pa.array(list(rows.values()), pa.string()), **columns}
    )
    return Changes(table, np.array([text is None for text in rows.values()], np.bool_))


class Merger:
    """Puts batches of changes into the table of one spec."""

    def __init__(self, catalog: Catalog, spec: TableSpec | None = None, mode: Mode = MARKING) -> None:
        self.catalog, self.spec = catalog, spec or make_upsert_spec()
        self.mode, self.cache = mode, FileCache(2**24)
        self.offset = 0
        make_table(catalog, self.spec)

    @property
    def table(self) -> Table:
        return self.catalog.load_table(NAME)

    def plan(self, changes: Changes, **parts: Any) -> RowMerge:
        """A merge that is not prepared."""
        return RowMerge(changes, self.spec.key, buffer_bytes=2**24, **({"cache": self.cache} | self.mode | parts))

    def merge(self, changes: Changes, meanwhile: Callable[[], None] = lambda: None, **parts: Any) -> RowMerge:
        """Prepare, let something happen, and publish."""
        merge = self.plan(changes, **parts)
        merge.prepare(self.table)
        meanwhile()
        self.publish(merge)
        return merge

    def publish(self, merge: RowMerge, **parts: Any) -> None:
        """Make the snapshot; `parts` go into its delivery."""
        offsets = {0: range(self.offset, self.offset + 1)}
        publish(self.catalog, NAME, make_delivery(self.table, offsets, files=[], replaces=merge.swap, by_key=True, **parts))
        self.offset += 1

    def put(self, rows: Rows, **parts: Any) -> RowMerge:
        """Merge rows of `id` and `text`."""
        return self.merge(make_changes(rows), **parts)

    def read(self) -> dict[Any, Any]:
        """Key and text of every row, as DuckDB and PyIceberg read them; each key must be there once."""
        pairs = judge.query(self.table, "SELECT id, text FROM {table} ORDER BY ALL")
        rows = self.table.scan(selected_fields=("id", "text")).to_arrow().to_pylist()
        assert len(rows) == len(pairs)
        assert dict(pairs) == {row["id"]: row["text"] for row in rows}  # type: ignore[arg-type]
        assert len(dict(pairs)) == len(pairs)  # type: ignore[arg-type]
        return dict(pairs)  # type: ignore[arg-type]
