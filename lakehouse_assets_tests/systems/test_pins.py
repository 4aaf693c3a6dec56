"""Pins on real tables: what expiry keeps, races, and what is read by them, judged by DuckDB's own reader of Iceberg."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from lakehouse_assets.model.errors import PinTakenError, SnapshotMissingError
from lakehouse_assets.operations.expiring import run_expire
from lakehouse_assets.systems.pins import Pin, list_pins, pin, resolve_as_of, unpin
from lakehouse_assets.systems.scanning import TableDataset
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import append_foreign_rows, expire, roll_back
from lakehouse_assets_tests.faults import FaultyCatalog
from lakehouse_assets_tests.operations.compactions import NAME, ROWS_PER_FILE, fill, make_task

DAY = timedelta(days=1)
ONLY_THE_HEAD = {"history.expire.max-snapshot-age-ms": "1", "history.expire.min-snapshots-to-keep": "1"}


def now_ms() -> int:
    return int(time.time() * 1000)


def days_later(days: int) -> int:
    return now_ms() + days * (DAY // timedelta(milliseconds=1))


def ids(table: Table) -> list[int]:
    return [snapshot.snapshot_id for snapshot in table.metadata.snapshots]


def moment_of(table: Table, snapshot_id: int) -> datetime:
    (ms,) = [one.timestamp_ms for one in table.metadata.snapshots if one.snapshot_id == snapshot_id]
    return datetime.fromtimestamp(ms / 1000, UTC)


def expire_after(catalog: Catalog, days: int) -> Table:
    run_expire(make_task(catalog, now_ms=lambda: days_later(days)))
    return catalog.load_table(NAME)


def test_expiry_keeps_what_is_pinned_and_its_rows_can_be_read(catalog: FaultyCatalog) -> None:
    table = fill(catalog, 4, properties=ONLY_THE_HEAD)
    pinned = ids(table)[1]
    pin(catalog, NAME, "training", pinned, None, now_ms)

    table = expire_after(catalog, 1000)

    assert ids(table) == [pinned, table.metadata.current_snapshot_id]
    assert judge.count_rows(table, pinned) == 2 * ROWS_PER_FILE
    dataset = TableDataset(table, resolve_as_of(table, "training"))
    assert dataset.scanner(["id"]).to_reader().read_all().num_rows == 2 * ROWS_PER_FILE


def test_a_time_between_a_pin_and_the_head_has_expired(catalog: FaultyCatalog) -> None:
    table = fill(catalog, 4, properties=ONLY_THE_HEAD)
    pinned, _, gone, head = ids(table)
    moments = [moment_of(table, one) for one in (pinned, gone, head)]
    pin(catalog, NAME, "training", pinned, None, now_ms)

    table = expire_after(catalog, 1)

    with pytest.raises(SnapshotMissingError, match="has expired"):
        resolve_as_of(table, moments[1])
    assert [resolve_as_of(table, moment) for moment in (moments[0], moments[2])] == [pinned, head]


def test_a_pin_that_is_kept_for_days_goes_after_them_counted_from_when_it_was_set(catalog: FaultyCatalog) -> None:
    table = fill(catalog, 2, properties=ONLY_THE_HEAD)
    pinned = ids(table)[0]
    made = pin(catalog, NAME, "month", pinned, 30 * DAY, lambda: days_later(100))

    assert list_pins(expire_after(catalog, 129)) == [made]
    assert expire_after(catalog, 131).metadata.refs.keys() == {"main"}


def test_a_table_that_gives_tags_an_age_gives_none_to_pins(catalog: FaultyCatalog) -> None:
    table = fill(catalog, 2, properties=ONLY_THE_HEAD | {"history.expire.max-ref-age-ms": "1000"})
    made = pin(catalog, NAME, "training", ids(table)[0], None, now_ms)
    table.refresh().manage_snapshots().create_tag(ids(table)[0], "foreign").commit()
    assert [one.until_ms is None for one in list_pins(table.refresh())] == [False, True]

    assert list_pins(expire_after(catalog, 1)) == [made]


def test_without_anything_else_the_state_of_now_is_pinned_and_doing_it_again_changes_its_age(catalog: FaultyCatalog) -> None:
    table = fill(catalog, 2)
    first = pin(catalog, NAME, "training", None, DAY, now_ms)

    again = pin(catalog, NAME, "training", first.snapshot_id, None, now_ms)

    assert (first.snapshot_id, again.until_ms) == (table.metadata.current_snapshot_id, None)
    assert list_pins(table.refresh()) == [again]


def test_a_name_that_means_something_else_is_never_moved(catalog: FaultyCatalog) -> None:
    table = fill(catalog, 2)
    first, second = ids(table)
    pin(catalog, NAME, "training", first, None, now_ms)
    table.refresh().manage_snapshots().create_branch(first, "audit").commit()

    for name, match in (("training", "lakehouse unpin ods.clicks training"), ("audit", "a branch bears this name")):
        with pytest.raises(PinTakenError, match=match):
            pin(catalog, NAME, name, second, None, now_ms)
    assert table.refresh().metadata.refs["training"].snapshot_id == first


def test_what_is_unpinned_expires(catalog: FaultyCatalog) -> None:
    table = fill(catalog, 2, properties=ONLY_THE_HEAD)
    made = pin(catalog, NAME, "training", ids(table)[0], None, now_ms)

    assert unpin(catalog, NAME, "training") == made

    assert ids(expire_after(catalog, 1)) == [table.metadata.current_snapshot_id]
    with pytest.raises(SnapshotMissingError, match="it is no tag of the table"):
        unpin(catalog, NAME, "main")


def test_a_pin_and_the_expiry_of_its_snapshot_in_the_same_moment_end_in_an_error_or_a_pin(catalog: FaultyCatalog) -> None:
    table = fill(catalog, 2)
    lost = ids(table)[0]
    catalog.before_commit = [lambda: expire(catalog.load_table(NAME), [lost])]

    with pytest.raises(SnapshotMissingError, match="none of its 1 snapshots has this id"):
        pin(catalog, NAME, "training", lost, None, now_ms)


def test_a_pin_lands_beside_commits_of_others_and_means_what_was_current_when_it_was_asked_for(catalog: FaultyCatalog) -> None:
    table = fill(catalog, 1)
    catalog.before_commit = [lambda: append_foreign_rows(catalog.load_table(NAME))]

    made = pin(catalog, NAME, "training", None, None, now_ms)

    head = table.metadata.current_snapshot_id
    assert made == Pin(NAME, "training", head, made.snapshot_ms, None)
    assert table.refresh().metadata.current_snapshot_id != head


def test_a_rollback_is_part_of_what_was_current_when(catalog: FaultyCatalog) -> None:
    table = fill(catalog, 3)
    first, _, last = ids(table)
    undone_at = moment_of(table, last)
    roll_back(table, first)
    append_foreign_rows(table.refresh())

    assert resolve_as_of(table.refresh(), undone_at) == last
    assert resolve_as_of(table, "main") not in (first, last)
