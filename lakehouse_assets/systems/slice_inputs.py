"""What a run notes of a table that it reads: in which state, and up to when that is complete."""

from pyiceberg.table import Table

from lakehouse_assets.model.slice_notes import InputState
from lakehouse_assets.model.watermark import WATERMARK_KEY
from lakehouse_assets.systems.snapshots import table_name
from lakehouse_assets.systems.table_times import read_watermark


def describe_input(table: Table, snapshot_id: int | None = None, *, is_chosen: bool = False) -> InputState:
    """The state in which a loaded table is read: its head, or with `is_chosen` a snapshot that somebody asked for."""
    metadata = table.metadata
    read = snapshot_id if is_chosen else metadata.current_snapshot_id
    return InputState(table_name(table), str(metadata.table_uuid), read, metadata.next_sequence_number() - 1, is_chosen)


def read_complete_until(table: Table, chosen: int | None) -> int | None:
    """The watermark of a table when it was loaded, or at a `chosen` snapshot, ms since 1970; None where it had none."""
    if chosen is None:
        return read_watermark(table)
    snapshot = table.metadata.snapshot_by_id(chosen)
    said = snapshot.summary.additional_properties.get(WATERMARK_KEY) if snapshot is not None and snapshot.summary else None
    return int(said) if said is not None else None
