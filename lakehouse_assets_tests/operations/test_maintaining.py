"""Many tables are looked after: the hottest first, each for itself, and what is left alone is said."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog

from lakehouse_assets.model.errors import LakehouseError, StorageError
from lakehouse_assets.model.maintenance import MaintenanceReport
from lakehouse_assets.model.maintenance_spec import MaintenanceOperation, MaintenanceSpec
from lakehouse_assets.operations.compacting import run_compact
from lakehouse_assets.operations.dropping import run_drop
from lakehouse_assets.operations.maintaining import RUNS, measure_debts, run_maintenance
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.systems.commit import publish
from lakehouse_assets_tests.builders import HOUR_MS, make_delivery, make_spec, make_table
from lakehouse_assets_tests.judge import query

TWO = MaintenanceSpec(small_files=2)
HALF_PAST_TWO_MS = int(datetime(2026, 11, 27, 14, 30, tzinfo=UTC).timestamp() * 1000)


class Upkeep:
    """Runs of maintenance over some tables, and what they said."""

    def __init__(self, catalog: Catalog, policies: dict[str, MaintenanceSpec]) -> None:
        self.catalog, self.policies = catalog, policies
        self.reports: list[MaintenanceReport] = []
        self.failures: dict[str, LakehouseError] = {}

    def fill(self, table: str, commits: int) -> None:
        make_table(self.catalog, make_spec(table=table))
        for at in range(commits):
            publish(self.catalog, table, make_delivery(self.catalog.load_table(table), {0: range(at, at + 1)}))

    def file_count(self, table: str) -> int:
        return len(list(self.catalog.load_table(table).scan().plan_files()))

    def run(
        self,
        operations: Iterable[MaintenanceOperation] | None = None,
        stop_after: int = 99,
        now_ms: int = HALF_PAST_TWO_MS,
        **parts: bool,
    ) -> list[str]:
        return run_maintenance(
            self.catalog,
            self.policies,
            now_ms=lambda: now_ms,
            operations=operations,
            on_report=self.reports.append,
            on_failure=self.failures.__setitem__,
            stop=lambda: len(self.reports) >= stop_after,
            **parts,
        )

    @property
    def done(self) -> list[tuple[str, str]]:
        return [(report.table, report.operation) for report in self.reports]


def test_those_in_debt_are_looked_after_the_hottest_first_and_the_others_left_alone(catalog: Catalog) -> None:
    upkeep = Upkeep(catalog, {"ods.calm": TWO, "ods.warm": TWO, "ods.hot": TWO, "ods.not_there_yet": TWO})
    for table, commits in (("ods.calm", 1), ("ods.warm", 2), ("ods.hot", 4)):
        upkeep.fill(table, commits)

    left = upkeep.run()

    assert upkeep.done == [("ods.hot", "compact"), ("ods.warm", "compact")]
    assert (left, upkeep.failures) == ([], {})
    assert [upkeep.file_count(table) for table in ("ods.calm", "ods.warm", "ods.hot")] == [1, 1, 1]
    assert [one.due for one in measure_debts(catalog, upkeep.policies, HALF_PAST_TWO_MS, upkeep.failures.__setitem__)] == [()] * 3
    assert query(catalog.load_table("ods.hot"), "SELECT id FROM {table} ORDER BY id") == [(0,), (1,), (2,), (3,)]


def test_operations_that_are_named_are_done_for_every_table_in_the_order_in_which_they_help_each_other(catalog: Catalog) -> None:
    upkeep = Upkeep(catalog, {"ods.one": TWO})
    upkeep.fill("ods.one", 1)

    upkeep.run(["remove_orphans", "expire", "compact", "rewrite_manifests"])

    assert [operation for _, operation in upkeep.done] == ["compact", "rewrite_manifests", "expire", "remove_orphans"]


def test_one_tables_failure_does_not_stop_the_others(catalog: Catalog) -> None:
    upkeep = Upkeep(catalog, {"ods.broken": TWO, "ods.torn": TWO, "ods.whole": TWO})
    for table in upkeep.policies:
        upkeep.fill(table, 3)
    catalog.load_table("ods.broken").io.delete(catalog.load_table("ods.broken").metadata.snapshots[-1].manifest_list)
    torn = catalog.load_table("ods.torn")
    torn.io.delete(next(iter(torn.scan().plan_files())).file.file_path)

    upkeep.run()

    assert upkeep.done == [("ods.whole", "compact")]
    assert {table: type(error) for table, error in upkeep.failures.items()} == {
        "ods.broken": StorageError, "ods.torn": StorageError,
    }  # fmt: skip


def test_outside_its_window_a_table_waits_and_says_so_unless_a_person_asks(catalog: Catalog) -> None:
    night = MaintenanceSpec(small_files=2, window="22:00-05:00")
    upkeep = Upkeep(catalog, {"ods.nightly": night})
    upkeep.fill("ods.nightly", 2)

    upkeep.run()

    (report,) = upkeep.reports
    assert (str(report.kept_back[0]), bool(report.planned)) == ("compact: its window is 22:00-05:00 UTC, and it is 14:30", False)
    assert upkeep.file_count("ods.nightly") == 2

    upkeep.run(is_confirmed=True)
    assert upkeep.file_count("ods.nightly") == 1


def test_what_a_declaration_leaves_out_is_not_done_and_expiry_needs_no_window(catalog: Catalog) -> None:
    upkeep = Upkeep(catalog, {"ods.own": MaintenanceSpec(window="22:00-05:00", leave_out=("compact",))})
    upkeep.fill("ods.own", 1)

    upkeep.run(["expire", "compact"])

    compact, expire = upkeep.reports
    assert (expire.operation, list(expire.kept_back)) == ("expire", [])
    assert str(compact.kept_back[0]) == "compact: the declaration leaves it out"


def test_a_dry_run_plans_and_changes_nothing(catalog: Catalog) -> None:
    upkeep = Upkeep(catalog, {"ods.one": TWO})
    upkeep.fill("ods.one", 3)

    upkeep.run(is_dry_run=True)

    (report,) = upkeep.reports
    assert (report.is_dry_run, report.planned.figures["files"], upkeep.file_count("ods.one")) == (True, 3, 3)


def test_who_stops_it_hears_which_tables_are_left(catalog: Catalog) -> None:
    upkeep = Upkeep(catalog, {"ods.first": TWO, "ods.second": TWO})
    upkeep.fill("ods.first", 3)
    upkeep.fill("ods.second", 2)

    assert upkeep.run(stop_after=1) == ["ods.second"]
    assert upkeep.done == [("ods.first", "compact")]


def test_what_was_dropped_more_than_a_day_ago_goes_for_good_where_that_is_asked_for(catalog: Catalog) -> None:
    upkeep = Upkeep(catalog, {})
    upkeep.fill("ods.gone", 1)
    place = Path(catalog.load_table("ods.gone").location().removeprefix("file://"))
    run_drop(MaintenanceTask(catalog, "ods.gone", TWO, now_ms=lambda: HALF_PAST_TWO_MS))
    later_ms = HALF_PAST_TWO_MS + 25 * HOUR_MS

    upkeep.run(now_ms=later_ms)
    assert (upkeep.done, place.exists()) == ([], True)

    upkeep.run(now_ms=later_ms, purges_dropped=True)
    assert (upkeep.done, any(path.is_file() for path in place.rglob("*"))) == ([("ods.gone", "purge")], False)


def test_a_defect_in_one_table_is_raised_once_the_others_are_looked_after(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    upkeep = Upkeep(catalog, {"ods.odd": TWO, "ods.whole": TWO})
    upkeep.fill("ods.odd", 3)
    upkeep.fill("ods.whole", 2)

    def compact(task: MaintenanceTask) -> MaintenanceReport:
        return {"ods.whole": run_compact}[task.table](task)

    monkeypatch.setitem(RUNS, "compact", compact)  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="ods.odd"):
        upkeep.run()

    assert upkeep.done == [("ods.whole", "compact")]
