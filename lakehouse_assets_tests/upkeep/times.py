"""When the rows happened that our own commits bring, and what the table must say of it whatever is done to the table."""

import random
from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Self

from pyiceberg.table import Table

from lakehouse_assets.model.completeness import DAY_MS, HOUR_MS, DayTags
from lakehouse_assets.model.offsets import TopicPartition
from lakehouse_assets.model.watermark import Arrivals, EventTimes, WatermarkMove
from lakehouse_assets.systems.table_times import read_table_times

_BEGAN = date(2024, 10, 4)
_BEGAN_MS = 20_000 * DAY_MS  # the same
_KEPT_MS = 1000 * DAY_MS
_LOGS = frozenset([TopicPartition("clicks", 0)])


@dataclass
class Times:
    """The model: nothing of it goes back. `days`: the snapshot of the commit that completed each."""

    now_ms: int = _BEGAN_MS
    watermark_ms: int | None = None
    late: Counter[int] = field(default_factory=Counter)
    days: dict[str, int] = field(default_factory=dict)

    def move(self, rng: random.Random) -> Mapping[str, Any]:
        """The parts of the next commit's delivery: it is some hours later, and its rows are not all of now."""
        self.now_ms += rng.randrange(9) * HOUR_MS
        hours = Counter(self.now_ms - rng.randrange(12) * HOUR_MS for _ in range(3))
        if self.watermark_ms is not None:
            self.late += Counter({hour: count for hour, count in hours.items() if hour + HOUR_MS <= self.watermark_ms})
        self.watermark_ms = self.now_ms
        newest = dict.fromkeys(_LOGS, self.now_ms)
        move = WatermarkMove(newest, _LOGS, frozenset(), disorder_ms=0, tags=DayTags(_BEGAN_MS, _KEPT_MS))
        return {"watermark": move, "arrivals": Arrivals(EventTimes(hours=hours), HOUR_MS, _KEPT_MS)}

    def note(self, table: Table) -> None:
        """That commit has landed: the days that it completed are what it left."""
        current = table.current_snapshot()
        assert current is not None
        for day in range(len(self.days), (self.now_ms - _BEGAN_MS) // DAY_MS):
            self.days[f"complete-{_BEGAN + timedelta(days=day):%Y-%m-%d}"] = current.snapshot_id

    def copy(self) -> Self:
        """As it is now."""
        return deepcopy(self)

    def judge(self, table: Table) -> None:
        """Look at watermark, late rows and tags.

        Raises:
            AssertionError
        """
        found = read_table_times(table)
        assert (found.watermark_ms, found.late_rows) == (self.watermark_ms, self.late)
        refs = table.refs().items()
        assert {name: ref.snapshot_id for name, ref in refs if name.startswith("complete-")} == self.days
