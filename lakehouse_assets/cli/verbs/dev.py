"""`lakehouse dev`: the whole platform on this machine."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lakehouse_assets.environment import Environment

HELP = "run the whole platform on this machine: Kafka, demo data, Dagster"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("--port", type=int, default=3000, help="port of the UI, or the next free one (default: 3000)")
    parser.add_argument("--workspace", type=Path, help="what Dagster loads (default: workspace.yaml here, or the package's)")
    parser.add_argument("--end-with-parent", action="store_true", help="stop when the process that started this one ends")


def run(arguments: argparse.Namespace, environment: "Environment") -> int:
    """Run until Ctrl-C."""
    from lakehouse_assets.local.dev import run_platform

    parent_pid = os.getppid() if arguments.end_with_parent else None
    return run_platform(environment, workspace=arguments.workspace, ui_port=arguments.port, parent_pid=parent_pid)
