"""The `lakehouse` command: what the UI does, for a shell. One module per verb, in `verbs/`."""

from lakehouse_assets.cli.command import main

__all__ = ["main"]
