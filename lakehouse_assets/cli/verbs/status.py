"""`lakehouse status`: how far each table is behind its topics, whether it is fresh, what it holds and owes, its commits."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse_assets.cli.maintenance import VERB_OF
from lakehouse_assets.cli.printing import add_json, duration, iso, print_failure, print_json
from lakehouse_assets.model.errors import LakehouseError

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment
    from lakehouse_assets.model.debt import Debt, Measure
    from lakehouse_assets.model.offsets import TopicPartition
    from lakehouse_assets.model.spec import TableSpec
    from lakehouse_assets.operations.status import TableStatus
    from lakehouse_assets.operations.systems import Systems
    from lakehouse_assets.systems.table_times import TableTimes

HELP = "how far each table is behind its topic, whether it is fresh, what it holds and owes, its last commits"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("table", nargs="*", help="namespace.name, one for its details (default: an overview of every table)")
    add_json(parser)


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Print where each table stands; 1 if one of them can't go on. That does not keep the others from being shown."""
    from lakehouse_assets.cli.computed import NUMBERS, TITLES, ComputedStanding, look_at
    from lakehouse_assets.cli.tables import (
        choose_computed,
        choose_tables,
        list_broken,
        now_ms,
        open_catalog,
        open_systems,
    )

    standings: list[_Standing] = []
    computed: list[ComputedStanding] = []
    failures: list[tuple[dict[str, Any], LakehouseError]] = []
    sql_specs = choose_computed(environment, arguments.table)
    names = [name for name in arguments.table if name not in {spec.table for spec in sql_specs}]
    specs = choose_tables(environment, names) if names or not arguments.table else []
    if not arguments.table:
        failures += [({"table": None, "topic": None}, wrong) for wrong in list_broken(environment)]
    for spec in specs:
        try:
            standings.append(_look(open_systems(environment), spec, now_ms()))
        except LakehouseError as error:
            failures.append(({"table": spec.table, "topic": spec.source.label}, error))
    for sql_spec in sql_specs:
        try:
            computed.append(look_at(open_catalog(environment), sql_spec, now_ms()))
        except LakehouseError as error:
            failures.append(({"table": sql_spec.table, "topic": None}, error))
    if arguments.json:
        for document in (*(one.document() for one in standings), *(one.document() for one in computed)):
            print_json(**document)
    elif len(specs) == 1 and not computed:
        for standing in standings:
            _print_details(standing)
    elif standings:
        titles = ["table", "topic", "behind", "freshness", "last commit", "rows", "debt"]
        _print_grid(titles, [standing.overview() for standing in standings], {2, 5})
    if computed and not arguments.json:
        _print_grid(TITLES, [one.overview(now_ms()) for one in computed], NUMBERS)
    for about, failure in failures:
        print_failure(failure, as_json=arguments.json, **about)
    return 1 if failures else 0


def _look(systems: "Systems", spec: "TableSpec", now_ms: int) -> "_Standing":
    from lakehouse_assets.operations.idling import find_holding
    from lakehouse_assets.operations.waiting import read_waiting
    from lakehouse_assets.systems.catalog import load_table
    from lakehouse_assets.systems.measuring import measure_debt
    from lakehouse_assets.systems.table_times import read_table_times

    status, table = read_waiting(systems, spec), load_table(systems.catalog, spec.table)
    debt = measure_debt(table, spec.maintenance, now_ms) if table is not None else None
    times = read_table_times(table) if table is not None else None
    return _Standing(spec, status, debt, times, find_holding(spec, status, now_ms), now_ms)


