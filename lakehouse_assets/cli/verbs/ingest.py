"""`lakehouse ingest`: brings tables up to date without a running Dagster."""

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from lakehouse_assets.cli.printing import add_json, print_failure, print_json
from lakehouse_assets.model.errors import LakehouseError

if TYPE_CHECKING:
    from lakehouse_assets.cli.progress import Bar
    from lakehouse_assets.environment import Environment
    from lakehouse_assets.model.spec import TableSpec
    from lakehouse_assets.operations.drain import DrainResult
    from lakehouse_assets.operations.ingest import CommitReport
    from lakehouse_assets.operations.systems import Systems

HELP = "bring tables to where their topics end now, as their sensors would"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("table", nargs="+", help="namespace.name; several are brought up to date one after the other")
    add_json(parser)


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Print each commit as it lands; 1 if a table could not be brought there. An error of one does not hold up the others."""
    from lakehouse_assets.cli.progress import show_progress
    from lakehouse_assets.cli.tables import choose_tables, open_systems
    from lakehouse_assets.orchestration.stopping import stop_at_boundary

    specs = choose_tables(environment, arguments.table)
    failed = False
    systems = open_systems(environment)
    with stop_at_boundary() as stop, show_progress() as bar:
        for spec in specs:
            try:
                result = _drain(systems, spec, stop, bar, quiet=arguments.json)
            except LakehouseError as error:
                failed = True
                print_failure(error, as_json=arguments.json, table=spec.table)
            else:
                _print_result(spec, result, as_json=arguments.json)
            if stop():
                break
    return 1 if failed else 0


def _drain(systems: "Systems", spec: "TableSpec", stop: Callable[[], bool], bar: "Bar", *, quiet: bool) -> "DrainResult":
    from lakehouse_assets.cli.tables import now_ms
    from lakehouse_assets.operations.drain import run_drain

    def hear(left: int, report: "CommitReport | None") -> None:
        bar.show(spec.table, left)
        if report is not None and not quiet:
            bad = sum(report.bad_codes.values())
            aside = f", {bad:,} messages in quarantine" if bad else ""
            aside += f", {report.filtered_count:,} filtered" if report.filtered_count else ""
            print(f"committed {report.row_count:,} rows{aside}; {left:,} offsets left", flush=True)
            if report.pace.reasons:
                print(f"  {report.pace}", flush=True)

    def hear_retry(error: LakehouseError, seconds: float) -> None:
        print(f"trying again in {seconds:g} s: {error}", file=sys.stderr)

    return run_drain(systems, spec, stop=stop, on_progress=hear, on_retry=hear_retry, now_ms=now_ms)


def _print_result(spec: "TableSpec", result: "DrainResult", *, as_json: bool) -> None:
    ended = "stopped" if result.was_stopped else "caught up"
    if as_json:
        print_json(
            table=spec.table,
            ended=ended,
            commits=result.commits,
            rows=result.row_count,
            quarantined=result.bad_count,
            skipped=result.skipped_count,
            filtered=result.filtered_count,
            slowdown=result.slowdown,
        )
    else:
        print(f"{spec.table} {ended}: {result.row_count:,} rows in {result.commits:,} commits", flush=True)
