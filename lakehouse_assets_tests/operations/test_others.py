"""Others do to the table, and to this machine's clock, what they like while runs go on."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.update import SetSnapshotRefUpdate

from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import HOUR_MS, append_foreign_rows, roll_back
from lakehouse_assets_tests.operations.lake import Lake, clock_ms, hours_ago

pytestmark = pytest.mark.kafka

MakeLake = Callable[..., Lake]


def append_on_branch(table: Table, branch: str) -> int:
    """What write-audit-publish does: a branch at the head, a row of others on it; the snapshot."""
    head = table.current_snapshot()
    assert head is not None
    table.manage_snapshots().create_branch(head.snapshot_id, branch).commit()
    rows = table.scan(limit=1).to_arrow().drop_columns(["_kafka_partition", "_kafka_offset", "_kafka_timestamp"])
    table.append(rows, branch=branch)
    return table.refresh().refs()[branch].snapshot_id


def fast_forward(table: Table, snapshot_id: int) -> None:
    """Main becomes what the branch is."""
    update = SetSnapshotRefUpdate(ref_name="main", type=SnapshotRefType.BRANCH, snapshot_id=snapshot_id)
    table.catalog.commit_table(table, (), (update,))


def test_main_that_is_fast_forwarded_to_a_branch_keeps_its_ledger(lake: MakeLake) -> None:
    table = lake()
    table.produce(10)
    table.ingest()
    published = append_on_branch(table.table, "audit")
    table.produce(10)

    fast_forward(table.table, published)
    table.reopened().ingest()

    table.assert_holds({0: list(range(20))}, foreign=1)


def test_main_that_is_fast_forwarded_under_a_commit_makes_it_judge_anew(lake: MakeLake) -> None:
    table = lake()
    table.produce(10)
    table.ingest()
    published = append_on_branch(table.table, "audit")
    table.produce(10)
    table.around_first_commit(before=lambda: fast_forward(table.table, published))

    table.ingest()

    assert table.reports[-1].commit_attempts == 2
    table.assert_holds({0: list(range(20))}, foreign=1)


@pytest.mark.parametrize("what", ["append", "delete", "rollback", "compaction"])
def test_a_commit_of_others_under_ours_is_kept_and_ours_lands_on_it(lake: MakeLake, what: str) -> None:
    table = lake()
    for _ in range(2):
        table.produce(10)
        table.ingest()
    table.produce(10)
    acts: dict[str, Callable[[], object]] = {
        "append": lambda: append_foreign_rows(table.table),
        "delete": lambda: table.table.delete("_kafka_offset == 3"),
        "rollback": lambda: roll_back(table.table, table.reports[0].snapshot_id),
        "compaction": lambda: table.table.overwrite(table.table.scan().to_arrow()),
    }
    table.around_first_commit(before=acts[what])

    table.ingest()
    table.reopened().ingest()

    expected: list[tuple[int | None, int | None]] = [(0, offset) for offset in range(30) if what != "delete" or offset != 3]
    assert table.positions() == [*expected, *[(None, None)] * (what == "append")]
    assert table.lag() == 0


@pytest.mark.parametrize("skew_hours", [-30, 2])
def test_a_machine_whose_clock_is_wrong_loses_nothing_and_a_right_one_sees_the_same_hours(lake: MakeLake, skew_hours: int) -> None:
    table = lake()
    for ago in (2, 1, 0):
        table.produce(10, timestamp_ms=hours_ago(ago))
    skewed = table.reopened()
    skewed.now_ms = lambda: clock_ms() + skew_hours * HOUR_MS

    skewed.ingest()
    skewed.replace(table.key(hours_ago(1)))

    table.assert_holds({0: list(range(30))})
    heard = table.reopened().replace(*(table.key(hours_ago(ago)) for ago in (2, 1, 0)))
    assert [report and report.row_count for report in heard.values()] == [10, 10, 10]
    table.assert_holds({0: list(range(30))})


def test_messages_whose_stamps_are_out_of_order_stay_in_exactly_one_hour(lake: MakeLake) -> None:
    table = lake()
    stamps = [hours_ago(ago) for ago in (3, 1, 2, 3, 0, 2, 1)]
    table.produce(len(stamps), timestamp_ms=stamps)
    table.ingest()

    for ago in (0, 1, 2, 3):
        table.reopened().replace(table.key(hours_ago(ago)))
        table.assert_holds({0: list(range(7))})


def test_files_that_nobody_names_are_never_looked_at(lake: MakeLake, tmp_path: Path) -> None:
    table = lake()
    table.produce(10)
    table.ingest()
    (folder,) = tmp_path.rglob("data")
    (folder / "orphan.parquet").write_bytes(b"half a file")
    table.produce(10)

    table.reopened().ingest()

    assert judge.read_every_snapshot(table.table) == [10, 20]
