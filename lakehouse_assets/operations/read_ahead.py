"""Decodes batches of messages in threads, while the next ones are read from Kafka.

Decoding mostly runs outside of Python and takes longer than reading does, and while a commit lands nothing is read: so two
batches are decoded at once. Never more of them ahead, and of large messages one, so memory stays bounded; where the log has
nothing more at the moment, nothing waits.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from lakehouse_assets.model.offsets import TopicPartition
from lakehouse_assets.operations.intake import Intake, Reading
from lakehouse_assets.systems.kafka_reader import RangeReader
from lakehouse_assets.systems.messages import MessageBatch

_DECODERS = 2  # more than the processors would only need more memory
_AHEAD_BYTES = 48 * 1024 * 1024  # of batches that wait; decoding takes several times as much
_READ_SECONDS = 0.2  # of a log that never pauses but is slow: so much later are its rows committed, and decoded


@dataclass(frozen=True, slots=True)
class Arrival:
    """A batch, perhaps an empty one, and what it says; the offsets at which the reader stood before and after it.

    `is_last_there_is`: the log had nothing more when it was read.
    """

    batch: MessageBatch
    reading: Reading | None
    before: Mapping[TopicPartition, int]
    after: Mapping[TopicPartition, int]
    is_last_there_is: bool


@dataclass(frozen=True, slots=True)
class _Waiting:
    batch: MessageBatch
    reading: "Future[Reading]"
    before: Mapping[TopicPartition, int]
    after: Mapping[TopicPartition, int]
    is_last_there_is: bool
    size_bytes: int

    def arrive(self) -> Arrival:
        return Arrival(self.batch, self.reading.result(), self.before, self.after, self.is_last_there_is)


class ReadAhead:
    """Reads a log and decodes what it reads."""

    def __init__(self, reader: RangeReader, intake: Intake) -> None:
        self._reader, self._intake = reader, intake
        self._threads = ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    def arrivals(self, stop: Callable[[], bool]) -> Iterator[Arrival]:
        """Batches in their order, until every range is read or `stop()`.

        Raises:
            RegistryError, SourceError
        """
        waiting: deque[_Waiting] = deque()
        while not self._reader.is_finished and not stop():
            before = dict(self._reader.next_offsets)
            batch = self._reader.read(_READ_SECONDS)
            after, is_last = dict(self._reader.next_offsets), self._reader.is_caught_up
            reading = self._threads.submit(self._intake.read, batch) if len(batch) else None
            if reading is not None:
                waiting.append(_Waiting(batch, reading, before, after, is_last, batch.size_bytes))
            while waiting and (reading is None or is_last or _are_many(waiting)):
                yield waiting.popleft().arrive()
            if reading is None:
                yield Arrival(batch, None, before, after, is_last)
        while waiting:
            yield waiting.popleft().arrive()

    def decode(self, batch: MessageBatch) -> Reading:
        """What a batch says, decoded as all others are."""
        return self._threads.submit(self._intake.read, batch).result()


def _are_many(waiting: Sequence[_Waiting]) -> bool:
    return len(waiting) > _DECODERS or sum(one.size_bytes for one in waiting) > _AHEAD_BYTES
