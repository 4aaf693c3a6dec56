"""The commit that moves the watermark closes days by tags: in the very same step, whatever happens around it."""

import time
from collections.abc import Mapping
from typing import Any

import pytest
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from requests.exceptions import ConnectionError as RequestsConnectionError

from lakehouse_assets.model.completeness import DAY_MS, HOUR_MS, DayTags
from lakehouse_assets.model.errors import CommitConflictError
from lakehouse_assets.model.ledger import OPERATION_KEY
from lakehouse_assets.model.offsets import NO_OFFSETS, TopicPartition
from lakehouse_assets.model.watermark import WATERMARK_KEY, WatermarkMove
from lakehouse_assets.operations.expiring import run_expire
from lakehouse_assets.systems.commit import Delivery, Landed, publish
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets.systems.table_times import read_table_times
from lakehouse_assets.systems.tombstones import TOMBSTONES_KEY
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import (
    append_foreign_rows,
    make_delivery,
    make_ranges,
    make_spec,
    make_table,
    roll_back,
)
from lakehouse_assets_tests.faults import EFFECTS, Crash, Fault, FaultyCatalog, When, die, raising
from lakehouse_assets_tests.operations.compactions import make_task

NAME = "ods.clicks"
LOG = TopicPartition("clicks", 0)
DAY = 20_000 * DAY_MS  # 2024-10-04
TAGS = DayTags(start_ms=DAY, keep_ms=3 * DAY_MS)


def to(ms: int, tags: DayTags | None = TAGS, **parts: Any) -> WatermarkMove:
    return WatermarkMove({LOG: ms}, frozenset([LOG]), frozenset(), disorder_ms=0, tags=tags, **parts)


def put(catalog: FaultyCatalog, offset: int, ms: int) -> Landed:
    return publish(catalog, NAME, make_delivery(catalog.load_table(NAME), {0: range(offset, offset + 1)}, watermark=to(ms)))


def tags(table: Table) -> Mapping[str, int]:
    return {name: ref.snapshot_id for name, ref in table.metadata.refs.items() if ref.snapshot_ref_type == SnapshotRefType.TAG}


def watermark(catalog: FaultyCatalog) -> int | None:
    return read_table_times(catalog.load_table(NAME)).watermark_ms


def test_the_commit_that_passes_the_end_of_a_day_tags_it_with_the_rows_that_it_has(catalog: FaultyCatalog) -> None:
    make_table(catalog)
    put(catalog, 0, DAY + 23 * HOUR_MS)
    assert tags(catalog.load_table(NAME)) == {}

    second = put(catalog, 1, DAY + DAY_MS)
    put(catalog, 2, DAY + DAY_MS + 5)
    fourth = put(catalog, 3, DAY + 3 * DAY_MS + 1)

    table = catalog.load_table(NAME)
    assert tags(table) == {
        "complete-2024-10-04": second.snapshot_id,
        "complete-2024-10-05": fourth.snapshot_id,
        "complete-2024-10-06": fourth.snapshot_id,
    }
    assert table.metadata.refs["complete-2024-10-04"].max_ref_age_ms == 3 * DAY_MS
    assert sorted(table.scan(snapshot_id=second.snapshot_id).to_arrow()["id"].to_pylist()) == [0, 1]


def test_a_day_is_tagged_once_whatever_is_taken_back_and_a_tag_of_somebody_else_stays(catalog: FaultyCatalog) -> None:
    make_table(catalog)
    first = put(catalog, 0, DAY + 1)
    catalog.load_table(NAME).manage_snapshots().create_tag(first.snapshot_id, "complete-2024-10-05").commit()
    second = put(catalog, 1, DAY + DAY_MS)
    roll_back(catalog.load_table(NAME), first.snapshot_id)

    put(catalog, 1, DAY + 2 * DAY_MS)

    assert tags(catalog.load_table(NAME)) == {
        "complete-2024-10-04": second.snapshot_id, "complete-2024-10-05": first.snapshot_id
    }  # fmt: skip


