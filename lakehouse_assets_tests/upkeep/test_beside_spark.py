"""Spark reads what maintenance leaves, and maintains the same table at the same moment by Iceberg's own procedures."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse_assets_tests.faults import EFFECTS, Fault
from lakehouse_assets_tests.spark import Spark, SparkCatalog
from lakehouse_assets_tests.upkeep.ground import Ground, Moment
from lakehouse_assets_tests.upkeep.operations import OPERATIONS

pytestmark = [
    pytest.mark.spark,
    pytest.mark.xdist_group("spark"),
    pytest.mark.filterwarnings("ignore:Merge on read is not yet supported"),
]

PROCEDURES = {
    "rewrite_data_files": "options => map('rewrite-all', 'true')",
    "rewrite_position_delete_files": "options => map('rewrite-all', 'true')",
    "rewrite_manifests": "use_caching => false",
    "expire_snapshots": "older_than => TIMESTAMP '2100-01-01 00:00:00', retain_last => 1",
}


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    EFFECTS.arm(None)
    ground = Ground.trodden(tmp_path / "ground")
    yield ground
    EFFECTS.arm(None)
    ground.close()


def assert_spark_sees(spark: SparkCatalog, ground: Ground) -> None:
    """The table, and every snapshot that is left as it was when it was made."""
    assert sorted(spark.query("SELECT id, text FROM {table}")) == ground.now.sorted()
    ids = [snapshot.snapshot_id for snapshot in ground.table.snapshots()]
    for snapshot_id, rows in zip(ids, spark.read_every_snapshot("id, text", ids), strict=True):
        assert rows == ground.heads.get(snapshot_id, Moment(dict(rows), 0)).sorted()  # type: ignore[arg-type]


def test_spark_reads_every_snapshot_that_maintenance_leaves(ground: Ground, spark: Spark) -> None:
    catalog = spark.open(ground.folder)
    acts = [ground.mark, ground.tag, ground.append, ground.mark, ground.change_spec]

    for operation, act in zip(OPERATIONS, acts, strict=True):
        act()
        ground.maintain(operation)
        ground.note()
        assert_spark_sees(catalog, ground)
    ground.append()
    ground.maintain("compact")
    ground.note()

    assert_spark_sees(catalog, ground)
    ground.judge()


@pytest.mark.parametrize(
    ("operation", "procedure"),
    [
        ("compact", "rewrite_data_files"),
        ("compact", "rewrite_position_delete_files"),
        ("compact", "expire_snapshots"),
        ("tidy_deletes", "rewrite_position_delete_files"),
        ("rewrite_manifests", "rewrite_manifests"),
        ("expire", "rewrite_data_files"),
        ("expire", "expire_snapshots"),
        ("remove_orphans", "rewrite_data_files"),
    ],
)
def test_a_procedure_of_sparks_in_the_middle_of_an_operation_loses_nothing(
    ground: Ground, spark: Spark, operation: str, procedure: str
) -> None:
    catalog = spark.open(ground.folder)

    def happen(_: str) -> None:
        catalog.run(f"CALL lakehouse.system.{procedure}(table => 'ods.clicks', {PROCEDURES[procedure]})")
        ground.was_cut_by_others |= procedure == "expire_snapshots"
        ground.note()

    EFFECTS.arm(Fault("delete" if operation == "remove_orphans" else "commit", "before", happen))
    ground.maintain(operation, ground.faulty())
    EFFECTS.arm(None)
    ground.note()
    ground.judge()
    ground.maintain(operation)
    ground.note()
    ground.judge()

    assert_spark_sees(catalog, ground)
