"""`lakehouse manifests`: write manifests again by partition, so that queries plan fast."""

import argparse
from typing import TYPE_CHECKING

from lakehouse_assets.cli.maintenance import add_switches, add_tables, maintain_tables

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment

HELP = "write manifests again by partition, so that queries plan fast"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    add_tables(parser)
    add_switches(parser)


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Print each table's report."""
    from lakehouse_assets.operations.rewriting_manifests import run_rewrite_manifests

    return maintain_tables(arguments, environment, run_rewrite_manifests)
