"""Finds fields in many Protobuf messages at once: one position per message, all moved on together.

In each step the messages that stand before the lowest field number pass one field. Serializers write fields in ascending
order, so there are about as many steps as fields. What is broken, strange (groups, wire types that the schema does not have) or
takes too many steps makes its message a suspect, which only the runtime may judge; its neighbours go on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_MOST_STEPS = 500
_DONE = np.iinfo(np.int64).max
_MAX_TAG = 2**32
_PADDING = 16  # so that no look ahead leaves the buffer
_MORE = np.uint64(0x8080808080808080)
_SEVEN = np.uint64(0x7F7F7F7F7F7F7F7F)
_ONE = np.uint64(1)


class Source:
    """The bytes of many messages, one after the other."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self.buffer = pa.py_buffer(b"".join([*values, bytes(_PADDING)]))
        self._bytes = np.frombuffer(self.buffer, np.uint8)
        # A word begins at every byte.
        self._words = np.ndarray((len(self._bytes) - 7,), "<u8", self.buffer, 0, (1,))

    def words(self, at: Integers) -> Words:
        """Eight bytes from each place."""
        return self._words[at]

    def read_varints(self, at: Integers) -> tuple[Words, Integers, Mask | None]:
        """The numbers at these places, where each ends, and which are none (None: all are)."""
        first = self._bytes[at]
        if not (first & 0x80).any():
            return first.astype(np.uint64), at + 1, None
        words = self._words[at]
        ends = ~words & _MORE
        below = (ends & (~ends + _ONE)) - _ONE  # the bits up to the first byte that is the last of its number
        numbers = _squeeze(words & below & _SEVEN)
        stops = at + (np.bitwise_count(below) // 8).astype(np.int64) + 1
        long = np.flatnonzero(ends == 0)
        if not long.size:
            return numbers, stops, None
        eighth, ninth = (self._bytes[at[long] + i].astype(np.uint64) for i in (8, 9))
        has_ninth = eighth > 0x7F
        numbers[long] |= (eighth & np.uint64(0x7F)) << np.uint64(56) | np.where(has_ninth, ninth << np.uint64(63), np.uint64(0))
        stops[long] = at[long] + 9 + has_ninth
        wrong = np.zeros(len(at), np.bool_)
        wrong[long] = has_ninth & (ninth > 1)
        return numbers, stops, wrong

    def split_packed(self, starts: Integers, stops: Integers) -> tuple[Integers, Integers, Mask]:
        """Where each number of packed runs begins, how many each run has, and which runs end inside of one."""
        lengths = stops - starts
        total = np.cumsum(lengths)
        places = np.repeat(starts - total + lengths, lengths) + np.arange(total[-1] if total.size else 0)
        is_last = self._bytes[places] < 0x80
        broken = (lengths > 0) & (self._bytes[np.maximum(stops - 1, 0)] > 0x7F)
        begins = np.ones(len(places), np.bool_)
        begins[1:] = is_last[:-1]
        begins[(total - lengths)[lengths > 0]] = True
        counts = np.add.reduceat(np.append(begins, False), total - lengths, dtype=np.int64) if lengths.size else lengths
        return places[begins], np.where(lengths > 0, counts, 0), broken


def _squeeze(words: Words) -> Words:
    """Groups of seven bits in eight become one number."""
    for shift, keep in ((1, 0x007F007F007F007F), (2, 0x00003FFF00003FFF), (4, 0x000000000FFFFFFF)):
        low = np.uint64(keep)
        words = (words & low) | ((words & ~low) >> np.uint64(shift))
    return words


@dataclass(slots=True)
class Scope:
    """Messages of one type: where they stand, and of which of the values each is a part."""

    source: Source
    starts: Integers
    stops: Integers
    owners: Integers
    suspects: Mask

    def __len__(self) -> int:
        return len(self.starts)

    def doubt(self, rows: Integers | Mask) -> None:
        """Leave the values of these messages to the runtime."""
        self.suspects[self.owners[rows]] = True


@dataclass(slots=True)
class Found:
    """What was found of one field, in the order of finding: message, value, and where bytes end (else nothing)."""

    rows: list[Integers] = field(default_factory=list)
    values: list[Integers] = field(default_factory=list)
    stops: list[Integers] = field(default_factory=list)
    packed: "Found | None" = None

    def add(self, rows: Integers, values: Integers, stops: Integers | None) -> None:
        """One step."""
        self.rows.append(rows)
        self.values.append(values)
        if stops is not None:
            self.stops.append(stops)

    def all_rows(self) -> Integers:
        """The message of each occurrence, packed ones too."""
        parts = self.rows + (self.packed.rows if self.packed else [])
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def scan(scope: Scope, wanted: Mapping[int, tuple[int, bool]], watched: Iterable[int]) -> dict[int, Found]:
    """The fields `wanted`: their wire type, and whether they may be packed. Of `watched` only who has them."""
    found = {number: Found(packed=Found()) for number in (*wanted, *watched)}
    rows = np.flatnonzero(scope.starts < scope.stops)
    if not rows.size:
        return found
    walk = _Walk(scope, rows)
    for _ in range(_MOST_STEPS):
        low = int(walk.tags.min())
        if low == _DONE:
            return found
        number, wire = low >> 3, low & 7
        here = np.flatnonzero(walk.tags == low)
        values, stops = walk.take(here, wire)
        if number in found:
            expected, packable = wanted.get(number, (wire, False))
            if wire == expected:
                found[number].add(walk.rows[here], values, stops)
            elif packable and wire == LENGTH:
                packed = found[number].packed
                assert packed is not None  # noqa: S101 - every one has been given one
                packed.add(walk.rows[here], values, stops)
            else:
                scope.doubt(walk.rows[here])
        walk.go_on(here)
    scope.doubt(walk.rows[walk.tags != _DONE])
    return found


class _Walk:
    """Where each message stands: behind the tag of its next field."""

    def __init__(self, scope: Scope, rows: Integers) -> None:
        self._scope, self._source, self.rows = scope, scope.source, rows
        self._at, self._ends = scope.starts[rows], scope.stops[rows]
        self.tags = np.full(len(rows), _DONE)
        self._read_tags(np.arange(len(rows)))

    def take(self, here: Integers, wire: int) -> tuple[Integers, Integers | None]:
        """Pass one value. Of a number itself; of others where it begins; of bytes also where they end."""
        at, ends = self._at[here], self._ends[here]
        bytes_end = None
        match wire:
            case 0:
                numbers, after, wrong = self._source.read_varints(at)
                values = numbers.view(np.int64)
            case 1 | 5:
                values, after, wrong = at, at + (8 if wire == FIXED64 else 4), None
            case 2:
                numbers, values, wrong = self._source.read_varints(at)
                # A length that does not fit is cut to one that does not fit either, and does not overflow.
                after = bytes_end = values + np.minimum(numbers, np.uint64(2**40)).astype(np.int64)
            case _:  # groups, and what is no wire type
                values, after, wrong = at, ends + 1, None
        outside = after > ends
        if wrong is not None:
            outside |= wrong
        if outside.any():
            self._scope.doubt(self.rows[here[outside]])
            # Nobody looks at what is found in a suspect, but it must lie within the buffer.
            after = np.where(outside, ends, after)
            values = np.where(outside, ends, values) if wire else values
            bytes_end = after if bytes_end is not None else None
        self._at[here] = after
        return values, bytes_end

    def go_on(self, here: Integers) -> None:
        """Read the tags of the next fields."""
        over = self._at[here] >= self._ends[here]
        if over.any():
            self.tags[here[over]] = _DONE
            here = here[~over]
        if here.size:
            self._read_tags(here)

    def _read_tags(self, here: Integers) -> None:
        tags, after, wrong = self._source.read_varints(self._at[here])
        bad = (tags < np.uint64(8)) | (tags >= np.uint64(_MAX_TAG)) | (after > self._ends[here])
        if wrong is not None:
            bad |= wrong
        self._at[here] = after
        if bad.any():
            self._scope.doubt(self.rows[here[bad]])
            self.tags[here] = np.where(bad, _DONE, np.minimum(tags, np.uint64(_MAX_TAG)).astype(np.int64))
        else:
            self.tags[here] = tags.view(np.int64)
