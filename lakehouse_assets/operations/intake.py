"""What becomes of messages: rows in files for a table that appends, changes by key for one that upserts.

An intake reads a batch, says which messages are bad, and keeps the others until they are handed over for a commit.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field
from functools import partial
from typing import Generic, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from pyiceberg.table import Table

from lakehouse_assets.decode.changes.decoded import ChangeDecoder, ChangeMessages, DecodedChanges
from lakehouse_assets.decode.decoded import BadValue, Decoder
from lakehouse_assets.model.columns import (
    DELETED,
    KAFKA_OFFSET,
    KAFKA_PARTITION,
    KAFKA_TIMESTAMP,
    KAFKA_TOPIC,
    SOURCE_POSITION,
)
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.unknown import UnknownFields
from lakehouse_assets.operations.collapsing import ChangeBuffer
from lakehouse_assets.operations.decoding import messages_at, table_change_decoder, table_decoder
from lakehouse_assets.operations.quarantine import BadMessage
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.systems.changes import Changes, Truncated
from lakehouse_assets.systems.messages import MessageBatch
from lakehouse_assets.systems.parquet import StagedFile, build_writer
from lakehouse_assets.systems.positions import Offsets
from lakehouse_assets.systems.schema import position_columns, timestamp_column

BUFFER_SHARE = 4  # of the memory for rows, what changes may take: collapsing and merging copy them


@dataclass(frozen=True, slots=True)
class Reading:
    """What a batch says. Nothing of it is kept before `keep()`.

    Attributes:
        places: Where in the batch the message of each row, or of each change, stands; ascending.
        good: Places of the messages that are rows, changes, or were left out by `where`.
        rows: Of the table, one for each of `places`.
        skipped_count: Messages that are no row by rule: tombstones where rows are appended, heartbeats and the like.
    """

    bad: Sequence[BadMessage]
    places: Offsets
    good: Offsets
    rows: pa.Table
    skipped_count: int
    filtered_count: int
    unknown: UnknownFields
    keep: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Kept:
    """What was kept since the last hand-over. `row_count`: rows in the files. `tables`: of the source, that changes are of."""

    files: tuple[StagedFile, ...] = ()
    changes: Changes | None = None
    row_count: int = 0
    tables: frozenset[str] = frozenset()


class Intake(Protocol):
    """What a `Stager` hands its messages to. Only reading may be done in several threads."""

    def read(self, batch: MessageBatch) -> Reading:
        """Decode a batch.

        Raises:
            RegistryError: a schema can't be had.
        """

    @property
    def is_full(self) -> bool:
        """Memory asks for a commit."""

    def finish(self) -> Kept:
        """Hand over what was kept."""

    def abandon(self) -> None:
        """Delete what was not handed over."""


def open_intake(systems: Systems, spec: TableSpec, table: Table, buffer_bytes: int) -> Intake:
    """The intake of a table in its mode.

    Raises:
        BrokenSchemaError: the schema file can't be read, or is no schema.
    """
    if spec.mode == "append":
        return RowIntake(table, lambda: table_decoder(systems, spec, table), buffer_bytes)
    return open_change_intake(systems, spec, table, buffer_bytes)


def open_change_intake(
    systems: Systems,
    spec: TableSpec,
    table: Table,
    buffer_bytes: int,
    overflow: Callable[[Changes], None] | None = None,
) -> "ChangeIntake":
    """The intake of an upsert table; what is too much for memory goes to `overflow`, if there is one.

    Raises:
        BrokenSchemaError: the schema file can't be read, or is no schema.
    """
    return ChangeIntake(spec, table, lambda: table_change_decoder(systems, spec, table), buffer_bytes, overflow)


_AnyDecoder = TypeVar("_AnyDecoder", Decoder, ChangeDecoder)


class _OfThread(threading.local, Generic[_AnyDecoder]):
    """The decoder of the thread that asks: a decoder remembers what it met, so threads can't share one."""

    def __init__(self, build: Callable[[], _AnyDecoder]) -> None:
        """Python calls this in each thread that asks."""
        self.decoder: _AnyDecoder = build()


class RowIntake:
    """Every message is a row."""

    def __init__(self, table: Table, build_decoder: Callable[[], Decoder], buffer_bytes: int) -> None:
        self._of_thread, self._writer = _OfThread(build_decoder), build_writer(table, buffer_bytes)
        self._says_topic = position_columns(table.schema()).topic is not None

    is_full = False  # the writer empties its own buffer into files

    def read(self, batch: MessageBatch) -> Reading:
        """See `Intake`."""
        present = np.arange(len(batch))
        if None in batch.values:
            present = present[[value is not None for value in batch.values]]
        decoded = self._of_thread.decoder.decode(messages_at(batch, present))
        places = present[decoded.rows(len(present))]
        return Reading(
            bad=_bad_messages(decoded.bad, present),
            places=places,
            good=np.delete(present, [one.index for one in decoded.bad]),
            rows=decoded.table,
            skipped_count=len(batch) - len(present),
            filtered_count=len(decoded.filtered),
            unknown=decoded.unknown,
            keep=partial(self._keep, batch, decoded.table, places),
        )

    def _keep(self, batch: MessageBatch, rows: pa.Table, places: Offsets) -> None:
        if len(places):
            self._writer.add(_with_positions(rows, batch, places, says_topic=self._says_topic))

    def finish(self) -> Kept:
        """See `Intake`."""
        files = tuple(self._writer.finish())
        return Kept(files, row_count=sum(file.row_count for file in files))

    def abandon(self) -> None:
        """See `Intake`."""
        self._writer.abandon()


