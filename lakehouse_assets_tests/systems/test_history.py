"""Which ledger counts, after what others may do to a table's history."""

from collections.abc import Callable

import pytest
from pyiceberg.table import Table

from lakehouse_assets.model.errors import LedgerLostError, LedgerMissingError, TableReplacedError
from lakehouse_assets.model.ledger import LEDGER_KEY
from lakehouse_assets.model.offsets import NO_OFFSETS, TopicRanges
from lakehouse_assets.systems.commit import publish
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import (
    append_foreign_rows,
    expire,
    make_delivery,
    make_ranges,
    make_spec,
    make_table,
    publish_replace,
    roll_back,
)
from lakehouse_assets_tests.faults import FaultyCatalog

NAME = "ods.clicks"


def held(table: Table) -> TopicRanges:
    ledger = read_ledger(table)
    assert ledger is not None
    return ledger.held


def add(catalog: FaultyCatalog, *ranges: range) -> list[int]:
    """Publish ranges of topic partition 0 one after the other; the snapshot ids."""
    table = make_table(catalog)
    return [publish(catalog, NAME, make_delivery(table, {0: offsets})).snapshot_id for offsets in ranges]


def append(catalog: FaultyCatalog) -> int:
    table = catalog.load_table(NAME)
    append_foreign_rows(table)
    return table.refresh().current_snapshot().snapshot_id  # type: ignore[union-attr]


def compact(catalog: FaultyCatalog) -> int:
    """Somebody rewrites every row into files of his own."""
    table = catalog.load_table(NAME)
    table.overwrite(table.scan().to_arrow())
    return table.refresh().current_snapshot().snapshot_id  # type: ignore[union-attr]


def expire_others(catalog: FaultyCatalog) -> None:
    table = catalog.load_table(NAME)
    head = table.current_snapshot().snapshot_id  # type: ignore[union-attr]
    expire(table, [s.snapshot_id for s in table.snapshots() if s.snapshot_id != head])


def test_a_new_table_holds_nothing(catalog: FaultyCatalog) -> None:
    assert held(make_table(catalog)) == NO_OFFSETS


def test_a_foreign_append_leaves_the_ledger(catalog: FaultyCatalog) -> None:
    add(catalog, range(10))
    append(catalog)

    assert held(catalog.load_table(NAME)) == make_ranges({0: [(0, 10)]})


def test_a_foreign_append_to_a_new_table_leaves_it_at_its_beginning(catalog: FaultyCatalog) -> None:
    make_table(catalog)
    append(catalog)

    assert held(catalog.load_table(NAME)) == NO_OFFSETS


def test_after_a_rollback_the_older_snapshot_counts(catalog: FaultyCatalog) -> None:
    first, *_ = add(catalog, range(10), range(10, 20))
    roll_back(catalog.load_table(NAME), first)

    assert held(catalog.load_table(NAME)) == make_ranges({0: [(0, 10)]})


def test_after_a_rollback_the_rest_lands_again(catalog: FaultyCatalog) -> None:
    first, *_ = add(catalog, range(10), range(10, 20))
    roll_back(catalog.load_table(NAME), first)

    add(catalog, range(10, 25))

    table = catalog.load_table(NAME)
    assert held(table) == make_ranges({0: [(0, 25)]})
    assert judge.read_positions(table) == [(0, offset) for offset in range(25)]


def test_after_a_rollback_and_a_foreign_append_the_older_snapshot_counts(catalog: FaultyCatalog) -> None:
    first, *_ = add(catalog, range(10), range(10, 20))
    roll_back(catalog.load_table(NAME), first)
    append(catalog)

    assert held(catalog.load_table(NAME)) == make_ranges({0: [(0, 10)]})


def test_after_a_rollback_to_a_foreign_snapshot_the_nearest_of_ours_counts(catalog: FaultyCatalog) -> None:
    add(catalog, range(10))
    foreign = append(catalog)
    add(catalog, range(10, 20))
    roll_back(catalog.load_table(NAME), foreign)

    assert held(catalog.load_table(NAME)) == make_ranges({0: [(0, 10)]})


def test_after_a_rollback_to_a_foreign_snapshot_before_all_of_ours_nothing_is_held(
    catalog: FaultyCatalog,
) -> None:
    make_table(catalog)
    foreign = append(catalog)
    add(catalog, range(10))
    roll_back(catalog.load_table(NAME), foreign)

    assert held(catalog.load_table(NAME)) == NO_OFFSETS


