"""The `lakehouse` command: what the UI does, for a shell. Prints the same sentences; with --json, what a script can read."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse_assets.declarations.json_schema import render_json_schema
from lakehouse_assets.declarations.loading import Declarations, load_declarations
from lakehouse_assets.environment import Environment
from lakehouse_assets.model.errors import LakehouseError, UnknownTableError
from lakehouse_assets.model.mistakes import nearest
from lakehouse_assets.model.spec import TableSpec

if TYPE_CHECKING:
    from lakehouse_assets.operations.status import TableStatus
    from lakehouse_assets.operations.systems import Systems

_INTERRUPTED = 130  # what a shell expects of a command that Ctrl-C ended
_PEEKED = 10

Command = Callable[[argparse.Namespace, Environment], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 is success, 1 an error that was printed, 2 a wrong call, an unknown table among them."""
    parsed = _build_parser().parse_args(arguments)
    command: Command = parsed.command
    try:
        return command(parsed, Environment.read())
    except LakehouseError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, UnknownTableError) else 1
    except KeyboardInterrupt:
        return _INTERRUPTED


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lakehouse",
        description="Kafka topics become Iceberg tables.",
        epilog="Ends with 0 on success, 1 on an error that it prints, 2 on a wrong call. Settings come from the environment.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    dev = commands.add_parser("dev", help="run the whole platform on this machine: Kafka, demo data, Dagster")
    dev.add_argument("--port", type=int, default=3000, help="port of the UI, or the next free one (default: 3000)")
    dev.add_argument("--workspace", type=Path, help="what Dagster loads (default: workspace.yaml here, or the package's)")
    dev.add_argument("--end-with-parent", action="store_true", help="stop when the process that started this one ends")
    dev.set_defaults(command=_dev)

    validate = commands.add_parser("validate", help="check declarations; print each mistake with file and line")
    validate.add_argument("place", nargs="*", type=Path, help="files or folders (default: the folder of declarations)")
    _add_json(validate)
    validate.set_defaults(command=_validate)

    schema = commands.add_parser("schema", help="print the JSON Schema of declarations, for editors")
    schema.set_defaults(command=_schema)

    status = commands.add_parser("status", help="how far each table is behind its topic, and its last commits")
    status.add_argument("table", nargs="*", help="namespace.name (default: every table)")
    _add_json(status)
    status.set_defaults(command=_status)

    plan = commands.add_parser("plan", help="what a run would read now; creates and writes nothing")
    plan.add_argument("table", help="namespace.name")
    _add_json(plan)
    plan.set_defaults(command=_plan)

    peek = commands.add_parser("peek", help="the newest messages as the declaration reads them; writes nothing")
    peek.add_argument("table", help="namespace.name")
    peek.add_argument("--count", type=int, default=_PEEKED, help=f"how many, over all topic partitions (default: {_PEEKED})")
    _add_json(peek)
    peek.set_defaults(command=_peek)

    ingest = commands.add_parser("ingest", help="bring a table up to date, as its sensor would")
    ingest.add_argument("table", help="namespace.name")
    ingest.set_defaults(command=_ingest)

    replay = commands.add_parser("replay", help="read the messages in quarantine again, also those that Kafka has no more")
    replay.add_argument("table", help="namespace.name")
    _add_json(replay)
    replay.set_defaults(command=_replay)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document a line, for scripts")


def _dev(arguments: argparse.Namespace, environment: Environment) -> int:
    from lakehouse_assets.local.dev import run_platform

    parent_pid = os.getppid() if arguments.end_with_parent else None
    return run_platform(environment, workspace=arguments.workspace, ui_port=arguments.port, parent_pid=parent_pid)


def _schema(_arguments: argparse.Namespace, _environment: Environment) -> int:
    print(render_json_schema(), end="")
    return 0


def _validate(arguments: argparse.Namespace, environment: Environment) -> int:
    declared = load_declarations(*(arguments.place or [environment.tables_dir]))
    problems = [problem for broken in declared.broken for problem in broken.problems]
    if arguments.json:
        names = ("file", "line", "path", "found", "allowed", "suggestion")
        _print_json(
            tables=[spec.table for spec in declared.specs],
            problems=[{name: getattr(problem, name) for name in names} for problem in problems],
        )
    else:
        for problem in problems:
            print(problem, file=sys.stderr)
        print(f"right: {len(declared.specs)}, wrong: {len(declared.broken)}")
    return 1 if problems else 0


