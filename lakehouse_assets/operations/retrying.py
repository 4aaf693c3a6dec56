"""The one retry loop: errors that can pass by themselves are tried again with growing waits."""

import time
from collections.abc import Callable
from typing import TypeVar

from lakehouse_assets.model.errors import LakehouseError

MAX_FAILURES_IN_A_ROW = 6
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 15.0
_STEP_SECONDS = 0.1

Outcome = TypeVar("Outcome")


def retry_transient(
    attempt: Callable[[], Outcome],
    stop: Callable[[], bool],
    on_retry: Callable[[LakehouseError, float], None],
    progress: Callable[[], int] = lambda: 0,
) -> Outcome:
    """Call `attempt` until it returns. `on_retry` hears of each error and the seconds to the next attempt.

    A change of `progress()` since the last failure starts the count of failures anew.

    Raises:
        LakehouseError: not retryable, or the last of MAX_FAILURES_IN_A_ROW, or any once `stop()`.
    """
    failures, seen = 0, progress()
    while True:
        try:
            return attempt()
        except LakehouseError as error:
            failures = failures + 1 if progress() == seen else 1
            seen = progress()
            if not error.retryable or failures >= MAX_FAILURES_IN_A_ROW or stop():
                raise
            wait = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2 ** (failures - 1))
            on_retry(error, wait)
            _wait_unless(stop, wait)


def _wait_unless(stop: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not stop():
        time.sleep(min(_STEP_SECONDS, seconds))