def test_that_holds_when_the_first_foreign_snapshot_has_expired(catalog: FaultyCatalog) -> None:
    make_table(catalog)
    first, second = append(catalog), append(catalog)
    add(catalog, range(10))
    roll_back(catalog.load_table(NAME), second)
    expire(catalog.load_table(NAME), [first])

    assert held(catalog.load_table(NAME)) == NO_OFFSETS


def test_after_expiry_of_all_our_snapshots_the_property_counts(catalog: FaultyCatalog) -> None:
    add(catalog, range(10), range(10, 20))
    append(catalog)
    expire_others(catalog)

    table = catalog.load_table(NAME)
    assert len(table.snapshots()) == 1
    assert held(table) == make_ranges({0: [(0, 20)]})


def test_after_expiry_of_a_table_filled_out_of_order_the_files_prove_the_property(
    catalog: FaultyCatalog,
) -> None:
    add(catalog, range(50, 60), range(50))
    append(catalog)
    expire_others(catalog)

    assert held(catalog.load_table(NAME)) == make_ranges({0: [(0, 60)]})


def test_after_rollback_and_expiry_the_rows_decide(catalog: FaultyCatalog) -> None:
    first, *_ = add(catalog, range(10), range(10, 20))
    roll_back(catalog.load_table(NAME), first)
    append(catalog)
    expire_others(catalog)

    assert held(catalog.load_table(NAME)) == make_ranges({0: [(0, 10)]})


def test_after_foreign_compaction_and_expiry_the_rows_decide(catalog: FaultyCatalog) -> None:
    add(catalog, range(10), range(10, 20))
    compact(catalog)
    expire_others(catalog)

    assert held(catalog.load_table(NAME)) == make_ranges({0: [(0, 20)]})


def test_after_rollback_to_nothing_but_foreign_rows_and_expiry_the_rows_decide(
    catalog: FaultyCatalog,
) -> None:
    make_table(catalog)
    foreign = append(catalog)
    add(catalog, range(10))
    roll_back(catalog.load_table(NAME), foreign)
    append(catalog)
    expire_others(catalog)

    assert held(catalog.load_table(NAME)) == NO_OFFSETS


@pytest.mark.parametrize(
    "ranges", [[range(50, 60), range(50)], [range(10), range(20, 30), range(10, 20)]], ids=str
)
def test_rows_filled_out_of_order_prove_nothing_once_rolled_back_and_expired(
    catalog: FaultyCatalog, ranges: list[range]
) -> None:
    """Their largest offset is the ledger's own, though others below it are gone."""
    *_, before_last, _ = add(catalog, *ranges)
    roll_back(catalog.load_table(NAME), before_last)
    append(catalog)
    expire_others(catalog)

    with pytest.raises(LedgerLostError, match="not filled in order"):
        read_ledger(catalog.load_table(NAME))


def test_a_replaced_slice_leaves_the_ledger_provable(catalog: FaultyCatalog) -> None:
    add(catalog, range(10), range(10, 20))
    publish_replace(catalog, {0: range(5, 15)})
    append(catalog)
    expire_others(catalog)

    assert held(catalog.load_table(NAME)) == make_ranges({0: [(0, 20)]})


def test_a_table_with_rows_but_no_ledger_is_refused(catalog: FaultyCatalog) -> None:
    table = make_table(catalog)
    append(catalog)
    with catalog.load_table(NAME).transaction() as transaction:
        transaction.remove_properties(LEDGER_KEY)

    with pytest.raises(LedgerMissingError, match="1 rows"):
        read_ledger(table.refresh())


def test_a_ledger_that_was_copied_into_another_table_is_refused(catalog: FaultyCatalog) -> None:
    add(catalog, range(10))
    other = make_table(catalog, make_spec(table="ods.other"))
    with other.transaction() as transaction:
        transaction.set_properties({LEDGER_KEY: catalog.load_table(NAME).properties[LEDGER_KEY]})

    with pytest.raises(TableReplacedError):
        read_ledger(catalog.load_table("ods.other"))


def _cut(text: str) -> str:
    return text[: len(text) // 2]


def _of_another_version(text: str) -> str:
    return text.replace('"version":1', '"version":9')


@pytest.mark.parametrize("damage", [_cut, _of_another_version])
def test_a_ledger_that_cannot_be_read_stops_the_table(
    catalog: FaultyCatalog, damage: Callable[[str], str]
) -> None:
    add(catalog, range(10))
    table = catalog.load_table(NAME)
    with table.transaction() as transaction:
        transaction.set_properties({LEDGER_KEY: damage(table.properties[LEDGER_KEY])})

    with pytest.raises(LedgerLostError):
        read_ledger(catalog.load_table(NAME))
