"""Event time as it stands in a table's own metadata, where any engine reads it and no declaration is needed."""

from collections.abc import Mapping
from dataclasses import dataclass

from pyiceberg.table import Table

from lakehouse_assets.model.slices import EVENT_TIME_COLUMN_KEY
from lakehouse_assets.model.watermark import (
    FLINK_STORES_KEY,
    FLINK_WATERMARK_KEY,
    WATERMARK_KEY,
    later_of_both,
)
from lakehouse_assets.systems.history import read_promised_ledger


@dataclass(frozen=True, slots=True)
class TableTimes:
    """What a table says of event time.

    Attributes:
        column: Which of its columns says when a row happened; None where none does.
        watermark_ms: Up to which time its rows are complete, ms since 1970; None where nothing is yet.
        late_rows: Rows that came when their hour was complete, by the hour's beginning in ms since 1970. Kept for the declared
            `late_horizon`; a table that is not filled from Kafka has none.
    """

    column: str | None
    watermark_ms: int | None
    late_rows: Mapping[int, int]


def read_table_times(table: Table) -> TableTimes:
    """What the table says now. It never goes back, not by a rollback either: none of it is of a single snapshot.

    Raises:
        LedgerLostError: its ledger can't be read.
    """
    ledger = read_promised_ledger(table)
    late_rows = ledger.late_rows if ledger is not None else {}
    return TableTimes(table.properties.get(EVENT_TIME_COLUMN_KEY), read_watermark(table), late_rows)


def read_watermark(table: Table) -> int | None:
    """The table's watermark; None where it has none, or somebody wrote there what is no number."""
    text = table.metadata.properties.get(WATERMARK_KEY, "")
    return int(text) if text.removeprefix("-").isdecimal() else None


def watermark_notes(table: Table, watermark_ms: int | None) -> dict[str, str]:
    """Properties that say the watermark, which is never earlier than the table's; none where there is none.

    Also under the name by which Flink's users ask for it.
    """
    latest = later_of_both(watermark_ms, read_watermark(table))
    if latest is None:
        return {}
    names = (WATERMARK_KEY, FLINK_WATERMARK_KEY) if table.properties.get(FLINK_STORES_KEY) == "true" else (WATERMARK_KEY,)
    return dict.fromkeys(names, str(latest))
