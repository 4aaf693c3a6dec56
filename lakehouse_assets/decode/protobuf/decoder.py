"""Protobuf messages become Arrow columns: each by the schema and the type that it names, all of one type at once.

Two decoders, bound by one rule: what the fast one can't prove right, the exact one judges message by message. So speed never
changes a result.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lakehouse_assets.decode.blocks import split_blocks
from lakehouse_assets.decode.columns import Column, arrow_schema
from lakehouse_assets.decode.decoded import BadValue, BrokenSchema, Decoded
from lakehouse_assets.decode.nested import build_array
from lakehouse_assets.decode.protobuf.exact import BadBody, ExactDecoder
from lakehouse_assets.decode.protobuf.fast import read_columns, suspect_missing
from lakehouse_assets.decode.protobuf.frame import USUAL_SIZE, Frame, Unframed, read_frame
from lakehouse_assets.decode.protobuf.plan import MessagePlan, plan_columns
from lakehouse_assets.decode.protobuf.scan import Integers, Scope, Source
from lakehouse_assets.decode.protobuf.schema import CompiledSchema, compile_schema
from lakehouse_assets.model.schemas import SchemaOf

_BLOCK_BYTES = 1 << 23  # larger ones leave the processor's cache
_FEWEST = 32  # fewer are read sooner one by one
_HEAD = np.uint64(0x0000FFFFFFFFFFFF)  # of eight bytes, what stands before most bodies,
_ZEROS = np.uint64(0x0000FF00000000FF)  # and what of that is zero in Confluent's wire format


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """Why no message of a schema or type can be read."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Readable:
    """How messages of one type are read."""

    plan: MessagePlan
    exact: ExactDecoder


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows of the values at these places, and the reasons of the others that were looked at."""

    places: Integers
    table: pa.Table
    bad: list[BadValue]


class ProtobufDecoder:
    """Decodes Protobuf messages of one table, in Confluent's wire format. Keeps what it learned of schemas."""

    def __init__(self, columns: Sequence[Column], schema_of: SchemaOf) -> None:
        """`columns` must not be empty; `schema_of` gives the schema that a message names by its id."""
        self._columns, self._schema_of = columns, schema_of
        self._schema = arrow_schema(columns)
        # Arrow's own empty table has no extension types inside of others.
        empty = [build_array([], field.type) for field in self._schema]
        self._empty = pa.Table.from_arrays(empty, schema=self._schema)
        self._compiled: dict[int, CompiledSchema | _Unreadable] = {}
        self._known: dict[Frame, _Readable | _Unreadable] = {}

    def decode(self, values: Sequence[bytes]) -> Decoded:
        """Every value becomes a row or stands in `bad`, never both. No value may be None (a tombstone).

        Raises:
            RegistryError: a schema can't be had; nothing is said of the values.
            ConfigurationError: the compiler of schemas is not installed.
        """
        pieces = [piece for block in split_blocks(values, _BLOCK_BYTES) for piece in self._decode_block(values, block)]
        bad = sorted((one for piece in pieces for one in piece.bad), key=lambda one: one.index)
        tables = [piece.table for piece in pieces] or [self._empty]
        table = pa.concat_tables(tables)
        places = np.concatenate([piece.places for piece in pieces]) if pieces else np.zeros(0, np.int64)
        if (np.diff(places) < 0).any():
            table = table.take(pa.array(np.argsort(places)))
        return Decoded(table, tuple(bad))

    def _decode_block(self, values: Sequence[bytes], block: range) -> Iterator[_Piece]:
        mine = values[block.start : block.stop]
        lengths = np.fromiter(map(len, mine), np.int64, len(mine))
        stops = np.cumsum(lengths)
        scope = Scope(Source(mine), stops - lengths, stops, np.arange(len(mine)), np.zeros(len(mine), np.bool_))
        for frame, rows in _group(mine, scope):
            known = _Unreadable(frame.code, frame.reason) if isinstance(frame, Unframed) else self._find(frame)
            if isinstance(known, _Unreadable):
                bad = [BadValue(place, known.code, known.reason) for place in (block.start + rows).tolist()]
                yield _Piece(rows[:0], self._empty, bad)
                continue
            assert isinstance(frame, Frame)  # noqa: S101 - the others are unreadable
            if len(rows) < _FEWEST:
                scope.doubt(rows)
            else:
                yield self._read_fast(known.plan, scope, rows, frame.size, block.start)
            left = rows[scope.suspects[rows]]
            if left.size:
                yield self._judge(known.exact, mine, left, frame.size, block.start)

    def _find(self, frame: Frame) -> _Readable | _Unreadable:
        if frame not in self._known:
            schema = self._compile(frame.schema_id)
            if isinstance(schema, _Unreadable):
                return schema
            message = schema.find_message(frame.path)
            if message is None:
                path = ", ".join(map(str, frame.path))
                return _Unreadable("unknown_message_type", f"schema {frame.schema_id} has no message under the index [{path}]")
            plan = plan_columns(message, self._columns)
            self._known[frame] = _Readable(plan, ExactDecoder(plan, self._columns))
        return self._known[frame]

    def _compile(self, schema_id: int) -> CompiledSchema | _Unreadable:
        if schema_id not in self._compiled:
            schema = self._schema_of(schema_id)
            if schema is None:  # the registry may know it later
                return _Unreadable("unknown_schema_id", f"the schema registry has no schema of the id {schema_id}")
            if schema.kind != "PROTOBUF":
                reason = f"the schema {schema_id} is a schema of {schema.kind}, expected PROTOBUF"
                self._compiled[schema_id] = _Unreadable("wrong_schema_kind", reason)
            else:
                try:
                    self._compiled[schema_id] = compile_schema(schema.text, schema.references)
                except BrokenSchema as error:
                    self._compiled[schema_id] = _Unreadable("broken_schema", f"the schema {schema_id} can't be used: {error}")
        return self._compiled[schema_id]

    def _read_fast(self, plan: MessagePlan, scope: Scope, rows: Integers, head: int, first: int) -> _Piece:
        """The rows that are proved; the others become suspects of the scope."""
        bodies = Scope(scope.source, scope.starts[rows] + head, scope.stops[rows], rows, scope.suspects)
        arrays = read_columns(bodies, plan)
        for column, array in zip(self._columns, arrays, strict=True):
            if column.required:
                suspect_missing(bodies, array)
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        proved = ~scope.suspects[rows]
        return _Piece(first + rows[proved], table if proved.all() else table.filter(pa.array(proved)), [])

    def _judge(self, exact: ExactDecoder, values: Sequence[bytes], rows: Integers, head: int, first: int) -> _Piece:
        found, good, bad = [], [], []
        for row in rows.tolist():
            try:
                found.append(exact.decode(values[row][head:]))
                good.append(row)
            except BadBody as error:
                bad.append(BadValue(first + row, error.code, error.reason))
        return _Piece(first + np.array(good, np.int64), exact.build(found, self._schema), bad)


def _group(values: Sequence[bytes], scope: Scope) -> Iterator[tuple[Frame | Unframed, Integers]]:
    """The values by schema and type; those that name none by the reason."""
    heads = scope.source.words(scope.starts) & _HEAD
    usual = ((heads & _ZEROS) == 0) & (scope.stops - scope.starts >= USUAL_SIZE)
    for head in np.unique(heads[usual]).tolist():
        yield read_frame(head.to_bytes(8, "little")[:USUAL_SIZE]), np.flatnonzero(usual & (heads == head))
    others: dict[Frame | Unframed, list[int]] = {}
    for row in np.flatnonzero(~usual).tolist():
        others.setdefault(read_frame(values[row]), []).append(row)
    for frame, rows in others.items():
        yield frame, np.array(rows)
