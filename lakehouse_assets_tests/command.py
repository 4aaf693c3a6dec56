"""The `lakehouse` command in a process of its own: PyIceberg reads its part of the environment once, when it is imported."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_SECONDS = 60.0
_DECLARATION = """
table: ods.clicks
source: {{topic: {topic}}}
commit_interval: 1s
schema:
  - {{name: id, type: long, required: true}}
  - {{name: text, type: string}}
"""


def run_lakehouse(folder: Path, topic: str, *arguments: str, variables: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run it with `ods.clicks` declared over a topic, and its home in `folder`."""
    tables = folder / "tables"
    tables.mkdir(exist_ok=True)
    (tables / "clicks.yaml").write_text(_DECLARATION.format(topic=topic))
    places = {"LAKEHOUSE_HOME": str(folder / "home"), "LAKEHOUSE_TABLES_DIR": str(tables)}
    return subprocess.run(
        [sys.executable, "-m", "lakehouse_assets.cli", *arguments],
        env={**os.environ, **places, **variables}, capture_output=True, text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
