"""`lakehouse ingest`: brings a table up to date without a running Dagster."""

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment

HELP = "bring a table up to date, as its sensor would"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("table", help="namespace.name")


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Print each commit as it lands."""
    from lakehouse_assets.cli.tables import choose_tables, now_ms, open_systems
    from lakehouse_assets.operations.ingest import run_ingest
    from lakehouse_assets.orchestration.metadata import commit_line
    from lakehouse_assets.orchestration.stopping import stop_at_boundary

    (spec,) = choose_tables(environment, [arguments.table])
    with stop_at_boundary() as stop:
        result = run_ingest(
            open_systems(environment),
            spec,
            stop=stop,
            on_commit=lambda report: print(commit_line(report), flush=True),
            on_retry=lambda error, seconds: print(f"trying again in {seconds:g} s: {error}", file=sys.stderr),
            now_ms=now_ms,
        )
    print(f"{result.ended}: {result.row_count:,} rows in {result.commits} commits")
    return 0
