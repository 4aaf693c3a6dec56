"""Which files a table reaches, beside a reader that goes through everything with PyIceberg alone."""

from collections import Counter
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFileContent
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.statistics import PartitionStatisticsFile, StatisticsFile
from pyiceberg.table.update import SetPartitionStatisticsUpdate, SetStatisticsUpdate
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    IntegerType,
    NestedField,
    StringType,
)

from lakehouse_assets.systems.reachability import Reachable, reach, reached_only_by
from lakehouse_assets.systems.tombstones import TOMBSTONES_KEY
from lakehouse_assets_tests.builders import append_foreign_rows, expire, make_systems, make_table
from lakehouse_assets_tests.faults import FaultyCatalog
from lakehouse_assets_tests.systems.merges import Merger, make_upsert_spec

NAME = "ods.clicks"
VALUES = [
    (BooleanType(), pa.bool_(), [True, None]),
    (IntegerType(), pa.int32(), [-(2**31), None]),
    (DoubleType(), pa.float64(), [0.1, None]),
    (DecimalType(20, 3), pa.decimal128(20, 3), [Decimal("-12345678901234567.891"), None]),
    (DateType(), pa.date32(), [date(1969, 12, 31), None]),
    (StringType(), pa.string(), ["é" * 20 + "a" * 100, None]),
    (BinaryType(), pa.binary(), [b"\x00" * 70, None]),
]


def make_merged(catalog: Catalog, batches: int = 6) -> Merger:
    """Data files, files of deletes and of tombstones, in many snapshots that share manifests."""
    merger = Merger(catalog, make_upsert_spec())
    merger.put(dict.fromkeys(range(50), "a"), has_several_logs=True)
    for number in range(batches):
        merger.put({number: None, number + 25: "b"}, has_several_logs=True)
    return merger


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """One table for all who only read it, with so many commits that their manifests were joined."""
    return make_merged(make_systems(tmp_path_factory.mktemp("merged")).catalog, batches=18).table


def read_all(table: Table, snapshot_ids: set[int] | None = None) -> Reachable:
    """The same without a line of what is tested."""
    data, deletes, manifests, lists, others = set(), set(), set(), set(), set()
    for snapshot in table.metadata.snapshots:
        if snapshot_ids is not None and snapshot.snapshot_id not in snapshot_ids:
            continue
        lists.add(snapshot.manifest_list)
        others.add((snapshot.summary and snapshot.summary.additional_properties.get(TOMBSTONES_KEY)) or "")
        for manifest in snapshot.manifests(table.io):
            manifests.add(manifest.manifest_path)
            for entry in manifest.fetch_manifest_entry(table.io):
                (data if entry.data_file.content == DataFileContent.DATA else deletes).add(entry.data_file.file_path)
    return Reachable(data, deletes, manifests, lists, others=others - {""})


def test_everything_of_every_snapshot_is_reached(merged: Table) -> None:
    expected = read_all(merged)

    found = reach(merged, merged.io)

    assert (found.data, found.deletes, found.manifests, found.lists) == (
        expected.data, expected.deletes, expected.manifests, expected.lists
    )  # fmt: skip
    assert found.metadata == {merged.metadata_location, *(entry.metadata_file for entry in merged.metadata.metadata_log)}
    assert found.others == {*expected.others, f"{merged.location()}/metadata/version-hint.text"}
    assert len(expected.others) > 10
    assert expected.deletes
    assert all(Path(one.removeprefix("file://")).exists() for one in found.needed | found.metadata)


