"""Where many messages stand in one buffer, and reading the same thing from each of them at once.

A message that breaks stays in the row, flagged, at its end: what is read for it from then on is of no account, and it can't
lead any other astray, because no position ever passes the end of its own message.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse_assets.decode.avro.values import Integers, Mask, Spans

FINE, DOUBTED, BROKEN, LEFT = 0, 1, 2, 3
"""What is known of a message: nothing bad, that only the exact decoder may judge it, that its bytes are no body, that it was
not read to its end, so that nothing is known. From `BROKEN` on it stands at its end, and no number that is read counts."""

_PADDING = bytes(16)  # so that whole words can be loaded anywhere
_WORD_BYTES = 8
_STOPS = np.uint64(0x8080808080808080)
_GROUPS = np.uint64(0x7F7F7F7F7F7F7F7F)
_SQUEEZES = [
    (np.uint64(0x7F007F007F007F00), np.uint64(0x007F007F007F007F), np.uint64(1)),
    (np.uint64(0x3FFF00003FFF0000), np.uint64(0x00003FFF00003FFF), np.uint64(2)),
    (np.uint64(0x0FFFFFFF00000000), np.uint64(0x000000000FFFFFFF), np.uint64(4)),
]
_ONE = np.uint64(1)
_MORE = 0x80


class Joined:
    """The values of many messages in one buffer, one behind the other."""

    def __init__(self, values: Sequence[bytes]) -> None:
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        self.stops: Integers = np.cumsum(lengths)
        self.starts: Integers = self.stops - lengths
        self.data = pa.py_buffer(b"".join([*values, _PADDING]))
        self.octets = np.frombuffer(self.data, np.uint8)

    def words(self, kind: str) -> npt.NDArray[np.generic]:
        """Values of this type that begin at each byte."""
        size = np.dtype(kind).itemsize
        return np.ndarray((len(self.octets) - size + 1,), kind, self.data, strides=(1,))


@dataclass(slots=True)
class Cursor:
    """Positions in some messages. All arrays have one entry for each of them."""

    joined: Joined
    at: Integers
    stops: Integers
    flaws: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.at)

    def select(self, rows: Integers) -> "Cursor":
        """A cursor of some of the messages; `merge` takes back what became of them."""
        return Cursor(self.joined, self.at[rows], self.stops[rows], self.flaws[rows])

    def merge(self, rows: Integers, part: "Cursor") -> None:
        """Take over where `part` stands."""
        self.at[rows], self.flaws[rows] = part.at, part.flaws

    def doubt(self, mask: Mask) -> None:
        """Leave these to the exact decoder."""
        self.flaws[mask] = np.maximum(self.flaws[mask], DOUBTED)

    def condemn(self, mask: Mask) -> None:
        """These are broken; of one that was left nothing is said."""
        self.flaws[mask] = np.maximum(self.flaws[mask], BROKEN)
        self.at[mask] = self.stops[mask]

    def leave(self, rows: Integers) -> None:
        """Read no further in these; the exact decoder does."""
        self.flaws[rows] = np.where(self.flaws[rows] < BROKEN, LEFT, self.flaws[rows])
        self.at[rows] = self.stops[rows]

    def skip(self, count: int | Integers) -> None:
        """Move on; a message that has not so many bytes is broken."""
        self.at = self.at + count
        over = self.at > self.stops
        if over.any():
            self.condemn(over)

    def read_boolean(self) -> Mask:
        """One byte, 0 or 1."""
        found: npt.NDArray[np.uint8] = self.joined.octets[self.at]
        self.skip(1)
        if (found > 1).any():
            self.condemn(found > 1)
        return np.equal(found, 1)

    def read_float(self, kind: str) -> npt.NDArray[np.generic]:
        """A float of 4 or 8 bytes, as the native type."""
        found = self.joined.words(kind)[self.at]
        self.skip(np.dtype(kind).itemsize)
        return found.astype(np.dtype(kind).newbyteorder("="), copy=False)

    def read_long(self) -> Integers:
        """A zig-zag number of variable length; 0 where it is broken."""
        first = self.joined.octets[self.at]
        if not (first & _MORE).any():
            self.skip(1)
            return (first >> 1).astype(np.int64) ^ -(first & 1).astype(np.int64)
        word = self.joined.words("<u8")[self.at].astype(np.uint64, copy=False)
        stop = ~word & _STOPS
        below = (stop & -stop) - _ONE  # the bits below that of the last byte; all, where that is further on
        length = (np.bitwise_count(below).astype(np.int64) + 1) >> 3
        number = word & below & _GROUPS
        for upper, lower, shift in _SQUEEZES:
            number = ((number & upper) >> shift) | (number & lower)
        is_long = stop == 0
        if is_long.any():
            self._read_rest(np.flatnonzero(is_long), number, length)
        self.skip(length)
        return (number >> _ONE).view(np.int64) ^ -(number & _ONE).view(np.int64)

    def _read_rest(self, rows: Integers, number: npt.NDArray[np.uint64], length: Integers) -> None:
        """The ninth byte, and the tenth, which has one bit left to say."""
        at = self.at[rows] + _WORD_BYTES
        ninth, tenth = self.joined.octets[at].astype(np.uint64), self.joined.octets[at + 1].astype(np.uint64)
        ends = ninth < _MORE
        number[rows] |= (ninth & np.uint64(0x7F)) << np.uint64(56)
        number[rows] |= np.where(ends, np.uint64(0), (tenth & _ONE) << np.uint64(63))
        length[rows] = np.where(ends, 9, 10)
        wrong = np.zeros(len(self), np.bool_)
        wrong[rows] = ~ends & (tenth > 1)
        if wrong.any():
            self.condemn(wrong)
            length[wrong] = 0
            number[wrong] = 0

    def read_span(self, size: int | None = None) -> Spans:
        """So many bytes, or as many as a number before them says."""
        if size is None:
            length = self.read_long()
            wrong = (length < 0) | (length > self.stops - self.at)
            if wrong.any():
                self.condemn(wrong)
                length = np.where(wrong, 0, length)
        else:
            length = np.full(len(self), size)
            wrong = length > self.stops - self.at
            if wrong.any():
                self.condemn(wrong)
                length[wrong] = 0
        starts = self.at
        self.at = self.at + length
        return Spans(self.joined.data, starts, self.at)
