"""Apache Spark reads what runs write, and writes between them."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from py4j.protocol import Py4JJavaError

from lakehouse_assets.model.columns import DELETED, ICEBERG_NAMES, OPERATION, REST_COLUMN, SOURCE_POSITION
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import make_systems
from lakehouse_assets_tests.operations.lake import Lake
from lakehouse_assets_tests.operations.stream import MakeStream, Stream
from lakehouse_assets_tests.spark import Spark, SparkCatalog

pytestmark = [pytest.mark.kafka, pytest.mark.spark, pytest.mark.xdist_group("spark")]

MakeLake = Callable[..., Lake]


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


MODES = ["merge-on-read", "copy-on-write"]


def fill(stream: Stream, count: int = 30) -> None:
    stream.send(*(stream.change("c", i, f"name {i}", i) for i in range(count)))


def assert_both_see(stream: Stream, spark: SparkCatalog, expected: dict[int, str]) -> None:
    """Every snapshot is the same to Spark and DuckDB, with each key once; the newest is this."""
    table = stream.lake.table
    for snapshot in table.snapshots():
        rows = spark.query(f"SELECT id, name, n FROM {{table}} VERSION AS OF {snapshot.snapshot_id} ORDER BY id")
        assert rows == judge.query(table, "SELECT id, name, n FROM {table} ORDER BY id", snapshot.snapshot_id)
        assert len({key for key, *_ in rows}) == len(rows)
    assert dict(spark.query("SELECT id, name FROM {table}")) == expected


@pytest.mark.parametrize("mode", MODES)
def test_spark_reads_every_snapshot_of_an_upsert_table_as_duckdb_does(open_stream: MakeStream, spark: Spark, mode: str) -> None:
    stream = open_stream(mode=mode, partition_by=["bucket(2, id)"])
    fill(stream)

    stream.send(stream.change("u", 3, "new"), stream.change("d", 4), stream.change("c", 99, "more"))
    stream.send(stream.change("u", 5, "five"), stream.change("d", 99))

    expected = {i: f"name {i}" for i in range(30) if i != 4} | {3: "new", 5: "five"}
    assert_both_see(stream, spark.open(stream.lake.folder), expected)


@pytest.mark.parametrize("mode", MODES)
def test_what_spark_merges_between_plan_and_commit_is_planned_for_again(
    open_stream: MakeStream, spark: Spark, mode: str
) -> None:
    stream = open_stream(mode=mode, partition_by=["bucket(2, id)"])
    fill(stream)
    catalog = spark.open(stream.lake.folder)
    merge = (
        "MERGE INTO {table} t USING (SELECT explode(array(3, 4, 5, 6, 200)) AS id) s ON t.id = s.id "
        "WHEN MATCHED AND s.id IN (3, 4) THEN DELETE WHEN MATCHED THEN UPDATE SET name = 'of spark' "
        "WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, 'of spark')"
    )
    table = stream.lake
    messages = [stream.change("u", 3, "back"), stream.change("d", 5), stream.change("u", 7, "seven"), stream.change("u", 200, "x")]
    table.broker.send(table.topic, messages, 0, stream.stamp)
    table.around_first_commit(before=lambda: catalog.run(merge))

    table.ingest()

    assert table.reports[-1].commit_attempts == 1  # of the second merge: what was prepared for the first was thrown away
    expected = {i: f"name {i}" for i in range(30) if i not in (4, 5)} | {3: "back", 6: "of spark", 7: "seven", 200: "x"}
    assert_both_see(stream, catalog, expected)
    stream.send(stream.change("u", 4, "later"), stream.change("d", 200))
    expected |= {4: "later"}
    del expected[200]
    assert_both_see(stream, catalog, expected)


@pytest.mark.parametrize("mode", MODES)
def test_a_compaction_of_sparks_between_plan_and_commit_brings_no_row_back(open_stream: MakeStream, spark: Spark, mode: str) -> None:
    stream = open_stream(mode=mode)
    fill(stream)
    stream.send(stream.change("d", 1), stream.change("u", 2, "two"))
    catalog = spark.open(stream.lake.folder)
    compact = "CALL lakehouse.system.rewrite_data_files(table => 'ods.clicks', options => map('rewrite-all', 'true'))"
    table = stream.lake
    table.broker.send(table.topic, [stream.change("u", 2, "three"), stream.change("d", 8)], 0, stream.stamp)
    table.around_first_commit(before=lambda: catalog.run(compact))

    table.ingest()

    assert_both_see(stream, catalog, {i: f"name {i}" for i in range(30) if i not in (1, 8)} | {2: "three"})
