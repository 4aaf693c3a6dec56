"""Reads the messages in quarantine again, by the declaration as it is now; what can be a row moves into the table.

What `where` leaves out now, leaves the quarantine too. For messages that Kafka no longer has; as long as it has them,
materializing their hours does the same. The rows enter the table before the messages leave the quarantine, in the place of rows
of the same offsets: the next call mends a crash between.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table

from lakehouse_assets.decode.decoded import Decoder, Messages
from lakehouse_assets.model.columns import (
    KAFKA_OFFSET,
    KAFKA_PARTITION,
    KAFKA_TIMESTAMP,
    KAFKA_TOPIC,
    QUARANTINE_POSITION,
)
from lakehouse_assets.model.errors import (
    LakehouseError,
    QuarantineOrderError,
    TopicReplacedError,
)
from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.offsets import TopicPartition, TopicRanges
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.watermark import EventTimes
from lakehouse_assets.operations.decoding import resolve_columns, table_decoder
from lakehouse_assets.operations.event_times import count_arrivals, read_hours
from lakehouse_assets.operations.ingest import open_table
from lakehouse_assets.operations.quarantine import Quarantined, load_quarantine, settle
from lakehouse_assets.operations.retrying import retry_transient
from lakehouse_assets.operations.swapping import swap_rows, undo_unless_landed
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.systems.commit import Delivery
from lakehouse_assets.systems.datafiles import build_data_files
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets.systems.parquet import StagingWriter, build_writer, delete_staged
from lakehouse_assets.systems.positions import list_runs, read_offsets, split_by_log
from lakehouse_assets.systems.schema import Base, position_columns
from lakehouse_assets.systems.slice_files import SliceFiles


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """How many messages of the quarantine became rows, how many still can't, and how many `where` leaves out."""

    moved: int
    still_bad: int
    filtered: int = 0


def run_replay(
    systems: Systems,
    spec: TableSpec,
    now_ms: Callable[[], int],
    on_retry: Callable[[LakehouseError, float], None] = lambda _error, _seconds: None,
) -> ReplayResult:
    """Move every message of the quarantine that can be a row now. Safe to repeat, and beside ingestion.

    Errors that can pass by themselves are tried again; `on_retry` hears of them.

    Raises:
        QuarantineOrderError: it is an upsert table.
        TableDiffersError: the declaration was changed so far that the table does not fit it.
        TopicReplacedError: the messages are of another topic than the table's.
        LakehouseError: of the tree; then what was not moved still is in the quarantine.
    """
    if spec.mode == "upsert":
        raise QuarantineOrderError(spec.table)
    return retry_transient(lambda: _replay_once(systems, spec, now_ms), lambda: False, on_retry)


def _replay_once(systems: Systems, spec: TableSpec, now_ms: Callable[[], int]) -> ReplayResult:
    quarantine = load_quarantine(systems, spec)
    if quarantine is None:
        return ReplayResult(0, 0)
    spec = resolve_columns(systems, spec)
    table, ledger = open_table(systems, spec, now_ms)
    _refuse_other_topic(spec, quarantine, ledger)
    writer = build_writer(table, spec.buffer_size)
    try:
        moved, result, times = _stage(spec, table_decoder(systems, spec, table), table, quarantine, writer)
        staged = writer.finish()
    finally:
        writer.abandon()
    if not moved:
        return result
    taken = SliceFiles(moved, ledger.first_topic)
    with undo_unless_landed(lambda: delete_staged(table.io, [file.location for file in staged])):
        delivery = Delivery(
            topic_ids=ledger.topic_ids,
            ranges=moved,
            files=build_data_files(table, staged),
            last_row={log: held.stop - 1 for log, held in moved.partitions.items()},
            newest_ms={},
            base=Base.of(table),
            replaces=taken.swap,
            again=True,
            arrivals=count_arrivals(spec, times),
        )
        swap_rows(systems.catalog, table, taken, delivery, spec.buffer_size)
    settle(systems, spec, ledger, moved, Quarantined(), moved)
    return result


def _refuse_other_topic(spec: TableSpec, quarantine: Table, ledger: Ledger) -> None:
    theirs = read_ledger(quarantine)
    for topic, topic_id in (theirs.topic_ids if theirs is not None else {}).items():
        if topic_id != ledger.topic_ids.get(topic, topic_id):
            raise TopicReplacedError(spec.quarantine_table, topic, topic_id, ledger.topic_ids[topic])


def _stage(
    spec: TableSpec, decoder: Decoder, table: Table, quarantine: Table, writer: StagingWriter
) -> tuple[TopicRanges, ReplayResult, EventTimes]:
    """Write the rows; which offsets leave the quarantine, counts, and when the rows happened.

    Memory: one batch of a file, and the writer's buffer.
    """
    times = EventTimes()
    runs: dict[TopicPartition, list[tuple[int, int]]] = {}
    says_topic = position_columns(table.schema()).topic is not None
    moved = still_bad = filtered = 0
    columns = QUARANTINE_POSITION
    names = (*columns.names, "timestamp", "value", "key", "headers")
    for batch in quarantine.scan(selected_fields=names).to_arrow_batch_reader():
        decoded = decoder.decode(_messages(batch))
        rows = decoded.rows(batch.num_rows)
        moved, still_bad = moved + len(rows), still_bad + len(decoded.bad)
        filtered += len(decoded.filtered)
        if len(rows):
            kept = batch.take(pa.array(rows))
            found = decoded.table.append_column(KAFKA_TOPIC, kept.column("topic")) if says_topic else decoded.table
            if spec.event_time is not None:
                stamps_ms = pc.fill_null(kept.column("timestamp").cast(pa.int64()), 0).to_numpy() // 1000
                times = times.joined(read_hours(spec.event_time, decoded.table, stamps_ms))
            writer.add(
                found.append_column(KAFKA_PARTITION, kept.column(columns.partition))
                .append_column(KAFKA_OFFSET, kept.column(columns.offset))
                .append_column(KAFKA_TIMESTAMP, kept.column("timestamp"))
            )
        settled = batch.take(pa.array(np.concatenate([rows, decoded.filtered])))
        offsets = read_offsets(settled, columns)
        for log, mine in split_by_log(settled, columns, ""):
            runs.setdefault(log, []).extend(list_runs(np.sort(offsets[mine])))
    return TopicRanges.of(runs), ReplayResult(moved, still_bad, filtered), times


def _messages(batch: pa.RecordBatch) -> Messages:
    values, keys, headers = (batch.column(name).to_pylist() for name in ("value", "key", "headers"))
    pairs = [None if of_one is None else [(header["key"], header["value"]) for header in of_one] for of_one in headers]
    return Messages(values, keys, pairs)
