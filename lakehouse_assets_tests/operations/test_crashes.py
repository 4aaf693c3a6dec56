"""A crash at any instruction leaves at most orphan files, and the next run needs no repair: where rows are appended and upserted."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from lakehouse_assets_tests import faults, judge
from lakehouse_assets_tests.builders import make_message
from lakehouse_assets_tests.faults import Fault, When
from lakehouse_assets_tests.operations.child import Order, finish, is_halted, start, wake
from lakehouse_assets_tests.operations.lake import Lake, hours_ago
from lakehouse_assets_tests.waiting import wait_until

pytestmark = pytest.mark.kafka

MakeLake = Callable[..., Lake]
Rows = list[tuple[int | None, int | None]]
KILLED, DONE = -9, 0
VERBS = ("update", "delete", "merge")
PARALLEL = 4


def list_faults(order: Order, record: Path) -> list[Fault]:
    """A kill before each effect of a whole run, in the middle of each file, and after the last effect."""
    assert finish(start(replace(order, seen=record))) == DONE
    effects = record.read_text().splitlines()
    found = [Fault(at, "before", faults.kill) for at in range(len(effects))]
    found += [
        Fault(at, "half", faults.kill) for at, effect in enumerate(effects) if effect.startswith("write")
    ]
    return [*found, Fault(len(effects) - 1, "after", faults.kill)]


MODES = {
    "append": {},
    "upsert": {"mode": "upsert", "key": ["id"], "partition_by": ["bucket(2, id)"]},
    "copy": {"mode": "upsert", "key": ["id"], "properties": {f"write.{verb}.mode": "copy-on-write" for verb in VERBS}},
}  # fmt: skip
# What is in the topic: forty rows in the first hour, of which few change in the next two.
IDS = [[*range(40)], [*range(5)], [*range(3, 8)]]


class Crashes:
    """Tables over one topic of 50 messages in 3 hours; each is killed once or twice and then run to its end."""

    def __init__(self, folder: Path, model: Lake, mode: str) -> None:
        self.folder, self.model, self.mode = folder, model, mode
        self.keys = [model.key(hours_ago(h)) for h in (2, 1, 0)]
        self.ids = [identity for hour in IDS for identity in hour]

    def send(self, ids: list[int], hour: int = 0) -> None:
        self.model.broker.produce(self.model.topic, [make_message(i) for i in ids], timestamp_ms=hours_ago(hour))

    def expected(self, ids: list[int]) -> list[int]:
        """Offsets that a table of these messages holds."""
        last = {(offset if self.mode == "append" else identity): offset for offset, identity in enumerate(ids)}
        return sorted(last.values())

    def table(self, name: str, *, begun: bool = True) -> Lake:
        """Another table of the same topic, in a catalog of its own. One that upserts has the first hour if it is `begun`."""
        lake = Lake.open(self.folder / name, self.model.broker, self.model.topic, **MODES[self.mode])
        if self.mode != "append" and begun:
            assert finish(start(Order.of(lake, self.keys[0]))) == DONE
        return lake

    def kill_ingest(self, fault: Fault, times: int = 1) -> str | None:
        """What is wrong after a killed ingest and a run to the end; None: nothing."""
        lake = self.table(f"ingest-{fault.at}-{fault.when}-{times}")
        codes = [finish(start(Order.of(lake, fault=fault))) for _ in range(times)]
        before = _read(lake)
        ended = finish(start(Order.of(lake)))
        return self._judge(fault, codes, ended, before, lake, whole_or_nothing=True)

    def kill_replace(self, fault: Fault, times: int = 1) -> str | None:
        """The same for the replacement of one slice of a filled table."""
        lake = self.table(f"replace-{fault.at}-{fault.when}-{times}")
        assert finish(start(Order.of(lake))) == DONE
        codes = [finish(start(Order.of(lake, self.keys[1], fault=fault))) for _ in range(times)]
        before = _read(lake)
        ended = finish(start(Order.of(lake, self.keys[1])))
        return self._judge(fault, codes, ended, before, lake, whole_or_nothing=False)

    def _judge(
        self, fault: Fault, codes: list[int | None], ended: int | None, before: Rows, lake: Lake, *, whole_or_nothing: bool
    ) -> str | None:
        """A table is whole or untouched after the kill, whole after the next run, and every snapshot can be read."""
        problems = []
        whole = [(0, offset) for offset in self.expected(self.ids)]
        untouched = [(0, offset) for offset in ([] if self.mode == "append" else self.expected(IDS[0]))]
        if KILLED not in codes[:1]:
            problems.append(f"exit codes {codes}")
        if ended != DONE:
            problems.append(f"the next run ended with {ended}")
        if before not in ([whole, untouched] if whole_or_nothing else [whole]):
            problems.append(f"after the kill: {before}")
        try:
            lake.assert_holds({0: self.expected(self.ids)})
            counts = judge.read_every_snapshot(lake.table)
        except AssertionError as error:
            problems.append(f"after the next run: {error}")
        else:
            if set(counts) != {len(whole)}:
                problems.append(f"snapshots of {counts} rows")
        lake.systems.catalog.close()
        return f"{fault}: {'; '.join(problems)}" if problems else None


def _read(lake: Lake) -> Rows:
    if not lake.systems.catalog.table_exists(lake.spec.table):
        return []
    return lake.positions()


@pytest.fixture(params=["append", "upsert", pytest.param("copy", marks=pytest.mark.slow)])
def crashes(lake: MakeLake, tmp_path: Path, request: pytest.FixtureRequest) -> Crashes:
    found = Crashes(tmp_path, lake(), request.param)
    for hour, ids in zip((2, 1, 0), IDS, strict=True):
        found.send(ids, hour)
    return found


def run_all(attempt: Callable[[Fault], str | None], cases: list[Fault]) -> list[str]:
    with ThreadPoolExecutor(PARALLEL) as pool:
        return [problem for problem in pool.map(attempt, cases) if problem]


EACH_KIND = [
    Fault("create", "before", faults.kill),
    Fault("write", "half", faults.kill),
    Fault("close", "after", faults.kill),
    Fault("commit", "before", faults.kill),
    Fault("commit", "after", faults.kill),
]


def test_an_ingest_killed_before_in_and_after_an_effect_of_each_kind_loses_and_doubles_nothing(
    crashes: Crashes,
) -> None:
    creation = [Fault("create-table", "after", faults.kill)] if crashes.mode == "append" else []  # begun, so it is there
    assert run_all(crashes.kill_ingest, [*EACH_KIND, *creation]) == []


def test_a_replace_killed_before_in_and_after_an_effect_of_each_kind_loses_and_doubles_nothing(
    crashes: Crashes,
) -> None:
    assert run_all(crashes.kill_replace, EACH_KIND) == []


@pytest.mark.slow
def test_an_ingest_killed_at_any_effect_loses_and_doubles_nothing(crashes: Crashes, tmp_path: Path) -> None:
    cases = list_faults(Order.of(crashes.table("model")), tmp_path / "effects")

    assert len(cases) > 20
    assert run_all(crashes.kill_ingest, cases) == []


@pytest.mark.slow
def test_a_replace_killed_at_any_effect_loses_and_doubles_nothing(crashes: Crashes, tmp_path: Path) -> None:
    model = crashes.table("model")
    assert finish(start(Order.of(model))) == DONE
    cases = list_faults(Order.of(model, crashes.keys[1]), tmp_path / "effects")

    assert len(cases) > 15
    assert run_all(crashes.kill_replace, cases) == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_runs_killed_twice_in_a_row_around_the_commit_lose_and_double_nothing(
    crashes: Crashes, when: When
) -> None:
    fault = Fault("commit", when, faults.kill)

    assert crashes.kill_ingest(fault, times=2) is None
    assert crashes.kill_replace(fault, times=2) is None


def test_a_zombie_ingest_that_wakes_after_its_successor_committed_lands_nothing(crashes: Crashes) -> None:
    lake = crashes.table("zombie")
    zombie = start(Order.of(lake, fault=Fault("commit", "before", faults.halt)))
    wait_until(lambda: is_halted(zombie))

    assert finish(start(Order.of(lake))) == DONE
    wake(zombie)

    assert finish(zombie) == DONE
    lake.assert_holds({0: crashes.expected(crashes.ids)})
    assert len(lake.table.snapshots()) == (1 if crashes.mode == "append" else 2)


def test_a_zombie_replace_that_wakes_after_its_successor_committed_doubles_nothing(crashes: Crashes) -> None:
    lake = crashes.table("zombie")
    assert finish(start(Order.of(lake))) == DONE
    zombie = start(Order.of(lake, crashes.keys[1], fault=Fault("commit", "before", faults.halt)))
    wait_until(lambda: is_halted(zombie))

    assert finish(start(Order.of(lake, crashes.keys[1]))) == DONE
    crashes.send([0, 1, 39, 40, 41])
    assert finish(start(Order.of(lake))) == DONE
    wake(zombie)

    assert finish(zombie) == DONE
    lake.assert_holds({0: crashes.expected([*crashes.ids, 0, 1, 39, 40, 41])})


@pytest.mark.parametrize("runs", [2, 5])
def test_runs_of_one_table_at_once_in_processes_that_share_only_the_catalog_land_every_row_once(
    crashes: Crashes, runs: int
) -> None:
    lake = crashes.table("shared")

    processes = [start(Order.of(lake)) for _ in range(runs)]
    codes = [finish(process) for process in processes]

    assert codes == [DONE] * runs
    lake.assert_holds({0: crashes.expected(crashes.ids)})


def test_five_replaces_of_one_slice_at_once_leave_every_row_once(crashes: Crashes) -> None:
    lake = crashes.table("shared")
    assert finish(start(Order.of(lake))) == DONE

    processes = [start(Order.of(lake, crashes.keys[1])) for _ in range(5)] + [start(Order.of(lake))]
    codes = [finish(process) for process in processes]

    assert codes == [DONE] * 6
    lake.assert_holds({0: crashes.expected(crashes.ids)})
