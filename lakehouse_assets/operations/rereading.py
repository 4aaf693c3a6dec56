"""Reads single messages again by their offsets, with few readers: those that are near each other come in one go."""

from collections.abc import Iterator
from itertools import zip_longest

import numpy as np

from lakehouse_assets.model.offsets import OffsetRange, RangeSet, TopicRanges
from lakehouse_assets.systems.kafka import KafkaSource
from lakehouse_assets.systems.messages import MessageBatch
from lakehouse_assets.systems.positions import Mask, contains

_NEAR_OFFSETS = 20_000  # opening a reader costs more than to read so many messages
_READ_SECONDS = 1.0


def read_again(source: KafkaSource, table: str, wanted: TopicRanges) -> Iterator[tuple[MessageBatch, Mask]]:
    """Batches of messages, and which of them are at the offsets `wanted`; Kafka must have those still.

    Raises:
        SourceError
    """
    stretches = {log: _join_near(held) for log, held in wanted.partitions.items()}
    for one_of_each in zip_longest(*stretches.values()):
        ranges = {log: (r.start, r.stop) for log, r in zip(stretches, one_of_each, strict=True) if r is not None}
        with source.reader(table, ranges) as reader:
            while not reader.is_finished:
                batch = reader.read(_READ_SECONDS)
                is_wanted = np.zeros(len(batch), np.bool_)
                for log, mine in batch.by_log():
                    is_wanted |= mine & contains(wanted[log], batch.offsets)
                yield batch, is_wanted


def _join_near(held: RangeSet) -> list[OffsetRange]:
    """Stretches that cover what is held and what lies between ranges that are near each other."""
    around = RangeSet.of((r.start, r.stop + _NEAR_OFFSETS) for r in held)
    return [OffsetRange(r.start, r.stop - _NEAR_OFFSETS) for r in around]
