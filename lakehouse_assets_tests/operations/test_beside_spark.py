"""Apache Spark reads what runs write, and writes between them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from py4j.protocol import Py4JJavaError

from lakehouse_assets.model.columns import DELETED, ICEBERG_NAMES, OPERATION, REST_COLUMN, SOURCE_POSITION
from lakehouse_assets_tests.builders import make_systems
from lakehouse_assets_tests.operations.lake import Lake
from lakehouse_assets_tests.spark import Spark

pytestmark = [pytest.mark.kafka, pytest.mark.spark, pytest.mark.xdist_group("spark")]

MakeLake = Callable[..., Lake]


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spark]:
    with Spark(tmp_path_factory.mktemp("spark")) as engine:
        yield engine


def test_spark_reads_every_snapshot_and_a_merge_of_its_is_kept(lake: MakeLake, spark: Spark) -> None:
    table = lake()
    table.produce(10)
    table.ingest()
    catalog = spark.open(table.folder)

    catalog.run(
        "MERGE INTO {table} t USING (SELECT 3 AS id UNION ALL SELECT 5) s ON t.id = s.id "
        "WHEN MATCHED AND s.id = 3 THEN DELETE WHEN MATCHED THEN UPDATE SET text = 'changed'"
    )
    table.produce(5)
    table.reopened().ingest()

    rows = catalog.query("SELECT _kafka_offset, text FROM {table} ORDER BY 1")
    expected = [(o, "changed" if o == 5 else f"text {o if o < 10 else o - 10}") for o in range(15) if o != 3]
    assert rows == expected
    counts = [len(found) for found in catalog.read_every_snapshot("*", [s.snapshot_id for s in table.table.snapshots()])]
    assert counts == [10, 9, 14]
    assert [p for p, _ in table.positions()] == [0] * 14


def test_spark_refuses_columns_of_the_names_that_declarations_refuse_and_reads_those_of_the_platform(
    tmp_path: Path, spark: Spark
) -> None:
    catalog = make_systems(tmp_path).catalog
    catalog.create_namespace("ods")
    names = [*ICEBERG_NAMES, DELETED, OPERATION, SOURCE_POSITION, REST_COLUMN]
    for place, name in enumerate(names):
        rows = pa.table({"id": [1], name: ["x"]})
        catalog.create_table(f"ods.t{place}", rows.schema).append(rows)
    theirs = spark.open(tmp_path)

    for place, name in enumerate(names):
        if name in ICEBERG_NAMES:
            with pytest.raises(Py4JJavaError, match="names reserved for Iceberg metadata columns"):
                theirs.query("SELECT * FROM {table}", f"ods.t{place}")
        else:
            assert theirs.query("SELECT * FROM {table}", f"ods.t{place}") == [(1, "x")]
