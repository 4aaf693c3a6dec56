"""What PyIceberg 0.12 does wrong where maintenance and writers meet. Each test fails once it is mended there, so that we notice.

Ours does not use what is shown here; that it is free of the same is shown by the races beside this file.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.exceptions import ValidationException
from pyiceberg.io.pyarrow import _dataframe_to_data_files
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform

from lakehouse_assets.systems.snapshots import list_live_files
from lakehouse_assets_tests.builders import expire, make_systems, roll_back
from lakehouse_assets_tests.faults import EFFECTS, FAULTY, FaultyCatalog
from lakehouse_assets_tests.foreign_deletes import delete_rows
from lakehouse_assets_tests.upkeep.truth import stored_files

NAME = "ods.clicks"


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[FaultyCatalog]:
    EFFECTS.arm(None)
    catalog = make_systems(tmp_path, **FAULTY).catalog
    assert isinstance(catalog, FaultyCatalog)
    catalog.create_namespace("ods")
    yield catalog
    catalog.close()


def make_rows(*ids: int) -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.int64())})


def create(catalog: FaultyCatalog, **properties: str) -> Table:
    return catalog.create_table(
        NAME, make_rows().schema, properties={"commit.retry.min-wait-ms": "1", **properties}
    )


def rewrite(table: Table) -> None:
    """Put all rows of a table into one file, as one would with what PyIceberg has."""
    rows, sources = table.scan().to_arrow(), [entry.data_file for entry in list_live_files(table)]
    with table.transaction() as transaction, transaction.update_snapshot().overwrite() as overwrite:
        for file in sources:
            overwrite.delete_data_file(file)
        for file in _dataframe_to_data_files(table.metadata, rows, table.io):
            overwrite.append_data_file(file)


def read(catalog: FaultyCatalog) -> list[int]:
    return sorted(catalog.load_table(NAME).scan().to_arrow()["id"].to_pylist())


def test_its_check_of_a_rewrite_looks_at_the_head_alone_and_brings_deleted_rows_back(
    catalog: FaultyCatalog,
) -> None:
    table = create(catalog, **{"write.delete.isolation-level": "snapshot"})
    table.append(make_rows(*range(10)))
    table.append(make_rows(*range(10, 20)))

    def delete_and_append() -> None:
        delete_rows(catalog, NAME, "id", [3, 13])
        catalog.load_table(NAME).append(make_rows(20))

    catalog.before_commit = [delete_and_append]
    rewrite(catalog.load_table(NAME))

    assert read(catalog) == list(range(21))  # 3 and 13 live again


def test_its_check_of_a_rewrite_refuses_every_append(catalog: FaultyCatalog) -> None:
    table = create(catalog)
    table.append(make_rows(*range(10)))

    catalog.before_commit = [lambda: catalog.load_table(NAME).append(make_rows(20))]

    with pytest.raises(ValidationException, match="Added data files were found"):
        rewrite(catalog.load_table(NAME))


def test_its_append_across_a_change_of_the_partition_spec_says_the_wrong_partition(
    catalog: FaultyCatalog,
) -> None:
    table = create(catalog)
    with table.update_spec() as update:
        update.add_field("id", BucketTransform(4), "bucket")

    def change_spec() -> None:
        with catalog.load_table(NAME).update_spec() as update:
            update.remove_field("bucket")
            update.add_field("id", BucketTransform(64), "finer")
        catalog.load_table(NAME).append(make_rows(100))  # so that the append has to be tried again

    catalog.before_commit = [change_spec]
    table.append(make_rows(*range(40)))

    found = [
        i for i in range(40) if catalog.load_table(NAME).scan(row_filter=f"id == {i}").to_arrow().num_rows
    ]
    assert len(found) < 40


def test_its_expiry_beside_a_rollback_empties_the_table(catalog: FaultyCatalog) -> None:
    table = create(catalog)
    for i in range(3):
        table.append(make_rows(i))
    stale = catalog.load_table(NAME)
    first, second, _ = (snapshot.snapshot_id for snapshot in stale.snapshots())
    roll_back(catalog.load_table(NAME), second)

    expire(stale, [first, second])

    assert catalog.load_table(NAME).current_snapshot() is None


def test_its_expiry_beside_a_new_tag_takes_the_tag_away(catalog: FaultyCatalog) -> None:
    table = create(catalog)
    for i in range(3):
        table.append(make_rows(i))
    stale = catalog.load_table(NAME)
    first = stale.snapshots()[0].snapshot_id
    catalog.load_table(NAME).manage_snapshots().create_tag(first, "kept").commit()

    expire(stale, [first])

    assert "kept" not in catalog.load_table(NAME).refs()


def test_its_expiry_deletes_no_file(catalog: FaultyCatalog) -> None:
    table = create(catalog)
    for i in range(3):
        table.append(make_rows(i))
    table.overwrite(make_rows(9))
    before = stored_files(table)

    expire(table, [snapshot.snapshot_id for snapshot in table.snapshots()[:-1]])

    assert before <= stored_files(table)


def test_its_purge_leaves_metadata_files_behind(catalog: FaultyCatalog) -> None:
    table = create(catalog, **{"write.metadata.previous-versions-max": "1"})
    for i in range(4):
        table.append(make_rows(i))

    catalog.purge_table(NAME)

    assert stored_files(table)
