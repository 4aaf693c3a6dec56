"""`lakehouse schema`: the JSON Schema of declarations."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment

HELP = "print the JSON Schema of declarations, for editors"


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """It takes nothing."""


def run(_arguments: argparse.Namespace, _environment: "Environment") -> int:
    """Print it."""
    from lakehouse_assets.declarations.json_schema import render_json_schema

    print(render_json_schema(), end="")
    return 0
