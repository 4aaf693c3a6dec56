"""Whatever comes late, runs again, races, crashes or is looked after: a roll-up is its SQL over the table that there is."""

from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from lakehouse_assets.model.sql_table_spec import SqlTableSpec
from lakehouse_assets_tests import faults
from lakehouse_assets_tests.builders import make_systems, roll_back
from lakehouse_assets_tests.faults import FAULTY, Crash, Fault, FaultyCatalog
from lakehouse_assets_tests.operations.flights import (
    DELAYS,
    FLIGHTS,
    Flight,
    compute,
    fly,
    make_flights,
    make_sql,
    read_delays,
)
from lakehouse_assets_tests.upkeep.operations import maintain

HOURS = 3
FLIGHT = st.tuples(
    st.integers(0, HOURS * 4 - 1).map(lambda quarter: quarter / 4),
    st.sampled_from(["AB", "CD"]),
    st.one_of(st.none(), st.integers(-5, 60)),
)
Row = tuple[Any, ...]
Fold = Callable[[list[Flight], int], list[Row]]


def roll_up(flights: list[Flight], hour: int) -> list[Row]:
    """What `ROLL_UP` says of an hour."""
    found: dict[str, tuple[int, int | None]] = {}
    for at, carrier, delay in flights:
        if hour <= at < hour + 1:
            count, total = found.get(carrier, (0, None))
            found[carrier] = count + 1, total if delay is None else (total or 0) + delay
    return sorted((float(hour), carrier, *row) for carrier, row in found.items())


class RollUps(RuleBasedStateMachine):
    """The model: every flight, and for each hour the rows that the last run that landed made of it."""

    spec: SqlTableSpec
    fold: Fold

    def __init__(self) -> None:
        super().__init__()
        faults.EFFECTS.arm(None)
        opened = make_systems(Path(mkdtemp(prefix="roll-ups-")), **FAULTY).catalog
        assert isinstance(opened, FaultyCatalog)
        self.catalog = opened
        make_flights(self.catalog)
        self.flights: list[Flight] = []
        self.rows: dict[int, list[Row]] = {}

    def teardown(self) -> None:
        faults.EFFECTS.arm(None)
        self.catalog.close()

    @rule(flights=st.lists(FLIGHT, min_size=1, max_size=4))
    def arrive(self, flights: list[Flight]) -> None:
        fly(self.catalog, flights)
        self.flights += flights

    @rule(hour=st.integers(0, HOURS - 1))
    def run(self, hour: int) -> None:
        compute(self.catalog, hour, spec=self.spec)
        self.rows[hour] = self._expect(hour)

    @rule(hour=st.integers(0, HOURS - 1), at=st.integers(0, 40), when=st.sampled_from(["before", "half", "after"]))
    def crash(self, hour: int, at: int, when: faults.When) -> None:
        """A run that dies somewhere may have landed."""
        before = self._read(hour)
        faults.EFFECTS.arm(Fault(at, when, faults.die))
        try:
            compute(self.catalog, hour, spec=self.spec)
        except Crash:
            pass
        finally:
            faults.EFFECTS.arm(None)
        found = self._read(hour)
        assert found in (before, self._expect(hour))
        self.rows[hour] = found

    @rule(hour=st.integers(0, HOURS - 1), flights=st.lists(FLIGHT, min_size=1, max_size=2))
    def be_overtaken(self, hour: int, flights: list[Flight]) -> None:
        """Another run, with newer rows, lands while one is at work."""

        def overtake() -> None:
            self.arrive(flights)
            self.run(hour)

        self.catalog.before_commit = [overtake]
        compute(self.catalog, hour, spec=self.spec)
        self.catalog.before_commit = []

    @rule(table=st.sampled_from([FLIGHTS, DELAYS]), operation=st.sampled_from(["compact", "expire"]))
    def look_after(self, table: str, operation: str) -> None:
        if self.catalog.table_exists(table):
            maintain(operation, self.catalog, table)

    @rule()
    def undo(self) -> None:
        """Somebody rolls the roll-up back."""
        table = self.catalog.load_table(DELAYS) if self.catalog.table_exists(DELAYS) else None
        head = table.current_snapshot() if table is not None else None
        before = head.parent_snapshot_id if head is not None else None
        if table is not None and before is not None and table.snapshot_by_id(before) is not None:
            roll_back(table, before)
            self.rows = {hour: self._read(hour) for hour in range(HOURS)}

    @invariant()
    def it_is_what_the_last_run_made_of_each_hour(self) -> None:
        assert {hour: self._read(hour) for hour in range(HOURS)} == {hour: self.rows.get(hour, []) for hour in range(HOURS)}

    def _expect(self, hour: int) -> list[Row]:
        return type(self).fold(self.flights, hour)

    def _read(self, hour: int) -> list[Row]:
        if not self.catalog.table_exists(DELAYS):
            return []
        return [row for row in read_delays(self.catalog) if int(row[0]) == hour]


def walk(machine: type[RollUps], examples: int, steps: int) -> None:
    """Random walks; the same ones each time."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )


def machine_of(fold: Fold = roll_up, **parts: Any) -> type[RollUps]:
    return type("RollUps", (RollUps,), {"spec": make_sql(**parts), "fold": staticmethod(fold)})


def copy(flights: list[Flight], hour: int) -> list[Row]:
    """What `COPY` says of an hour."""
    return sorted(
        (at, carrier, 1, delay) for at, carrier, delay in flights if hour <= at < hour + 1 and delay is not None and delay > 0
    )


COPY = "SELECT happened AS hour, carrier, 1 AS flights, delay FROM ods.flights WHERE delay > 0"
WALKS: dict[str, tuple[Fold, dict[str, Any]]] = {
    "by hours": (roll_up, {}),
    "in one file": (roll_up, {"partition_by": []}),
    "incremental": (roll_up, {"incremental": True}),
    "incremental, rows beside rows": (copy, {"incremental": True, "sql": COPY, "partition_by": []}),
}


@pytest.mark.parametrize("name", WALKS)
def test_a_roll_up_is_its_sql_over_the_table(name: str) -> None:
    fold, parts = WALKS[name]
    walk(machine_of(fold, **parts), examples=2, steps=8)


@pytest.mark.slow
@pytest.mark.parametrize("name", WALKS)
def test_a_roll_up_is_its_sql_over_the_table_in_many_walks(name: str) -> None:
    fold, parts = WALKS[name]
    walk(machine_of(fold, **parts), examples=60, steps=30)
