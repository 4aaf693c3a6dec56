"""`lakehouse compact`: write small files again as fewer, with their deletes merged in, sorted if the declaration says so."""

import argparse
from typing import TYPE_CHECKING

from lakehouse_assets.cli.maintenance import add_switches, add_tables, maintain_tables

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment

HELP = "write small files again as fewer, with their deletes merged in, sorted if the declaration says so"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    add_tables(parser)
    add_switches(parser)


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Print each table's report."""
    from lakehouse_assets.operations.compacting import run_compact

    return maintain_tables(arguments, environment, run_compact)
