"""Snapshots expire by Iceberg's properties, and exactly the files go that nothing reaches any more, whatever others do meanwhile."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import StaticTable, Table
from pyiceberg.table.statistics import PartitionStatisticsFile, StatisticsFile
from pyiceberg.table.update import (
    AssertTableUUID,
    SetPartitionStatisticsUpdate,
    SetSnapshotRefUpdate,
    SetStatisticsUpdate,
)
from sqlalchemy.exc import OperationalError

from lakehouse_assets.model.errors import (
    CommitConflictError,
    CommitOutcomeUnknownError,
    ConfigurationError,
    RefLostError,
    TableMissingError,
    TableReplacedError,
)
from lakehouse_assets.model.maintenance import MaintenanceReport
from lakehouse_assets.operations.expiring import run_expire
from lakehouse_assets.systems.commit import publish
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets.systems.old_metadata import list_old_metadata
from lakehouse_assets.systems.reachability import reach
from lakehouse_assets_tests import faults, judge
from lakehouse_assets_tests.builders import append_foreign_rows, make_delivery, roll_back
from lakehouse_assets_tests.faults import EFFECTS, Crash, Fault, FaultyCatalog, pass_by, raising
from lakehouse_assets_tests.operations.compactions import NAME, compact, fill, make_task
from lakehouse_assets_tests.systems.merges import Merger

DAY_MS = 24 * 3600 * 1000
AGE = "history.expire.max-snapshot-age-ms"
LEAST = "history.expire.min-snapshots-to-keep"
ONLY_THE_HEAD = {LEAST: "1", "write.metadata.previous-versions-max": "3"}
Act = Callable[[], object]


def tomorrow() -> int:
    return int(time.time() * 1000) + DAY_MS


def expire(catalog: FaultyCatalog, **parts: Any) -> MaintenanceReport:
    """One run, a day from now unless told otherwise: any snapshot is old by then."""
    return run_expire(make_task(catalog, **({"now_ms": tomorrow} | parts)))


def make(catalog: FaultyCatalog, snapshots: int = 5, **properties: str) -> Table:
    """Ten rows in each snapshot, of which only the head must stay."""
    return fill(catalog, snapshots, properties=ONLY_THE_HEAD | {name.replace("_", "."): text for name, text in properties.items()})


def ids(table: Table) -> list[int]:
    return [snapshot.snapshot_id for snapshot in table.metadata.snapshots]


def stored(table: Table) -> set[str]:
    """Every file in its place."""
    root = Path(table.location().removeprefix("file://"))
    return {f"file://{path}" for path in root.rglob("*") if path.is_file()}


def reached(table: Table) -> set[str]:
    return set(reach(table, table.io).all) - {f"{table.location()}/metadata/version-hint.text"}


def set_ref(catalog: FaultyCatalog, name: str, snapshot_id: int, kind: str = "tag", **rules: int) -> None:
    update = SetSnapshotRefUpdate.model_validate(
        {"ref-name": name, "type": kind, "snapshot-id": snapshot_id, **{key.replace("_", "-"): ms for key, ms in rules.items()}}
    )
    catalog.commit_table(catalog.load_table(NAME), (), (update,))


def assert_whole(catalog: FaultyCatalog) -> Table:
    """Every file in its place is reached and the other way round, and DuckDB reads every snapshot."""
    table = catalog.load_table(NAME)
    assert stored(table) == reached(table)
    judge.read_every_snapshot(table)
    return table


def test_old_snapshots_go_with_every_file_that_only_they_reached(catalog: FaultyCatalog) -> None:
    table = make(catalog)
    compact(catalog, policy={"small_files": 2})
    before = catalog.load_table(NAME)
    data = reach(before, before.io).data

    report = expire(catalog)

    after = assert_whole(catalog)
    assert ids(after) == [before.metadata.current_snapshot_id]
    assert judge.count_rows(after) == 50
    figures = report.figures
    assert (figures["snapshots_before"], figures["snapshots_after"], figures["snapshots_deleted"]) == (6, 1, 5)
    assert figures["files_deleted"] == len(data - reach(after, after.io).data) == 5
    assert figures["manifests_deleted"] > 5
    assert not stored(after) & {snapshot.manifest_list for snapshot in table.metadata.snapshots}


def test_what_is_young_stays_and_can_be_read(catalog: FaultyCatalog) -> None:
    before = make(catalog, **{AGE: str(DAY_MS)})
    third = before.metadata.snapshots[2]

    expire(catalog, now_ms=lambda: third.timestamp_ms + DAY_MS)

    after = assert_whole(catalog)
    assert ids(after) == ids(before)[1:]  # the second was the newest until then
    assert judge.read_every_snapshot(after) == [20, 30, 40, 50]


def test_a_new_table_of_ours_keeps_an_hour_and_ten_snapshots(catalog: FaultyCatalog) -> None:
    before = fill(catalog, 12)
    oldest = before.metadata.snapshots[0].timestamp_ms

    assert not expire(catalog, now_ms=lambda: oldest + 3600 * 1000 - 1).planned
    expire(catalog)

    assert ids(catalog.load_table(NAME)) == ids(before)[2:]


def test_a_dry_run_names_what_would_go_and_changes_nothing(catalog: FaultyCatalog) -> None:
    make(catalog)
    compact(catalog, policy={"small_files": 2})
    before = catalog.load_table(NAME)
    set_ref(catalog, "old", ids(before)[1], max_ref_age_ms=1)
    table, files = catalog.load_table(NAME), stored(before)

    report = expire(catalog, is_dry_run=True)

    assert [row[:2] for row in report.planned.rows] == [("ref", "old"), *(("snapshot", str(one)) for one in ids(before)[:5])]
    assert catalog.load_table(NAME).metadata_location == table.metadata_location
    assert report.is_dry_run
    assert report.figures == {}
    assert stored(before) >= files
    done = expire(catalog).figures
    planned = report.planned.figures
    assert [planned[what] for what in ("snapshots", "refs", "files", "delete_files", "manifests")] == [
        done[f"{what}_deleted"] for what in ("snapshots", "refs", "files", "delete_files", "manifests")
    ]


def test_nothing_to_expire_is_no_commit(catalog: FaultyCatalog) -> None:
    before = make(catalog)
    expire(catalog, now_ms=lambda: int(time.time() * 1000))
    assert catalog.load_table(NAME).metadata_location == before.metadata_location


def test_tags_and_branches_stay_with_their_snapshots_until_their_own_age(catalog: FaultyCatalog) -> None:
    before = make(catalog)
    set_ref(catalog, "monthly", ids(before)[1])
    set_ref(catalog, "daily", ids(before)[2], max_ref_age_ms=1)
    set_ref(catalog, "audit", ids(before)[3], "branch", min_snapshots_to_keep=1, max_snapshot_age_ms=1)

    report = expire(catalog)

    after = assert_whole(catalog)
    assert ids(after) == [ids(before)[1], *ids(before)[3:]]
    assert after.metadata.refs.keys() == {"main", "monthly", "audit"}
    assert report.figures["refs_deleted"] == 1
    assert judge.read_every_snapshot(after) == [20, 40, 50]


def test_a_tag_goes_alone_where_a_branch_keeps_its_snapshot(catalog: FaultyCatalog) -> None:
    before = make(catalog, snapshots=2)
    set_ref(catalog, "head", ids(before)[1], max_ref_age_ms=1)
    set_ref(catalog, "first", ids(before)[0])

    assert expire(catalog).figures["refs_deleted"] == 1
    assert catalog.load_table(NAME).metadata.refs.keys() == {"main", "first"}
    assert ids(assert_whole(catalog)) == ids(before)


def test_nothing_goes_where_files_may_be_used_by_others(catalog: FaultyCatalog) -> None:
    before = make(catalog, **{"gc.enabled": "false"})
    files = stored(before)

    report = expire(catalog)

    assert "gc.enabled=false" in str(report.kept_back[0])
    assert not report.planned
    assert ids(catalog.load_table(NAME)) == ids(before)
    assert stored(before) == files


def test_statistics_go_with_their_snapshots(catalog: FaultyCatalog) -> None:
    table = make(catalog)
    files = {}
    for at in (0, 4):
        one, other = (f"{table.location()}/metadata/{kind}-{at}.stats" for kind in ("table", "partitions"))
        files[at] = {one, other}
        for path in files[at]:
            Path(path.removeprefix("file://")).write_bytes(b"PFA1")
        snapshot_id = ids(table)[at]
        of_table = StatisticsFile(
            snapshot_id=snapshot_id, statistics_path=one, file_size_in_bytes=4, file_footer_size_in_bytes=4, blob_metadata=[]
        )
        of_partitions = PartitionStatisticsFile(snapshot_id=snapshot_id, statistics_path=other, file_size_in_bytes=4)
        updates = (
            SetStatisticsUpdate(snapshot_id=snapshot_id, statistics=of_table),
            SetPartitionStatisticsUpdate(partition_statistics=of_partitions),
        )
        catalog.commit_table(table, (), updates)

    expire(catalog)

    after = assert_whole(catalog)
    assert not stored(after) & files[0]
    assert stored(after) > files[4]
    assert {one.snapshot_id for one in (*after.metadata.statistics, *after.metadata.partition_statistics)} == {ids(table)[4]}


def test_metadata_files_that_left_the_log_go_where_the_table_says_so(catalog: FaultyCatalog) -> None:
    """The last commits' are forgotten by writers that crashed before they deleted them."""
    table = make(catalog, snapshots=3, **{"write.metadata.delete-after-commit.enabled": "false"})
    for number in range(3, 9):
        publish(catalog, NAME, make_delivery(table, {0: range(number * 10, number * 10 + 10)}))
    held = [path for path in stored(table) if path.endswith(".metadata.json")]
    assert len(held) == 10
    assert expire(catalog, now_ms=lambda: 0).figures["metadata_files_deleted"] == 0

    with catalog.load_table(NAME).transaction() as change:
        change.set_properties({"write.metadata.delete-after-commit.enabled": "true"})
    report = expire(catalog, now_ms=lambda: 0)

    assert report.figures["metadata_files_deleted"] == 6
    assert_whole(catalog)


