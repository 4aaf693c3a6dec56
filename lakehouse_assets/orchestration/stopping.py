"""Turns an interrupt (the UI's terminate button, SIGTERM, Ctrl-C) into a wish to stop at the next commit boundary."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_at_boundary() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether to stop. An interrupt is delivered on leaving, so the run ends as canceled."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # signals reach only the main thread; Dagster then interrupts by itself
        return
    asked = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        asked.set()

    before = {number: signal.signal(number, ask) for number in _SIGNALS}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked.is_set():
        signal.raise_signal(signal.SIGINT)
