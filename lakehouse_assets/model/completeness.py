"""Which hours and days of event time are complete: those whose end the watermark has passed. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from lakehouse_assets.model.mistakes import Mistake
from lakehouse_assets.model.offsets import TopicPartition
from lakehouse_assets.model.slices import Every, SliceClock, TimeSlice, to_ms

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
_MOST_TAGS: Final = 31  # of one commit
_FORMS: Final[dict[str, Every]] = {"%Y-%m-%d": "day", "%Y-%m-%dT%H": "hour", "%Y-%m-%dT%H:00": "hour", "%Y-%m-%d-%H:00": "hour"}


@dataclass(frozen=True, slots=True)
class Completeness:
    """How far a table is with an hour or a day.

    Attributes:
        watermark_ms: The table's; None where it has none yet.
        holding: Which topic partitions keep the watermark from the end, as `WatermarkMove.list_holding` says; nothing for a
            table that is not filled from Kafka, or that no declaration describes.
        late_rows: Rows that came when their hour was complete, as far as they are remembered.
    """

    table: str
    within: TimeSlice
    watermark_ms: int | None
    holding: Mapping[TopicPartition, int | None] = field(default_factory=dict)
    late_rows: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether no row of it is to come any more, but for late ones."""
        return self.watermark_ms is not None and self.watermark_ms >= self.within.stop_ms


def read_time_slice(text: str) -> TimeSlice:
    """The hour `2026-11-01T14` or the day `2026-11-01`, in UTC; partition keys of hours too, as `2026-11-01-14:00`.

    Raises:
        ValueError: it is neither.
    """
    for form, every in _FORMS.items():
        try:
            start = datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        start_ms = to_ms(start)
        return TimeSlice(start_ms, start_ms + SliceClock(every, start).length_ms)
    raise ValueError(Mistake(repr(text), "an hour such as 2026-11-01T14, or a day such as 2026-11-01, in UTC"))


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
