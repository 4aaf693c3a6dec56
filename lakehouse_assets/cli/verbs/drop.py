"""`lakehouse drop`: unlists a table at once, has it back, or deletes its files."""

import argparse
import sys
from typing import TYPE_CHECKING

from lakehouse_assets.cli.maintenance import add_switches, add_tables, print_report
from lakehouse_assets.cli.printing import iso, print_failure
from lakehouse_assets.model.errors import LakehouseError, TableMissingError, UnknownTableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyiceberg.catalog import Catalog

    from lakehouse_assets.environment import Environment
    from lakehouse_assets.model.maintenance import MaintenanceReport
    from lakehouse_assets.operations.maintenance import MaintenanceTask

HELP = "drops tables, with those of their bad messages; for a day they can be had back"

_WRONG_CALL = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    add_tables(parser)
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--undo", action="store_true", help="have the table back that was dropped last under this name")
    way.add_argument(
        "--purge", action="store_true", help="drop for good, delete the files now; also of a table that was dropped before"
    )
    add_switches(parser)


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Print the report of each table; 1 if one of them failed, 2 if nobody said that it is meant. The others are done."""
    from lakehouse_assets.cli.tables import open_catalog
    from lakehouse_assets.operations.dropping import run_drop, run_purge, run_undo_drop

    operate = run_undo_drop if arguments.undo else run_purge if arguments.purge else run_drop
    catalog = open_catalog(environment)
    is_free = arguments.undo or arguments.dry_run or arguments.yes
    if not is_free and not sys.stdin.isatty():
        what = " ".join(arguments.table)
        print(f"Cannot drop {what}: there is no terminal to ask on whether it is meant. Say so with --yes.", file=sys.stderr)
        return _WRONG_CALL
    failed = False
    for table in arguments.table:
        try:
            if is_free or _is_meant(arguments, catalog, table, operate):
                report = _do(arguments, catalog, table, operate, is_dry_run=arguments.dry_run)
                print_report(report, as_json=arguments.json)
                if not arguments.json and not arguments.dry_run:
                    _say_what_follows(environment, report)
        except UnknownTableError:
            raise
        except LakehouseError as error:
            failed = True
            print_failure(error, as_json=arguments.json, table=table)
    return 1 if failed else 0


def _do(
    arguments: argparse.Namespace,
    catalog: "Catalog",
    table: str,
    operate: "Callable[[MaintenanceTask], MaintenanceReport]",
    *,
    is_dry_run: bool,
) -> "MaintenanceReport":
    from lakehouse_assets.cli.progress import tell_progress
    from lakehouse_assets.cli.tables import now_ms
    from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
    from lakehouse_assets.model.mistakes import nearest
    from lakehouse_assets.operations.maintenance import MaintenanceTask
    from lakehouse_assets.systems.catalog import list_tables

    try:
        with tell_progress() as tell:
            task = MaintenanceTask(
                catalog, table, MaintenanceSpec(), now_ms, on_progress=tell, is_dry_run=is_dry_run, is_confirmed=arguments.yes
            )
            return operate(task)
    except TableMissingError as error:
        known = list_tables(catalog)
        raise UnknownTableError(table, known, nearest(table, known), catalog=catalog.name) from error


def _is_meant(
    arguments: argparse.Namespace, catalog: "Catalog", table: str, operate: "Callable[[MaintenanceTask], MaintenanceReport]"
) -> bool:
    """Show what would be done, and ask. The question is no result, so it goes to the standard error."""
    print_report(_do(arguments, catalog, table, operate, is_dry_run=True), as_json=arguments.json)
    question = f"Delete {table} for good?" if arguments.purge else f"Drop {table}?"
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _say_what_follows(environment: "Environment", report: "MaintenanceReport") -> None:
    from lakehouse_assets.declarations.loading import load_declarations

    if report.operation == "undo_drop":
        return
    if report.operation == "drop":
        until = iso(int(report.figures["undo_until_ms"]))
        print(f"  have it back until {until}: lakehouse drop {report.table} --undo")
    declared = load_declarations(environment.tables_dir)
    if report.table in {spec.table for spec in declared.tables}:
        print("  it is declared: its next run creates it anew and reads its topic from where the declaration says")
    if report.table in {spec.table for spec in declared.computed}:
        print("  it is declared: its next run creates it anew with the hours or days that it computes")
