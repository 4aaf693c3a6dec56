"""Manifests become few and sorted by partition, and no entry changes, whatever others commit meanwhile."""

from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.expressions import EqualTo
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import ManifestContent, ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation
from pyiceberg.transforms import TruncateTransform

from lakehouse_assets.model.errors import TableMissingError
from lakehouse_assets.model.maintenance import MaintenanceReport
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.model.manifest_plan import TARGET_KEY
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.operations.rewriting_manifests import run_rewrite_manifests
from lakehouse_assets.systems.commit import publish
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets.systems.regrouping import list_manifests
from lakehouse_assets_tests import faults, judge
from lakehouse_assets_tests.builders import make_delivery, make_spec, make_table
from lakehouse_assets_tests.faults import Crash, Fault, FaultyCatalog, crash, pass_by
from lakehouse_assets_tests.foreign_deletes import delete_rows

NAME = "ods.clicks"
LETTERS = "abcdefghijklm"
COMMITS = 6
TARGET_BYTES = 11_500


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse_assets.model.manifest_plan.MANY_SMALL", COMMITS - 1)
    monkeypatch.setattr("lakehouse_assets.systems.manifests._BLOCK_ENTRIES", 1)


@pytest.fixture
def table(catalog: FaultyCatalog) -> Iterator[Table]:
    """Partitioned by a letter, with three rows of ours; then others appended a row of each letter, once more than is good."""
    made = make_table(catalog, make_spec(partition_by=["text"], properties={TARGET_KEY: str(TARGET_BYTES)}))
    publish(catalog, NAME, make_delivery(made, {0: range(3)}))
    for number in range(COMMITS):
        append_letters(catalog, number)
    return catalog.load_table(NAME)


def append_letters(catalog: FaultyCatalog, number: int) -> None:
    ids = pa.array([number] * len(LETTERS), pa.int64())
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("text", pa.string())])
    catalog.load_table(NAME).append(pa.table([ids, pa.array(LETTERS)], schema=schema))


def rewrite(catalog: FaultyCatalog, *, is_dry_run: bool = False) -> MaintenanceReport:
    return run_rewrite_manifests(MaintenanceTask(catalog, NAME, MaintenanceSpec(), now_ms=lambda: 0, is_dry_run=is_dry_run))


def entries(table: Table) -> list[tuple[Any, ...]]:
    """All that a snapshot says of its files, but not in which manifest."""
    found = []
    for manifest in list_manifests(table):
        for entry in manifest.fetch_manifest_entry(table.io):
            file = entry.data_file
            assert entry.status != ManifestEntryStatus.ADDED or entry.snapshot_id == manifest.added_snapshot_id
            facts = (entry.snapshot_id, entry.sequence_number, entry.file_sequence_number, manifest.partition_spec_id)
            values = [file[i] for i in range(len(file))]
            found.append((file.file_path, *facts, *(dict(one) if isinstance(one, Mapping) else str(one) for one in values)))
    return sorted(found, key=itemgetter(0))


def rows(table: Table, snapshot_id: int | None = None) -> list[tuple[object, ...]]:
    return judge.query(table, "SELECT id, text, _kafka_offset FROM {table} ORDER BY ALL", snapshot_id)