@dataclass(frozen=True, slots=True)
class _Standing:
    """A table at a moment, in the words that are printed."""

    spec: "TableSpec"
    status: "TableStatus"
    debt: "Debt | None"
    event_times: "TableTimes | None"
    held_back_by: "TopicPartition | None"
    now_ms: int

    @property
    def is_fresh(self) -> bool:
        """As the check `freshness` judges."""
        waited = self.status.waited_seconds(self.now_ms)
        return waited is not None and waited <= self.spec.checks.max_age.total_seconds()

    @property
    def freshness(self) -> str:
        """One clause."""
        waited, allowed = self.status.waited_seconds(self.now_ms), duration(self.spec.checks.max_age.total_seconds())
        if not self.status.lag:
            return "fresh"
        if waited is None:
            return "never filled"
        return f"{'fresh' if self.is_fresh else 'LATE'}: {duration(waited)} without a commit, {allowed} allowed"

    @property
    def age_seconds(self) -> float | None:
        """Since the last commit."""
        committed_ms = self.status.committed_ms
        return None if committed_ms is None else max(0.0, (self.now_ms - committed_ms) / 1000)

    @property
    def measures(self) -> "Sequence[Measure]":
        """Every kind of debt; none before the first use."""
        return self.debt.measures(self.spec.maintenance) if self.debt is not None else ()

    @property
    def debt_words(self) -> str:
        """What is to be done, or how bad it is that it was not."""
        if self.debt is None:
            return ""
        due = ", ".join(self.debt.due(self.spec.maintenance)) or "none"
        if any(measure.is_over_hard_limit for measure in self.measures):
            return f"SLOWS INGESTION: {due}"
        return f"LATE: {due}" if any(measure.is_late for measure in self.measures) else due

    def overview(self) -> list[str]:
        """A line of the overview."""
        status, age = self.status, self.age_seconds
        return [
            self.spec.table,
            self.spec.source.label,
            f"{status.lag:,}",
            self.freshness,
            "none" if age is None else f"{duration(age)} ago",
            f"{status.totals.live_rows:,}" if status.commits else "",
            self.debt_words,
        ]

    def commits(self) -> list[dict[str, Any]]:
        """The newest first."""
        return [
            {
                "snapshot_id": str(c.snapshot_id), "at": iso(c.at_ms), "operation": c.operation, "added_rows": c.added_rows,
                "total_rows": c.total_rows,
            }
            for c in self.status.commits
        ]  # fmt: skip

    def _debt(self, debt: "Debt") -> dict[str, Any]:
        late = [measure.name for measure in self.measures if measure.is_late]
        over = [measure.name for measure in self.measures if measure.is_over_hard_limit]
        policy = self.spec.maintenance
        return {**debt.figures(policy), "due": list(debt.due(policy)), "late": late, "over_hard_limit": over}

    def _event_time(self) -> dict[str, Any]:
        if self.spec.event_time is None:
            return {}
        times = self.event_times
        late = {iso(hour_ms): count for hour_ms, count in times.late_rows.items()} if times is not None else {}
        watermark_ms = times.watermark_ms if times is not None else None
        return {
            "event_time_watermark": None if watermark_ms is None else iso(watermark_ms),
            "held_back_by": None if self.held_back_by is None else str(self.held_back_by),
            "late_rows": late,
        }

    def document(self) -> dict[str, Any]:
        """Everything, for scripts."""
        status, age, waited = self.status, self.age_seconds, self.status.waited_seconds(self.now_ms)
        return {
            "table": self.spec.table,
            "topic": self.spec.source.label,
            "mode": self.spec.mode,
            "key": list(self.spec.key),
            "lag": status.lag,
            "fresh": self.is_fresh,
            "waited_seconds": None if waited is None else round(waited, 1),
            "allowed_seconds": self.spec.checks.max_age.total_seconds(),
            "committed_at": iso(status.committed_ms) if status.committed_ms is not None else None,
            "age_seconds": None if age is None else round(age, 1),
            "held": status.ledger.held.to_lists() if status.ledger is not None else None,
            "missing": status.missing.to_lists(),
            "accepted_losses": [str(loss) for loss in status.ledger.losses] if status.ledger is not None else [],
            **self._event_time(),
            "rows": status.totals.live_rows,
            "dead_rows": status.totals.dead_rows,
            "delete_files": status.totals.delete_files,
            "debt": None if self.debt is None else self._debt(self.debt),
            "commits": self.commits(),
        }


def _print_details(standing: _Standing) -> None:
    spec, status = standing.spec, standing.status
    print(f"{spec.table} of {spec.source.label!r}")
    print(f"  behind   {status.lag:,} messages; {standing.freshness}")
    if spec.is_upsert:
        mode = "copy-on-write" if spec.copy_on_write else "merge-on-read"
        dead = f"; {status.totals.dead_rows:,} dead rows, by {status.totals.delete_files:,} delete files"
        print(f"  rows     {status.totals.live_rows:,}, one per {', '.join(spec.key)}; {mode}{dead}")
    if spec.event_time is not None:
        print(f"  complete {_complete_to(standing)}")
    for title, ranges in (("holds", status.ledger.held if status.ledger else None), ("next", status.missing)):
        for log, held in ranges.partitions.items() if ranges is not None else ():
            print(f"  {title:<7}  {log} offsets {held}")
    for loss in status.ledger.losses if status.ledger is not None else ():
        print(f"  accepted as lost: {loss}")
    if standing.debt is not None:
        print(f"  owes     {standing.debt_words}")
        print()
        _print_grid(["  debt", "now", "due from", "late from", "slows ingestion from", ""], _debt_rows(standing), {1, 2, 3, 4})
    if status.commits:
        print()
        rows = [[c["at"], c["operation"], f"{c['added_rows']:+,}", f"{c['total_rows']:,}"] for c in standing.commits()]
        _print_grid(["  last commits", "operation", "rows", "rows in all"], [["  " + at, *rest] for at, *rest in rows], {2, 3})


def _complete_to(standing: _Standing) -> str:
    times, log = standing.event_times, standing.held_back_by
    held = "" if log is None else f"; held back by {log}"
    if times is None or times.watermark_ms is None:
        return f"up to no time yet{held}"
    behind = duration(max(0, standing.now_ms - times.watermark_ms) / 1000)
    late = f"; {sum(times.late_rows.values()):,} rows came late" if times.late_rows else ""
    return f"up to {iso(times.watermark_ms)} of event time, {behind} ago{held}{late}"


def _debt_rows(standing: _Standing) -> list[list[str]]:
    rows = []
    for measure in standing.measures:
        limits = ["" if limit is None else f"{limit:,g}" for limit in (measure.soft, measure.late, measure.hard)]
        remedy = f"lakehouse {VERB_OF[measure.operation]} {standing.spec.table}" if measure.is_due or measure.is_late else ""
        rows.append([f"  {measure.words}", f"{measure.value:,g}", *limits, remedy])
    return rows


def _print_grid(titles: Sequence[str], rows: Sequence[Sequence[str]], numbers: set[int]) -> None:
    from lakehouse_assets.cli.grid import Grid

    grid = Grid(titles, rows, numbers=[i in numbers for i in range(len(titles))], widest=None)
    print(grid.head())
    for line in grid.lines(rows):
        print(line)
