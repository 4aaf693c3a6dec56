"""Messages as they are handed over: in columns, because that is how they are decoded. Knows no client."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from lakehouse_assets.model.offsets import TopicPartition

Ranges = Mapping[TopicPartition, tuple[int, int | None]]  # (start, stop); stop None: on and on
Headers = list[tuple[str, bytes | None]]  # in their order; a key may come again


@dataclass(frozen=True, slots=True)
class MessageBatch:
    """Messages as columns of equal length. `places` says in which of `logs` each stands.

    `timestamps_ms` is -1 where a message has none.
    """

    logs: tuple[TopicPartition, ...]
    keys: list[bytes | None]
    headers: list[Headers | None]
    values: list[bytes | None]
    places: "np.ndarray[tuple[int], np.dtype[np.int32]]"
    offsets: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    timestamps_ms: "np.ndarray[tuple[int], np.dtype[np.int64]]"

    def __len__(self) -> int:
        return len(self.values)

    @property
    def size_bytes(self) -> int:
        """Of the values, added up anew each time."""
        return sum(map(len, filter(None, self.values)))

    @property
    def partitions(self) -> "np.ndarray[tuple[int], np.dtype[np.int32]]":
        """Number of each message's topic partition within its topic."""
        return np.array([log.partition for log in self.logs], np.int32)[self.places]

    def by_log(self) -> "Iterator[tuple[TopicPartition, np.ndarray[tuple[int], np.dtype[np.bool_]]]]":
        """Each topic partition that occurs, and which messages are its."""
        for place in np.unique(self.places).tolist():
            yield self.logs[place], self.places == place

    def offsets_by_log(
        self, places: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    ) -> "Iterator[tuple[TopicPartition, np.ndarray[tuple[int], np.dtype[np.int64]]]]":
        """Offsets of the messages at these places, by topic partition; of each at least one."""
        chosen = np.zeros(len(self), np.bool_)
        chosen[places] = True
        for log, mine in self.by_log():
            offsets = self.offsets[chosen & mine]
            if len(offsets):
                yield log, offsets

    def position(self, at: int) -> tuple[TopicPartition, int]:
        """Topic partition and offset of one message."""
        return self.logs[self.places[at]], int(self.offsets[at])

    def first(self, count: int) -> "MessageBatch":
        """The first `count` messages."""
        return MessageBatch(
            self.logs,
            self.keys[:count],
            self.headers[:count],
            self.values[:count],
            self.places[:count],
            self.offsets[:count],
            self.timestamps_ms[:count],
        )

    def stops(self) -> dict[TopicPartition, int]:
        """The offset after the last message of each topic partition that occurs."""
        return {log: int(self.offsets[mine][-1]) + 1 for log, mine in self.by_log()}
