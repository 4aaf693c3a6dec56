"""Which ledger counts: the one in the table property, or the one of an older snapshot.

The property survives expiry and foreign writers, the snapshot summary survives rollback. The property names the snapshot that
wrote it: is that one an ancestor of the current snapshot, the property counts; is one of our older snapshots met first, the
table was rolled back and that one's summary counts; was the chain cut by expiry before either, the files that snapshot added
say whether it is below the current one, and where others have rewritten those, the rows decide. Read-only.
"""

from collections.abc import Mapping

import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse_assets.model.columns import PositionColumns
from lakehouse_assets.model.errors import LedgerLostError, LedgerMissingError, TableReplacedError
from lakehouse_assets.model.ledger import LEDGER_KEY, Ledger, TopicLedger
from lakehouse_assets.systems.schema import position_columns
from lakehouse_assets.systems.snapshots import ancestors, list_live_files, table_name

_FIRST_SEQUENCE_NUMBER = 1  # Iceberg spec, "Sequence Numbers": the first snapshot of a v2 table


def read_ledger(table: Table) -> Ledger | None:
    """The ledger that is true for the table's current snapshot; None for an empty table that has none yet.

    Raises:
        LedgerMissingError: rows stand in the table, but no ledger.
        LedgerLostError: which ledger counts can't be proved.
        TableReplacedError: the ledger was written in another table.
    """
    name = table_name(table)
    text = table.metadata.properties.get(LEDGER_KEY)
    current = table.metadata.current_snapshot()
    if text is None:
        row_count = _row_count(current)
        if row_count:
            raise LedgerMissingError(name, row_count)
        return None
    ledger = _parse(name, text)
    if ledger.table_uuid is not None and ledger.table_uuid != str(table.metadata.table_uuid):
        raise TableReplacedError(name, ledger.table_uuid, str(table.metadata.table_uuid))
    if ledger.snapshot_id is None:
        return ledger
    if current is None:
        raise LedgerLostError(name, f"snapshot {ledger.snapshot_id} wrote the ledger, but the table has no snapshot now")
    return _ledger_of_ancestry(table, ledger, current)


def _ledger_of_ancestry(table: Table, ledger: Ledger, current: Snapshot) -> Ledger:
    oldest = current
    for snapshot in ancestors(table, current):
        if snapshot.snapshot_id == ledger.snapshot_id:
            return ledger
        summary = snapshot.summary
        if summary is not None and (text := summary.additional_properties.get(LEDGER_KEY)) is not None:
            return _parse(table_name(table), text)
        oldest = snapshot
    if oldest.parent_snapshot_id == ledger.snapshot_id or _has_files_of(table, ledger.snapshot_id):
        return ledger
    if oldest.parent_snapshot_id is None and oldest.sequence_number == _FIRST_SEQUENCE_NUMBER:
        return _before_our_first_commit(ledger)
    return _ledger_by_rows(table, ledger)


def _has_files_of(table: Table, snapshot_id: int | None) -> bool:
    """Whether the current snapshot reads files that `snapshot_id` added, and so stands on it; all of ours add some."""
    return any(entry.snapshot_id == snapshot_id for entry in list_live_files(table))


def _before_our_first_commit(ledger: Ledger) -> Ledger:
    topics = {name: TopicLedger(entry.topic_id, entry.start) for name, entry in ledger.topics.items()}
    return Ledger(topics, ledger.table_uuid)


def _ledger_by_rows(table: Table, ledger: Ledger) -> Ledger:
    """Decide by the rows: are the last ones that the property promises there?"""
    (topic, entry), *others = ledger.topics.items()
    if others:
        reason = "the chain of snapshots was cut, and rows of several topics can't be told apart"
        raise LedgerLostError(table_name(table), reason)
    name = table_name(table)
    if entry.in_order and _last_rows(table, min(entry.last_row.values(), default=0)) == dict(entry.last_row):
        return ledger
    cut = entry.cut_to(_last_rows(table, 0))
    if cut is None:
        raise LedgerLostError(
            name,
            f"the chain of snapshots was cut before snapshot {ledger.snapshot_id}, none of its files is in the table, and the "
            f"last rows prove nothing ({_rows_text(entry)}), because offsets were not filled in order",
        )
    return ledger.with_topic(topic, cut)


def _last_rows(table: Table, offset: int) -> dict[int, int]:
    """Largest offset per topic partition among the rows at or after `offset`."""
    position = position_columns(table.schema())
    names = (position.partition, position.offset)
    scan = table.scan(row_filter=f"{position.offset} >= {offset}", selected_fields=names)
    largest: dict[int, int] = {}
    try:
        for batch in scan.to_arrow_batch_reader():
            for partition, found in _largest_per_partition(batch, position).items():
                largest[partition] = max(found, largest.get(partition, found))
    except ValueError as error:  # PyIceberg's answer to equality deletes
        raise LedgerLostError(table_name(table), f"the rows could not be read ({error})") from error
    return largest


def _largest_per_partition(batch: pa.RecordBatch, position: PositionColumns) -> Mapping[int, int]:
    rows = pa.Table.from_batches([batch]).group_by(position.partition).aggregate([(position.offset, "max")])
    pairs = zip(rows[position.partition].to_pylist(), rows[f"{position.offset}_max"].to_pylist(), strict=True)
    return {partition: offset for partition, offset in pairs if partition is not None}


def _rows_text(entry: TopicLedger) -> str:
    return ", ".join(f"partition {p} up to offset {offset}" for p, offset in entry.last_row.items())


def _row_count(snapshot: Snapshot | None) -> int:
    if snapshot is None:
        return 0
    summary = snapshot.summary
    # A writer may leave the totals out; then only an empty table would be safe, so count it as filled.
    return int(summary.additional_properties.get("total-records", "1")) if summary is not None else 1


def _parse(table: str, text: str) -> Ledger:
    try:
        return Ledger.from_json(text)
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerLostError(table, f"its ledger can't be read ({error})") from error
