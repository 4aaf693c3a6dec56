"""`lakehouse accept-loss`: an operator says that messages are lost, and the table goes on without them."""

import argparse
from typing import TYPE_CHECKING

from lakehouse_assets.cli.printing import add_json, print_json

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment

HELP = "record that messages which Kafka dropped are lost, so that the table goes on without them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("table", help="namespace.name")
    parser.add_argument("--reason", required=True, help="why, for those who ask later; kept in the table's ledger")
    parser.add_argument("--topic", help="a topic that was deleted, where a pattern means it")
    parser.add_argument("--dry-run", action="store_true", help="print what would be accepted, record nothing")
    add_json(parser)


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Print what was accepted."""
    from lakehouse_assets.cli.tables import choose_tables, now_ms, open_systems
    from lakehouse_assets.operations.accepting import run_accept_loss

    (spec,) = choose_tables(environment, [arguments.table])
    systems = open_systems(environment)
    loss = run_accept_loss(systems, spec, arguments.reason, arguments.topic, now_ms, is_dry_run=arguments.dry_run)
    if arguments.json:
        print_json(
            table=spec.table, recorded=not arguments.dry_run, offsets=loss.offsets.to_lists(), topics=loss.topics,
            reason=loss.reason, at=loss.at,
        )  # fmt: skip
    else:
        print(f"{'would accept' if arguments.dry_run else 'accepted'} for {spec.table}: {loss}")
    return 0
