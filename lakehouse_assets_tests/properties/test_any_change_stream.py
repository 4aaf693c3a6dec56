"""Whatever a database does, and whatever happens to the runs: a table of its changes is the fold of what the ledger holds.

A random walk over changes, runs, crashes, zombies, replays of hours, maintenance of every kind, compactions and writes of others,
rollbacks. After each step DuckDB reads every new snapshot, and each must be what a fold over the raw messages says, row by row,
with the position of the change that each row is from; in the end those that are left must still be so.
"""

import json
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse_assets.model.ledger import LEDGER_KEY, OPERATION_KEY, Ledger
from lakehouse_assets.model.offsets import TopicPartition
from lakehouse_assets_tests import faults, judge
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import roll_back
from lakehouse_assets_tests.change_streams import (
    COLUMNS,
    PLACEHOLDER,
    Message,
    Row,
    Sent,
    Shop,
    fold,
    is_bad,
    touched_keys,
)
from lakehouse_assets_tests.faults import EFFECTS, Crash, Fault
from lakehouse_assets_tests.foreign_deletes import delete_rows
from lakehouse_assets_tests.operations.lake import Lake, hours_ago
from lakehouse_assets_tests.spark import Spark, SparkCatalog
from lakehouse_assets_tests.upkeep.operations import EAGER, OPERATIONS, maintain
from lakehouse_assets_tests.upkeep.truth import age_files, assert_whole

# PyIceberg, who deletes and compacts as somebody else here, writes touched files again, whatever the table asks for.
pytestmark = [pytest.mark.kafka, pytest.mark.filterwarnings("ignore:Merge on read is not yet supported")]

HOURS, KEYS = 3, 60
STEPS = {
    "produce": 30, "ingest": 14, "crash": 12, "replay": 6, "be_overtaken": 5, "compact": 4, "delete_foreign": 4, "roll_back": 2,
    "maintain": 12,
}  # fmt: skip

Rows = Mapping[int, Row]
Overlay = dict[int, tuple[int, Row | None]]  # what others did to a key: since which offset of its log it no longer holds


