"""Watermark, late rows and tags of a real table, whatever arrives, falls silent, is taken back or read again, by two writers."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.table import Table

from lakehouse_assets.model.completeness import DAY_MS, HOUR_MS
from lakehouse_assets.model.errors import CommitConflictError, StaleOffsetsError
from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.offsets import LogBounds, TopicPartition, TopicRanges
from lakehouse_assets.model.watermark import WATERMARK_KEY, EventTimes
from lakehouse_assets.operations.event_times import build_move, count_arrivals
from lakehouse_assets.operations.idling import plan_idle_move
from lakehouse_assets.operations.status import TableStatus
from lakehouse_assets.systems.commit import Delivery, publish
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets.systems.schema import Base
from lakehouse_assets.systems.table_times import read_table_times
from lakehouse_assets_tests.builders import TOPIC_ID, make_spec, make_systems, make_table, roll_back
from lakehouse_assets_tests.operations.lake import clock_ms

MINUTE = 60_000
DISORDER = 2 * MINUTE
COLUMNS = [{"name": "id", "type": "long", "required": True}, {"name": "at", "type": "timestamptz"}]
EVENT_TIME = {"column": "at", "max_disorder": "2m", "idle_after": "10m", "late_horizon": "900d", "complete_for": "day"}


@dataclass(frozen=True)
class Piece:
    """What a writer is about to commit, and the rows that it has read for it."""

    delivery: Delivery
    rows: Sequence[tuple[TopicPartition, int]]


class World:
    """A topic in memory, a real table, a clock; and what must be true of them."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.rng, self.folder = rng, folder
        self.spec = make_spec(schema=COLUMNS, event_time=EVENT_TIME | {"follow_clock": rng.random() < 0.5})
        make_table(make_systems(folder).catalog, self.spec)
        # A full day, so that a walk is the same at any hour; after all that the real clock stamps.
        self.now = self.committed_ms = (clock_ms() // DAY_MS + 1) * DAY_MS
        self.logs = [TopicPartition("clicks", number) for number in range(rng.randint(1, 3))]
        self.topic: dict[TopicPartition, list[tuple[int, int]]] = {log: [] for log in self.logs}  # stamp, event time
        self.ever_held: set[tuple[TopicPartition, int]] = set()
        self.was_idle: set[TopicPartition] = set()
        self.late: Counter[int] = Counter()
        self.watermark: int | None = None
        self.waiting: Piece | None = None

    def load(self) -> tuple[Table, Ledger]:
        """As another process does after a restart."""
        table = make_systems(self.folder).catalog.load_table(self.spec.table)
        ledger = read_ledger(table)
        assert ledger is not None
        return table, ledger

    def produce(self) -> None:
        log = self.rng.choice(self.logs)
        for _ in range(self.rng.randint(1, 5)):
            newest = max((event for _, event in self.topic[log]), default=0)
            event = max(self.now - self.rng.randrange(3 * MINUTE), newest - DISORDER)
            self.topic[log].append((self.now, event))
            if log not in self.was_idle:
                assert self.watermark is None or event >= self.watermark

    def wait(self) -> None:
        self.now += self.rng.choice([1, 1, 1, 5, 5, 11, 70, 700]) * MINUTE

    @property
    def stops(self) -> dict[TopicPartition, int]:
        return {log: len(messages) for log, messages in self.topic.items()}

    def plan(self, *, at_once: bool) -> None:
        """A writer reads on from what the table lacks; it commits now, or when others have done so in between."""
        table, ledger = self.load()
        missing, rows = ledger.missing(self.stops), []
        for log, held in missing.partitions.items():
            first = held.ranges[0]
            rows += [(log, offset) for offset in range(first.start, min(first.stop, first.start + self.rng.randint(1, 4)))]
        if not rows:
            return
        delivery = self.deliver(table, rows)
        landed = ledger.with_rows(delivery.ranges, delivery.last_row, delivery.newest_ms)
        newest = {log: max(self.event(row) for row in rows if row[0] == log) for log, _ in rows}
        move = build_move(self.spec, table, landed, newest, self.stops, landed.missing(self.stops), self.now)
        piece = Piece(replace(delivery, watermark=move), rows)
        if at_once:
            self.commit(piece)
        else:
            self.waiting = piece

    def commit_late(self) -> None:
        piece, self.waiting = self.waiting, None
        if piece is not None:
            self.commit(piece)

    def commit_late_to_an_older_state(self) -> None:
        if self.waiting is not None:
            self.take_back()
            self.commit_late()

    def read_again(self) -> None:
        """An hour is materialized: what is held already, or what lies ahead of it."""
        table, _ = self.load()
        log = self.rng.choice(self.logs)
        rows = [(log, offset) for offset in range(self.stops[log]) if self.rng.random() < 0.5]
        if rows:
            self.commit(Piece(replace(self.deliver(table, rows), again=True), rows))

    def take_back(self) -> None:
        table, _ = self.load()
        if table.metadata.snapshots:
            roll_back(table, self.rng.choice(table.metadata.snapshots).snapshot_id)

    def look(self) -> None:
        """A tick of the sensor."""
        table, ledger = self.load()
        bounds = {log: LogBounds(0, stop) for log, stop in self.stops.items()}
        status = TableStatus({}, ledger, bounds, ledger.missing(self.stops), self.committed_ms, table=table)
        move = plan_idle_move(self.spec, status, self.now)
        if move is not None:
            self.commit(Piece(Delivery.moving(table, move, ledger.held), []))

    def deliver(self, table: Table, rows: Sequence[tuple[TopicPartition, int]]) -> Delivery:
        of = {log: [offset for one, offset in rows if one == log] for log, _ in rows}
        hours = Counter(self.event(row) // HOUR_MS * HOUR_MS for row in rows)
        return Delivery(
            topic_ids={"clicks": TOPIC_ID},
            ranges=TopicRanges.of({log: [(offset, offset + 1) for offset in offsets] for log, offsets in of.items()}),
            files=(),
            last_row={log: max(offsets) for log, offsets in of.items()},
            newest_ms={log: self.topic[log][max(offsets)][0] for log, offsets in of.items()},
            base=Base.of(table),
            arrivals=count_arrivals(self.spec, EventTimes(hours=hours)),
        )

    def event(self, row: tuple[TopicPartition, int]) -> int:
        return self.topic[row[0]][row[1]][1]

    def commit(self, piece: Piece) -> None:
        before = self.watermark
        try:
            publish(make_systems(self.folder).catalog, self.spec.table, piece.delivery)
        except (StaleOffsetsError, CommitConflictError):
            return  # others were first: a writer plans anew
        self.committed_ms = self.now
        self.ever_held |= set(piece.rows)
        self.was_idle |= piece.delivery.watermark.idle if piece.delivery.watermark is not None else frozenset()
        hours = (self.event(row) // HOUR_MS * HOUR_MS for row in piece.rows)
        self.late += Counter(hour for hour in hours if before is not None and hour + HOUR_MS <= before)
        self.assert_holds(before)

    def assert_holds(self, before: int | None) -> None:
        table, _ = self.load()
        times = read_table_times(table)
        self.watermark = times.watermark_ms
        assert before is None or (self.watermark is not None and self.watermark >= before)
        to_come = [
            event
            for log, messages in self.topic.items()
            if log not in self.was_idle
            for offset, (_, event) in enumerate(messages)
            if (log, offset) not in self.ever_held
        ]
        assert self.watermark is None or all(event >= self.watermark for event in to_come)
        assert times.late_rows == dict(self.late)
        self.assert_tags(table)

    def assert_tags(self, table: Table) -> None:
        ends = {ref: day_of(ref) + DAY_MS for ref in table.metadata.refs if ref != "main"}
        for ref, end_ms in ends.items():
            snapshot = table.metadata.snapshot_by_id(table.metadata.refs[ref].snapshot_id)
            assert snapshot is not None
            assert snapshot.summary is not None
            assert int(snapshot.summary[WATERMARK_KEY]) >= end_ms
        if self.watermark is not None:
            assert max(ends.values()) == self.watermark // DAY_MS * DAY_MS


def day_of(ref: str) -> int:
    return int(datetime.strptime(ref, "complete-%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1000)


def walk(seed: int, steps: int) -> World:
    rng = random.Random(seed)
    with TemporaryDirectory() as folder:
        world = World(Path(folder), rng)
        acts = [
            *[world.produce] * 5, *[world.wait] * 2, *[lambda: world.plan(at_once=True)] * 4, lambda: world.plan(at_once=False),
            lambda: world.plan(at_once=False), world.commit_late, world.commit_late_to_an_older_state, world.read_again,
            world.take_back, world.look, world.look,
        ]  # fmt: skip
        for _ in range(steps):
            rng.choice(acts)()
        return world


@settings(max_examples=5)
@given(st.integers(0, 2**32))
def test_of_any_arrivals_it_is_monotone_never_ahead_of_what_is_to_come_and_every_late_row_is_told(seed: int) -> None:
    walk(seed, 30)


@pytest.mark.slow
@settings(max_examples=200)
@given(st.integers(0, 2**32))
def test_of_very_many_arrivals_too(seed: int) -> None:
    walk(seed, 60)


def test_the_walks_meet_what_they_are_about() -> None:
    worlds = [walk(seed, 40) for seed in range(8)]

    assert any(world.late for world in worlds)
    assert any(world.was_idle for world in worlds)
    assert any(world.watermark is not None and world.was_idle != set(world.logs) for world in worlds)
