"""Files that no snapshot knows go, and never one that somebody needs, or may come to need."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyiceberg.table import Table
from pyiceberg.table.statistics import StatisticsFile
from pyiceberg.table.update import SetStatisticsUpdate

from lakehouse_assets.model.errors import (
    ListingIncompleteError,
    SharedLocationError,
    StorageError,
    TableMissingError,
    TableReplacedError,
    TooManyOrphansError,
)
from lakehouse_assets.model.maintenance import MaintenanceReport
from lakehouse_assets.operations import removing_orphans
from lakehouse_assets.operations.expiring import run_expire
from lakehouse_assets.operations.removing_orphans import run_remove_orphans
from lakehouse_assets.systems import orphans as orphans_module
from lakehouse_assets.systems.commit import publish
from lakehouse_assets.systems.storage import StoredFile, list_files
from lakehouse_assets_tests import faults, judge
from lakehouse_assets_tests.builders import expire, make_delivery, make_spec, make_table
from lakehouse_assets_tests.faults import EFFECTS, Crash, Fault, FaultyCatalog
from lakehouse_assets_tests.operations.compactions import NAME, fill, make_task
from lakehouse_assets_tests.systems.merges import Merger

DAY_S = 24 * 3600


def remove(catalog: FaultyCatalog, table: str = NAME, **parts: Any) -> MaintenanceReport:
    """One run, now."""
    return run_remove_orphans(make_task(catalog, table, **({"now_ms": lambda: int(time.time() * 1000)} | parts)))


def path_of(location: str) -> Path:
    return Path(location.removeprefix("file://"))


def plant(table: Table, name: str, days: float = 4) -> str:
    """A file in the table's place that was written so many days ago."""
    path = path_of(table.location()) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"12345")
    then = time.time() - days * DAY_S
    os.utime(path, (then, then))
    return f"file://{path}"


def age_all(table: Table, days: float = 4) -> set[str]:
    """Every file in its place, as old as that from now on."""
    then = time.time() - days * DAY_S
    files = [path for path in path_of(table.location()).rglob("*") if path.is_file()]
    for path in files:
        os.utime(path, (then, then))
    return {f"file://{path}" for path in files}


def stored(table: Table) -> set[str]:
    return {f"file://{path}" for path in path_of(table.location()).rglob("*") if path.is_file()}


def test_orphans_of_every_kind_go_and_nothing_else(catalog: FaultyCatalog) -> None:
    merger = Merger(catalog)
    for number in range(4):
        merger.put({number: "a", number + 1: None}, has_several_logs=True)
    of_table = StatisticsFile(
        snapshot_id=merger.table.metadata.snapshots[0].snapshot_id, statistics_path=plant(merger.table, "metadata/known.stats"),
        file_size_in_bytes=5, file_footer_size_in_bytes=5, blob_metadata=[],
    )  # fmt: skip
    catalog.commit_table(merger.table, (), (SetStatisticsUpdate(snapshot_id=of_table.snapshot_id, statistics=of_table),))
    plant(merger.table, "metadata/version-hint.text")
    table = merger.table
    needed = age_all(table)
    names = ["data/a.parquet", "data/_day=1/b.parquet", "metadata/m0.avro", "metadata/snap-1.avro", "metadata/tombstones-1.parquet"]
    planted = {plant(table, name) for name in [*names, "metadata/00001-x.metadata.json", "metadata/old.stats", "stray"]}

    report = remove(catalog, is_confirmed=True)

    assert stored(table) == needed
    assert {row[0] for row in report.planned.rows} == planted
    assert (report.figures["files_deleted"], report.figures["size_bytes_deleted"]) == (8, 40)
    assert judge.read_every_snapshot(merger.table)
    assert not remove(catalog).planned


@pytest.mark.parametrize(("days", "goes"), [(2.9, False), (3.1, True), (-1, False)])
def test_what_is_younger_than_the_policy_says_stays(catalog: FaultyCatalog, days: float, goes: bool) -> None:
    table = fill(catalog, 3)
    planted = plant(table, "data/a.parquet", days)

    report = remove(catalog)

    assert (planted not in stored(table)) == goes
    assert [("1 files: younger than 3 days" in str(one)) for one in report.kept_back] == ([] if goes else [True])