@dataclass
class Walk:
    """One topic and its table. `overlay` is what others did, as far as no later change of the key undid it."""

    rng: random.Random
    shop: Shop
    lake: Lake
    begins_ms: list[int]
    sent: list[Sent] = field(default_factory=list)
    spark: SparkCatalog | None = None
    overlay: Overlay = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    heads: dict[int, Overlay] = field(default_factory=dict)  # a compaction has a snapshot without rows on its way
    kept: dict[int, Rows] = field(default_factory=dict)

    # What the topic and the table must be.

    def stops(self, ledger: Ledger | None) -> dict[int, int]:
        """Where the table stands in each topic partition; it has all before that."""
        found = {}
        for p in range(self.shop.partitions):
            held = ledger.held[TopicPartition(self.lake.topic, p)] if ledger is not None else None
            assert not held or (len(held.ranges) == 1 and held.ranges[0].start == 0), held
            found[p] = held.stop if held else 0
        return found

    def before(self, stops: Mapping[int, int]) -> list[Sent]:
        return [one for one in self.sent if one.offset < stops[one.partition]]

    def expected(self, ledger: Ledger | None, overlay: Overlay) -> dict[int, Row]:
        """The fold, and over it what others did to keys that did not change since."""
        held = self.before(self.stops(ledger))
        rows = fold(held, marks=self.marks)
        for key, (since, row) in overlay.items():
            later = [one for one in held if one.partition == self.shop.partition_of(key) and one.offset >= since]
            if touched_keys(later).isdisjoint({key, None}):
                rows.pop(key, None)
                if row is not None:
                    rows[key] = row
        return rows

    # Steps.

    def fill(self) -> None:
        """Many rows, of which later steps change few: so rows are marked as deleted, and not every file written again."""
        self._send(self.shop.fill())

    def produce(self) -> str:
        for _ in range(self.rng.randint(1, 6)):
            self._send(self.shop.happen() or self._last_again())
        return f"{len(self.sent)} messages"

    def _send(self, groups: Iterable[tuple[int, list[Message]]]) -> None:
        for p, messages in groups:
            stamp = self.rng.choice(self.begins_ms)
            offsets = self.lake.broker.send(self.lake.topic, messages, p, stamp)
            self.sent += [Sent(p, o, stamp, message) for o, message in zip(offsets, messages, strict=True)]

    def _last_again(self) -> list[tuple[int, list[Message]]]:
        """The end of a log once more, as a source sends it that died before it noted how far it was."""
        p = self.rng.randrange(self.shop.partitions)
        last = [one.message for one in self.sent if one.partition == p][-self.rng.randint(1, 5) :]
        # Again, behind what it did, a placeholder has no value to stand for any more, and a truncation takes out newer rows.
        is_harmful = any(text in (one.value or b"") for one in last for text in (PLACEHOLDER.encode(), b'"op": "t"'))
        return [] if is_harmful else [(p, last)]

    def ingest(self) -> str:
        self.lake = self.lake.reopened()
        self.lake.ingest()
        return f"to {self.stops(self.lake.ledger)}"

    def crash(self) -> str:
        self.produce()
        self.lake = self.lake.reopened()
        fault = Fault(self.rng.randrange(25), self.rng.choice(["before", "half", "after"]), faults.crash)
        hour = self.rng.randrange(HOURS) if self.exists and self.rng.random() < 0.3 else None
        before = self.stops(self.lake.ledger) if self.exists else {}
        EFFECTS.arm(fault)
        try:
            if hour is None:
                self.lake.ingest()
            else:
                self.lake.refold(self.lake.key(self.begins_ms[hour]))
            said = "nothing: it had ended"
        except Crash as death:
            said = str(death)
        finally:
            EFFECTS.arm(None)
        if hour is not None:
            self._replayed(hour, before, is_whole=False)
        return f"{'ingest' if hour is None else f'replay of hour {hour}'} at {fault.at} ({fault.when}): {said}"

    def replay(self) -> str | None:
        if not self.exists:
            return None
        hour = self.rng.randrange(HOURS)
        before = self.stops(self.lake.ledger)
        self.lake = self.lake.reopened()
        self.lake.refold(self.lake.key(self.begins_ms[hour]))
        self._replayed(hour, before, is_whole=True)
        ends = {p: self._first(p, hour + 1) for p in before}
        assert self.stops(self.lake.ledger) == {p: max(stop, ends[p]) for p, stop in before.items()}
        return f"hour {hour}, to {self.stops(self.lake.ledger)}"

    def _first(self, p: int, hour: int) -> int:
        """Offset of the first message stamped at or after the beginning of an hour."""
        log = [one for one in self.sent if one.partition == p]
        return next((one.offset for one in log if hour < HOURS and one.timestamp_ms >= self.begins_ms[hour]), len(log))

    def _replayed(self, hour: int, before: Mapping[int, int], *, is_whole: bool) -> None:
        """What others did to keys that changed in what was replayed is undone; after a crash it may be."""
        again = [one for one in self.before(before) if one.offset >= self._first(one.partition, hour)]
        undone = {key for key in self.overlay if not touched_keys(again).isdisjoint({key, None})}
        if not is_whole:
            rows = self.read(self.lake.table)
            expected = self.expected(self.lake.ledger, {k: v for k, v in self.overlay.items() if k not in undone})
            undone = {key for key in undone if rows.get(key) == expected.get(key)}
        self.overlay = {key: what for key, what in self.overlay.items() if key not in undone}

    def be_overtaken(self) -> str | None:
        """A run is at its commit when others come first: another run, a compaction, or a deletion."""
        if not self.exists or self.head is None:
            return None
        self.produce()
        act: Callable[[], str | None] = self.rng.choice([self.ingest_beside, self.compact, self.delete_foreign, self.maintain_beside])
        slow, said = self.lake.reopened(), []
        slow.around_first_commit(before=lambda: said.append(act()))
        slow.ingest()
        return f"{act.__name__}: {said or 'it had nothing to commit'}"

    def ingest_beside(self) -> str:
        self.lake.reopened().ingest()
        return "landed"

    def compact(self) -> str | None:
        """Somebody writes all files again."""
        if not self.exists or self.head is None:
            return None
        if self.spark is not None and self.rng.random() < 0.5:
            self.spark.run("CALL lakehouse.system.rewrite_data_files(table => 'ods.clicks', options => map('rewrite-all', 'true'))")
            return "landed, by Spark"
        table = self.lake.table
        rows = table.scan().to_arrow()
        return _try(lambda: table.overwrite(rows)) if rows.num_rows else None

    def maintain_beside(self) -> str | None:
        """One that looks at no file's age: those of a commit on its way are young, and not to be made old here."""
        return self.maintain([one for one in OPERATIONS if one != "remove_orphans"])

    def maintain(self, operations: Sequence[str] = tuple(OPERATIONS)) -> str | None:
        """One operation, on files that are all old; it may be killed or interrupted, or others come first."""
        if not self.exists or self.head is None:
            return None
        operation, beside = self.rng.choice(operations), self.lake.reopened()
        age_files(self.lake.table, days=5)
        number = self.rng.randrange(60)
        end: Callable[[str], object] = self.rng.choice([faults.die, faults.crash, lambda _: self.ingest_beside()])
        held = self.stops(self.lake.ledger)
        EFFECTS.arm(Fault(number, self.rng.choice(["before", "after"]), end) if self.rng.random() < 0.5 else None)
        try:
            report = maintain(operation, beside.systems.catalog, self.lake.spec.table)
            said = f"{dict(report.figures)}, kept back {len(report.kept_back)}"
        except Crash as death:
            said = str(death)
        finally:
            EFFECTS.arm(None)
        assert all(stop >= held[p] for p, stop in self.stops(self.lake.ledger).items())
        return f"{operation}: {said}"

    def delete_foreign(self) -> str | None:
        """Somebody deletes a row, of which nobody has to ask for a value later."""
        if not self.exists or self.head is None:
            return None
        if self.marks:
            return None  # a later deletion of its key would have nothing to mark
        asked = {key for one in self.sent if PLACEHOLDER.encode() in (one.message.value or b"") for key in touched_keys([one])}
        asked |= {
            json.loads(text)["id"] for one in self.sent for name, text in one.message.headers if name == "__debezium.oldkey"
        }
        table = self.lake.table
        stops = self.stops(self.lake.ledger)
        keys = [key for key in self.expected(self.lake.ledger, self.overlay) if key not in asked]
        if not keys:
            return None
        key = self.rng.choice(keys)
        ways: list[Callable[[], object]] = [
            lambda: table.delete(f"id == {key}"),
            lambda: delete_rows(table.catalog, self.lake.spec.table, "id", [key]),
        ]
        if self.spark is not None:
            ways = [lambda: self.spark.run(f"DELETE FROM {{table}} WHERE id = {key}")]
        said = _try(self.rng.choice(ways))
        if said == "landed":
            self.overlay[key] = (stops[self.shop.partition_of(key)], None)
        return f"key {key}: {said}"

    def roll_back(self) -> str | None:
        known = [s for s in self.lake.table.snapshots() if s.snapshot_id in self.heads] if self.exists else []
        if not known:
            return None
        target = self.rng.choice(known).snapshot_id
        roll_back(self.lake.table, target)
        self.overlay = dict(self.heads[target])
        return f"to {target}"

    # Judging.

    @property
    def marks(self) -> bool:
        """Whether the table keeps deleted rows."""
        return self.lake.spec.on_delete == "mark"

    @property
    def exists(self) -> bool:
        return bool(self.lake.systems.catalog.table_exists(self.lake.spec.table))

    @property
    def head(self) -> Snapshot | None:
        return self.lake.table.current_snapshot()

    def read(self, table: Table, snapshot_id: int | None = None) -> Rows:
        """Rows by key, as DuckDB sees them; each key once."""
        sql = f"SELECT id, name, n, _kafka_partition, _kafka_offset, {'_is_deleted' if self.marks else 'false'} FROM {{table}}"
        found = judge.query(table, sql, snapshot_id) if table.current_snapshot() is not None else []
        assert len({key for key, *_ in found}) == len(found), f"a key twice in {snapshot_id}: {found}"
        return {key: Row(*values) for key, *values in found}  # type: ignore[misc, arg-type]

    def judge(self, before: Overlay) -> None:
        if not self.exists:
            return
        table, ledger = self.lake.table, self.lake.ledger
        _compare(self.read(table), [self.expected(ledger, self.overlay)], "the table")
        for snapshot in table.snapshots():
            if snapshot.snapshot_id not in self.seen:
                self._judge_snapshot(table, snapshot, before)
                self.seen.add(snapshot.snapshot_id)
        if (head := table.current_snapshot()) is not None:
            self.heads[head.snapshot_id] = dict(self.overlay)
        bad = {(one.partition, one.offset) for one in self.sent if is_bad(one.message)}
        quarantined = self.lake.quarantined()
        assert len(quarantined) == len(set(quarantined))
        stops = self.stops(ledger)
        assert {(p, offset) for p, offset in bad if offset < stops[p]} <= set(quarantined) <= bad  # type: ignore[operator]
        lag = {p: sum(one.partition == p for one in self.sent) - stop for p, stop in stops.items()}
        assert self.lake.lag() == sum(lag.values())

    def judge_what_is_kept(self) -> None:
        """What snapshots held when they were made, those that are left hold still."""
        table = self.lake.table
        assert_whole(table)
        for snapshot in table.snapshots():
            assert self.read(table, snapshot.snapshot_id) == self.kept[snapshot.snapshot_id]

    def judge_by_spark(self) -> None:
        if self.spark is not None:
            deleted = "_is_deleted" if self.marks else "false"
            found = self.spark.query(f"SELECT id, name, n, _kafka_partition, _kafka_offset, {deleted} AS _deleted FROM {{table}}")
            assert len({key for key, *_ in found}) == len(found)
            assert {key: Row(*values) for key, *values in found} == self.expected(self.lake.ledger, self.overlay)

    def _judge_snapshot(self, table: Table, snapshot: Snapshot, before: Overlay) -> None:
        """One on the way: what its own ledger says, with what others did before or after this step."""
        rows = self.read(table, snapshot.snapshot_id)
        summary = snapshot.summary.additional_properties if snapshot.summary else {}
        self.kept[snapshot.snapshot_id] = rows
        if OPERATION_KEY not in summary:
            return  # of others, whose rows the next one of ours shows
        ledger = Ledger.from_json(summary[LEDGER_KEY])
        allowed = [self.expected(ledger, overlay) for overlay in (before, self.overlay)]
        _compare(rows, allowed, f"snapshot {snapshot.snapshot_id} at {self.stops(ledger)}")


