"""`lakehouse peek`: messages as a declaration reads them."""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from lakehouse_assets.cli.printing import add_json, json_value, print_json, read_count

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment

HELP = "the newest messages as the declaration reads them; writes nothing"
_PEEKED = 10
_SKIPPED = {
    "tombstone": "a tombstone, skipped",
    "filtered": "filtered by where, skipped",
    "no change": "no change of a row, skipped",
    "truncation": "takes every row out",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("table", help="namespace.name")
    about = f"how many, over all topic partitions (default: {_PEEKED})"
    parser.add_argument("--count", type=read_count, default=_PEEKED, help=about)
    add_json(parser)


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Print each message's row, or why it has none; then the fields that no column reads."""
    from lakehouse_assets.cli.tables import choose_tables, open_systems
    from lakehouse_assets.model.unknown import UnknownFields
    from lakehouse_assets.operations.peek import peek_newest

    (spec,) = choose_tables(environment, [arguments.table])
    unknown, is_empty = UnknownFields(), True
    for message in peek_newest(open_systems(environment), spec, arguments.count):
        is_empty = False
        reading = message.reading
        unknown = unknown.joined(reading.unknown)
        if arguments.json:
            names = [found.name for found in reading.unknown.ranked]
            print_json(
                **message.log._asdict(),
                offset=message.offset,
                timestamp_ms=message.timestamp_ms,
                row=reading.row,
                error=reading.error,
                skipped=reading.skipped,
                deletes=reading.deletes,
                unknown_fields=names,
            )
            continue
        place = f"{message.log} offset {message.offset}"
        if reading.row is not None:
            key = {name: value for name, value in reading.row.items() if name in spec.key}
            row = json.dumps(key if reading.deletes else reading.row, default=json_value)
            print(f"{place}: {'deletes ' if reading.deletes else ''}{row}")
        elif reading.error is not None:
            print(f"{place}: no row: {reading.error}")
        else:
            print(f"{place}: {_SKIPPED[reading.skipped or 'no change']}")
    if is_empty:
        print(f"there is no message in {spec.source.label!r}", file=sys.stderr)
    if unknown.fields and not arguments.json:
        print("fields without a column, of the rows above:")
        for found in unknown.ranked:
            print(f"  {found.name}: in {unknown.share(found):.0%}, {found.kind or 'no one type'}  {found.line}".rstrip())
    return 0
