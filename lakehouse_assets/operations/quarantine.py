"""Messages that can't become rows: kept as they came, in a table of their own, each exactly once.

Staging writes them to files beside the rows. Before the rows are published, these are put into the quarantine table, in the
place of what that has of the offsets that were read again. A crash between the two commits leaves messages that the next run
finds there, and a message is never in neither table.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
from pyiceberg.table import Table

from lakehouse_assets.model.columns import QUARANTINE_COLUMNS, QUARANTINE_POSITION
from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.offsets import NO_OFFSETS, RangeSet, TopicPartition, TopicRanges
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.swapping import swap_rows, undo_unless_landed
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.systems.catalog import ensure_table, load_table
from lakehouse_assets.systems.commit import Delivery, publish
from lakehouse_assets.systems.datafiles import build_data_files
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets.systems.messages import MessageBatch
from lakehouse_assets.systems.parquet import StagedFile, StagingWriter, build_writer, delete_staged
from lakehouse_assets.systems.positions import list_runs, rows_inside
from lakehouse_assets.systems.schema import Base, TableShape, build_file_schema, timestamp_column
from lakehouse_assets.systems.slice_files import SliceFiles

_BUFFER_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class BadMessage:
    """A message of a batch that can't become a row: where it stands there, a stable code, and one clause of reason."""

    at: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Messages of one commit that can't become rows, as files that nobody sees yet.

    `codes` counts them by their code; `checksum` is that of their positions and reasons, in whatever order.
    """

    offsets: TopicRanges = NO_OFFSETS
    files: tuple[StagedFile, ...] = ()
    codes: Mapping[str, int] = field(default_factory=dict)
    checksum: int = 0

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.codes.values())

    def joined(self, other: "Quarantined") -> "Quarantined":
        """Both in one commit."""
        codes = dict(Counter(self.codes) + Counter(other.codes))
        checksum = self.checksum + other.checksum
        return Quarantined(self.offsets | other.offsets, self.files + other.files, codes, checksum)


class QuarantineStager:
    """Writes bad messages to files of the quarantine table, which is opened, or created, with the first of them."""

    def __init__(self, open_table: Callable[[], Table]) -> None:
        self._open_table = open_table
        self._writer: StagingWriter | None = None
        self._schema: pa.Schema | None = None
        self._runs: dict[TopicPartition, list[tuple[int, int]]] = {}
        self._codes: Counter[str] = Counter()
        self._checksum = 0

    def add(self, batch: MessageBatch, bad: Sequence[BadMessage]) -> None:
        """Stage these messages of a batch."""
        if self._writer is None or self._schema is None:
            table = self._open_table()
            self._writer, self._schema = build_writer(table, _BUFFER_BYTES), build_file_schema(table.schema())
        rows = _rows(batch, bad, self._schema)
        self._writer.add(rows)
        self._checksum += _sum_up(rows)
        for log, offsets in batch.offsets_by_log(np.array([one.at for one in bad])):
            self._runs.setdefault(log, []).extend(list_runs(offsets))
        self._codes.update(one.code for one in bad)

    def finish(self) -> Quarantined:
        """What was staged since the last call."""
        files = tuple(self._writer.finish()) if self._writer is not None and self._codes else ()
        done = Quarantined(TopicRanges.of(self._runs), files, dict(self._codes), self._checksum)
        self._runs, self._codes, self._checksum = {}, Counter(), 0
        return done

    @property
    def count(self) -> int:
        """Messages staged since the last `finish`."""
        return self._codes.total()

    def abandon(self) -> None:
        """Delete what was not handed over."""
        if self._writer is not None:
            self._writer.abandon()


def _rows(batch: MessageBatch, bad: Sequence[BadMessage], schema: pa.Schema) -> pa.Table:
    at = np.array([one.at for one in bad])
    columns: dict[str, Any] = {
        "topic": [batch.logs[place].topic for place in batch.places[at].tolist()],
        "partition": batch.partitions[at],
        "offset": batch.offsets[at],
        "timestamp": timestamp_column(batch.timestamps_ms[at]),
        "key": [batch.keys[one.at] for one in bad],
        "value": [batch.values[one.at] for one in bad],
        "headers": [[{"key": key, "value": value} for key, value in batch.headers[one.at] or ()] for one in bad],
        "error_code": [one.code for one in bad],
        "error": [one.reason for one in bad],
    }
    assert columns.keys() == QUARANTINE_COLUMNS.keys()
    return pa.Table.from_pydict(columns, schema=pa.schema([schema.field(name) for name in columns]))


def open_quarantine(systems: Systems, spec: TableSpec, ledger: Ledger) -> Table:
    """The quarantine table of a table with this ledger; created on first use. It knows every topic of the table."""
    first = Ledger(ledger.topic_ids, ledger.start)
    while True:
        table, own = ensure_table(systems.catalog, TableShape.quarantine(spec), lambda: first)
        if own.topic_ids.keys() >= ledger.topic_ids.keys():
            return table
        joining = Delivery.amending(table, partial(Ledger.with_topics_of, other=ledger))
        publish(systems.catalog, spec.quarantine_table, joining)


def quarantine_stager(systems: Systems, spec: TableSpec, ledger: Ledger) -> QuarantineStager:
    """What a `Stager` of this table hands bad messages to."""
    return QuarantineStager(lambda: open_quarantine(systems, spec, ledger))


def load_quarantine(systems: Systems, spec: TableSpec) -> Table | None:
    """The quarantine table; None where no message was ever bad. Read-only."""
    return load_table(systems.catalog, spec.quarantine_table)


def read_examples(table: Table, limit: int) -> tuple[int, list[dict[str, Any]]]:
    """How many messages are in a quarantine table, and some of them: where they stand, and what is wrong."""
    current = table.metadata.current_snapshot()
    summary = current.summary if current is not None else None
    count = int(summary.additional_properties.get("total-records", "0")) if summary is not None else 0
    names = (QUARANTINE_POSITION.partition, QUARANTINE_POSITION.offset, "timestamp", "error_code", "error")
    return count, table.scan(selected_fields=names, limit=limit).to_arrow().to_pylist() if count else []


def find_unsettled(systems: Systems, spec: TableSpec, ledger: Ledger) -> TopicRanges:
    """Offsets that the quarantine was brought up to and the table was not: a crash between the two, or a rollback."""
    quarantine = load_quarantine(systems, spec)
    own = read_ledger(quarantine) if quarantine is not None else None
    return own.held - ledger.held if own is not None else NO_OFFSETS


def settle(
    systems: Systems, spec: TableSpec, ledger: Ledger, ranges: TopicRanges, bad: Quarantined, read_again: TopicRanges
) -> None:
    """Put the bad messages into the quarantine, in the place of what it has of the offsets `read_again`. Repeatable.

    `ranges`: what is settled then, beside what the table holds by its `ledger`. Staged files that did not land are deleted.
    """
    table = open_quarantine(systems, spec, ledger)
    with undo_unless_landed(lambda: delete_staged(table.io, [file.location for file in bad.files])):
        taken = SliceFiles(read_again, ledger.first_topic)
        if _is_settled(table, taken, read_again, bad):
            delete_staged(table.io, [file.location for file in bad.files])
            return
        delivery = Delivery(
            topic_ids=ledger.topic_ids,
            ranges=ledger.held | ranges,
            files=build_data_files(table, bad.files),
            last_row={log: held.stop - 1 for log, held in bad.offsets.partitions.items()},
            newest_ms={},
            base=Base.of(table),
            replaces=taken.swap,
            again=True,
        )
        swap_rows(systems.catalog, table, taken, delivery, spec.buffer_size)


def _is_settled(table: Table, taken: SliceFiles, read_again: TopicRanges, bad: Quarantined) -> bool:
    """Whether the table has exactly these messages of the offsets, for these reasons."""
    found = {log: RangeSet.of(list_runs(offsets)) for log, offsets in taken.read_offsets(table).items()}
    if TopicRanges({log: held for log, held in sorted(found.items()) if held}) != bad.offsets:
        return False
    if not bad.offsets:
        return True
    offsets = [r for held in bad.offsets.partitions.values() for r in held]
    name = QUARANTINE_POSITION.offset
    scan = table.scan(
        f"{name} >= {min(r.start for r in offsets)} and {name} < {max(r.stop for r in offsets)}",
        selected_fields=(*QUARANTINE_POSITION.names, "error"),
    )
    found_sum = 0
    for batch in scan.to_arrow_batch_reader():
        found_sum += _sum_up(batch.filter(pa.array(rows_inside(batch, QUARANTINE_POSITION, "", read_again))))
    return found_sum == bad.checksum


def _sum_up(rows: pa.Table | pa.RecordBatch) -> int:
    """Checksum of positions and reasons, the same in any order and any division."""
    columns = (rows.column(name).to_pylist() for name in (*QUARANTINE_POSITION.names, "error"))
    return sum(crc32(repr(row).encode()) for row in zip(*columns, strict=True))