def _compare(found: Rows, allowed: Sequence[Rows], where: str) -> None:
    """Each key is as one of `allowed` has it."""
    keys = {*found}.union(*allowed)
    wrong = {key: (found.get(key), [one.get(key) for one in allowed]) for key in sorted(keys)}
    wrong = {key: (mine, others) for key, (mine, others) in wrong.items() if mine not in others}
    assert not wrong, f"{where}: found and expected {wrong}"


def _try(act: Callable[[], object]) -> str:
    try:
        act()
    except CommitFailedException:
        return "refused"
    return "landed"


def walk(broker: Broker, folder: Path, steps: int, seed: int, spark: Spark | None = None) -> None:
    rng = random.Random(seed)
    kind, partitions = rng.choice(["json", "debezium-json", "debezium-json"]), rng.randint(1, 3)
    mode, layout = rng.choice(["merge-on-read", "copy-on-write"]), rng.choice([[], ["bucket(2, id)"], ["truncate(1, name)"]])
    on_delete = rng.choice(["delete", "delete", "mark"])
    print(f"{seed=}: {kind}, {partitions} topic partitions, {mode}, {layout}, {on_delete}")  # noqa: T201 - pytest shows it where the test fails
    topic = broker.create_topic(f"changes-{uuid4().hex}", partitions)
    properties = {**EAGER, **{f"write.{verb}.mode": mode for verb in ("update", "delete", "merge")}}
    declared = {"schema": COLUMNS, "source": {"format": kind}, "mode": "upsert", "key": ["id"], "partition_by": layout}
    declared |= {"on_delete": on_delete}
    lake = Lake.open(folder / str(seed), broker, topic, **declared, properties=properties)
    this = Walk(rng, Shop(rng, kind, partitions, KEYS), lake, [hours_ago(HOURS - 1 - i) for i in range(HOURS)])
    this.spark = spark.open(lake.folder) if spark is not None else None
    EFFECTS.arm(None)
    this.fill()
    try:
        for number in range(steps):
            step = rng.choices(list(STEPS), list(STEPS.values()))[0]
            before = dict(this.overlay)
            said = getattr(this, step)()
            print(f"{number:3} {step}: {said or '(not now)'}")  # noqa: T201
            this.judge(before)
        this.ingest()
        this.judge(this.overlay)
        assert this.lake.lag() == 0
        this.judge_what_is_kept()
        this.judge_by_spark()
        print(f"{len(this.seen)} snapshots, {len(this.lake.table.inspect.delete_files())} delete files")  # noqa: T201
    finally:
        EFFECTS.arm(None)
        this.lake.systems.catalog.close()


def _seeds(count: int) -> list[int]:
    first = int(os.environ.get("CHANGES_SEED", random.randrange(2**32)))
    return [first + i for i in range(count)]


def test_any_change_stream_under_any_interleaving_folds_to_the_table(broker: Broker, tmp_path: Path) -> None:
    for seed in _seeds(2):
        walk(broker, tmp_path, 14, seed)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_many_change_streams_under_many_interleavings_fold_to_the_table(broker: Broker, tmp_path: Path) -> None:
    for seed in _seeds(int(os.environ.get("CHANGES_WALKS", "40"))):
        walk(broker, tmp_path, 40, seed)


@pytest.mark.spark
@pytest.mark.xdist_group("spark")
@pytest.mark.timeout(1200)
def test_change_streams_into_tables_that_spark_deletes_from_and_compacts_fold_to_the_table(
    broker: Broker, tmp_path: Path, spark: Spark
) -> None:
    for seed in _seeds(4):
        walk(broker, tmp_path, 20, seed, spark)
