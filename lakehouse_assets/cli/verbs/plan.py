"""`lakehouse plan`: what a run would change in the table's columns, and read, now."""

import argparse
from typing import TYPE_CHECKING

from lakehouse_assets.cli.printing import add_json, print_json

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment

HELP = "what a run would change and read now; creates and writes nothing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("table", help="namespace.name")
    add_json(parser)


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Print what of the columns would change, and the ranges of offsets that the table lacks."""
    from lakehouse_assets.cli.tables import choose_tables, open_systems
    from lakehouse_assets.operations.decoding import resolve_columns
    from lakehouse_assets.operations.status import read_status
    from lakehouse_assets.systems.catalog import plan_changes
    from lakehouse_assets.systems.schema import TableShape

    (declared,) = choose_tables(environment, [arguments.table])
    systems = open_systems(environment)
    spec = resolve_columns(systems, declared)
    changes = plan_changes(systems.catalog, TableShape.declared(spec))
    status = read_status(systems, spec)
    ranges = [(log, r.start, r.stop - 1) for log, held in status.missing.partitions.items() for r in held]
    if arguments.json:
        reads = [{**log._asdict(), "first_offset": first, "last_offset": last} for log, first, last in ranges]
        print_json(
            table=spec.table, topic=spec.source.label, creates_table=status.ledger is None, lag=status.lag,
            changes=[{"column": c.column, "before": c.before, "after": c.after} for c in changes], reads=reads,
        )  # fmt: skip
        return 0
    if status.ledger is None:
        print(f"would create {spec.table}")
    for change in changes:
        print(f"would change {change}")
    for log, first, last in ranges:
        print(f"would read {log} offsets {first} to {last}, at most {last - first + 1:,} messages")
    if not ranges:
        print(f"{spec.table} has everything")
    return 0
