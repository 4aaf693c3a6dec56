"""Rows of files that were written under an older schema."""

from pathlib import Path

import pyarrow as pa

from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets.systems.file_rows import read_rows
from lakehouse_assets.systems.live_files import list_live
from lakehouse_assets_tests.builders import make_systems


def test_columns_are_found_by_their_ids_though_names_and_types_stand_in_the_places_where_others_stood(tmp_path: Path) -> None:
    catalog = make_systems(tmp_path).catalog
    catalog.create_namespace("ods")
    rows = pa.table({"one": ["1", "11"], "two": ["2", "22"], "inner": [{"x": 3, "y": 4}] * 2})
    table = catalog.create_table("ods.pairs", schema=rows.schema)
    table.append(rows)

    def read() -> list[object]:
        now = catalog.load_table("ods.pairs")
        (file,) = list_live(now, now.current_snapshot()).data
        return [row for _, batch in read_rows(now, file.data, now.schema(), FileCache()) for row in batch.to_pylist()]

    assert read() == read() == rows.to_pylist()
    for old, new in (("one", "three"), ("two", "one"), ("three", "two"), ("inner.x", "z"), ("inner.y", "x"), ("inner.z", "y")):
        with table.update_schema() as change:
            change.rename_column(old, new)
    with table.update_schema() as change:
        change.move_first("one")
        change.move_before("inner.x", "inner.y")
    assert [column.name for column in table.schema().fields] == ["one", "two", "inner"]
    expected = [{"one": two, "two": one, "inner": {"x": 4, "y": 3}} for one, two in (("1", "2"), ("11", "22"))]

    assert read() == read() == expected
