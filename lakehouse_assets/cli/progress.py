"""How far a long verb is, on the standard error: a bar or a line on a terminal, a sentence now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_SILENT_SECONDS = 10.0


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


@contextmanager
def tell_progress() -> Iterator[Callable[[str], None]]:
    """Hears sentences while this lasts. A terminal shows the last one; elsewhere one is written every ten seconds."""
    if sys.stderr.isatty():
        # As above: only what goes to this terminal may be written around the line.
        with Live(console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()) as line:
            yield lambda sentence: line.update(Text(sentence))
        return
    told = time.monotonic()

    def tell(sentence: str) -> None:
        nonlocal told
        if time.monotonic() - told >= _SILENT_SECONDS:
            told = time.monotonic()
            print(sentence, file=sys.stderr, flush=True)

    yield tell
