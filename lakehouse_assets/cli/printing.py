"""How results are printed: sentences for people, JSON documents for scripts."""

import argparse
import base64
import json
import sys
from datetime import UTC, date, datetime, time
from typing import Any

from lakehouse_assets.model.errors import LakehouseError


def add_json(parser: argparse._ActionsContainer) -> None:
    """The switch that every verb with a result has."""
    parser.add_argument("--json", action="store_true", help="one JSON document a line, for scripts")


def read_count(text: str) -> int:
    """A number of messages to look at, as an argument."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number of messages, at least 1")
    return int(text)


def print_json(**parts: Any) -> None:
    """One document on one line."""
    print(json.dumps(parts, default=json_value))


def json_value(value: Any) -> Any:
    """What JSON has no word for, as `query` writes it too: times as ISO 8601, bytes as base64, the rest as text."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, date | time):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)


def print_failure(error: LakehouseError, *, as_json: bool, **about: Any) -> None:
    """An error of one of several tables: a document that says `about` which, or its sentence on the standard error."""
    if as_json:
        print_json(**about, error=type(error).__name__, message=str(error))
    else:
        print(error, file=sys.stderr)


def iso(time_ms: int) -> str:
    """A time, ms since 1970, as ISO 8601 in UTC."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")


def duration(seconds: float) -> str:
    """A length of time as people say it, in one unit."""
    for unit, size, most in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < most:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def size(size_bytes: float) -> str:
    """A number of bytes as people say it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:,.1f} TiB"
