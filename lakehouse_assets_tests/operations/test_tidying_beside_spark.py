"""Apache Spark says what rows a table has that Flink wrote, and sees the same ones when its equality deletes are gone."""

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.manifest import DataFileContent, ManifestContent
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import DoubleType, FloatType, IntegerType, LongType, NestedField, StringType

from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.operations.tidying_deletes import tidy_deletes
from lakehouse_assets.systems.snapshots import list_live_files
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import make_systems
from lakehouse_assets_tests.foreign_deletes import delete_rows
from lakehouse_assets_tests.foreign_upserts import delete_keys, upsert
from lakehouse_assets_tests.spark import Spark

pytestmark = [pytest.mark.spark, pytest.mark.xdist_group("spark")]

NAME = "ods.clicks"
FIELDS = {"id": IntegerType(), "shop": StringType(), "share": FloatType(), "text": StringType()}


def fill(catalog: Any) -> None:
    """What Flink and others could have done: upserts, deletes by several columns, schemas and partition specs that moved on."""
    schema = Schema(*(NestedField(at, name, kind, required=False) for at, (name, kind) in enumerate(FIELDS.items(), 1)))
    catalog.create_namespace("ods")
    catalog.create_table(NAME, schema, properties={"format-version": "2"})
    key = ["id", "shop", "share"]
    rows = [
        {"id": i, "shop": shop, "share": share, "text": "a"}
        for i in (1, 2, None)
        for shop in ("x", None)
        for share in (0.5, math.nan, None, -0.0, 0.0, math.inf)
    ]
    table = catalog.load_table(NAME)
    table.append(pa.Table.from_pylist(rows, table.schema().as_arrow()))
    gone = [(None, None, None), (1, None, math.nan), (2, "x", -0.0), (None, "x", 0.5), (2, None, math.inf)]
    delete_keys(catalog, NAME, key, [dict(zip(key, values, strict=True)) for values in gone])
    delete_rows(catalog, NAME, "share", [0.5])
    with catalog.load_table(NAME).update_schema() as update:
        update.update_column("id", LongType())
        update.update_column("share", DoubleType())
        update.rename_column("text", "words")
        update.add_column("day", StringType())
    with catalog.load_table(NAME).update_spec() as update:
        update.add_field("id", BucketTransform(2), "bucket")
    upsert(catalog, NAME, ["id"], [({"id": k}, {"shop": "new", "words": "b"}) for k in range(5, 15)])
    changes: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
        ({"id": 5}, {"words": "c"}), ({"id": 6}, None), ({"id": 5}, {"words": "d"}), ({"id": 5}, None), ({"id": 7}, {"words": "c"}),
        ({"id": 1}, {"words": "of a new partition"}), ({"id": 5}, {"words": "e"}),
    ]  # fmt: skip
    upsert(catalog, NAME, ["id"], changes)
    delete_rows(catalog, NAME, "id", [8], of_one_file=True)
    with catalog.load_table(NAME).update_spec() as update:
        update.remove_field("bucket")
    delete_keys(catalog, NAME, ["day", "share"], [{"day": None, "share": math.inf}, {"day": "monday", "share": None}])
    with catalog.load_table(NAME).update_schema() as update:
        update.delete_column("shop")


def test_spark_sees_the_same_rows_before_and_after(tmp_path: Path, spark: Spark) -> None:
    catalog = make_systems(tmp_path).catalog
    fill(catalog)
    theirs = spark.open(tmp_path)
    statement = "SELECT CAST(id AS STRING), CAST(share AS STRING), words FROM {table} ORDER BY ALL"
    before = theirs.query(statement)

    report = tidy_deletes(MaintenanceTask(catalog, NAME, MaintenanceSpec(), now_ms=lambda: 0))

    assert theirs.query(statement) == before
    assert 20 < len(before) < 46
    table = catalog.load_table(NAME)
    assert len(judge.query(table, "SELECT * FROM {table}")) == table.scan().to_arrow().num_rows == len(before)
    assert theirs.query("SELECT count(*) FROM {table} VERSION AS OF " + str(table.snapshots()[-2].snapshot_id)) == [(len(before),)]
    deletes = [entry.data_file.content for entry in list_live_files(table, ManifestContent.DELETES)]
    assert set(deletes) == {DataFileContent.POSITION_DELETES}
    assert report.figures["equality_delete_files_before"] > 4
    theirs.run("UPDATE {table} SET words = 'of spark' WHERE id = 9")
    assert len(theirs.query(statement)) == len(before)