def opened_manifests(table: Table, letter: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many manifests PyIceberg opens to plan a scan of one letter."""
    opened: list[str] = []
    new_input = PyArrowFileIO.new_input

    def count(self: PyArrowFileIO, location: str) -> Any:
        opened.append(location)
        return new_input(self, location)

    with monkeypatch.context() as patch:
        patch.setattr(PyArrowFileIO, "new_input", count)
        files = list(table.scan(EqualTo("text", letter)).plan_files())
    assert len(files) >= COMMITS
    return sum(1 for location in opened if "-m" in location.rpartition("/")[2])


def test_entries_stay_what_they_are_and_a_filter_opens_few_manifests(
    catalog: FaultyCatalog, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = rewrite(catalog)

    after = catalog.load_table(NAME)
    head = after.metadata.current_snapshot()
    assert head is not None
    assert head.summary is not None
    assert head.summary.operation == Operation.REPLACE
    assert (report.figures["manifests_before"], report.snapshot_ids) == (COMMITS + 1, [head.snapshot_id])
    assert 3 <= report.figures["manifests_after"] == len(list_manifests(after)) < COMMITS
    assert entries(after) == entries(table)
    assert rows(after) == rows(table)
    assert read_ledger(after) is not None
    opened = [sum(opened_manifests(one, letter, monkeypatch) for letter in LETTERS) for one in (table, after)]
    assert opened[0] == COMMITS * len(LETTERS)
    assert opened[1] < len(LETTERS) + report.figures["manifests_after"]
    assert judge.query(after, "SELECT count(*) FROM {table} WHERE text = 'c'") == [(COMMITS,)]


def test_a_dry_run_changes_nothing_and_a_second_run_finds_nothing_to_do(catalog: FaultyCatalog, table: Table) -> None:
    report = rewrite(catalog, is_dry_run=True)

    assert dict(zip(report.planned.titles, report.planned.rows[0], strict=True))["manifests"] == COMMITS + 1
    assert catalog.load_table(NAME).metadata_location == table.metadata_location

    rewrite(catalog)
    again = rewrite(catalog)

    assert not again.planned
    assert not again.snapshot_ids
    assert len(catalog.load_table(NAME).metadata.snapshots) == len(table.metadata.snapshots) + 1


def test_commits_join_small_manifests_and_leave_sorted_ones_as_they_are(catalog: FaultyCatalog, table: Table) -> None:
    rewrite(catalog)
    staged = {one.manifest_path for one in list_manifests(catalog.load_table(NAME)) if one.manifest_length * 2 > TARGET_BYTES}
    catalog.load_table(NAME).delete("text == 'a'")  # that of others: the manifests of one letter are written again

    for at in range(3, 23):
        publish(catalog, NAME, make_delivery(catalog.load_table(NAME), {0: range(at, at + 1)}))

    manifests = list_manifests(catalog.load_table(NAME))
    assert len(staged) > 2
    assert len(staged - {one.manifest_path for one in manifests}) <= 2
    assert len(manifests) < len(staged) + 16


def test_manifests_of_two_specs_and_of_deletes_are_kept_apart(catalog: FaultyCatalog, table: Table) -> None:
    with table.update_spec() as update:
        update.remove_field("text").add_field("id", TruncateTransform(2), "few")
    for number in range(COMMITS):
        append_letters(catalog, number)
        delete_rows(catalog, NAME, "id", [number])
    before = catalog.load_table(NAME)

    report = rewrite(catalog)

    after = catalog.load_table(NAME)
    assert sorted(row[:2] for row in report.planned.rows) == [("data", 0), ("data", 1), ("deletes", 0), ("deletes", 1)]
    assert entries(after) == entries(before)
    assert rows(after) == rows(before)
    assert {one.content for one in list_manifests(after)} == set(ManifestContent)


def test_appends_meanwhile_are_no_conflict_and_nothing_is_written_twice(catalog: FaultyCatalog, table: Table) -> None:
    catalog.before_commit = [lambda: append_letters(catalog, 100), pass_by, lambda: append_letters(catalog, 101), pass_by]

    begun = len(faults.EFFECTS.seen)
    report = rewrite(catalog)

    after = catalog.load_table(NAME)
    written = [effect for effect in faults.EFFECTS.seen[begun:] if effect.startswith("create ") and "-m" in effect]
    assert len(rows(after)) == len(rows(table)) + 2 * len(LETTERS)
    # Each append wrote one beside those that are staged, once.
    assert len(written) == report.figures["manifests_after"] - report.figures["manifests_before"] + COMMITS + 1 + 2


def test_where_a_manifest_has_gone_it_is_planned_again(catalog: FaultyCatalog, table: Table) -> None:
    catalog.before_commit = [lambda: catalog.load_table(NAME).delete("text == 'b'")]

    rewrite(catalog)

    after = catalog.load_table(NAME)
    assert rows(after) == [row for row in rows(table) if row[1] != "b"]
    assert {one.manifest_path for one in list_manifests(after)} <= files_of(after)


def files_of(table: Table) -> set[str]:
    """Manifests that lie beside the table's metadata."""
    folder = table.location() + "/metadata"
    files, path = table.io.fs_by_scheme("file", None), folder.removeprefix("file://")  # type: ignore[attr-defined]
    selector = pa.fs.FileSelector(path)
    return {f"file://{info.path}" for info in files.get_file_info(selector)}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_leaves_a_table_that_the_next_run_finishes(catalog: FaultyCatalog, table: Table, when: Any) -> None:
    faults.EFFECTS.arm(Fault("commit", when, crash))
    with pytest.raises(Crash):
        rewrite(catalog)
    faults.EFFECTS.arm(None)

    rewrite(catalog)

    after = catalog.load_table(NAME)
    assert entries(after) == entries(table)
    assert len(after.metadata.snapshots) == len(table.metadata.snapshots) + 1


def test_a_table_that_is_not_there_is_an_error(catalog: FaultyCatalog) -> None:
    with pytest.raises(TableMissingError):
        rewrite(catalog)
