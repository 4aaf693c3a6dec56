"""`lakehouse maintain`: does for every table what its debt asks for, and deletes what was dropped more than a day ago."""

import argparse
import sys
from typing import TYPE_CHECKING

from lakehouse_assets.cli.maintenance import add_switches, print_report
from lakehouse_assets.cli.printing import print_failure
from lakehouse_assets.model.errors import LakehouseError

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment
    from lakehouse_assets.model.maintenance import MaintenanceReport

HELP = "do for every declared table what its debt asks for, the one that owes most first"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("table", nargs="*", help="namespace.name, declared or not (default: every declared table)")
    parser.add_argument("--all", action="store_true", help="every operation, whether debt asks for it or not")
    add_switches(parser)


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Print each report; 1 if something failed. That does not keep the other tables from being looked after."""
    from lakehouse_assets.cli.progress import tell_progress
    from lakehouse_assets.cli.tables import choose_policies, list_broken, now_ms, open_catalog
    from lakehouse_assets.operations.maintaining import RUNS, run_maintenance
    from lakehouse_assets.orchestration.stopping import stop_at_boundary

    catalog = open_catalog(environment)
    policies = choose_policies(environment, catalog, arguments.table)
    counts = {"reports": 0, "failures": 0}

    def hear(report: "MaintenanceReport") -> None:
        counts["reports"] += 1
        print_report(report, as_json=arguments.json)

    def hear_failure(table: str | None, error: LakehouseError) -> None:
        counts["failures"] += 1
        print_failure(error, as_json=arguments.json, table=table)

    for wrong in list_broken(environment) if not arguments.table else ():
        hear_failure(None, wrong)
    with stop_at_boundary() as stop, tell_progress() as tell:
        run_maintenance(
            catalog, policies, now_ms=now_ms, on_report=hear, on_failure=hear_failure, stop=stop, on_progress=tell,
            operations=RUNS if arguments.all else None, is_dry_run=arguments.dry_run, is_confirmed=arguments.yes,
            purges_dropped=not arguments.table,
        )  # fmt: skip
    if not any(counts.values()):
        many = len(policies) != 1
        print(f"{len(policies):,} table{'s' if many else ''} owe{'' if many else 's'} nothing that is due", file=sys.stderr)
    return 1 if counts["failures"] else 0
