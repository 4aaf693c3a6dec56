"""The components of a soak, what is done to them, and what the topic holds by now."""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path

from confluent_kafka import Producer
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.sql_table_spec import SqlTableSpec
from lakehouse_assets.systems.catalog import load_table
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import (
    HOUR_MS,
    append_foreign_rows,
    make_message,
    make_spec,
    make_systems,
    roll_back,
)
from lakehouse_assets_tests.operations import child
from lakehouse_assets_tests.operations.child import Order, is_halted
from lakehouse_assets_tests.operations.lake import Lake, hours_ago
from lakehouse_assets_tests.postgres import PostgresServer
from lakehouse_assets_tests.proxy import FaultyProxy
from lakehouse_assets_tests.soak.changes import PARTITIONS, SHORT_LIVED, ChangingTable
from lakehouse_assets_tests.soak.judging import Rows, judge_against_topic, judge_snapshot
from lakehouse_assets_tests.soak.timed import PARTITIONS as TIMED_PARTITIONS
from lakehouse_assets_tests.soak.timed import TimedTable
from lakehouse_assets_tests.upkeep.operations import OPERATIONS, maintain
from lakehouse_assets_tests.upkeep.truth import age_files, assert_whole, stray_files
from lakehouse_assets_tests.waiting import wait_until

HOURS = 4
MAX_PARTITIONS = 6
MAX_RUNS = 4
_REST_SECONDS = 180.0
# A run that is halted in the middle of a commit lets the others go on after so long; see operations.md.
_LIMITS = "options=-c%20lock_timeout%3D3s%20-c%20idle_in_transaction_session_timeout%3D3s"

# How often each step is drawn, beside the others. Each is a method of `World`.
STEPS = {
    "produce": 30, "produce_in_transaction": 8, "open_transaction": 2, "end_transaction": 4, "ingest": 30, "replace_hours": 10,
    "kill_run": 8, "halt_run": 4, "wake_run": 8, "lose_answer": 4, "refuse_catalog": 2, "kill_catalog": 1,
    "restart_broker": 1, "kill_broker": 1, "add_partition": 1, "roll_back": 2, "append_foreign": 3, "pause": 10,
    "produce_changes": 20, "ingest_changes": 20, "fold_hours_again": 6, "roll_back_changes": 2,
    "maintain": 20, "maintain_changes": 20,
    "produce_timed": 30, "ingest_timed": 30, "roll_up": 20, "maintain_timed": 10, "pin": 2,
}  # fmt: skip


def roll_back_by_chance(table: Table, rng: random.Random) -> None:
    """To one of the last snapshots."""
    roll_back(table, rng.choice(table.snapshots()[-20:]).snapshot_id)