def _status(arguments: argparse.Namespace, environment: Environment) -> int:
    from lakehouse_assets.operations.status import read_status

    failed = False
    systems = None
    for spec in _choose(load_declarations(environment.tables_dir), arguments.table):
        try:
            systems = systems or _open(environment)
            status = read_status(systems, spec)
        except LakehouseError as error:
            failed = True
            if arguments.json:
                _print_json(table=spec.table, topic=spec.source.topic, error=type(error).__name__, message=str(error))
            else:
                print(error, file=sys.stderr)
        else:
            _print_status(spec, status, as_json=arguments.json)
    return 1 if failed else 0


def _print_status(spec: TableSpec, status: "TableStatus", *, as_json: bool) -> None:
    commits = [
        {
            "snapshot_id": str(c.snapshot_id), "at": _iso(c.at_ms), "operation": c.operation, "added_rows": c.added_rows,
            "total_rows": c.total_rows,
        }
        for c in status.commits
    ]  # fmt: skip
    if as_json:
        committed_ms = status.committed_ms
        _print_json(
            table=spec.table,
            topic=spec.source.topic,
            lag=status.lag,
            committed_at=_iso(committed_ms) if committed_ms is not None else None,
            age_seconds=round(time.time() - committed_ms / 1000, 1) if committed_ms is not None else None,
            held=status.entry.held.to_lists() if status.entry is not None else None,
            missing=status.missing.to_lists(),
            commits=commits,
        )
        return
    print(f"{spec.table}: {status.lag:,} messages behind {spec.source.topic!r}; next: {status.missing}")
    for commit in commits:
        print("  {at}  {operation:<14} +{added_rows:,} rows, {total_rows:,} in all".format_map(commit))


def _plan(arguments: argparse.Namespace, environment: Environment) -> int:
    from lakehouse_assets.operations.status import read_status

    (spec,) = _choose(load_declarations(environment.tables_dir), [arguments.table])
    status = read_status(_open(environment), spec)
    ranges = [(p, r.start, r.stop - 1) for p, held in status.missing.partitions.items() for r in held]
    if arguments.json:
        reads = [{"partition": p, "first_offset": first, "last_offset": last} for p, first, last in ranges]
        _print_json(table=spec.table, topic=spec.source.topic, creates_table=status.entry is None, lag=status.lag, reads=reads)
        return 0
    if status.entry is None:
        print(f"would create {spec.table}")
    for p, first, last in ranges:
        print(f"would read {spec.source.topic}-{p} offsets {first} to {last}, at most {last - first + 1:,} messages")
    if not ranges:
        print(f"{spec.table} has everything")
    return 0


def _peek(arguments: argparse.Namespace, environment: Environment) -> int:
    from lakehouse_assets.operations.peek import peek_newest

    (spec,) = _choose(load_declarations(environment.tables_dir), [arguments.table])
    for message in peek_newest(_open(environment), spec, arguments.count):
        if arguments.json:
            at = {"partition": message.partition, "offset": message.offset, "timestamp_ms": message.timestamp_ms}
            _print_json(**at, row=message.row, error=message.error)
            continue
        place = f"{spec.source.topic}-{message.partition} offset {message.offset}"
        if message.row is not None:
            print(f"{place}: {json.dumps(message.row, default=str)}")
        else:
            print(f"{place}: {'no row: ' + message.error if message.error else 'a tombstone, skipped'}")
    return 0


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
            now_ms=_now_ms,
        )
    print(f"{result.ended}: {result.row_count:,} rows in {result.commits} commits")
    return 0


def _replay(arguments: argparse.Namespace, environment: Environment) -> int:
    from lakehouse_assets.operations.replay import run_replay

    (spec,) = _choose(load_declarations(environment.tables_dir), [arguments.table])
    result = run_replay(_open(environment), spec, _now_ms)
    if arguments.json:
        _print_json(table=spec.table, moved=result.moved, still_bad=result.still_bad)
    else:
        print(f"moved {result.moved:,} messages into {spec.table}; {result.still_bad:,} still can't become rows")
    return 0


def _choose(declared: Declarations, names: Sequence[str]) -> list[TableSpec]:
    by_name = {spec.table: spec for spec in declared.specs}
    for name in names:
        if name not in by_name:
            raise UnknownTableError(name, sorted(by_name), nearest(name, by_name))
    return [by_name[name] for name in names] if names else list(declared.specs)


def _open(environment: Environment) -> "Systems":
    from lakehouse_assets.orchestration.resources import open_environment

    return open_environment(environment)


def _now_ms() -> int:
    return int(time.time() * 1000)


def _print_json(**parts: Any) -> None:
    print(json.dumps(parts, default=str))


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")


if __name__ == "__main__":
    sys.exit(main())
