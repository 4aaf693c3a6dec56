"""`lakehouse unpin`: takes a tag away, so that what it kept may expire."""

import argparse
from typing import TYPE_CHECKING

from lakehouse_assets.cli.printing import add_json, print_json

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment

HELP = "take the name of a pinned state away, so that it may expire; deletes no file itself"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("table", help="namespace.name of the catalog, declared or not")
    parser.add_argument("name", help="the tag")
    add_json(parser)


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Print what the tag meant."""
    from lakehouse_assets.cli.tables import open_catalog
    from lakehouse_assets.systems.catalog import find_table
    from lakehouse_assets.systems.pins import unpin

    catalog = open_catalog(environment)
    find_table(catalog, arguments.table)
    gone = unpin(catalog, arguments.table, arguments.name)
    if arguments.json:
        print_json(table=gone.table, name=gone.name, snapshot_id=gone.snapshot_id)
    else:
        print(f"{gone.table} {gone.name}: is no tag any more; snapshot {gone.snapshot_id} expires like any other")
    return 0
