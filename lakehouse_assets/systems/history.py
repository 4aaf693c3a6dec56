"""Which ledger counts: the one in the table property, or the one of an older snapshot.

The property survives expiry and foreign writers, the snapshot summary survives rollback. The property names the snapshot that
wrote it: is that one an ancestor of the current snapshot, the property counts; is one of our older snapshots met first, the
table was rolled back and that one's summary counts; was the chain cut by expiry before either, the files that snapshot added
say whether it is below the current one, and where others have rewritten those, the rows decide. Read-only.
"""

from pyiceberg.manifest import ManifestContent
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse_assets.model.errors import (
    LedgerLostError,
    LedgerMissingError,
    TableDiffersError,
    TableReplacedError,
)
from lakehouse_assets.model.ledger import LEDGER_KEY, Ledger
from lakehouse_assets.model.offsets import TopicPartition
from lakehouse_assets.systems.positions import read_offsets, split_by_log
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
    ledger = read_promised_ledger(table)
    current = table.metadata.current_snapshot()
    if ledger is None:
        row_count = _row_count(current)
        if row_count:
            raise LedgerMissingError(name, row_count)
        return None
    if ledger.table_uuid is not None and ledger.table_uuid != str(table.metadata.table_uuid):
        raise TableReplacedError(name, ledger.table_uuid, str(table.metadata.table_uuid))
    if ledger.snapshot_id is None:
        return ledger
    if current is None:
        raise LedgerLostError(name, f"snapshot {ledger.snapshot_id} wrote the ledger, but the table has no snapshot now")
    return _ledger_of_ancestry(table, ledger, current)


def has_ledger(table: Table) -> bool:
    """Whether the table is filled from Kafka."""
    return LEDGER_KEY in table.metadata.properties


def refuse_ledger(table: Table) -> None:
    """Raise where rows that are computed have no place.

    Raises:
        TableDiffersError: the table is filled from Kafka.
    """
    if has_ledger(table):
        raise TableDiffersError(table_name(table), ["it is filled from Kafka, so rows that are computed have no place in it"])


def read_promised_ledger(table: Table) -> Ledger | None:
    """The ledger that was committed last, whatever became of that snapshot; None for a table that has none.

    Raises:
        LedgerLostError: it can't be read.
    """
    text = table.metadata.properties.get(LEDGER_KEY)
    return _parse(table_name(table), text) if text is not None else None


def _ledger_of_ancestry(table: Table, ledger: Ledger, current: Snapshot) -> Ledger:
    oldest = current
    for snapshot in ancestors(table, current):
        if snapshot.snapshot_id == ledger.snapshot_id:
            return ledger
        summary = snapshot.summary
        if summary is not None and (text := summary.additional_properties.get(LEDGER_KEY)) is not None:
            # Topics that joined later begin where they began: Kafka may hold less of them now.
            return _parse(table_name(table), text).with_topics_of(ledger)
        oldest = snapshot
    if oldest.parent_snapshot_id == ledger.snapshot_id or _has_files_of(table, ledger.snapshot_id):
        return ledger
    if oldest.parent_snapshot_id is None and oldest.sequence_number == _FIRST_SEQUENCE_NUMBER:
        return ledger.emptied()
    return _ledger_by_rows(table, ledger)


def _has_files_of(table: Table, snapshot_id: int | None) -> bool:
    """Whether the current snapshot reads files that `snapshot_id` added, and so stands on it; most of ours add some."""
    return any(entry.snapshot_id == snapshot_id for content in ManifestContent for entry in list_live_files(table, content))


def _ledger_by_rows(table: Table, ledger: Ledger) -> Ledger:
    """Decide by the rows: are the last ones that the property promises there?"""
    oldest_of_last = min(ledger.last_row.values(), default=0)
    if not ledger.out_of_order and _last_rows(table, ledger, oldest_of_last) == dict(ledger.last_row):
        return ledger
    cut = ledger.cut_to(_last_rows(table, ledger, 0))
    if cut is None:
        raise LedgerLostError(
            table_name(table),
            f"the chain of snapshots was cut before snapshot {ledger.snapshot_id}, none of its files is in the table, and the "
            f"last rows prove nothing ({_rows_text(ledger)}), because offsets were not filled in order",
        )
    return cut


def _last_rows(table: Table, ledger: Ledger, offset: int) -> dict[TopicPartition, int]:
    """Largest offset per topic partition among the rows at or after `offset`."""
    columns = position_columns(table.schema())
    scan = table.scan(row_filter=f"{columns.offset} >= {offset}", selected_fields=columns.names)
    largest: dict[TopicPartition, int] = {}
    try:
        for batch in scan.to_arrow_batch_reader():
            offsets = read_offsets(batch, columns)
            for log, mine in split_by_log(batch, columns, ledger.first_topic):
                largest[log] = max(int(offsets[mine].max()), largest.get(log, 0))
    except ValueError as error:  # PyIceberg's answer to equality deletes
        raise LedgerLostError(table_name(table), f"the rows could not be read ({error})") from error
    return largest


def _rows_text(ledger: Ledger) -> str:
    return ", ".join(f"{log} up to offset {offset}" for log, offset in ledger.last_row.items())


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
