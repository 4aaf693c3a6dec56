"""`lakehouse status`: how far each table is behind its topic, and its last commits."""

import argparse
import sys
import time
from typing import TYPE_CHECKING

from lakehouse_assets.cli.printing import add_json, iso, print_json
from lakehouse_assets.model.errors import LakehouseError

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment
    from lakehouse_assets.model.spec import TableSpec
    from lakehouse_assets.operations.status import TableStatus

HELP = "how far each table is behind its topic, and its last commits"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("table", nargs="*", help="namespace.name (default: every table)")
    add_json(parser)


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Print where each table stands; 1 if one of them can't go on."""
    from lakehouse_assets.cli.tables import choose_tables, open_systems
    from lakehouse_assets.operations.status import read_status

    failed = False
    systems = None
    for spec in choose_tables(environment, arguments.table):
        try:
            systems = systems or open_systems(environment)
            status = read_status(systems, spec)
        except LakehouseError as error:
            failed = True
            if arguments.json:
                print_json(table=spec.table, topic=spec.source.label, error=type(error).__name__, message=str(error))
            else:
                print(error, file=sys.stderr)
        else:
            _print_status(spec, status, as_json=arguments.json)
    return 1 if failed else 0


def _print_status(spec: "TableSpec", status: "TableStatus", *, as_json: bool) -> None:
    commits = [
        {
            "snapshot_id": str(c.snapshot_id), "at": iso(c.at_ms), "operation": c.operation, "added_rows": c.added_rows,
            "total_rows": c.total_rows,
        }
        for c in status.commits
    ]  # fmt: skip
    losses = status.ledger.losses if status.ledger is not None else ()
    if as_json:
        committed_ms = status.committed_ms
        print_json(
            table=spec.table,
            topic=spec.source.label,
            lag=status.lag,
            committed_at=iso(committed_ms) if committed_ms is not None else None,
            age_seconds=round(time.time() - committed_ms / 1000, 1) if committed_ms is not None else None,
            held=status.ledger.held.to_lists() if status.ledger is not None else None,
            missing=status.missing.to_lists(),
            accepted_losses=[str(loss) for loss in losses],
            commits=commits,
        )
        return
    print(f"{spec.table}: {status.lag:,} messages behind {spec.source.label!r}; next: {status.missing}")
    for loss in losses:
        print(f"  accepted as lost: {loss}")
    for commit in commits:
        print("  {at}  {operation:<14} +{added_rows:,} rows, {total_rows:,} in all".format_map(commit))