@dataclass(slots=True)
class ChangeIntake:
    """Messages say what becomes of the rows of keys; of each key only the last change is kept."""

    spec: TableSpec
    table: Table
    build_decoder: InitVar[Callable[[], ChangeDecoder]]
    buffer_bytes: int
    overflow: Callable[[Changes], None] | None = None
    _of_thread: "_OfThread[ChangeDecoder]" = field(init=False)
    _buffer: ChangeBuffer = field(init=False)
    _row_count: int = 0
    _tables: frozenset[str] = frozenset()

    def __post_init__(self, build_decoder: Callable[[], ChangeDecoder]) -> None:
        self._of_thread = _OfThread(build_decoder)
        self._buffer = ChangeBuffer(self.spec.key, self.buffer_bytes // BUFFER_SHARE)

    @property
    def is_full(self) -> bool:
        """See `Intake`."""
        return self._buffer.is_full

    def read(self, batch: MessageBatch) -> Reading:
        """See `Intake`."""
        decoded = self._of_thread.decoder.decode(ChangeMessages(batch.values, batch.keys, batch.headers))
        everything = np.arange(len(batch))
        return Reading(
            bad=_bad_messages(decoded.bad, everything),
            places=decoded.messages,
            good=np.delete(everything, np.concatenate([decoded.skipped, [one.index for one in decoded.bad]]).astype(np.int64)),
            rows=decoded.table,
            skipped_count=len(decoded.skipped),
            filtered_count=len(decoded.filtered),
            unknown=decoded.unknown,
            keep=partial(self._keep, batch, decoded),
        )

    def _keep(self, batch: MessageBatch, decoded: DecodedChanges) -> None:
        changes = self._as_changes(batch, decoded)
        begin = 0
        for one in decoded.truncations:
            end = int(np.searchsorted(decoded.messages, one.message))
            self._buffer.add(changes.slice(begin, end))
            self._buffer.add(Changes.truncation(Truncated(one.position)))
            begin = end
        self._buffer.add(changes.slice(begin, len(changes)))
        self._row_count += len(changes)
        self._tables |= decoded.tables
        if self.overflow is not None and self._buffer.is_full and (taken := self._buffer.take()) is not None:
            self.overflow(taken)

    def _as_changes(self, batch: MessageBatch, decoded: DecodedChanges) -> Changes:
        says_topic = position_columns(self.table.schema()).topic is not None
        rows = _with_positions(decoded.table, batch, decoded.messages, says_topic=says_topic)
        if decoded.positions is not None:
            rows = rows.append_column(SOURCE_POSITION, decoded.positions)
        deletes, unavailable = decoded.deletes, dict(decoded.unavailable)
        if self.spec.on_delete == "mark":
            # The row stays: whatever a deletion does not say, which is all but the key, keeps its last value.
            rows = rows.append_column(DELETED, pa.array(deletes))
            names = [column.name for column in self.spec.columns if column.name not in self.spec.key] if deletes.any() else []
            unavailable |= {name: unavailable.get(name, np.zeros(len(deletes), np.bool_)) | deletes for name in names}
            deletes = np.zeros(len(deletes), np.bool_)
        return Changes(rows, deletes, unavailable, decoded.old_keys)

    def finish(self) -> Kept:
        """See `Intake`."""
        kept = Kept(changes=self._buffer.take(), row_count=self._row_count, tables=self._tables)
        self._row_count, self._tables = 0, frozenset()
        return kept

    def abandon(self) -> None:
        """Nothing is on disk."""


def _bad_messages(bad: Sequence[BadValue], places: Offsets) -> list[BadMessage]:
    return [BadMessage(int(places[one.index]), one.code, one.reason) for one in bad]


def _with_positions(rows: pa.Table, batch: MessageBatch, places: Offsets, *, says_topic: bool) -> pa.Table:
    """The rows with the columns that say which message each is; `places` are those of the messages in the batch."""
    if says_topic:
        topics = pa.array([log.topic for log in batch.logs], pa.string())
        rows = rows.append_column(KAFKA_TOPIC, topics.take(pa.array(batch.places[places])))
    return (
        rows.append_column(KAFKA_PARTITION, pa.array(batch.partitions[places]))
        .append_column(KAFKA_OFFSET, pa.array(batch.offsets[places]))
        .append_column(KAFKA_TIMESTAMP, timestamp_column(batch.timestamps_ms[places]))
    )
