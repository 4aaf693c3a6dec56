"""Whatever happens in whatever order: hours downstream run when they are complete, once, and again where late rows ask for it."""

import random

import dagster as dg
import pytest

from lakehouse_assets.orchestration.conditions import OnLate, hour_is_complete
from lakehouse_assets_tests.orchestration.world import COMPLETE, World, hour, hours, rollup

_WEATHER = dg.AssetKey(["ods", "weather__complete"])
_TABLES = (COMPLETE, _WEATHER)
_HOURS = 4

Version = tuple[int, ...]  # how often each table has reported the hour; 0 is not yet


class Walk:
    """What a person expects, beside what Dagster does."""

    def __init__(self, instance: dg.DagsterInstance, on_late: OnLate, seed: int) -> None:
        self._rng, self._on_late = random.Random(seed), on_late
        weather = dg.AssetSpec(_WEATHER, partitions_def=hours(1))
        self._world = World(instance, rollup(hour_is_complete(on_late), deps=_TABLES), weather)
        self._now = float(_HOURS + 1)
        self._versions: list[Version] = [(0, 0)] * _HOURS
        self._working: dict[int, tuple[dg.DagsterRun, Version]] = {}
        self._read: dict[int, Version] = {}  # what the newest materialization was computed from
        self._asked: dict[int, Version] = {}  # what there was when it was asked for
        self._failed: set[int] = set()  # its last run
        self._forgotten: set[int] = set()  # that they were asked for
        self._unheard: set[int] = set()  # news of them went with the cursor
        self._is_first_tick = True

    def take(self, count: int) -> None:
        steps = {self._complete: 5, self._late: 3, self.tick: 6, self._end: 4, self._fail: 1, self._by_hand: 2, self._forget: 1}
        for step in self._rng.choices(list(steps), list(steps.values()), k=count):
            step()

    def end(self) -> None:
        """All that works ends well, until nothing is asked for any more. Then each hour must be right."""
        for _ in range(2 * _HOURS):
            while self._working:
                self._end()
            if not self.tick():
                break
        assert not self._working
        for number, version in enumerate(self._versions):
            if 0 in version or number in self._failed | self._unheard:
                continue
            read = self._read.get(number, (0, 0))
            assert 0 not in read, f"hour {number} is complete, and what was computed is not"
            assert read == version or self._on_late == "report", f"hour {number} lacks late rows"

    def tick(self) -> bool:
        self._now += 0.01
        if self._is_first_tick:
            self._unheard |= {number for number in range(_HOURS) if self._has_begun(number) and self._has_news(number)}
        asked = self._world.tick(self._now)
        for number in (number for number in range(_HOURS) if hour(number) in asked):
            self._judge(number)
            self._asked[number] = self._versions[number]
            self._forgotten.discard(number)
            self._start(number)
        self._is_first_tick = False
        return bool(asked)

    def _has_begun(self, number: int) -> bool:
        return number in self._read or number in self._working

    def _has_news(self, number: int) -> bool:
        version = self._versions[number]
        return 0 not in version and self._asked.get(number) != version

    def _judge(self, number: int) -> None:
        assert 0 not in self._versions[number], f"hour {number} before it was complete"
        assert number not in self._working, f"hour {number} while it worked"
        is_known = number in self._asked and (number not in self._forgotten or number in self._read)
        assert not is_known or self._on_late == "rerun", f"hour {number} twice"
        assert not is_known or self._has_news(number), f"hour {number} twice, without late rows"

    def _start(self, number: int) -> None:
        self._failed.discard(number)
        self._working[number] = (self._world.started(hour(number)), self._versions[number])

    def _report(self, number: int, table: int) -> None:
        version = self._versions[number]
        self._versions[number] = tuple(told + (at == table) for at, told in enumerate(version))
        if self._on_late == "rerun":
            self._unheard.discard(number)
        self._world.updated(_TABLES[table], hour(number))

    def _complete(self) -> None:
        table = self._rng.randrange(2)
        waiting = [number for number, version in enumerate(self._versions) if not version[table]]
        if waiting:
            self._report(waiting[0], table)

    def _late(self) -> None:
        told = [(number, at) for number, version in enumerate(self._versions) for at in range(2) if version[at]]
        if told:
            self._report(*self._rng.choice(told))

    def _end(self) -> None:
        if self._working:
            number = self._rng.choice(sorted(self._working))
            run, self._read[number] = self._working.pop(number)
            self._world.ended(run)

    def _fail(self) -> None:
        if self._working:
            number = self._rng.choice(sorted(self._working))
            run, _ = self._working.pop(number)
            self._world.instance.report_run_failed(run)
            self._failed.add(number)

    def _by_hand(self) -> None:
        idle = [number for number in range(_HOURS) if number not in self._working]
        if idle:
            self._start(self._rng.choice(idle))

    def _forget(self) -> None:
        self._world.cursor, self._is_first_tick = None, True
        self._forgotten = set(range(_HOURS))


@pytest.mark.parametrize("on_late", ["report", "rerun"])
@pytest.mark.parametrize("seed", [*range(2), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 60))])
def test_hours_run_when_they_are_complete_and_once(seed: int, on_late: OnLate) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        walk = Walk(instance, on_late, seed)
        walk.take(40)
        walk.end()
