"""What is kept of metadata changes nothing of what is written."""

import json
from pathlib import Path

from pyiceberg.typedef import IcebergBaseModel

from lakehouse_assets_tests.builders import append_foreign_rows, make_systems, make_table, roll_back


def test_the_metadata_that_is_written_is_what_pyiceberg_would_write(tmp_path: Path) -> None:
    catalog = make_systems(tmp_path).catalog
    make_table(catalog)
    for _ in range(3):
        append_foreign_rows(catalog.load_table("ods.clicks"), 2)
    table = catalog.load_table("ods.clicks")
    with table.transaction() as change:
        change.set_properties({"note": '"snapshots":[]', "snapshots": "[]"})
    metadata = catalog.load_table("ods.clicks").metadata

    assert len(metadata.snapshots) == 3
    for exclude_none in (True, False):
        plain = IcebergBaseModel.model_dump_json(metadata, exclude_none=exclude_none)
        assert json.loads(metadata.model_dump_json(exclude_none=exclude_none)) == json.loads(plain)
        assert metadata.model_dump_json(exclude_none=exclude_none) == plain
    written = Path(table.refresh().metadata_location.removeprefix("file://")).read_text()
    assert json.loads(written) == json.loads(IcebergBaseModel.model_dump_json(metadata))


def test_what_expired_or_was_rolled_back_is_not_written_again(tmp_path: Path) -> None:
    catalog = make_systems(tmp_path).catalog
    make_table(catalog)
    for _ in range(4):
        append_foreign_rows(catalog.load_table("ods.clicks"), 2)
    table = catalog.load_table("ods.clicks")
    first, second, _, last = (one.snapshot_id for one in table.metadata.snapshots)
    roll_back(table, second)
    table.maintenance.expire_snapshots().by_ids([first]).commit()
    metadata = catalog.load_table("ods.clicks").metadata

    assert metadata.snapshots[0].parent_snapshot_id is None
    assert metadata.snapshot_log[-1].snapshot_id == second
    assert metadata.model_dump_json() == IcebergBaseModel.model_dump_json(metadata)
    found = {one: metadata.snapshot_by_id(one) for one in (first, second, last)}
    assert {one: snapshot and snapshot.snapshot_id for one, snapshot in found.items()} == {first: None, second: second, last: last}
