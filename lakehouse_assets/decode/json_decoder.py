"""JSON message values become Arrow columns: where bytes become rows.

Two decoders, bound by one rule: whatever the fast one accepts, the exact one accepts with the same
values, and what the fast one can't prove right, the exact one judges message by message. So speed never
changes a result.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse_assets.decode.blocks import split_blocks
from lakehouse_assets.decode.columns import Column
from lakehouse_assets.decode.decoded import Decoded
from lakehouse_assets.decode.exact import ExactDecoder, Judged
from lakehouse_assets.decode.fast import FastDecoder, FastRead
from lakehouse_assets.decode.rest import RestReader
from lakehouse_assets.decode.screen import Screen
from lakehouse_assets.decode.wire import plan_wire_schema
from lakehouse_assets.model.columns import REST_COLUMN
from lakehouse_assets.model.unknown import UnknownFields

_BLOCK_BYTES = 1 << 20  # larger: a bad value costs more; smaller: each call of the reader costs 0.2 ms
_CHUNK_ROWS = 1000
_MAX_GUESSES = (
    3  # values of a block that the reader's own message may take out before the screen looks at all
)
_DENSE_ROWS = 100  # a reader that stops earlier would stop again and again


class JsonDecoder:
    """Decodes JSON messages of one table. Remembers the unknown fields that it met, so threads can't share it."""

    def __init__(self, columns: Sequence[Column]) -> None:
        """`columns` must not be empty. One named `_rest` keeps what the others don't read."""
        self._names = [column.name for column in columns]
        columns = [column for column in columns if column.name != REST_COLUMN]
        self._rest = RestReader(columns) if len(columns) < len(self._names) else None
        self._exact = ExactDecoder(columns)
        wire_schema = plan_wire_schema(columns)
        self._fast = None if wire_schema is None else _Prover(FastDecoder(columns, wire_schema), self._exact, self._rest)
        self._screen = None if wire_schema is None else Screen(wire_schema)

    def decode(self, values: Sequence[bytes]) -> Decoded:
        """Every value becomes a row or stands in `bad`, never both. No value may be None (a tombstone)."""
        pieces = [piece for block in split_blocks(values, _BLOCK_BYTES) for piece in self._decode_block(values, block)]
        tables = [piece.table for piece in pieces] or [self._judge([], []).table]
        unknown = reduce(UnknownFields.joined, (piece.unknown for piece in pieces), UnknownFields())
        bad = tuple(one for piece in pieces for one in piece.bad)
        return Decoded(pa.concat_tables(tables).select(self._names), bad, unknown)

    def _decode_block(self, values: Sequence[bytes], block: range) -> Iterator[Decoded]:
        if self._fast is None or self._screen is None:
            yield self._judge(values, block)
            return
        whole = self._fast.prove(values, block, block)
        if whole is not None:
            yield whole
            return
        passing = [index for index in block if self._screen.passes(values[index])]
        screened = self._fast.prove(values, block, passing)
        if screened is not None:
            yield screened
            return
        for chunk in _chunks(block):
            candidates = [index for index in passing if index in chunk]
            yield self._fast.prove(values, chunk, candidates) or self._judge(values, chunk)

    def _judge(self, values: Sequence[bytes], indices: Sequence[int]) -> Decoded:
        judged = _with_rest(self._exact.decode(values, indices), values, self._rest)
        return Decoded(judged.table, judged.bad, judged.unknown)


def _with_rest(judged: Judged, values: Sequence[bytes], rest: RestReader | None) -> Judged:
    return judged if rest is None else replace(judged, table=rest.add(judged.table, values, judged.good))


@dataclass(frozen=True, slots=True)
class _Prover:
    """Drives the fast decoder around the few values that keep it from proving many."""

    fast: FastDecoder
    exact: ExactDecoder
    rest: RestReader | None

    def prove(self, values: Sequence[bytes], block: range, candidates: Sequence[int]) -> Decoded | None:
        """All of `block`: `candidates` fast, what is left exactly. None: nothing is proved."""
        guesses = 0
        while candidates and guesses <= _MAX_GUESSES:
            read = self.fast.decode(_select(values, candidates))
            if isinstance(read, FastRead):
                return self._complete(values, block, candidates, read)
            if not read.certain:
                guesses += 1
                if not read.rows or read.rows[0] < _DENSE_ROWS:
                    return None
            dropped = frozenset(read.rows)
            candidates = [index for row, index in enumerate(candidates) if row not in dropped]
        return None

    def _complete(
        self, values: Sequence[bytes], block: range, candidates: Sequence[int], read: FastRead
    ) -> Decoded:
        proved, table = np.asarray(candidates), read.table
        if read.suspects.any():
            proved, table = proved[~read.suspects], table.filter(pa.array(~read.suspects))
        if self.rest is not None:
            table = self.rest.add(table, values, proved.tolist(), has_none=read.has_declared_only)
        if len(proved) == len(block):
            return Decoded(table, (), read.unknown)
        judged = _with_rest(self.exact.decode(values, np.setdiff1d(block, proved).tolist()), values, self.rest)
        return _merge(table, proved, judged, read.unknown)


def _select(values: Sequence[bytes], indices: Sequence[int]) -> Sequence[bytes]:
    if isinstance(indices, range):
        return values[indices.start : indices.stop]
    return [values[index] for index in indices]


def _chunks(block: range) -> Iterator[range]:
    for start in range(block.start, block.stop, _CHUNK_ROWS):
        yield range(start, min(start + _CHUNK_ROWS, block.stop))


def _merge(table: pa.Table, indices: npt.NDArray[np.int64], judged: Judged, unknown: UnknownFields) -> Decoded:
    """Rows of both decoders in the order of their values."""
    if judged.good:
        order = np.argsort(np.concatenate([indices, np.asarray(judged.good)]))
        table = pa.concat_tables([table, judged.table]).take(pa.array(order))
    return Decoded(table, judged.bad, unknown.joined(judged.unknown))
