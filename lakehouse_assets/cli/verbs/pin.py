"""`lakehouse pin`: a tag by which a table can be read again as it is now, or was."""

import argparse
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from lakehouse_assets.cli.printing import add_json, iso, print_json
from lakehouse_assets.model import written
from lakehouse_assets.model.as_of import read_pin_name

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment
    from lakehouse_assets.systems.pins import Pin

HELP = "keep a table as it is now, or was, under a name by which it can be read again"

_WRONG_CALL = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("table", nargs="?", help="namespace.name of the catalog, declared or not; with --list all if left out")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--as", dest="name", type=_read_name, help="the name, as training_2026_11; a tag of the table")
    what.add_argument("--list", action="store_true", help="print the tags that there are, and until when they are kept")
    parser.add_argument("--of", metavar="TAG|ID|TIME", help="what to keep: a tag, a snapshot or a time in UTC (default: now)")
    parser.add_argument("--keep", type=_read_keep, help="for how long, as 90d (default: until it is unpinned)")
    add_json(parser)


def _read_name(text: str) -> str:
    try:
        return read_pin_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _read_keep(text: str) -> timedelta:
    try:
        return written.read_duration(text, timedelta(seconds=1))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Print the tag, or all that there are."""
    from lakehouse_assets.cli.tables import now_ms, open_catalog
    from lakehouse_assets.systems.catalog import find_table, list_tables
    from lakehouse_assets.systems.pins import list_pins, pin

    catalog = open_catalog(environment)
    if arguments.list:
        names = [arguments.table] if arguments.table else list_tables(catalog)
        print_pins([one for name in names for one in list_pins(find_table(catalog, name))], as_json=arguments.json)
        return 0
    if arguments.table is None:
        print("Cannot pin: found no table, expected its name: lakehouse pin namespace.name --as NAME.", file=sys.stderr)
        return _WRONG_CALL
    find_table(catalog, arguments.table)
    print_pins([pin(catalog, arguments.table, arguments.name, arguments.of, arguments.keep, now_ms)], as_json=arguments.json)
    return 0


def print_pins(pins: "list[Pin]", *, as_json: bool) -> None:
    """A line, or a document, for each."""
    for one in pins:
        at, until = iso(one.snapshot_ms), None if one.until_ms is None else iso(one.until_ms)
        if as_json:
            print_json(table=one.table, name=one.name, snapshot_id=one.snapshot_id, at=at, until=until)
        else:
            kept = "it is unpinned" if until is None else until
            print(f"{one.table} {one.name}: snapshot {one.snapshot_id} of {at}, kept until {kept}")
