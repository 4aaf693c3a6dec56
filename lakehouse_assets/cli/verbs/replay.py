"""`lakehouse replay`: reads the messages in quarantine again."""

import argparse
import sys
from typing import TYPE_CHECKING

from lakehouse_assets.cli.printing import add_json, print_json

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment

HELP = "read the messages in quarantine again, also those that Kafka has no more"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("table", help="namespace.name")
    add_json(parser)


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Move into the table what can be a row now."""
    from lakehouse_assets.cli.tables import choose_tables, now_ms, open_systems
    from lakehouse_assets.operations.replay import run_replay

    (spec,) = choose_tables(environment, [arguments.table])
    result = run_replay(
        open_systems(environment),
        spec,
        now_ms,
        lambda error, seconds: print(f"trying again in {seconds:g} s: {error}", file=sys.stderr),
    )
    if arguments.json:
        print_json(table=spec.table, moved=result.moved, still_bad=result.still_bad, filtered=result.filtered)
    else:
        print(f"moved {result.moved:,} messages into {spec.table}; {result.still_bad:,} still can't become rows")
        if result.filtered:
            print(f"{result.filtered:,} left the quarantine because 'where' leaves them out")
    return 0
