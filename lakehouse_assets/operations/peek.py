"""Shows messages as a declaration reads them. Writes nothing, creates nothing, needs no table."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lakehouse_assets.decode.changes.decoded import ChangeDecoder, ChangeMessages
from lakehouse_assets.decode.decoded import Decoder
from lakehouse_assets.model.offsets import TopicPartition
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.unknown import UnknownFields
from lakehouse_assets.operations.decoding import (
    messages_at,
    open_change_decoder,
    open_decoder,
    resolve_columns,
)
from lakehouse_assets.operations.status import describe_source
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.systems.messages import MessageBatch

Skipped = Literal["tombstone", "filtered", "no change", "truncation"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one message says: its row, or why it has none: what is wrong with it, or the rule that skips it.

    `deletes`: the row is that of a key whose row goes.
    """

    row: dict[str, Any] | None = None
    error: str | None = None
    skipped: Skipped | None = None
    deletes: bool = False
    unknown: UnknownFields = UnknownFields()


@dataclass(frozen=True, slots=True)
class Peeked:
    """One message, or one of the changes that it holds: where it stands, and what it says."""

    log: TopicPartition
    offset: int
    timestamp_ms: int
    reading: Reading


def peek_newest(systems: Systems, spec: TableSpec, count: int) -> Iterator[Peeked]:
    """The newest messages of each topic partition, `count` over all of them, at least one of each.

    Raises:
        SourceError: Kafka does not answer, or has no such topic.
        RegistryError: a schema can't be had.
    """
    messages = _open(systems, spec)
    for batch in _read_newest(systems, spec, count):
        for at in range(len(batch)):
            log, offset = batch.position(at)
            for reading in messages.read(batch, at):
                yield Peeked(log, offset, int(batch.timestamps_ms[at]), reading)


def find_unknown(systems: Systems, spec: TableSpec, count: int) -> UnknownFields:
    """The fields without a column of the newest messages, about `count` over all topic partitions.

    Raises:
        SourceError: Kafka does not answer, or has no such topic.
        RegistryError: a schema can't be had.
    """
    messages, unknown = _open(systems, spec), UnknownFields()
    for batch in _read_newest(systems, spec, count):
        unknown = unknown.joined(messages.find_unknown(batch))
    return unknown


class _Rows:
    """Messages of a table that appends. `left_out`: why some are no rows."""

    def __init__(self, decoder: Decoder, left_out: Skipped) -> None:
        self._decoder, self._left_out = decoder, left_out

    def read(self, batch: MessageBatch, at: int) -> list[Reading]:
        """What the message at this place says."""
        if batch.values[at] is None:
            return [Reading(skipped="tombstone")]
        decoded = self._decoder.decode(messages_at(batch, np.array([at])))
        if decoded.bad:
            return [Reading(error=decoded.bad[0].reason, unknown=decoded.unknown)]
        if len(decoded.filtered):
            return [Reading(skipped=self._left_out, unknown=decoded.unknown)]
        return [Reading(row, unknown=decoded.unknown) for row in decoded.table.to_pylist()]

    def find_unknown(self, batch: MessageBatch) -> UnknownFields:
        """The fields without a column of all messages."""
        present = np.flatnonzero([value is not None for value in batch.values])
        return self._decoder.decode(messages_at(batch, present)).unknown


class _Changes:
    """Messages of an upsert table."""

    def __init__(self, decoder: ChangeDecoder) -> None:
        self._decoder = decoder

    def read(self, batch: MessageBatch, at: int) -> list[Reading]:
        """What the message at this place says: several changes, perhaps."""
        decoded = self._decoder.decode(ChangeMessages([batch.values[at]], [batch.keys[at]], [batch.headers[at]]))
        if decoded.bad:
            return [Reading(error=decoded.bad[0].reason, unknown=decoded.unknown)]
        if decoded.truncations:
            return [Reading(skipped="truncation")]
        if not len(decoded):
            return [Reading(skipped="no change")]
        return [
            Reading(row, deletes=bool(deletes), unknown=decoded.unknown)
            for row, deletes in zip(decoded.table.to_pylist(), decoded.deletes, strict=True)
        ]

    def find_unknown(self, batch: MessageBatch) -> UnknownFields:
        """The fields without a column of all messages."""
        return self._decoder.decode(ChangeMessages(batch.values, batch.keys, batch.headers)).unknown


def _open(systems: Systems, spec: TableSpec) -> _Rows | _Changes:
    spec = resolve_columns(systems, spec)
    if spec.is_upsert:
        return _Changes(open_change_decoder(systems, spec))
    return _Rows(open_decoder(systems, spec), "filtered" if spec.state is None else "no change")


def _read_newest(systems: Systems, spec: TableSpec, count: int) -> Iterator[MessageBatch]:
    """From further back where the ends of the logs hold none, as after transactions that were aborted."""
    bounds = systems.source.read_bounds(spec.table, describe_source(systems.source, spec).logs)
    share, found = max(1, count // max(1, len(bounds))), False
    while not found:
        begins = {log: max(b.low, b.stop - share) for log, b in bounds.items()}
        with systems.source.reader(spec.table, {log: (begins[log], b.stop) for log, b in bounds.items()}) as reader:
            while not reader.is_finished:
                batch = reader.read(1.0)
                found = found or len(batch) > 0
                yield batch
        if all(begins[log] == b.low for log, b in bounds.items()):
            return
        share *= 2