@dataclass
class World:
    """Three topics and their tables, whose catalog is reached through a proxy by the runs, and directly by who judges.

    `changing` is the table that upserts, `timed` the one whose rows have event times; all else is of the one that appends.
    """

    folder: Path
    kafka: LocalKafka
    postgres: PostgresServer
    proxy: FaultyProxy
    lake: Lake
    calm: Lake
    begins_ms: list[int]
    changing: ChangingTable
    timed: TimedTable
    partitions: int = 2
    good: Rows = field(default_factory=set)
    bad: Rows = field(default_factory=set)
    runs: list[BaseProcess] = field(default_factory=list)
    transaction: tuple[Producer, Rows] | None = None

    @classmethod
    def open(cls, folder: Path, kafka: LocalKafka, postgres: PostgresServer, proxy: FaultyProxy) -> "World":
        """Topics, and no table yet."""
        postgres.create_database("soak")
        broker = Broker(kafka.bootstrap_servers)
        spec = make_spec(broker.create_topic("soak", 2), properties=SHORT_LIVED)
        lakes = []
        for port, ping in ((proxy.port, "false"), (postgres.port, "true")):  # who judges never meets a dead connection
            uri = f"{postgres.driver_uri('soak', port)}?{_LIMITS}"
            catalog = {"type": "sql", "warehouse": f"file://{folder}/warehouse", "uri": uri, "pool_pre_ping": ping}
            lakes.append(Lake(folder, broker, spec, make_systems(folder, kafka.bootstrap_servers, **catalog), catalog))
        (folder / "failures").mkdir()
        begins_ms = [hours_ago(HOURS - 1 - i) for i in range(HOURS)]
        changing = ChangingTable.open(folder, broker, *lakes, begins_ms)
        timed = TimedTable.open(folder, broker, *lakes)
        return cls(folder, kafka, postgres, proxy, *lakes, begins_ms, changing, timed)

    @property
    def calm_catalog(self) -> Mapping[str, str]:
        return self.calm.catalog

    @property
    def table_name(self) -> str:
        return self.lake.spec.table

    @property
    def topic(self) -> str:
        return self.lake.topic

    @property
    def table(self) -> Table | None:
        """As it is now; None before the first run came so far."""
        return load_table(self.calm.systems.catalog, self.table_name)

    def do(self, name: str, rng: random.Random) -> str | None:
        """One of STEPS; what it did, or None where it can't be done now."""
        self.runs = [run for run in self.runs if run.is_alive()]
        did: str | None = getattr(self, name)(rng)
        return did

    def judge(self) -> None:
        """Look at the table as it is now, whatever is going on.

        Raises:
            AssertionError
        """
        self._judge_failures()
        self.changing.judge()
        self.timed.judge()
        table = self.table
        if table is None or table.current_snapshot() is None:
            return
        seen = judge_snapshot(table, self.topic)
        judge_against_topic(seen, self.good)
        # The quarantine is looked at after the ledger, because it is written before it.
        quarantined = self.calm.quarantined()
        assert len(set(quarantined)) == len(quarantined), "a message twice in quarantine"
        promised = {(p, offset) for p, offset in self.bad if offset in seen.held.get(p, ())}
        assert promised <= set(quarantined) <= self.bad, f"quarantined {len(quarantined)} of {len(promised)} that the ledger holds"

    def _judge_failures(self) -> None:
        for failure in (self.folder / "failures").iterdir():
            raise AssertionError(f"a run failed for good: {failure.read_text()}")

    def come_to_rest(self) -> str:
        """End every fault, let every run finish, and bring the table to the end of its topic; what it holds then.

        Raises:
            AssertionError: something is not there, or too much.
        """
        self.proxy.calm()
        self.postgres.start()
        self.kafka.start()
        self.end_transaction(random.Random(0))
        for run in self.runs:
            if run.is_alive():
                child.wake(run)
        wait_until(lambda: not any(run.is_alive() for run in self.runs), _REST_SECONDS)
        self.judge()
        rowless = self.calm.ingest().rowless  # control records and tombstones at the ends, which are no lag
        self.judge()
        assert self.calm.lag(rowless) == 0
        rows: dict[int, list[int]] = {}
        bad: dict[int, list[int]] = {}
        for into, positions in ((rows, self.good), (bad, self.bad)):
            for p, offset in sorted(positions):
                into.setdefault(p, []).append(offset)
        foreign = len([p for p, _ in self.calm.positions() if p is None])
        self.calm.assert_holds(rows, foreign=foreign, bad=bad, lag=self.calm.lag())
        others, snapshots = f"{self.changing.come_to_rest()}, {self.timed.come_to_rest()}", len(self.calm.table.snapshots())
        self._tidy_up()
        self.calm.assert_holds(rows, foreign=foreign, bad=bad, lag=self.calm.lag())
        self.changing.judge()
        self.timed.judge_rest()
        return f"every one of {len(self.good)} rows once, {len(self.bad)} in quarantine, {snapshots} snapshots; {others}"

    def _tidy_up(self) -> None:
        """All maintenance of all tables, long after the last run: nothing is left that nobody needs, and all else is there.

        Raises:
            AssertionError
        """
        for table in (self.calm.table, self.calm.quarantine, self.changing.table, *self.timed.tables):
            if table is None:
                continue
            age_files(table, days=5)
            for operation in OPERATIONS:
                maintain(operation, table.catalog, ".".join(table.name()))
            assert_whole(table.refresh())
            assert stray_files(table, older_than_days=3) == set()
            for snapshot in table.snapshots():
                judge.query(table, "SELECT * FROM {table}", snapshot.snapshot_id)

    def close(self) -> None:
        """End every run that is left, halted ones too."""
        for run in self.runs:
            run.kill()

    # What can happen.

    def produce(self, rng: random.Random) -> str:
        p, values = rng.randrange(self.partitions), self._draw_values(rng)
        stamp = rng.choice(self.begins_ms) + rng.randrange(HOUR_MS // 2)
        self._note(p, self.lake.broker.produce(self.topic, values, partition=p, timestamp_ms=stamp), values)
        return f"{len(values)} to {p}"

    def produce_in_transaction(self, rng: random.Random) -> str | None:
        p, values, abort = rng.randrange(self.partitions), self._draw_values(rng), rng.random() < 0.5
        offsets = self.lake.broker.produce_in_transaction(self.topic, values, partition=p, abort=abort)
        if not abort:
            self._note(p, offsets, values)
        return f"{len(values)} to {p}, {'aborted' if abort else 'committed'}"

    def open_transaction(self, rng: random.Random) -> str | None:
        if self.transaction is not None:
            return None
        p, count = rng.randrange(self.partitions), rng.randint(1, 20)
        producer, offsets = self.lake.broker.begin_transaction(self.topic, [make_message(i) for i in range(count)], partition=p)
        self.transaction = producer, {(p, offset) for offset in offsets}
        return f"{count} to {p}"

    def end_transaction(self, rng: random.Random) -> str | None:
        if self.transaction is None:
            return None
        (producer, rows), self.transaction = self.transaction, None
        if rng.random() < 0.5:
            producer.abort_transaction(60)
            return "aborted"
        producer.commit_transaction(60)
        self.good |= rows
        return "committed"

    def ingest(self, _: random.Random) -> str | None:
        return self._start(Order.of(self.lake))

    def replace_hours(self, rng: random.Random) -> str | None:
        keys = [self.lake.key(begin) for begin in rng.sample(self.begins_ms, rng.randint(1, 2))]
        return self._start(Order.of(self.lake, *keys))

    def produce_changes(self, rng: random.Random) -> str:
        return self.changing.produce(rng)

    def ingest_changes(self, _: random.Random) -> str | None:
        return self._start(Order.of(self.changing.lake))

    def fold_hours_again(self, rng: random.Random) -> str | None:
        keys = [self.lake.key(begin) for begin in rng.sample(self.begins_ms, rng.randint(1, 2))]
        return self._start(Order.of(self.changing.lake, *keys))

    def maintain(self, rng: random.Random) -> str | None:
        return self._maintain(self.lake, self.table, rng)

    def maintain_changes(self, rng: random.Random) -> str | None:
        return self._maintain(self.changing.lake, self.changing.table, rng)

    def produce_timed(self, rng: random.Random) -> str:
        return self.timed.produce(rng)

    def ingest_timed(self, _: random.Random) -> str | None:
        return self._start(Order.of(self.timed.lake))

    def roll_up(self, rng: random.Random) -> str | None:
        """What orchestration does where hours are complete, or have late rows."""
        one = rng.choice(self.timed.roll_ups)
        due = one.list_due(self.timed.list_complete())
        said = self._start(replace(Order.of(self.timed.lake, *one.list_keys(due)), spec=one.spec)) if due else None
        if said:
            one.runs.append((self.runs[-1], due))
        return f"{len(due)} hours of {one.spec.name} {said}" if said else None

    def maintain_timed(self, rng: random.Random) -> str | None:
        specs = (self.timed.lake.spec, *(one.spec for one in self.timed.roll_ups))
        i = rng.randrange(len(specs))
        return self._maintain(self.timed.lake, self.timed.tables[i], rng, specs[i])

    def pin(self, _: random.Random) -> str | None:
        return self.timed.pin()

    def _maintain(
        self, lake: Lake, table: Table | None, rng: random.Random, spec: TableSpec | SqlTableSpec | None = None
    ) -> str | None:
        operation = rng.choice(list(OPERATIONS))
        order = replace(Order.of(lake), operation=operation, spec=spec or lake.spec)
        said = self._start(order) if table is not None else None
        return f"{operation} {said}" if said else None

    def roll_back_changes(self, rng: random.Random) -> str | None:
        return self._change(rng, roll_back_by_chance, self.changing.table)

    def kill_run(self, rng: random.Random) -> str | None:
        time.sleep(rng.uniform(0, 1.5))
        if not self.runs:
            return None
        run = self.runs.pop(rng.randrange(len(self.runs)))
        run.kill()
        run.join()
        return f"{run.pid}"

    def halt_run(self, rng: random.Random) -> str | None:
        time.sleep(rng.uniform(0, 1.0))
        running = [run for run in self.runs if run.is_alive() and not is_halted(run)]
        if not running:
            return None
        run = rng.choice(running)
        child.halt(run)
        return f"{run.pid}"

    def wake_run(self, rng: random.Random) -> str | None:
        halted = [run for run in self.runs if run.is_alive() and is_halted(run)]
        if not halted:
            return None
        run = rng.choice(halted)
        child.wake(run)
        return f"{run.pid}"

    def lose_answer(self, _: random.Random) -> str:
        self.proxy.disturb(rb"(?s)Q....COMMIT", "lose")
        return "of the next commit"

    def refuse_catalog(self, rng: random.Random) -> str:
        seconds = rng.uniform(0.1, 3)
        self.proxy.go_away()
        time.sleep(seconds)
        self.proxy.come_back()
        return f"for {seconds:.1f} s"

    def kill_catalog(self, _: random.Random) -> str:
        self.postgres.kill()
        self.postgres.start()
        return "and start it"

    def restart_broker(self, _: random.Random) -> str:
        self.kafka.stop()
        return self._start_broker()

    def kill_broker(self, _: random.Random) -> str:
        self.kafka.kill()
        return self._start_broker()

    def _start_broker(self) -> str:
        self.kafka.start()
        self.lake.broker.await_leaders(self.topic, self.partitions)
        self.lake.broker.await_leaders(self.changing.lake.topic, PARTITIONS)
        self.lake.broker.await_leaders(self.timed.lake.topic, TIMED_PARTITIONS)
        return "and start it"

    def add_partition(self, _: random.Random) -> str | None:
        if self.partitions >= MAX_PARTITIONS:
            return None
        self.partitions += 1
        self.lake.broker.add_partitions(self.topic, self.partitions)
        return f"number {self.partitions - 1}"

    def roll_back(self, rng: random.Random) -> str | None:
        return self._change(rng, roll_back_by_chance, self.table)

    def append_foreign(self, rng: random.Random) -> str | None:
        return self._change(rng, lambda table, _: append_foreign_rows(table), self.table)

    def pause(self, rng: random.Random) -> str:
        seconds = rng.uniform(0, 1.5)
        time.sleep(seconds)
        return f"{seconds:.1f} s"

    def _change(
        self, rng: random.Random, act: Callable[[Table, random.Random], None], table: Table | None
    ) -> str | None:
        if table is None or table.current_snapshot() is None:
            return None
        try:
            act(table, rng)
        except CommitFailedException:
            return "refused: a run was first"
        return "landed"

    def _start(self, order: Order) -> str | None:
        if len(self.runs) >= MAX_RUNS:
            return None
        run = child.start(replace(order, failures=self.folder / "failures"))
        self.runs.append(run)
        return f"in {run.pid}"

    def _draw_values(self, rng: random.Random) -> list[bytes | None]:
        """Good messages, with one in twenty that is none and one in twenty without a value."""
        odd = {0: b"no JSON", 1: None}
        return [odd.get(rng.randrange(20), make_message(i)) for i in range(rng.choice([1, 10, 200]))]

    def _note(self, p: int, offsets: list[int], values: list[bytes | None]) -> None:
        for offset, value in zip(offsets, values, strict=True):
            if value is not None:
                (self.bad if value == b"no JSON" else self.good).add((p, offset))
