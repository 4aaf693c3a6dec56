"""The `lakehouse` command in a process of its own: PyIceberg reads its part of the environment once, when it is imported."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

COMMAND = (sys.executable, "-m", "lakehouse_assets.cli")
_SECONDS = 60.0
_DECLARATION = """
table: {table}
source: {{topic: {topic}}}
commit_interval: 1s
schema:
  - {{name: id, type: long, required: true}}
  - {{name: text, type: string}}
"""


def run_lakehouse(
    folder: Path, topic: str, *arguments: str, variables: Mapping[str, str], table: str = "ods.clicks"
) -> "subprocess.CompletedProcess[str]":
    """Run it with a table declared over a topic, and its home in `folder`."""
    tables = folder / "tables"
    tables.mkdir(exist_ok=True)
    (tables / "clicks.yaml").write_text(_DECLARATION.format(table=table, topic=topic))
    return call_lakehouse(folder, *arguments, variables=variables)


def call_lakehouse(
    folder: Path, *arguments: str, variables: Mapping[str, str] | None = None, program: Sequence[str] = COMMAND, input: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Run it with its home, and the declarations that are there, in `folder`."""
    return subprocess.run(
        [*program, *arguments],
        env=place_variables(folder) | (variables or {}), capture_output=True, text=True, timeout=_SECONDS, check=False, input=input,
    )  # fmt: skip


def place_variables(folder: Path) -> dict[str, str]:
    """The variables of this process, with home and declarations in `folder`."""
    return {**os.environ, "LAKEHOUSE_HOME": str(folder / "home"), "LAKEHOUSE_TABLES_DIR": str(folder / "tables")}
