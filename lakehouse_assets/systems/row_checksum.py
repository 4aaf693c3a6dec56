"""A checksum over rows that does not depend on their order: whether two sets of files hold the same rows.

Each row becomes 64 bits of all its columns, nested ones and nulls too; the checksum is the number of rows and the sum of these.
A value counts as its bits, so 0.0 and -0.0 differ; every NaN is the same, because Parquet's dictionaries keep one of them. Rows
are to come with the same columns in the same types on both sides. It is no defence against somebody who wants two sets of rows
to look the same.
"""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from threading import Lock
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Hashes = npt.NDArray[np.uint64]
Cells = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]

SLICE_ROWS: Final = 12 * 1024  # what is computed in between stays in the processor's cache
_SLICE_BYTES: Final = 32 * 1024 * 1024
# Threads that take turns at each of many short computations are slower than one after the other.
_TURN = Lock()
_MASK = 2**64 - 1
_A, _B, _C = (np.uint64(odd) for odd in (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xC2B2AE3D27D4EB4F))
_HALF, _SHIFT = np.uint64(32), np.uint64(29)
_NULL, _EMPTY = np.uint64(0xA0761D6478BD642F), np.uint64(0xE7037ED1A0B428DB)
_WORD = 8
_LONG: Final = 512  # bytes; longer values are hashed one by one
_FACTORS = np.cumprod(np.full(_LONG // _WORD, _B))  # of the words of a value
_MOST: Final = 0.75  # of the values; where fewer go on, it pays to leave the others out
_PARTS = np.array([(1 << 8 * length) - 1 for length in range(_WORD + 1)], np.uint64)  # of a word that holds so many bytes


@dataclass(frozen=True, slots=True)
class RowChecksum:
    """Of some rows. Checksums are added as their rows are."""

    rows: int = 0
    sum: int = 0

    def __add__(self, other: "RowChecksum") -> "RowChecksum":
        return RowChecksum(self.rows + other.rows, (self.sum + other.sum) & _MASK)

    def __str__(self) -> str:
        return f"{self.rows:,} rows with the checksum {self.sum:016x}"

    @classmethod
    def of(cls, rows: pa.Table) -> "RowChecksum":
        """Of these rows."""
        total = 0
        # Of wide rows fewer at a time: their bytes are copied.
        for batch in rows.to_batches(max_chunksize=max(min(SLICE_ROWS, rows.num_rows * _SLICE_BYTES // (rows.nbytes + 1)), 1)):
            with _TURN:
                total += int(_sum(_hash_rows(batch.columns, len(batch))))
        return cls(rows.num_rows, total & _MASK)


class ChecksumThread:
    """Adds up the checksum of rows beside whoever has them to do other things with. A context manager: leaving ends it.

    Few rows at a time are put together first, because each computation has a price of its own.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checksum")
        self._running: deque[Future[RowChecksum]] = deque()
        self._waiting: list[pa.Table] = []
        self._total = RowChecksum()

    def __enter__(self) -> "ChecksumThread":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def add(self, rows: pa.Table) -> None:
        """Take rows. Waits while many are not done."""
        self._waiting.append(rows)
        if sum(piece.num_rows for piece in self._waiting) >= SLICE_ROWS:
            self._start()

    def finish(self) -> RowChecksum:
        """Of all rows."""
        if self._waiting:
            self._start()
        while self._running:
            self._total += self._running.popleft().result()
        return self._total

    def _start(self) -> None:
        rows, self._waiting = self._waiting, []
        self._running.append(self._thread.submit(lambda: RowChecksum.of(pa.concat_tables(rows).combine_chunks())))
        if len(self._running) > 2:
            self._total += self._running.popleft().result()


def _sum(hashes: Hashes) -> np.uint64:
    return np.uint64(np.add.reduce(hashes, dtype=np.uint64))


def _mix(hashes: Hashes) -> Hashes:
    """Every bit of it depends on every bit that went in."""
    hashes = (hashes ^ (hashes >> _HALF)) * _B
    hashes ^= hashes >> _SHIFT
    hashes *= _C
    hashes ^= hashes >> _HALF
    return hashes


def _hash_rows(columns: list[pa.Array], length: int) -> Hashes:
    """Of the columns together; the place of a column counts."""
    hashes = np.full(length, _A, np.uint64)
    for column in columns:
        hashes *= _B
        hashes ^= hashes >> _HALF
        hashes += _hash(column)
    return _mix(hashes)


def _hash(values: pa.Array) -> Hashes:
    """Of each value; a null has one of its own."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    kind = values.type
    if pa.types.is_null(kind):
        return np.full(len(values), _NULL, np.uint64)
    if pa.types.is_struct(kind):
        hashes = _hash_rows(values.flatten(), len(values))
    elif pa.types.is_map(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        hashes = _hash_lists(values)
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        hashes = _hash_bytes(values, np.int32)
    elif pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        hashes = _hash_bytes(values, np.int64)
    else:
        hashes = _hash_fixed(values)
    if values.null_count:
        hashes[values.is_null().to_numpy(zero_copy_only=False)] = _NULL
    return hashes


def _hash_fixed(values: pa.Array) -> Hashes:
    """Values of one width: numbers, times, decimals, booleans, bytes of a fixed length."""
    kind = values.type
    if pa.types.is_boolean(kind):
        return _mix(pc.fill_null(values, False).cast(pa.uint8()).to_numpy().astype(np.uint64))
    if pa.types.is_floating(kind) and pc.any(pc.is_nan(values)).as_py():
        values = pc.if_else(pc.is_nan(values), pa.scalar(float("nan"), kind), values)
    width = kind.bit_width // 8
    if width > _LONG:
        return _hash_bytes(values.cast(pa.binary()), np.int32)
    raw = values.buffers()[1]
    if raw is None:
        return np.zeros(len(values), np.uint64)
    return _hash_cells(np.frombuffer(raw, np.uint8, len(values) * width, values.offset * width).reshape(len(values), width))


def _hash_bytes(values: pa.Array, offset_type: "type[np.int32] | type[np.int64]") -> Hashes:
    """Values of any length; the length counts."""
    _, raw_offsets, raw = values.buffers()
    size = np.dtype(offset_type).itemsize
    offsets = np.frombuffer(raw_offsets, offset_type, len(values) + 1, values.offset * size).astype(np.int64)
    begins, lengths = offsets[:-1] - offsets[0], np.diff(offsets)
    hashes = _mix(lengths.astype(np.uint64) ^ _EMPTY)
    longest = int(lengths.max(initial=0))
    if not longest:
        return _mix(hashes)
    cells = np.frombuffer(raw, np.uint8, int(offsets[-1] - offsets[0]), int(offsets[0]))
    if longest > _LONG:
        for row in np.flatnonzero(lengths > _LONG):
            value = cells[begins[row] : begins[row] + lengths[row]]
            hashes[row] ^= np.frombuffer(blake2b(value.data, digest_size=_WORD).digest(), "<u8")[0]
        lengths = np.where(lengths > _LONG, 0, lengths)
    if lengths.min() == longest:
        hashes += _hash_cells(cells.reshape(len(values), longest))
    else:
        _add_pieces(hashes, cells, begins, lengths)
    return _mix(hashes)


def _add_pieces(hashes: Hashes, cells: Cells, begins: Indices, left: Indices) -> None:
    """To the hash of each value add its bytes, of which `left` ones begin at `begins`."""
    # Aligned words, each of which is used twice: NumPy takes four times as long to gather words that begin anywhere.
    words = np.zeros(len(cells) // _WORD + 2, np.uint64)
    words.view(np.uint8)[: len(cells)] = cells
    places, bits = begins >> 3, (begins & 7).astype(np.uint64) << np.uint64(3)
    others, low = np.uint64(64) - bits, words.take(places)
    rows = None  # that go on, where many have ended, which add nothing
    for factor in _FACTORS:
        going = np.count_nonzero(left > 0)
        if not going:
            return
        if going < _MOST * len(left):
            chosen = np.flatnonzero(left > 0)
            rows = chosen if rows is None else rows[chosen]
            places, left = places[chosen], left[chosen]
            bits, others, low = bits[chosen], others[chosen], low[chosen]
        places = places + 1
        high = words.take(places, mode="clip")
        found: Hashes = np.bitwise_or(low >> bits, high << others)
        if left.min() < _WORD:
            np.bitwise_and(found, _PARTS.take(left, mode="clip"), out=found)
        if rows is None:
            hashes += _scramble(found, factor)
        else:
            hashes[rows] += _scramble(found, factor)
        low, left = high, left - _WORD


def _hash_cells(cells: Cells) -> Hashes:
    """Values of one length, of which each is a row of bytes."""
    hashes = np.zeros(len(cells), np.uint64)
    for begin, factor in zip(range(0, cells.shape[1], _WORD), _FACTORS, strict=False):  # of at most `_LONG` bytes
        hashes += _scramble(_to_words(cells[:, begin : begin + _WORD]), factor)
    return hashes


def _to_words(cells: Cells) -> Hashes:
    """Up to eight bytes of each row as a number."""
    width = cells.shape[1]
    if width in (1, 2, 4, 8):
        return cells.view(f"<u{width}").reshape(-1).astype(np.uint64)
    padded = np.zeros((len(cells), _WORD), np.uint8)
    padded[:, :width] = cells
    return padded.view("<u8").reshape(-1)


def _scramble(words: Hashes, factor: np.uint64) -> Hashes:
    """So that a sum of them, each with a factor of its own, tells which words they were, and in which order. Of 0 it is 0."""
    hashes = words * factor
    hashes ^= hashes >> _HALF
    hashes *= _C
    return hashes


def _hash_lists(values: pa.Array) -> Hashes:
    """Lists and maps: the items in their order, and how many."""
    offsets = values.offsets.to_numpy().astype(np.int64)
    lengths = np.diff(offsets)
    if values.null_count:  # what a null spans does not count
        lengths = np.where(values.is_valid().to_numpy(zero_copy_only=False), lengths, 0)
    first, last = int(offsets[0]), int(offsets[-1])
    if pa.types.is_map(values.type):
        items = [values.keys.slice(first, last - first), values.items.slice(first, last - first)]
    else:
        items = [values.values.slice(first, last - first)]
    inner = _hash_rows(items, last - first)
    places = np.arange(first, last, dtype=np.int64) - np.repeat(offsets[:-1], np.diff(offsets))
    inner = _mix(inner + (places + 1).astype(np.uint64) * _A)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(inner, dtype=np.uint64)])
    begins = offsets[:-1] - first
    return _mix((sums[begins + lengths] - sums[begins]) ^ (lengths.astype(np.uint64) * _B) ^ _EMPTY)
