"""What the verbs of maintenance have in common: their switches, which tables they work on, and how a report is printed."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from lakehouse_assets.cli.printing import add_json, duration, iso, print_failure, print_json, size
from lakehouse_assets.model.errors import LakehouseError
from lakehouse_assets.model.maintenance import Cell, MaintenanceReport, PlannedWork

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment
    from lakehouse_assets.operations.maintenance import MaintenanceTask

VERB_OF = {"compact": "compact", "expire": "expire", "rewrite_manifests": "manifests", "remove_orphans": "orphans"}
_BEFORE, _AFTER = "_before", "_after"


def add_tables(parser: argparse.ArgumentParser) -> None:
    """The tables of an operation, which need not be declared."""
    parser.add_argument("table", nargs="+", help="namespace.name of the catalog, declared or not; several one after the other")


def add_switches(parser: argparse.ArgumentParser) -> None:
    """The switches that all of them have."""
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, change nothing")
    parser.add_argument("--yes", action="store_true", help="it is meant: go on where a guard would stop it")
    add_json(parser)


def maintain_tables(
    arguments: argparse.Namespace, environment: "Environment", operate: "Callable[[MaintenanceTask], MaintenanceReport]"
) -> int:
    """Print the report of each table; 1 if one of them failed. That does not keep the others from being looked after."""
    from lakehouse_assets.cli.progress import tell_progress
    from lakehouse_assets.cli.tables import choose_policies, now_ms, open_catalog
    from lakehouse_assets.operations.maintenance import MaintenanceTask
    from lakehouse_assets.orchestration.stopping import stop_at_boundary

    catalog = open_catalog(environment)
    policies = choose_policies(environment, catalog, arguments.table)
    failed = False
    with stop_at_boundary() as stop:
        for table, policy in policies.items():
            try:
                with tell_progress() as tell:
                    report = operate(
                        MaintenanceTask(
                            catalog=catalog, table=table, policy=policy, now_ms=now_ms, stop=stop, on_progress=tell,
                            is_dry_run=arguments.dry_run, is_confirmed=arguments.yes,
                        )
                    )  # fmt: skip
            except LakehouseError as error:
                failed = True
                print_failure(error, as_json=arguments.json, table=table)
            else:
                print_report(report, as_json=arguments.json)
            if stop():
                break
    return 1 if failed else 0


def print_report(report: MaintenanceReport, *, as_json: bool) -> None:
    """One operation on one table: a document, or sentences; of a dry run the plan as a table."""
    if as_json:
        print_json(
            table=report.table,
            operation=report.operation,
            dry_run=report.is_dry_run,
            planned=[_document(report.planned.titles, row) for row in report.planned.rows],
            planned_figures=dict(report.planned.figures),
            figures=dict(report.figures),
            kept_back=[{"what": one.what, "reason": one.reason} for one in report.kept_back],
            snapshot_ids=[str(one) for one in report.snapshot_ids],
            seconds=round(report.seconds, 3),
        )
        return
    name = f"{report.operation} {report.table}"
    if report.is_dry_run:
        _print_plan(name, report.planned)
    else:
        nothing = "nothing was done" if report.kept_back else "nothing to do"
        done = _sum_up(report.figures) or ("done" if report.planned else nothing)
        print(f"{name}: {done}; {report.seconds:.1f} s", flush=True)
    for one in report.kept_back:
        print(f"  kept back: {one}", flush=True)


def _print_plan(name: str, planned: PlannedWork) -> None:
    from lakehouse_assets.cli.cells import as_text
    from lakehouse_assets.cli.grid import Grid

    if not planned:
        print(f"{name}: nothing to do")
        return
    print(f"{name}: would do")
    rows = [[as_text(_text(title, cell)) for title, cell in zip(planned.titles, row, strict=True)] for row in planned.rows]
    first = zip(planned.titles, planned.rows[0], strict=True)
    numbers = [not isinstance(cell, str) and not title.endswith("_ms") for title, cell in first]
    grid = Grid([_words(title) for title in planned.titles], rows, numbers=numbers, widest=None)
    print(grid.head())
    for line in grid.lines(rows):
        print(line)
    if planned.figures:
        print(f"in all: {_sum_up(planned.figures)}")


def _sum_up(figures: Mapping[str, int | float]) -> str:
    """Figures in one line; what was before and what is after stand together. What is nothing, or as before, is left out."""
    parts = []
    for name, value in figures.items():
        what = name.removesuffix(_BEFORE)
        after = figures.get(f"{what}{_AFTER}") if what != name else None
        if after is not None and value != after:
            parts.append(f"{_words(what)} {_text(what, value)} -> {_text(what, after)}")
        elif after is None and value and not (name.endswith(_AFTER) and f"{name.removesuffix(_AFTER)}{_BEFORE}" in figures):
            parts.append(f"{_words(name)} {_text(name, value)}")
    return ", ".join(parts)


def _document(titles: Sequence[str], row: Sequence[Cell]) -> dict[str, Cell]:
    # A snapshot's id is more than JavaScript's numbers hold.
    return {title: str(cell) if title.endswith("_id") else cell for title, cell in zip(titles, row, strict=True)}


def _words(name: str) -> str:
    return name.replace("size_bytes", "size").removesuffix("_seconds").removesuffix("_ms").replace("_", " ")


def _text(name: str, value: Cell) -> str:
    if isinstance(value, str) or name.endswith("_id"):
        return str(value)
    if "_bytes" in name:
        return size(value)
    if name.endswith("_seconds"):
        return duration(value)
    if name.endswith("_ms"):
        return iso(int(value))
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
