"""Shows messages as a declaration reads them. Writes nothing, creates nothing, needs no table."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from lakehouse_assets.decode.decoded import Decoder, Messages
from lakehouse_assets.model.offsets import TopicPartition
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.unknown import UnknownFields
from lakehouse_assets.operations.decoding import open_decoder, resolve_columns
from lakehouse_assets.operations.status import describe_source
from lakehouse_assets.operations.systems import Systems

_Skipped = Literal["tombstone", "filtered"] | None
_Reading = tuple[dict[str, Any] | None, str | None, _Skipped, UnknownFields]


@dataclass(frozen=True, slots=True)
class Peeked:
    """One message: where it stands, and its row, or why it has none: what is wrong with it, or the rule that skips it."""

    log: TopicPartition
    offset: int
    timestamp_ms: int
    row: dict[str, Any] | None
    error: str | None
    skipped: _Skipped
    unknown: UnknownFields = UnknownFields()


def peek_newest(systems: Systems, spec: TableSpec, count: int) -> Iterator[Peeked]:
    """The newest messages of each topic partition, `count` over all of them, at least one of each.

    Raises:
        SourceError: Kafka does not answer, or has no such topic.
        RegistryError: a schema can't be had.
    """
    decoder = open_decoder(systems, resolve_columns(systems, spec))
    with systems.source.reader(spec.table, _newest(systems, spec, count)) as reader:
        while not reader.is_finished:
            batch = reader.read(1.0)
            positions = zip(batch.places.tolist(), batch.offsets.tolist(), batch.timestamps_ms.tolist(), strict=True)
            messages = zip(batch.values, batch.keys, batch.headers, strict=True)
            for (place, offset, stamp), (value, key, headers) in zip(positions, messages, strict=True):
                message = Messages([value], [key], [headers]) if value is not None else None
                yield Peeked(batch.logs[place], offset, stamp, *_read(decoder, message))


def _read(decoder: Decoder, message: Messages | None) -> _Reading:
    if message is None:
        return None, None, "tombstone", UnknownFields()
    decoded = decoder.decode(message)
    if decoded.bad:
        return None, decoded.bad[0].reason, None, decoded.unknown
    if len(decoded.filtered):
        return None, None, "filtered", decoded.unknown
    return decoded.table.to_pylist()[0], None, None, decoded.unknown


def find_unknown(systems: Systems, spec: TableSpec, count: int) -> UnknownFields:
    """The fields without a column of the newest messages, about `count` over all topic partitions.

    Raises:
        SourceError: Kafka does not answer, or has no such topic.
        RegistryError: a schema can't be had.
    """
    decoder, unknown = open_decoder(systems, resolve_columns(systems, spec)), UnknownFields()
    with systems.source.reader(spec.table, _newest(systems, spec, count)) as reader:
        while not reader.is_finished:
            batch = reader.read(1.0)
            columns = zip(batch.values, batch.keys, batch.headers, strict=True)
            present = [message for message in columns if message[0] is not None]
            if present:
                unknown = unknown.joined(decoder.decode(Messages(*zip(*present, strict=True))).unknown)
    return unknown


def _newest(systems: Systems, spec: TableSpec, count: int) -> dict[TopicPartition, tuple[int, int]]:
    bounds = systems.source.read_bounds(spec.table, describe_source(systems.source, spec).logs)
    share = max(1, count // max(1, len(bounds)))
    return {log: (max(b.low, b.stop - share), b.stop) for log, b in bounds.items()}
