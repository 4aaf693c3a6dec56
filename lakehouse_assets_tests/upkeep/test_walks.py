"""Maintenance, merges of ours and commits of others in any order, killed, interrupted and overtaken anywhere."""

import os
import random
from pathlib import Path

import pytest

from lakehouse_assets_tests import faults
from lakehouse_assets_tests.faults import EFFECTS, Crash, Fault
from lakehouse_assets_tests.upkeep.ground import Ground
from lakehouse_assets_tests.upkeep.operations import OPERATIONS
from lakehouse_assets_tests.upkeep.truth import age_files

pytestmark = pytest.mark.filterwarnings("ignore:Merge on read is not yet supported")

EVENTS = {
    "append": 10, "put": 20, "delete": 4, "mark": 8, "delete_by_key": 4, "change_spec": 2, "change_schema": 2, "tag": 1,
    "roll_back": 3, "write_branch": 3,
}  # fmt: skip
LAYOUTS = [[], ["bucket(2, id)"], ["truncate(10, id)"], ["text"]]
IN_BETWEEN = (
    "append",
    "mark",
    "roll_back",
    "tag",
)  # what may happen in the middle of an operation without being refused
TARGETS = ["1048576", "3000"]  # bytes: one file for everything, and several


class Walk:
    """One table. Each step is drawn from the seed, and judged."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        layout = self.rng.choice(LAYOUTS)
        self.ground = Ground.open(folder, seed, partition_by=layout)
        self.target = self.rng.choice(TARGETS)
        with self.ground.table.transaction() as transaction:
            transaction.set_properties({"write.target-file-size-bytes": self.target})
        print(f"WALKS_SEED={seed}: {layout}, files of {self.target} bytes")  # noqa: T201 - pytest shows it where the test fails

    def step(self) -> str:
        if not self.ground.now.rows:
            self.ground.put()
            return "put"
        if self.rng.random() < 0.6:
            event = self.rng.choices(list(EVENTS), list(EVENTS.values()))[0]
            if event == "delete_by_key" and len(self.ground.table.specs()) > 1:
                event = "mark"  # DuckDB breaks down over equality deletes beside a file of another spec
            if event in ("put", "delete") and self.ground.has_equality_deletes:
                self.ground.maintain("compact")  # without that merges refuse the table, and PyIceberg too
                self.ground.note()
            getattr(self.ground, event)()
            return event
        return self.maintain()

    def maintain(self) -> str:
        operation = self.rng.choice(list(OPERATIONS))
        age_files(self.ground.table, days=5)
        fault = self._draw_fault()
        EFFECTS.arm(fault)
        try:
            report = self.ground.maintain(operation, self.ground.faulty())
            said = f"{dict(report.figures)} {list(map(str, report.kept_back))}"
        except Crash as death:
            said = str(death)
        finally:
            EFFECTS.arm(None)
        self.ground.note()
        return f"{operation}, {fault and (fault.at, fault.when)}: {said}"

    def _draw_fault(self) -> Fault | None:
        at, when = self.rng.randrange(30), self.rng.choice(["before", "half", "after"])
        what = self.rng.choice(["nothing", "die", "crash", "event"])
        if what == "nothing":
            return None
        if what == "event":
            event = self.rng.choice(IN_BETWEEN)
            return Fault(at, "before", lambda _: getattr(self.ground, event)())
        return Fault(at, when, getattr(faults, what))  # type: ignore[arg-type]


def walk(folder: Path, seed: int, steps: int) -> None:
    this = Walk(folder / str(seed), seed)
    for number in range(steps):
        print(f"{number:3} {this.step()}")  # noqa: T201
        this.ground.judge()
    for operation in OPERATIONS:
        this.ground.maintain(operation)
        this.ground.note()
        this.ground.judge()
    this.ground.close()


def _seeds(count: int) -> list[int]:
    first = int(os.environ.get("WALKS_SEED", random.randrange(2**32)))
    return [first + i for i in range(count)]


def test_any_order_of_maintenance_and_commits_keeps_every_row_and_every_snapshot(tmp_path: Path) -> None:
    for seed in _seeds(1):
        walk(tmp_path, seed, 12)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_many_orders_of_maintenance_and_commits_keep_every_row_and_every_snapshot(tmp_path: Path) -> None:
    for seed in _seeds(int(os.environ.get("WALKS", "30"))):
        walk(tmp_path, seed, 40)
