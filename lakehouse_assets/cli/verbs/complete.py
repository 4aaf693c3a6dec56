"""`lakehouse complete`: whether an hour or a day of event time is complete, for schedulers and scripts."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from lakehouse_assets.cli.printing import add_json, duration, iso, print_json
from lakehouse_assets.model.errors import LakehouseError

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment
    from lakehouse_assets.model.completeness import Completeness
    from lakehouse_assets.model.slices import TimeSlice

HELP = "say whether an hour or a day of event time is complete: ends with 0 if it is, 1 if not yet, 2 on a mistake or an error"
FAILED = 2  # where other verbs end with 1, so that nobody waits in vain for what can't be told
_COMPLETE, _NOT_YET = 0, 1
_HOLDING_SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("table", help="namespace.name, of any table that says its event-time column")
    parser.add_argument("slice", type=_read_slice, help="the hour, as 2026-11-01T14, or the day, as 2026-11-01, in UTC")
    parser.add_argument("--wait", action="store_true", help="wait until it is complete")
    parser.add_argument("--timeout", type=_read_timeout, help="with --wait, how long at most, as 30m (default: for ever)")
    add_json(parser)


def _read_slice(text: str) -> "TimeSlice":
    from lakehouse_assets.model.completeness import read_time_slice

    try:
        return read_time_slice(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error.args[0])) from error


def _read_timeout(text: str) -> float:
    from datetime import timedelta

    from lakehouse_assets.model.written import read_duration

    try:
        return read_duration(text, timedelta(seconds=1)).total_seconds()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error.args[0])) from error


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Print how far the table is."""
    found = _find(arguments, environment)
    if arguments.json:
        print_json(**_document(found))
    else:
        print(_sentence(found))
        for line in _holding_lines(found):
            print(line)
    return _COMPLETE if found.is_complete else _NOT_YET


def _find(arguments: argparse.Namespace, environment: "Environment") -> "Completeness":
    from lakehouse_assets.cli.tables import now_ms, open_catalog
    from lakehouse_assets.declarations.loading import load_declarations
    from lakehouse_assets.operations.completeness import read_completeness, wait_until_complete

    specs = {spec.table: spec for spec in load_declarations(environment.tables_dir).tables}
    catalog = open_catalog(environment)
    said: list[str] = []

    def look() -> "Completeness":
        return read_completeness(catalog, arguments.table, arguments.slice, specs.get(arguments.table), now_ms())

    def tell(found: "Completeness") -> None:
        lines = "\n".join([_sentence(found), *_holding_lines(found)])
        if lines not in said:
            print(lines, file=sys.stderr)
        said[:] = [lines]

    def tell_of_retry(error: LakehouseError, seconds: float) -> None:
        print(f"{error} Next attempt in {seconds:.0f} s.", file=sys.stderr)

    if not arguments.wait:
        return look()
    return wait_until_complete(look, arguments.timeout, tell, tell_of_retry)


def _sentence(found: "Completeness") -> str:
    name = f"{found.table} {_name(found)}"
    late = f"; {found.late_rows:,} rows came late" if found.late_rows else ""
    if found.watermark_ms is None:
        return f"{name}: not yet; no watermark so far{late}"
    at = iso(found.watermark_ms)
    if found.is_complete:
        return f"{name}: complete; watermark {at}{late}"
    left = duration((found.within.stop_ms - found.watermark_ms) / 1000)
    return f"{name}: not yet; watermark {at}, {left} before its end{late}"


def _name(found: "Completeness") -> str:
    from lakehouse_assets.model.completeness import DAY_MS

    within = found.within
    is_hour = within.stop_ms - within.start_ms < DAY_MS
    return f"{within.start:%Y-%m-%dT%H}" if is_hour else f"{within.start:%Y-%m-%d}"


def _holding_lines(found: "Completeness") -> list[str]:
    shown = list(found.holding.items())[:_HOLDING_SHOWN]
    lines = [f"  held back by {log}: {'no row says a time yet' if ms is None else 'at ' + iso(ms)}" for log, ms in shown]
    rest = len(found.holding) - len(shown)
    return [*lines, f"  and {rest:,} more"] if rest else lines


def _document(found: "Completeness") -> dict[str, Any]:
    return {
        "table": found.table,
        "slice": _name(found),
        "start": iso(found.within.start_ms),
        "stop": iso(found.within.stop_ms),
        "complete": found.is_complete,
        "watermark": None if found.watermark_ms is None else iso(found.watermark_ms),
        "held_back_by": [
            {"topic": log.topic, "partition": log.partition, "at": None if ms is None else iso(ms)}
            for log, ms in found.holding.items()
        ],
        "late_rows": found.late_rows,
    }
