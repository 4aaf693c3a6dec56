"""What is measured of a table is what stands in it."""

import time
from collections import Counter

from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFileContent

from lakehouse_assets.model.debt import Debt
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.systems.commit import publish
from lakehouse_assets.systems.measuring import measure_debt
from lakehouse_assets.systems.snapshots import list_live_files
from lakehouse_assets_tests.builders import HOUR_MS, append_foreign_rows, make_delivery, make_spec, make_table
from lakehouse_assets_tests.foreign_deletes import delete_rows

NAME = "ods.clicks"
THREE = MaintenanceSpec(small_files=3)


def _commit(catalog: Catalog, *offsets: range) -> None:
    for some in offsets:
        publish(catalog, NAME, make_delivery(catalog.load_table(NAME), {0: some}))


def _measure(catalog: Catalog, policy: MaintenanceSpec = THREE, later_ms: int = 0) -> Debt:
    return measure_debt(catalog.load_table(NAME), policy, int(time.time() * 1000) + later_ms)


def test_an_empty_table_owes_nothing(catalog: Catalog) -> None:
    make_table(catalog)

    assert _measure(catalog) == Debt(metadata_files=1)


def test_files_below_three_quarters_of_the_target_size_are_counted_by_partition(catalog: Catalog) -> None:
    make_table(catalog, make_spec(partition_by=["bucket(2, id)"]))
    _commit(catalog, range(1), range(1, 2), range(2, 10), range(10, 20))
    files = [entry.data_file for entry in list_live_files(catalog.load_table(NAME))]
    by_bucket = Counter(file.partition[0] for file in files).values()

    debt = _measure(catalog)

    assert sorted(by_bucket) == [2, 4]
    assert (debt.small_files, debt.waiting_files) == (4, 4)
    assert (debt.data_files, debt.manifests, debt.snapshots) == (6, 4, 4)
    assert debt.size_bytes == sum(file.file_size_in_bytes for file in files)
    assert debt.due(THREE) == ("compact",)


def test_a_file_of_the_target_size_is_not_small(catalog: Catalog) -> None:
    size = str(16 * 1024)
    make_table(catalog, make_spec(properties={"write.target-file-size-bytes": size}))
    _commit(catalog, range(3_000), range(3_000, 6_000), range(6_000, 6_001))

    assert _measure(catalog).small_files == 1


def test_rows_of_others_and_their_deletes_count_like_ours(catalog: Catalog) -> None:
    make_table(catalog)
    _commit(catalog, range(4))
    append_foreign_rows(catalog.load_table(NAME), 4)
    delete_rows(catalog, NAME, "id", [0, 1_000_000])

    debt = _measure(catalog)

    assert (debt.rows, debt.dead_rows, debt.dead_percent, debt.delete_files) == (8, 2, 25.0, 1)
    assert debt.due(MaintenanceSpec()) == ("compact",)


def test_equality_deletes_are_a_debt_of_themselves(catalog: Catalog) -> None:
    make_table(catalog)
    _commit(catalog, range(4))
    delete_rows(catalog, NAME, "id", [0], DataFileContent.EQUALITY_DELETES)

    assert _measure(catalog).equality_deletes == 1
    assert _measure(catalog).due(MaintenanceSpec()) == ("compact",)


def test_snapshots_that_are_old_enough_and_nobodys_may_go(catalog: Catalog) -> None:
    make_table(catalog, make_spec(properties={"history.expire.min-snapshots-to-keep": "2"}))
    _commit(catalog, range(1), range(1, 2), range(2, 3), range(3, 4))
    table = catalog.load_table(NAME)
    table.manage_snapshots().create_tag(table.metadata.snapshots[0].snapshot_id, "kept").commit()

    assert _measure(catalog).expired_snapshots == 0
    assert _measure(catalog, later_ms=24 * 30 * HOUR_MS).expired_snapshots == 1


def test_the_age_of_the_debt_is_that_of_the_oldest_file_that_waits(catalog: Catalog) -> None:
    make_table(catalog)
    _commit(catalog, range(1), range(1, 2))
    assert _measure(catalog).oldest_ms is None

    _commit(catalog, range(2, 3))

    assert _measure(catalog).oldest_ms == catalog.load_table(NAME).metadata.snapshots[0].timestamp_ms
