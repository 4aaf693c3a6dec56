"""`maintenance.engine: spark`: Iceberg's own procedures in a Spark session, with the same safety around them."""

import sys
from pathlib import Path
from typing import Any

import pytest

from lakehouse_assets.model.errors import ConfigurationError
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.operations.compacting import run_compact
from lakehouse_assets.operations.compacting_in_spark import run_compact_in_spark
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.systems.commit import publish
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import make_delivery, make_systems, make_table
from lakehouse_assets_tests.spark import Spark


class Lake:
    """A table of small files, and the task to compact it."""

    def __init__(self, folder: Path, commits: int = 8, **policy: Any) -> None:
        self.catalog = make_systems(folder).catalog
        make_table(self.catalog)
        for i in range(commits):
            publish(self.catalog, "ods.clicks", make_delivery(self.table, {0: range(10 * i, 10 * i + 10)}))
        self.policy = MaintenanceSpec(engine="spark", **policy)

    @property
    def table(self) -> Any:
        return self.catalog.load_table("ods.clicks")

    def task(self, **parts: Any) -> MaintenanceTask:
        return MaintenanceTask(self.catalog, "ods.clicks", self.policy, lambda: 0, **parts)

    def ids(self) -> list[int]:
        return [row[0] for row in judge.query(self.table, "SELECT id FROM {table} ORDER BY id")]


def test_without_pyspark_a_sentence_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)

    with pytest.raises(ConfigurationError, match=r"maintenance.engine: found spark, and no package pyspark; allowed: a process"):
        run_compact(Lake(tmp_path, 1).task())


@pytest.mark.spark
@pytest.mark.xdist_group("spark")
def test_small_files_become_one_with_rows_and_ledger_as_before(tmp_path: Path, spark: Spark) -> None:
    lake = Lake(tmp_path, sort_by=("text", "id"), sort_order="zorder")
    session, ledger, rows = spark.open(tmp_path).session, read_ledger(lake.table), lake.ids()

    planned = run_compact_in_spark(lake.task(is_dry_run=True), session)
    assert (planned.planned.rows[0][:2], len(lake.table.snapshots())) == (("rewrite_data_files", 8), 8)
    report = run_compact_in_spark(lake.task(), session)

    assert (report.figures["files_before"], report.figures["files_after"], report.kept_back) == (8, 1, [])
    assert list(report.snapshot_ids) == [lake.table.current_snapshot().snapshot_id]
    assert (lake.ids(), read_ledger(lake.table)) == (rows, ledger)
    publish(lake.catalog, "ods.clicks", make_delivery(lake.table, {0: range(80, 90)}))
    assert lake.ids() == list(range(90))


@pytest.mark.spark
@pytest.mark.xdist_group("spark")
def test_deletes_are_merged_in_and_their_files_go(tmp_path: Path, spark: Spark) -> None:
    lake, theirs = Lake(tmp_path, 3, small_files=2), spark.open(tmp_path)
    theirs.run("ALTER TABLE {table} SET TBLPROPERTIES ('write.delete.mode' = 'merge-on-read')")
    theirs.run("DELETE FROM {table} WHERE id % 10 < 5")
    assert int(lake.table.current_snapshot().summary["total-position-deletes"]) == 15

    report = run_compact_in_spark(lake.task(), theirs.session)

    assert (report.figures["delete_files_before"] > 0, report.figures["delete_files_after"], report.figures["files_after"]) == (True, 0, 1)
    assert lake.ids() == [i for i in range(30) if i % 10 >= 5]
    assert lake.table.current_snapshot().summary["total-records"] == "15"


@pytest.mark.spark
@pytest.mark.xdist_group("spark")
def test_what_others_changed_meanwhile_is_kept_back_and_their_change_stays(tmp_path: Path, spark: Spark) -> None:
    lake, theirs = Lake(tmp_path), spark.open(tmp_path)
    spark.during_next_plan(lambda: lake.table.delete("id < 10"))

    report = run_compact_in_spark(lake.task(), theirs.session)

    (kept,) = report.kept_back
    assert "others changed" in kept.reason
    assert (lake.ids(), report.snapshot_ids, report.figures["files_after"]) == (list(range(10, 80)), [], 7)
    assert run_compact_in_spark(lake.task(), theirs.session).figures["files_after"] == 1


@pytest.mark.spark
@pytest.mark.xdist_group("spark")
def test_a_session_that_means_another_table_by_the_name_is_refused(tmp_path: Path, spark: Spark) -> None:
    lake, other = Lake(tmp_path / "a", 1), Lake(tmp_path / "b", 1)

    with pytest.raises(ConfigurationError, match=r"spark.sql.catalog.lakehouse: found a catalog whose ods.clicks was never at"):
        run_compact_in_spark(lake.task(), spark.open(tmp_path / "b").session)
    other.catalog.properties["spark-catalog"] = "elsewhere"
    with pytest.raises(ConfigurationError, match=r"spark.sql.catalog.elsewhere: found no value in the Spark session"):
        run_compact_in_spark(other.task(), spark.open(tmp_path / "b").session)
    assert len(lake.table.snapshots()) == len(other.table.snapshots()) == 1
