"""Event time as it stands in a table's own metadata, where any engine reads it and no declaration is needed."""

from collections.abc import Mapping
from dataclasses import dataclass

from pyiceberg.table import Table
from pyiceberg.table.update import SetSnapshotRefUpdate

from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.slices import EVENT_TIME_COLUMN_KEY
from lakehouse_assets.model.watermark import (
    FLINK_STORES_KEY,
    FLINK_WATERMARK_KEY,
    WATERMARK_KEY,
    WatermarkMove,
    later_of_both,
)
from lakehouse_assets.systems.history import read_promised_ledger
from lakehouse_assets.systems.snapshots import SnapshotBuilder, tag_snapshot


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


def tag_days(builder: SnapshotBuilder, move: WatermarkMove, before: Ledger, after: Ledger) -> tuple[SetSnapshotRefUpdate, ...]:
    """The days that are complete by this snapshot bear its name from now on. A tag that is there stays what it is."""
    if move.tags is None:
        return ()
    names = move.tags.list_closed(before.watermark_ms, after.watermark_ms)
    there = builder.table.metadata.refs
    return tuple(tag_snapshot(name, builder.snapshot_id, move.tags.keep_ms) for name in names if name not in there)