def test_a_file_of_which_nobody_knows_when_it_was_written_is_young(
    catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = fill(catalog, 3)
    planted = plant(table, "data/a.parquet")
    timeless = lambda io, folder: (StoredFile(one.location, one.size_bytes, None) for one in list_files(io, folder))  # noqa: E731
    monkeypatch.setattr(orphans_module, "list_files", timeless)

    assert not remove(catalog).planned
    assert planted in stored(table)


def test_a_dry_run_names_each_file_and_deletes_none(catalog: FaultyCatalog) -> None:
    table = fill(catalog, 1)
    planted = [plant(table, f"data/{number}.parquet") for number in range(9)]
    files = stored(table)

    report = remove(catalog, is_dry_run=True)

    assert [row[:2] for row in report.planned.rows] == [(one, 5) for one in planted]
    assert report.planned.figures == {"files": 9, "size_bytes": 45, "files_listed": len(files), "share": round(9 / len(files), 4)}
    assert stored(table) == files


def test_too_large_a_share_is_shown_to_a_person_first(catalog: FaultyCatalog) -> None:
    table = fill(catalog, 1)
    planted = {plant(table, f"data/{number}.parquet") for number in range(5)}
    files = stored(table)

    with pytest.raises(TooManyOrphansError, match=rf"5 of the {len(files)} files .* {5 / len(files):.0%}, .* at most 20%") as caught:
        remove(catalog)

    assert stored(table) == files
    assert caught.value.share == 5 / len(files)
    assert remove(catalog, is_confirmed=True).figures["files_deleted"] == 5
    assert stored(table) == files - planted


def test_the_age_is_what_the_policy_says(catalog: FaultyCatalog) -> None:
    table = fill(catalog, 3)
    planted = plant(table, "data/a.parquet", days=1.1)

    assert not remove(catalog).planned
    assert [row[0] for row in remove(catalog, policy={"orphan_age": "1d"}).planned.rows] == [planted]


def test_what_other_programs_call_their_own_stays_and_is_named(catalog: FaultyCatalog) -> None:
    table = fill(catalog, 3)
    hidden = {plant(table, name) for name in ("_delta_log/1.json", "data/_SUCCESS", "data/.a.crc")}

    report = remove(catalog)

    assert hidden <= stored(table)
    assert "3 files: their names begin with _ or ." in str(report.kept_back[0])


def test_a_file_whose_name_means_another_one_stays_and_that_one_too(catalog: FaultyCatalog) -> None:
    table = fill(catalog, 5)
    live = next(path for path in stored(table) if path.endswith(".parquet"))
    strange = f"{live}?copy"
    path_of(strange).write_bytes(b"1")
    age_all(table)

    report = remove(catalog)

    assert {live, strange} <= stored(table)
    assert "could not be deleted" in str(report.kept_back[0])


def test_nothing_goes_where_files_may_be_used_by_others(catalog: FaultyCatalog) -> None:
    table = fill(catalog, 1, properties={"gc.enabled": "false"})
    planted = plant(table, "data/a.parquet")

    assert "gc.enabled=false" in str(remove(catalog).kept_back[0])
    assert planted in stored(table)


def test_a_table_that_is_not_there_is_an_error(catalog: FaultyCatalog) -> None:
    with pytest.raises(TableMissingError):
        remove(catalog, "ods.nothing")


def test_files_of_a_table_within_the_place_are_not_taken_for_orphans(catalog: FaultyCatalog) -> None:
    table = fill(catalog, 2)
    catalog.create_table("ods.inner", table.schema(), location=f"{table.location()}/inner")
    files = age_all(table)

    for name in (NAME, "ods.inner"):
        with pytest.raises(SharedLocationError):
            remove(catalog, name, is_confirmed=True)

    assert stored(table) == files


@pytest.mark.parametrize("kind", ["data", "metadata/snap-", "metadata/"])
def test_a_listing_that_lacks_a_file_deletes_nothing(
    catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    table = fill(catalog, 3)
    planted = plant(table, "data/a.parquet")
    needed = {path for path in stored(table) - {planted} if f"/{kind}" in path and not path.endswith(".json")}
    left_out = sorted(needed)[0]
    partial = lambda io, folder: (one for one in list_files(io, folder) if one.location != left_out)  # noqa: E731
    monkeypatch.setattr(orphans_module, "list_files", partial)

    with pytest.raises(ListingIncompleteError, match="and 1 of those it needs not among them") as caught:
        remove(catalog, is_confirmed=True)

    assert caught.value.example == left_out
    assert planted in stored(table)


def test_a_wrong_place_is_noticed_even_where_a_table_is_empty(catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_table(catalog)
    plant(table, "data/a.parquet")
    elsewhere = lambda io, folder: list_files(io, f"{folder}/data")  # noqa: E731
    monkeypatch.setattr(orphans_module, "list_files", elsewhere)

    with pytest.raises(ListingIncompleteError):
        remove(catalog, is_confirmed=True)


def test_a_storage_that_files_name_otherwise_than_the_place_is_noticed(
    catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `hdfs:///` and `hdfs://namenode`, which may be one storage or two."""
    table = fill(catalog, 3)
    age_all(table)
    other = table.location().replace("file:///", "hdfs://namenode/")
    renamed = lambda io, _: (  # noqa: E731
        StoredFile(one.location.replace("file:///", "hdfs://namenode/"), one.size_bytes, one.modified_ms)
        for one in list_files(io, table.location())
    )
    monkeypatch.setattr(orphans_module, "table_folders", lambda _: (other,))
    monkeypatch.setattr(orphans_module, "list_files", renamed)

    with pytest.raises(ListingIncompleteError):
        remove(catalog, is_confirmed=True)


def test_a_file_that_the_table_spells_otherwise_is_its_own(catalog: FaultyCatalog) -> None:
    table = make_table(catalog, make_spec(change_log=None))
    path = path_of(table.location()) / "data" / "added.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = make_delivery(table, {0: range(10)}).files[0]
    pq.write_table(pq.read_table(path_of(rows.file_path)).select(["id"]), path, store_schema=False)
    path_of(rows.file_path).unlink()
    table.add_files([f"file:{path.parent}//{path.name}"])
    files = age_all(table)

    assert not remove(catalog).planned
    assert stored(table) == files


def test_files_in_quite_another_place_are_no_concern(catalog: FaultyCatalog, tmp_path: Path) -> None:
    table = fill(catalog, 3)
    outside = tmp_path / "elsewhere" / "added.parquet"
    outside.parent.mkdir()
    rows = next(path for path in stored(table) if path.endswith(".parquet"))
    pq.write_table(pq.read_table(path_of(rows)).select(["id"]), outside, store_schema=False)
    table.add_files([f"file://{outside}"])
    planted = plant(table, "data/a.parquet")

    assert [row[0] for row in remove(catalog).planned.rows] == [planted]
    assert outside.exists()


def test_where_properties_put_files_is_looked_at_too(catalog: FaultyCatalog, tmp_path: Path) -> None:
    places = {f"write.{kind}.path": f"file://{tmp_path}/{kind}" for kind in ("data", "metadata")}
    table = fill(catalog, 3, properties=places)
    planted = []
    for kind in ("data", "metadata"):
        path = tmp_path / kind / "stray.avro"
        path.write_bytes(b"1")
        os.utime(path, (0, 0))
        planted.append(f"file://{path}")

    assert [row[0] for row in remove(catalog).planned.rows] == planted
    assert judge.read_every_snapshot(table) == [10, 20, 30]


Act = Callable[[FaultyCatalog, Table], object]


def append(catalog: FaultyCatalog, table: Table) -> None:
    publish(catalog, NAME, make_delivery(table, {0: range(100, 110)}))
    age_all(table, days=10)


def expire_old(catalog: FaultyCatalog, table: Table) -> None:
    run_expire(make_task(catalog, now_ms=lambda: int(time.time() * 1000) + 9 * DAY_S * 1000))


@pytest.mark.parametrize("act", [append, expire_old])
def test_a_listing_that_was_taken_while_others_commit_harms_nothing(
    catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch, act: Act
) -> None:
    """Even where the new files look old, as those of a copied table do."""
    table = fill(catalog, 3, properties={"history.expire.min-snapshots-to-keep": "1"})
    planted = plant(table, "data/a.parquet")
    staged = make_delivery(table, {0: range(30, 40)})
    age_all(table)

    def list_meanwhile(io: Any, folder: str) -> Iterator[StoredFile]:
        found = list(list_files(io, folder))
        publish(catalog, NAME, staged)
        act(catalog, table)
        return iter(found)

    monkeypatch.setattr(orphans_module, "list_files", list_meanwhile)

    report = remove(catalog, is_confirmed=True)

    after = catalog.load_table(NAME)
    assert planted in [row[0] for row in report.planned.rows]
    assert act is expire_old or len(report.planned.rows) == 1
    assert judge.read_every_snapshot(after)[-1] == (50 if act is append else 40)


def test_a_file_that_is_committed_before_its_batch_stays(catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removing_orphans, "_AT_ONCE", 1)
    table = fill(catalog, 3)
    first = plant(table, "data/!.parquet")
    staged = make_delivery(table, {0: range(30, 40)})
    staged_at = path_of(staged.files[0].file_path)
    os.utime(staged_at, (0, 0))
    published: list[object] = []

    def publish_after_the_first(sentence: str) -> None:
        if sentence.startswith("deleted 1 "):
            published.append(publish(catalog, NAME, staged))

    report = remove(catalog, on_progress=publish_after_the_first, is_confirmed=True)

    assert [row[0] for row in report.planned.rows] == [first, f"file://{staged_at}"]
    assert len(published) == report.figures["files_deleted"] == 1
    assert judge.read_every_snapshot(catalog.load_table(NAME))[-1] == 40


def test_a_table_that_was_created_again_meanwhile_is_not_touched(
    catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = fill(catalog, 2)
    age_all(table)

    def list_meanwhile(io: Any, folder: str) -> Iterator[StoredFile]:
        found = list(list_files(io, folder))
        catalog.drop_table(NAME)
        fill(catalog, 1)
        return iter(found)

    monkeypatch.setattr(orphans_module, "list_files", list_meanwhile)

    with pytest.raises(TableReplacedError):
        remove(catalog, is_confirmed=True)


def test_a_crash_between_two_deletions_is_made_good_by_the_next_run(catalog: FaultyCatalog) -> None:
    table = fill(catalog, 5)
    needed = age_all(table)
    for number in range(3):
        plant(table, f"data/{number}.parquet")
    EFFECTS.arm(Fault(1, "before", faults.crash, lasting=True))

    with pytest.raises(Crash):
        remove(catalog, is_confirmed=True)

    EFFECTS.arm(None)
    assert needed < stored(table)
    remove(catalog, is_confirmed=True)
    assert stored(table) == needed


def test_stopped_it_says_what_is_left(catalog: FaultyCatalog) -> None:
    table = fill(catalog, 5)
    planted = plant(table, "data/a.parquet")

    report = remove(catalog, stop=lambda: True)

    assert "1 files: the run was stopped" in str(report.kept_back[0])
    assert planted in stored(table)


def test_a_manifest_that_cannot_be_read_deletes_nothing(catalog: FaultyCatalog) -> None:
    table = fill(catalog, 3)
    planted = plant(table, "data/a.parquet")
    sorted(path for path in map(path_of, stored(table)) if path.suffix == ".avro")[0].unlink()

    with pytest.raises(StorageError, match="find what ods.clicks reaches"):
        remove(catalog, is_confirmed=True)

    assert planted in stored(table)


def test_what_pyicebergs_own_expiry_leaves_is_found(catalog: FaultyCatalog) -> None:
    table = fill(catalog, 6)
    table.overwrite(table.scan().to_arrow())
    expire(table, [one.snapshot_id for one in table.refresh().metadata.snapshots[:-1]])
    age_all(table)

    report = remove(catalog, is_confirmed=True)

    assert report.figures["files_deleted"] > 12
    assert judge.read_every_snapshot(catalog.load_table(NAME)) == [60]