def test_a_tag_that_somebody_makes_in_the_same_moment_stays_theirs(catalog: FaultyCatalog) -> None:
    make_table(catalog)
    first = put(catalog, 0, DAY + 1)

    def tag() -> None:
        catalog.load_table(NAME).manage_snapshots().create_tag(first.snapshot_id, "complete-2024-10-04").commit()

    catalog.before_commit = [tag]

    landed = put(catalog, 1, DAY + DAY_MS)

    assert landed.attempts == 2
    assert tags(catalog.load_table(NAME)) == {"complete-2024-10-04": first.snapshot_id}


def test_of_very_many_days_at_once_the_newest_are_tagged(catalog: FaultyCatalog) -> None:
    make_table(catalog)

    put(catalog, 0, DAY + 100 * DAY_MS)

    names = sorted(tags(catalog.load_table(NAME)))
    assert (len(names), names[0], names[-1]) == (31, "complete-2024-12-12", "complete-2025-01-11")


def test_a_table_that_wants_no_tags_gets_none(catalog: FaultyCatalog) -> None:
    make_table(catalog)
    table = catalog.load_table(NAME)

    publish(catalog, NAME, make_delivery(table, {0: range(1)}, watermark=to(DAY + 9 * DAY_MS, tags=None)))

    assert tags(catalog.load_table(NAME)) == {}


def test_of_two_commits_at_once_one_closes_the_day(catalog: FaultyCatalog) -> None:
    make_table(catalog)
    put(catalog, 0, DAY + 1)
    other: list[Landed] = []
    catalog.before_commit = [lambda: other.append(put(catalog, 1, DAY + DAY_MS))]

    put(catalog, 2, DAY + DAY_MS + 1)

    assert tags(catalog.load_table(NAME)) == {"complete-2024-10-04": other[0].snapshot_id}


@pytest.mark.parametrize("when", ["before", "half", "after"])
def test_a_crash_at_any_effect_leaves_watermark_rows_and_tag_or_none_of_them(catalog: FaultyCatalog, when: When) -> None:
    make_table(catalog)
    EFFECTS.arm(None)
    put(catalog, 0, DAY + 1)
    count = len(EFFECTS.seen)
    end = DAY + DAY_MS

    for at in range(count):
        rows, before, offset = judge.read_positions(catalog.load_table(NAME)), watermark(catalog), at + 1
        EFFECTS.arm(Fault(at, when, die))
        with pytest.raises(Crash):
            put(catalog, offset, end)
        EFFECTS.arm(None)
        table = catalog.load_table(NAME)
        landed = len(judge.read_positions(table)) == len(rows) + 1
        assert watermark(catalog) == (end if landed else before)
        assert len(tags(table)) == (end - DAY) // DAY_MS - (not landed)
        if not landed:
            put(catalog, offset, end)
        end += DAY_MS


def test_a_lost_answer_makes_no_second_tag(catalog: FaultyCatalog) -> None:
    make_table(catalog)
    catalog.after_commit = [raising(RequestsConnectionError("reset by peer"))]

    landed = put(catalog, 0, DAY + DAY_MS)

    assert tags(catalog.load_table(NAME)) == {"complete-2024-10-04": landed.snapshot_id}
    assert catalog.commit_count == 1


def test_expiry_keeps_a_day_for_as_long_as_its_tag_is_to_be_kept(catalog: FaultyCatalog) -> None:
    keep = {"history.expire.min-snapshots-to-keep": "1", "history.expire.max-snapshot-age-ms": "1"}
    make_table(catalog, make_spec(properties=keep))
    tagged = put(catalog, 0, DAY + DAY_MS)
    for offset in range(1, 4):
        put(catalog, offset, DAY + DAY_MS + offset)

    def expire(days: float) -> None:
        run_expire(make_task(catalog, now_ms=lambda: int(time.time() * 1000 + days * DAY_MS)))

    expire(2.9)
    table = catalog.load_table(NAME)
    assert tags(table) == {"complete-2024-10-04": tagged.snapshot_id}
    assert table.scan(snapshot_id=tagged.snapshot_id).to_arrow()["id"].to_pylist() == [0]
    assert len(table.metadata.snapshots) < 4

    expire(3.1)
    table = catalog.load_table(NAME)
    assert (tags(table), len(table.metadata.snapshots)) == ({}, 1)
    assert watermark(catalog) == DAY + DAY_MS + 3


