"""`lakehouse validate`: every mistake of declarations, with file and line."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse_assets.cli.printing import add_json, print_json

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment

HELP = "check declarations; print each mistake with file and line"
_FACTS = ("file", "line", "path", "found", "allowed", "suggestion")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("place", nargs="*", type=_read_place, help="files or folders (default: the folder of declarations)")
    add_json(parser)


def _read_place(text: str) -> Path:
    if not (place := Path(text)).exists():
        raise argparse.ArgumentTypeError(f"found {text!r}, which is no file and no folder")
    return place


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Print what is wrong; 1 if anything is."""
    from lakehouse_assets.declarations.loading import load_declarations

    declared = load_declarations(*(arguments.place or [environment.tables_dir]))
    problems = [problem for broken in declared.broken for problem in broken.problems]
    if arguments.json:
        print_json(
            tables=[
                *(spec.table for spec in declared.specs),
                *(spec.table for spec in declared.computed),
                *(table for asset in declared.assets for table in asset.tables),
            ],
            problems=[{name: getattr(problem, name) for name in _FACTS} for problem in problems],
        )
    else:
        for problem in problems:
            print(problem, file=sys.stderr)
        right = len(declared.specs) + len(declared.computed) + len(declared.assets)
        print(f"right: {right}, wrong: {len(declared.broken)}")
    return 1 if problems else 0
