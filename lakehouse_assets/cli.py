"""The `lakehouse` command: what the UI does, for a shell. Prints the same sentences."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lakehouse_assets.declarations.json_schema import render_json_schema
from lakehouse_assets.declarations.loading import Declarations, load_declarations
from lakehouse_assets.environment import Environment
from lakehouse_assets.model.errors import ConfigurationError, LakehouseError
from lakehouse_assets.model.spec import TableSpec

_INTERRUPTED = 130  # what a shell expects of a command that Ctrl-C ended

Command = Callable[[argparse.Namespace, Environment], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 is success, 1 an error that was printed, 2 a wrong call."""
    parsed = _build_parser().parse_args(arguments)
    command: Command = parsed.command
    try:
        return command(parsed, Environment.read())
    except LakehouseError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lakehouse", description="Kafka topics become Iceberg tables.")
    commands = parser.add_subparsers(required=True, metavar="command")

    dev = commands.add_parser("dev", help="run the whole platform on this machine: Kafka, demo data, Dagster")
    dev.add_argument("--port", type=int, default=3000, help="port of the UI, or the next free one (default: 3000)")
    dev.add_argument("--workspace", type=Path, help="what Dagster loads (default: workspace.yaml here, or the package's)")
    dev.add_argument("--end-with-parent", action="store_true", help="stop when the process that started this one ends")
    dev.set_defaults(command=_dev)

    check = commands.add_parser("check", help="check every declaration; print each mistake with file and line")
    check.add_argument("folder", nargs="?", type=Path, help="folder of declarations (default: LAKEHOUSE_TABLES_DIR)")
    check.set_defaults(command=_check)

    schema = commands.add_parser("schema", help="print the JSON Schema of declarations, for editors")
    schema.set_defaults(command=_schema)

    status = commands.add_parser("status", help="how far each table is behind its topic, and what it would read next")
    status.add_argument("table", nargs="*", help="namespace.name (default: every table)")
    status.set_defaults(command=_status)

    ingest = commands.add_parser("ingest", help="bring a table up to date, as its sensor would")
    ingest.add_argument("table", help="namespace.name")
    ingest.set_defaults(command=_ingest)
    return parser


def _dev(arguments: argparse.Namespace, environment: Environment) -> int:
    from lakehouse_assets.local.dev import run_platform

    parent_pid = os.getppid() if arguments.end_with_parent else None
    return run_platform(environment, workspace=arguments.workspace, ui_port=arguments.port, parent_pid=parent_pid)


def _schema(_arguments: argparse.Namespace, _environment: Environment) -> int:
    print(render_json_schema(), end="")
    return 0


def _check(arguments: argparse.Namespace, environment: Environment) -> int:
    declared = load_declarations(arguments.folder or environment.tables_dir)
    for broken in declared.broken:
        print(broken.error, file=sys.stderr)
    print(f"right: {len(declared.specs)}, wrong: {len(declared.broken)}")
    return 1 if declared.broken else 0


def _status(arguments: argparse.Namespace, environment: Environment) -> int:
    from lakehouse_assets.operations.status import read_status

    specs = _choose(load_declarations(environment.tables_dir), arguments.table)
    systems = _open(environment)
    failed = False
    for spec in specs:
        try:
            status = read_status(systems, spec)
        except LakehouseError as error:
            failed = True
            print(error, file=sys.stderr)
        else:
            print(f"{spec.table}: {status.lag:,} messages behind {spec.source.topic!r}; next: {status.missing}")
    return 1 if failed else 0


def _ingest(arguments: argparse.Namespace, environment: Environment) -> int:
    from lakehouse_assets.operations.ingest import run_ingest
    from lakehouse_assets.orchestration.metadata import commit_line
    from lakehouse_assets.orchestration.stopping import stop_at_boundary

    (spec,) = _choose(load_declarations(environment.tables_dir), [arguments.table])
    with stop_at_boundary() as stop:
        result = run_ingest(
            _open(environment),
            spec,
            stop=stop,
            on_commit=lambda report: print(commit_line(report), flush=True),
            on_retry=lambda error, seconds: print(f"trying again in {seconds:g} s: {error}", file=sys.stderr),
            now_ms=lambda: int(time.time() * 1000),
        )
    print(f"{result.ended}: {result.row_count:,} rows in {result.commits} commits")
    return 0


def _choose(declared: Declarations, names: Sequence[str]) -> list[TableSpec]:
    by_name = {spec.table: spec for spec in declared.specs}
    for name in names:
        if name not in by_name:
            raise ConfigurationError("table", repr(name), f"a declared table: {', '.join(sorted(by_name)) or 'there is none'}")
    return [by_name[name] for name in names] if names else list(declared.specs)


def _open(environment: Environment):  # type: ignore[no-untyped-def]
    from lakehouse_assets.orchestration.resources import open_environment

    return open_environment(environment)


if __name__ == "__main__":
    sys.exit(main())
