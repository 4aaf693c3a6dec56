"""Which hours and days of event time are complete: those whose end the watermark has passed. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
_MOST_TAGS: Final = 31  # of one commit


@dataclass(frozen=True, slots=True)
class DayTags:
    """The tags of days that are complete.

    Attributes:
        start_ms: When the first of the days began or later, ms since 1970.
        keep_ms: How long a tag, and what it names, is kept.
    """

    start_ms: int
    keep_ms: int

    def list_closed(self, before_ms: int | None, watermark_ms: int | None) -> list[str]:
        """Tags of the days that a move of the watermark passes, in their order; of very many the newest."""
        if watermark_ms is None:
            return []
        stop = watermark_ms // DAY_MS
        began = self.start_ms if before_ms is None else max(before_ms, self.start_ms)
        return [_name_day(day) for day in range(max(began // DAY_MS, stop - _MOST_TAGS), stop)]


def _name_day(day: int) -> str:
    return f"complete-{datetime.fromtimestamp(day * DAY_MS / 1000, UTC):%Y-%m-%d}"