def test_a_log_that_names_files_which_have_gone_is_no_error(catalog: FaultyCatalog) -> None:
    table = make(catalog, snapshots=1)
    gone = table.metadata.metadata_log[0].model_copy(update={"metadata_file": f"{table.location()}/metadata/00000.metadata.json"})
    table.metadata = table.metadata.model_copy(update={"metadata_log": [gone]})

    assert list_old_metadata(table) == []


def test_a_property_that_is_no_number_is_named(catalog: FaultyCatalog) -> None:
    make(catalog, snapshots=1)
    with catalog.load_table(NAME).transaction() as change:
        change.set_properties({AGE: "3 hours"})

    with pytest.raises(ConfigurationError, match=f"{AGE} of the table ods.clicks: found '3 hours'"):
        expire(catalog)


def test_a_table_that_is_not_there_is_an_error(catalog: FaultyCatalog) -> None:
    with pytest.raises(TableMissingError):
        run_expire(make_task(catalog, "ods.nothing"))


def test_many_snapshots_go_in_several_commits(catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse_assets.operations.expiring._MOST", 2)
    before = make(catalog, snapshots=8)
    commits = catalog.commit_count

    report = expire(catalog)

    assert catalog.commit_count - commits == 4
    assert report.figures["snapshots_deleted"] == 7
    assert ids(assert_whole(catalog)) == ids(before)[-1:]


def test_stopped_between_commits_it_keeps_what_it_did(catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse_assets.operations.expiring._MOST", 2)
    before = make(catalog, snapshots=8)
    asked = iter([False, True])

    report = expire(catalog, stop=lambda: next(asked, True))

    after = catalog.load_table(NAME)
    assert ids(after) == ids(before)[2:]
    assert any("removal of orphans" in str(one) for one in report.kept_back)
    assert stored(after) > reached(after)
    judge.read_every_snapshot(after)


def make_tag(catalog: FaultyCatalog, table: Table) -> None:
    set_ref(catalog, "wanted", ids(table)[1])


def go_back(catalog: FaultyCatalog, table: Table) -> None:
    roll_back(catalog.load_table(NAME), ids(table)[1])


def move_branch(catalog: FaultyCatalog, table: Table) -> None:
    set_ref(catalog, "audit", ids(table)[1], "branch")


def append(catalog: FaultyCatalog, table: Table) -> None:
    publish(catalog, NAME, make_delivery(table, {0: range(50, 60)}))


def append_by_others(catalog: FaultyCatalog, table: Table) -> None:
    append_foreign_rows(catalog.load_table(NAME))


def merge_files(catalog: FaultyCatalog, table: Table) -> None:
    compact(catalog, policy={"small_files": 2})


def delete_rows(catalog: FaultyCatalog, table: Table) -> None:
    catalog.load_table(NAME).delete("id >= 20")


def expire_too(catalog: FaultyCatalog, table: Table) -> None:
    expire(catalog)


# What stays of 10, 20, ... 50 rows and what comes: after a commit of others the last one of ours does, for its ledger.
RACES: dict[str, tuple[Callable[[FaultyCatalog, Table], None], list[int]]] = {
    "a tag": (make_tag, [20, 50]),
    "a rollback": (go_back, [20]),
    "a branch": (move_branch, [20, 50]),
    "an append": (append, [60]),
    "a foreign append": (append_by_others, [50, 51]),
    "compaction": (merge_files, [50]),
    "a delete": (delete_rows, [50, 20]),
    "another expiry": (expire_too, [50]),
}



def act_once(catalog: FaultyCatalog, moment: str, act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the catalog looks at the table for the next commit, or between that and the swap."""
    if moment == "decided":
        catalog.before_commit = [lambda: act() and None]
        return
    write = catalog._write_metadata

    def act_and_write(**arguments: Any) -> None:
        monkeypatch.setattr(catalog, "_write_metadata", write)
        act()
        write(**arguments)

    monkeypatch.setattr(catalog, "_write_metadata", act_and_write)


@pytest.mark.parametrize(("act", "rows"), RACES.values(), ids=RACES)
@pytest.mark.parametrize("moment", ["decided", pytest.param("applied", marks=pytest.mark.slow)])
def test_whatever_others_do_meanwhile_what_they_need_stays(
    catalog: FaultyCatalog,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[FaultyCatalog, Table], None],
    rows: list[int],
    moment: str,
) -> None:
    make(catalog)
    if act is move_branch:
        set_ref(catalog, "audit", ids(catalog.load_table(NAME))[3], "branch", min_snapshots_to_keep=1, max_snapshot_age_ms=1)
    table = catalog.load_table(NAME)
    act_once(catalog, moment, lambda: act(catalog, table), monkeypatch)

    expire(catalog)

    after = catalog.load_table(NAME)
    assert [judge.query(after, "SELECT count(*) FROM {table}", one)[0][0] for one in ids(after)] == rows
    assert {ref.snapshot_id for ref in after.metadata.refs.values()} <= set(ids(after))
    assert reached(after) <= stored(after)


SLOW = [pytest.param(act, marks=pytest.mark.slow) for act in (append_by_others, delete_rows)]


@pytest.mark.parametrize("act", [append, merge_files, expire_too, *SLOW])
def test_what_others_do_before_files_are_deleted_loses_nothing(
    catalog: FaultyCatalog, act: Callable[[FaultyCatalog, Table], None]
) -> None:
    table = make(catalog)
    catalog.after_commit = [lambda: act(catalog, table)]

    expire(catalog)

    assert_whole(catalog)


def test_a_server_that_drops_a_new_tag_in_silence_is_noticed_and_no_file_goes(
    catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make(catalog)
    files = stored(table)
    commit = FaultyCatalog.commit_table

    def without_own_check(self: FaultyCatalog, table: Table, requirements: Any, updates: Any) -> Any:
        plain = [AssertTableUUID(uuid=one.uuid) if isinstance(one, AssertTableUUID) else one for one in requirements]
        return commit(self, table, plain, updates)

    monkeypatch.setattr(FaultyCatalog, "commit_table", without_own_check)
    catalog.before_commit = [lambda: make_tag(catalog, table)]

    with pytest.raises(RefLostError, match="^Cannot expire snapshots of ods.clicks: wanted came to name") as caught:
        expire(catalog)

    assert kept_files(files) <= stored(table)
    lost = StaticTable.from_metadata(caught.value.metadata_location)
    assert lost.scan(snapshot_id=ids(table)[1]).to_arrow().num_rows == 20


def kept_files(files: set[str]) -> set[str]:
    """Without metadata files, which leave their log with each commit."""
    return {path for path in files if not path.endswith(".metadata.json")}


def test_others_that_are_first_again_and_again_stop_it_with_nothing_done(
    catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse_assets.operations.expiring._ATTEMPTS", 3)
    before = make(catalog)
    files = stored(before)
    catalog.before_commit = [raising(CommitFailedException("refused"))] * 3

    with pytest.raises(CommitConflictError, match="3 attempts to expire"):
        expire(catalog)

    assert ids(catalog.load_table(NAME)) == ids(before)
    assert stored(before) == files


def test_what_was_expired_before_others_were_first_again_and_again_is_cleaned_up(
    catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse_assets.operations.expiring._ATTEMPTS", 3)
    monkeypatch.setattr("lakehouse_assets.operations.expiring._MOST", 2)
    before = make(catalog)
    catalog.before_commit = [pass_by, *[raising(CommitFailedException("refused"))] * 3]

    report = expire(catalog)

    assert ids(assert_whole(catalog)) == ids(before)[2:]
    assert any("other commits were first in 3 attempts" in str(one) for one in report.kept_back)


def test_a_commit_that_was_not_answered_and_did_not_land_deletes_nothing(catalog: FaultyCatalog) -> None:
    before = make(catalog)
    files = stored(before)
    catalog.before_commit = [raising(OperationalError("COMMIT", {}, Exception("connection lost")))]

    with pytest.raises(CommitOutcomeUnknownError, match="that expires 4 snapshots to ods.clicks landed: .*connection lost"):
        expire(catalog)

    assert stored(before) == files
    expire(catalog)
    assert ids(assert_whole(catalog)) == ids(before)[-1:]


def test_a_commit_that_was_not_answered_and_landed_counts(catalog: FaultyCatalog) -> None:
    before = make(catalog)
    catalog.after_commit = [raising(OperationalError("COMMIT", {}, Exception("connection lost")))]

    assert expire(catalog).figures["snapshots_deleted"] == 4

    assert ids(assert_whole(catalog)) == ids(before)[-1:]


def test_a_catalog_that_went_away_after_the_commit_keeps_every_file(catalog: FaultyCatalog) -> None:
    before = make(catalog)
    files = stored(before)
    gone = OperationalError("SELECT", {}, Exception("connection lost"))
    catalog.after_commit = [raising(gone)]
    catalog.before_load = [pass_by, pass_by, raising(gone)]

    with pytest.raises(CommitOutcomeUnknownError):
        expire(catalog)

    assert kept_files(files) <= stored(before)


def test_a_table_that_was_created_again_meanwhile_is_not_touched(catalog: FaultyCatalog) -> None:
    make(catalog)

    def replace() -> None:
        catalog.drop_table(NAME)
        fill(catalog, 2)

    catalog.before_commit = [replace]

    with pytest.raises(TableReplacedError):
        expire(catalog)

    assert judge.read_every_snapshot(catalog.load_table(NAME)) == [10, 20]


def test_a_crash_at_any_effect_leaves_at_most_orphans(tmp_path: Path, catalog: FaultyCatalog) -> None:
    before = make(catalog, snapshots=3)
    place, copy = Path(before.location().removeprefix("file://")), tmp_path / "copy"
    shutil.copytree(place, copy / "table")
    shutil.copy(tmp_path / "catalog.db", copy)
    EFFECTS.arm(None)
    expire(catalog)
    effects = list(EFFECTS.seen)
    assert sum(effect.startswith("delete") for effect in effects) >= 2
    for at in range(len(effects)):
        shutil.rmtree(place)
        shutil.copytree(copy / "table", place)
        shutil.copy(copy / "catalog.db", tmp_path)
        EFFECTS.arm(Fault(at, "before", faults.crash, lasting=True))

        with pytest.raises(Crash):
            expire(catalog)

        EFFECTS.arm(None)
        after = catalog.load_table(NAME)
        assert judge.read_every_snapshot(after) in ([10, 20, 30], [30])
        assert reached(after) <= stored(after)
        expire(catalog)
        assert ids(catalog.load_table(NAME)) == ids(before)[-1:]
        assert reached(catalog.load_table(NAME)) <= stored(after)


def test_files_that_cannot_be_deleted_are_named(catalog: FaultyCatalog) -> None:
    make(catalog)
    EFFECTS.arm(Fault("delete", "before", _refuse, lasting=True))

    report = expire(catalog)

    assert "could not be deleted, as file://" in str(report.kept_back[0])
    assert report.figures["manifests_deleted"] == 0


def _refuse(effect: str) -> None:
    raise PermissionError(effect)


def test_a_reader_that_began_within_the_age_reads_to_its_end(catalog: FaultyCatalog) -> None:
    table = make(catalog, **{AGE: str(DAY_MS)})
    compact(catalog, policy={"small_files": 2})
    reader = table.scan().to_arrow_batch_reader()

    expire(catalog, now_ms=lambda: table.metadata.snapshots[-1].timestamp_ms + DAY_MS)

    assert sum(batch.num_rows for batch in reader) == 50
    assert len(ids(catalog.load_table(NAME))) == 3


def test_the_ledger_is_the_same_where_others_wrote_long_after_us(catalog: FaultyCatalog) -> None:
    """They rewrote every row, so that neither a file nor the order of the rows says what the table holds."""
    table = make(catalog, snapshots=2)
    publish(catalog, NAME, make_delivery(table, {0: range(90, 95)}))
    publish(catalog, NAME, make_delivery(table, {0: range(40, 45)}))
    for _ in range(3):
        foreign = catalog.load_table(NAME)
        foreign.overwrite(foreign.scan().to_arrow())
    before = read_ledger(catalog.load_table(NAME))

    report = expire(catalog)

    after = assert_whole(catalog)
    assert read_ledger(after) == before
    assert report.figures["snapshots_deleted"] == 3
    assert "lakehouse.ledger" in str(report.kept_back[0])
    publish(catalog, NAME, make_delivery(after, {0: range(95, 100)}))
    expire(catalog)
    assert len(ids(catalog.load_table(NAME))) == 1


def test_ledger_and_remembered_deletions_of_an_upsert_table_outlive_expiry(catalog: FaultyCatalog) -> None:
    merger = Merger(catalog)
    with merger.table.transaction() as change:
        change.set_properties(ONLY_THE_HEAD)
    merger.put(dict.fromkeys(range(20), "a"), has_several_logs=True)
    merger.put({3: None, 4: None}, has_several_logs=True)
    merger.put({5: "b"}, has_several_logs=True)
    for number in range(900, 902):
        merger.table.append(pa.table({"id": [number]}, schema=pa.schema([pa.field("id", pa.int64(), nullable=False)])))
    before = merger.table
    ledger, rows = read_ledger(before), merger.read()

    expire(catalog)
    expire(catalog)

    assert read_ledger(merger.table) == ledger
    assert merger.read() == rows
    assert len(ids(merger.table)) == 3
    named = merger.table.metadata.snapshots[0].summary["lakehouse.tombstones"]  # type: ignore[index]
    assert Path(named.removeprefix("file://")).exists()
    assert reached(merger.table) == stored(merger.table)
