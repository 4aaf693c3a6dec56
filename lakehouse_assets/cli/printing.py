"""How results are printed: sentences for people, JSON documents for scripts."""

import argparse
import json
from datetime import UTC, datetime
from typing import Any


def add_json(parser: argparse._ActionsContainer) -> None:
    """The switch that every verb with a result has."""
    parser.add_argument("--json", action="store_true", help="one JSON document a line, for scripts")


def print_json(**parts: Any) -> None:
    """One document on one line."""
    print(json.dumps(parts, default=str))


def iso(time_ms: int) -> str:
    """A time, ms since 1970, as ISO 8601 in UTC."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
