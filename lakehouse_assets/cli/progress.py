"""How far a long verb is: a bar on a terminal, nothing anywhere else."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Bar:
    """A bar per task, on the standard error. What is printed meanwhile stands above."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def show(self, name: str, left: int) -> None:
        """The task of that name has `left` to do; the first call says how much it is in all."""
        task = next((task for task in self._progress.tasks if task.description == name), None)
        if task is None:
            self._progress.add_task(name, total=left)
        else:
            self._progress.update(task.id, completed=(task.total or 0) - left)


@contextmanager
def show_progress() -> Iterator[Bar]:
    """Bars while this lasts."""
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TextColumn("messages"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    # Standard output goes elsewhere, or to the same terminal; only there it would write across the bar.
    is_shared = sys.stdout.isatty()
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty(), redirect_stdout=is_shared) as progress:
        yield Bar(progress)
