"""How often a run commits: as its table declares, or less often while the table owes more than its hard limits.

Only the time between commits grows, within bounds: messages wait in Kafka, and nothing else changes.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from lakehouse_assets.model.errors import LakehouseError
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.systems.measuring import may_be_over_hard_limit, measure_debt

LOOK_SECONDS = 60.0  # between two looks into manifests; the summary is looked at with every commit


@dataclass(frozen=True, slots=True)
class Pace:
    """How many times the declared interval lies between commits, and why, in sentences."""

    slowdown: int = 1
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"commits come {self.slowdown} times less often while maintenance catches up: {'; '.join(self.reasons)}"


class Pacer:
    """Keeps the pace of one run."""

    def __init__(self, spec: TableSpec, now_ms: Callable[[], int]) -> None:
        self._spec, self._now_ms = spec, now_ms
        self._next_look = float("-inf")
        self.pace = Pace()

    def look(self, metadata: TableMetadata, load: Callable[[], Table]) -> None:
        """Judge the table anew, after a commit or before the first one. Manifests are read only where the summary asks for it.

        Where the debt can't be measured the pace stays: the check `debt` says why, and ingestion stops for nothing of that.
        """
        policy = self._spec.maintenance
        if not may_be_over_hard_limit(metadata, policy):
            self.pace = Pace()
        elif time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_SECONDS
            with suppress(LakehouseError):
                debt = measure_debt(load(), policy, self._now_ms())
                self.pace = Pace(debt.slowdown(policy), tuple(map(str, debt.over_hard_limit(policy))))