def idle(clock_ms: int) -> WatermarkMove:
    return WatermarkMove({}, frozenset([LOG]), frozenset([LOG]), disorder_ms=0, clock_ms=clock_ms, tags=TAGS)


def test_a_move_without_rows_is_a_commit_of_its_own_that_changes_nothing_else(catalog: FaultyCatalog) -> None:
    make_table(catalog)
    before = put(catalog, 0, DAY + 1).ledger

    landed = publish(catalog, NAME, Delivery.moving(catalog.load_table(NAME), idle(DAY + DAY_MS), make_ranges({0: [(0, 1)]})))

    table = catalog.load_table(NAME)
    head = table.current_snapshot()
    assert head is not None
    assert head.summary is not None
    assert (head.summary[OPERATION_KEY], head.summary[WATERMARK_KEY]) == ("move-watermark", str(DAY + DAY_MS))
    assert tags(table) == {"complete-2024-10-04": landed.snapshot_id}
    assert judge.read_positions(table) == [(0, 0)]
    ledger = read_ledger(table)
    assert ledger is not None
    assert (ledger.held, ledger.last_row, ledger.settled_ms) == (before.held, before.last_row, before.settled_ms)


def test_a_move_without_rows_does_not_land_where_rows_came_meanwhile(catalog: FaultyCatalog) -> None:
    make_table(catalog)
    put(catalog, 0, DAY + 1)
    delivery = Delivery.moving(catalog.load_table(NAME), idle(DAY + DAY_MS), make_ranges({0: [(0, 1)]}))
    catalog.before_commit = [lambda: put(catalog, 1, DAY + 2) and None]

    with pytest.raises(CommitConflictError, match="other offsets"):
        publish(catalog, NAME, delivery)

    assert watermark(catalog) == DAY + 2


def test_a_move_without_rows_keeps_the_deletions_that_a_table_remembers(catalog: FaultyCatalog) -> None:
    table = make_table(catalog)
    append_foreign_rows(table)
    catalog.load_table(NAME).append(table.scan().to_arrow().slice(0, 0), snapshot_properties={TOMBSTONES_KEY: "file:///t"})

    publish(catalog, NAME, Delivery.moving(catalog.load_table(NAME), idle(DAY), NO_OFFSETS))

    head = catalog.load_table(NAME).current_snapshot()
    assert head is not None
    assert head.summary is not None
    assert head.summary[TOMBSTONES_KEY] == "file:///t"


@pytest.mark.parametrize("when", ["before", "half", "after"])
def test_a_crash_at_any_effect_of_a_move_without_rows_is_mended_by_the_next(catalog: FaultyCatalog, when: When) -> None:
    make_table(catalog)
    put(catalog, 0, DAY + 1)
    held = make_ranges({0: [(0, 1)]})
    EFFECTS.arm(None)
    publish(catalog, NAME, Delivery.moving(catalog.load_table(NAME), idle(DAY + 2), held))
    count = len(EFFECTS.seen)

    for at in range(count):
        end = DAY + (at + 1) * DAY_MS
        EFFECTS.arm(Fault(at, when, die))
        with pytest.raises(Crash):
            publish(catalog, NAME, Delivery.moving(catalog.load_table(NAME), idle(end), held))
        EFFECTS.arm(None)
        table = catalog.load_table(NAME)
        assert len(tags(table)) == ((watermark(catalog) or DAY) - DAY) // DAY_MS
        publish(catalog, NAME, Delivery.moving(table, idle(end), held))
        assert (watermark(catalog), len(tags(catalog.load_table(NAME)))) == (end, at + 1)
