"""Spark reads how far a table is complete, in which column, and a day as it was when it was complete."""

from pathlib import Path

import pytest

from lakehouse_assets.model.completeness import DAY_MS, DayTags
from lakehouse_assets.model.offsets import TopicPartition
from lakehouse_assets.model.watermark import WatermarkMove
from lakehouse_assets.systems.commit import publish
from lakehouse_assets_tests.builders import make_delivery, make_spec, make_systems, make_table
from lakehouse_assets_tests.spark import Spark

pytestmark = [pytest.mark.spark, pytest.mark.xdist_group("spark")]

NAME = "ods.clicks"
DAY = 20_000 * DAY_MS  # 2024-10-04
LOG = TopicPartition("clicks", 0)


def test_spark_reads_property_column_and_tags(tmp_path: Path, spark: Spark) -> None:
    catalog = make_systems(tmp_path).catalog
    make_table(catalog, make_spec(properties={"flink.store-watermark": "true"}))
    for offset in range(4):
        move = WatermarkMove({LOG: DAY + offset * DAY_MS}, frozenset([LOG]), frozenset(), 0, tags=DayTags(DAY, 30 * DAY_MS))
        table = catalog.load_table(NAME)
        publish(catalog, NAME, make_delivery(table, {0: range(offset, offset + 1)}, watermark=move))
    engine = spark.open(tmp_path)

    properties = dict(engine.query("SHOW TBLPROPERTIES {table}"))
    days = {offset: f"complete-2024-10-0{3 + offset}" for offset in range(1, 4)}
    read = {offset: engine.query(f"SELECT id FROM {{table}} VERSION AS OF '{ref}' ORDER BY ALL") for offset, ref in days.items()}
    refs = engine.query("SELECT name, type, max_reference_age_in_ms FROM {table}.refs WHERE type = 'TAG' ORDER BY ALL")

    assert properties["lakehouse.event-time-watermark"] == properties["flink.current-watermark"] == str(DAY + 3 * DAY_MS)
    assert read == {offset: [(i,) for i in range(offset + 1)] for offset in days}
    assert refs == [(ref, "TAG", 30 * DAY_MS) for ref in sorted(days.values())]