def test_each_manifest_is_read_once(merged: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Counter[str] = Counter()
    new_input = merged.io.new_input

    def count(location: str):  # type: ignore[no-untyped-def]
        opened[location] += 1
        return new_input(location)

    monkeypatch.setattr(merged.io, "new_input", count)
    found = reach(merged, merged.io)

    assert set(opened) == found.manifests | found.lists
    assert set(opened.values()) == {1}


def test_of_some_snapshots_only_what_they_reach(merged: Table) -> None:
    ids = {snapshot.snapshot_id for snapshot in merged.metadata.snapshots[3:6]}

    found = reach(merged.metadata, merged.io, ids)

    assert found == read_all(merged, ids)


def test_known_manifests_are_not_read_again(merged: Table) -> None:
    *older, newest = (snapshot.snapshot_id for snapshot in merged.metadata.snapshots)
    before = reach(merged, merged.io, older)

    since = reach(merged, merged.io, [newest], known_manifests=before.manifests)

    assert before.all | since.all == read_all(merged).all
    assert not since.manifests & before.manifests


@pytest.mark.parametrize("null", [False, True])
def test_paths_are_found_between_partition_values_of_every_type(catalog: FaultyCatalog, null: bool) -> None:
    schema = Schema(*[NestedField(at, f"c{at}", kind, required=False) for at, (kind, _, _) in enumerate(VALUES, 1)])
    fields = [PartitionField(at, 1000 + at, IdentityTransform(), f"p{at}") for at in range(1, len(VALUES) + 1)]
    catalog.create_namespace("ods")
    table = catalog.create_table("ods.typed", schema, partition_spec=PartitionSpec(*fields))
    table.append(pa.table({f"c{at}": pa.array([values[null]], kind) for at, (_, kind, values) in enumerate(VALUES, 1)}))

    assert reach(table.metadata, table.io, [table.metadata.snapshots[0].snapshot_id]) == read_all(table)


def test_statistics_are_reached_by_their_snapshot(catalog: FaultyCatalog) -> None:
    merger = make_merged(catalog)
    first, second = (snapshot.snapshot_id for snapshot in merger.table.metadata.snapshots[:2])
    of_table = StatisticsFile(
        snapshot_id=first, statistics_path="file:///s/a.puffin", file_size_in_bytes=1, file_footer_size_in_bytes=1, blob_metadata=[]
    )
    of_partitions = PartitionStatisticsFile(snapshot_id=second, statistics_path="file:///s/b.parquet", file_size_in_bytes=1)
    catalog.commit_table(
        merger.table,
        (),
        (
            SetStatisticsUpdate(snapshot_id=first, statistics=of_table),
            SetPartitionStatisticsUpdate(partition_statistics=of_partitions),
        ),
    )
    table = merger.table

    assert {"file:///s/a.puffin", "file:///s/b.parquet"} < reach(table, table.io).others
    assert "file:///s/a.puffin" in reach(table, table.io, [first]).others
    assert "file:///s/b.parquet" not in reach(table, table.io, [first]).others


def test_only_what_nobody_else_reaches_goes_with_snapshots(catalog: FaultyCatalog) -> None:
    merger = make_merged(catalog)
    before = merger.table
    gone = before.metadata.snapshots[:4]
    expire(merger.table, [snapshot.snapshot_id for snapshot in gone])

    table = merger.table
    only = reached_only_by(gone, read_all(before, {one.snapshot_id for one in gone}).others, table.metadata, table.io)

    assert only.all == read_all(before).all - read_all(table).all
    assert only.lists == {snapshot.manifest_list for snapshot in gone}
    assert only.deletes
    assert only.others


def test_a_file_that_a_kept_snapshot_spells_otherwise_is_reached(catalog: FaultyCatalog) -> None:
    table = make_table(catalog)
    append_foreign_rows(table)
    path = next(iter(reach(table, table.io).data))
    gone = table.metadata.snapshots
    table.overwrite(table.scan().to_arrow())
    rows = Path(path.removeprefix("file://"))
    table.add_files([f"file:{rows.parent}//{rows.name}"])
    expire(table, [snapshot.snapshot_id for snapshot in table.metadata.snapshots[:-1]])

    only = reached_only_by(gone, set(), table.refresh().metadata, table.io)

    assert path not in only.all
    assert only.lists


@pytest.mark.parametrize("kind", ["lists", "manifests"])
def test_what_is_missing_of_gone_snapshots_is_passed_over_and_of_others_an_error(catalog: FaultyCatalog, kind: str) -> None:
    merger = make_merged(catalog)
    gone, ids = merger.table.metadata.snapshots[:4], [one.snapshot_id for one in merger.table.metadata.snapshots[:4]]
    expire(merger.table, ids)
    table = merger.table
    only = reached_only_by(gone, set(), table.metadata, table.io)
    Path(sorted(getattr(only, kind))[0].removeprefix("file://")).unlink()

    assert reached_only_by(gone, set(), table.metadata, table.io).lists == only.lists

    Path(sorted(getattr(reach(table, table.io), kind))[0].removeprefix("file://")).unlink()
    find: list[Callable[[], Reachable]] = [lambda: reached_only_by(gone, set(), table.metadata, table.io), lambda: reach(table, table.io)]
    for one in find:
        with pytest.raises(FileNotFoundError):
            one()
