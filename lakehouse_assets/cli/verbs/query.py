"""`lakehouse query`: SQL over the tables."""

import argparse
import sys
import time
from collections.abc import Iterator
from itertools import chain, count, islice
from typing import TYPE_CHECKING, Any

from lakehouse_assets.cli.printing import add_json

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment
    from lakehouse_assets.operations.query import Answer

HELP = "run a SQL query over the tables, as SELECT * FROM namespace.name; writes nothing"
_SHOWN_ROWS = 100
_GROUP = 1000  # rows that are laid out together
_WIDEST = 80
_COUNT_SECONDS = 2.0

Row = tuple[Any, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("sql", help="one statement of DuckDB's SQL; - reads it from the standard input")
    parser.add_argument(
        "--limit", type=_read_limit, help=f"rows to print, 0 for all (default: {_SHOWN_ROWS}; with --json and --csv all)"
    )
    parser.add_argument(
        "--as-of", action="append", default=[], metavar="[TABLE=]TAG|ID|TIME",
        help="read every table, or one, as it was: a tag, the id of a snapshot, or a time in UTC",
    )  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    add_json(form)
    form.add_argument("--csv", action="store_true", help="comma-separated values with a line of names")


def _read_limit(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number of rows, or 0")
    return int(text)


def _read_as_of(text: str) -> tuple[str | None, str]:
    table, separator, as_of = text.rpartition("=")
    return (table if separator else None), as_of


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Print the rows; on the standard error how many were left out."""
    from lakehouse_assets.cli.cells import read_rows
    from lakehouse_assets.cli.tables import open_catalog
    from lakehouse_assets.declarations.loading import load_declarations
    from lakehouse_assets.operations.query import answer_query

    catalog = open_catalog(environment)
    declared = load_declarations(environment.tables_dir).policies.keys()
    sql = sys.stdin.read() if arguments.sql == "-" else arguments.sql
    with answer_query(catalog, sql, declared, dict(map(_read_as_of, arguments.as_of))) as answer:
        rows = (row for batch in answer.batches for row in read_rows(batch))
        limit = arguments.limit
        if limit is None and not arguments.json and not arguments.csv:
            limit = _SHOWN_ROWS
        shown = islice(rows, limit) if limit else rows
        if arguments.json:
            _print_json(answer, shown)
        elif arguments.csv:
            _print_csv(answer, shown)
        else:
            _print_grid(answer, shown)
        _tell_rest(rows)
    return 0


def _print_json(answer: "Answer", rows: Iterator[Row]) -> None:
    import json

    names = _distinct(answer.schema.names)
    for row in rows:
        print(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False))


def _print_csv(answer: "Answer", rows: Iterator[Row]) -> None:
    import csv
    import json

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(answer.schema.names)
    for row in rows:
        writer.writerow([json.dumps(cell) if isinstance(cell, (dict, list, bool)) else cell for cell in row])


def _print_grid(answer: "Answer", rows: Iterator[Row]) -> None:
    import pyarrow as pa

    from lakehouse_assets.cli.cells import as_text
    from lakehouse_assets.cli.grid import Grid

    texts = ([as_text(cell) for cell in row] for row in rows)
    first = list(islice(texts, _GROUP))
    numbers = [
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) for kind in answer.schema.types
    ]
    widest = _WIDEST if sys.stdout.isatty() else None
    grid = Grid([as_text(name) for name in answer.schema.names], first, numbers=numbers, widest=widest)
    print(grid.head())
    for line in grid.lines(chain(first, texts)):
        print(line)


def _tell_rest(rows: Iterator[Row]) -> None:
    """Count what was not printed, but not for long: a table may be huge."""
    sys.stdout.flush()
    deadline, left = time.monotonic() + _COUNT_SECONDS, 0
    for left, _ in enumerate(rows, start=1):  # noqa: B007 - the last one counts
        if time.monotonic() > deadline:
            print(f"at least {left:,} more rows are not shown; --limit 0 shows all", file=sys.stderr)
            return
    if left:
        print(f"{left:,} more rows are not shown; --limit 0 shows all", file=sys.stderr)


def _distinct(names: list[str]) -> list[str]:
    """Keys of one object: a name that comes again is numbered."""
    found: list[str] = []
    for i, name in enumerate(names):
        numbered = (f"{name}_{number}" for number in count(2))
        found.append(name if name not in names[:i] else next(n for n in numbered if n not in names and n not in found))
    return found
