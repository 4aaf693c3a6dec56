"""`lakehouse expire`: removes snapshots that retention lets go, and the files that nothing reaches any more."""

import argparse
from typing import TYPE_CHECKING

from lakehouse_assets.cli.maintenance import add_switches, add_tables, maintain_tables

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment

HELP = "remove snapshots that Iceberg's properties let go, and the files that nothing reaches any more"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    add_tables(parser)
    add_switches(parser)


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Print each table's report."""
    from lakehouse_assets.operations.expiring import run_expire

    return maintain_tables(arguments, environment, run_expire)
