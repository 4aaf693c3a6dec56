"""`lakehouse orphans`: remove files that no snapshot knows, as crashes leave them."""

import argparse
from typing import TYPE_CHECKING

from lakehouse_assets.cli.maintenance import add_switches, add_tables, maintain_tables

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment

HELP = "remove files that no snapshot knows, as crashes leave them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    add_tables(parser)
    add_switches(parser)


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Print each table's report."""
    from lakehouse_assets.operations.removing_orphans import run_remove_orphans

    return maintain_tables(arguments, environment, run_remove_orphans)
