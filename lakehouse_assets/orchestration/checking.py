"""Checks beside a run that commits: evaluated in a thread, because an audit may take seconds in which rows would wait."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Self

import dagster as dg

from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.orchestration.checks import evaluate_checks

if TYPE_CHECKING:
    from lakehouse_assets.operations.systems import Systems

_SECONDS = 60.0  # between two evaluations
_SHARE = 20  # the time between two, in the time that one takes


class ChecksBeside:
    """Evaluates every check with the run's first commit and about once a minute after it; less often where they take long.

    What was found is recorded by the thread of the run, with its next commit or at its end. The UI takes a check as answered
    only if it comes from the run of the latest materialization, or after it.
    """

    def __init__(self, spec: TableSpec, systems: "Systems", record: Callable[[dg.AssetCheckEvaluation], object]) -> None:
        self._spec, self._systems, self._record = spec, systems, record
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checks")
        self._evaluating: Future[list[dg.AssetCheckEvaluation]] | None = None
        self._next = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown(wait=True)
        if error is None:
            self._record_what_is_found()

    def look(self) -> None:
        """A commit has landed."""
        if self._evaluating is None or self._evaluating.done():
            self._record_what_is_found()
            if time.monotonic() >= self._next:
                self._evaluating = self._thread.submit(self._evaluate)

    def _evaluate(self) -> list[dg.AssetCheckEvaluation]:
        began = time.monotonic()
        found = list(evaluate_checks(self._spec, self._systems))
        ended = time.monotonic()
        self._next = ended + max(_SECONDS, _SHARE * (ended - began))
        return found

    def _record_what_is_found(self) -> None:
        if self._evaluating is not None:
            for evaluation in self._evaluating.result():
                self._record(evaluation)
            self._evaluating = None
