"""Avro messages become Arrow columns: each by the schema that it names, all of one schema at once.

Two decoders, bound by one rule: what the fast one can't prove right, the exact one judges message by message. Where the fast
one says that bytes are broken and the exact one does not, the message is bad all the same: never a row that one of them doubts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse_assets.decode.avro.cursor import BROKEN, DOUBTED, FINE, Cursor, Joined
from lakehouse_assets.decode.avro.defaults import read_default
from lakehouse_assets.decode.avro.exact import BadBody, read_body
from lakehouse_assets.decode.avro.lockstep import FEWEST, read_plan
from lakehouse_assets.decode.avro.plan import Plan, plan_columns
from lakehouse_assets.decode.avro.schema import Node, is_plain, parse_schema
from lakehouse_assets.decode.avro.values import Integers
from lakehouse_assets.decode.blocks import split_blocks
from lakehouse_assets.decode.columns import Column, arrow_schema
from lakehouse_assets.decode.decoded import BadValue, BrokenSchema, Decoded
from lakehouse_assets.decode.nested import build_array
from lakehouse_assets.decode.rules import MAX_DEPTH
from lakehouse_assets.model.errors import BrokenSchemaError
from lakehouse_assets.model.schemas import RegisteredSchema, SchemaOf

_BLOCK_BYTES = 1 << 25
_MAGIC_BYTE = 0
_PREFIX_BYTES = 5  # the magic byte and four of the schema's id, by which Confluent's serializers begin


@dataclass(frozen=True, slots=True)
class _Readable:
    """How messages of one schema are read."""

    plan: Plan
    is_plain: bool


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """Why no message of a schema can be read."""

    code: str
    reason: str


_Known = _Readable | _Unreadable


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows of the values of these indices, and the reasons of the others that were looked at."""

    rows: Integers
    arrays: list[pa.Array]
    bad: list[BadValue]


def find_schema_id(value: bytes) -> int | None:
    """The id of the schema that a message or a key begins with, if it begins with one."""
    is_framed = len(value) >= _PREFIX_BYTES and value[0] == _MAGIC_BYTE
    return int.from_bytes(value[1:_PREFIX_BYTES], "big") if is_framed else None


class AvroDecoder:
    """Decodes Avro messages of one table. Keeps what it learned of schemas."""

    def __init__(
        self, columns: Sequence[Column], schemas: SchemaOf | RegisteredSchema, reader: RegisteredSchema | None = None
    ) -> None:
        """`columns` must not be empty.

        Args:
            columns: What the table has.
            schemas: Gives the schema that a message names by its id; or the one schema of all messages, which then name none.
            reader: The schema that the columns come from, if they do: then its defaults and aliases count.

        Raises:
            BrokenSchemaError: the one schema of all messages can't be used.
        """
        self._columns, self._schema = columns, arrow_schema(columns)
        # Arrow's own empty table has no extension types inside of others.
        empty = [build_array([], field.type) for field in self._schema]
        self._empty = pa.Table.from_arrays(empty, schema=self._schema)
        self._required = [place for place, column in enumerate(columns) if column.required]
        self._reader = None if reader is None else _parse_reader(reader)
        self._schema_of = None if isinstance(schemas, RegisteredSchema) else schemas
        self._known: dict[int, _Known] = {}
        if isinstance(schemas, RegisteredSchema):
            self._known[0] = known = self._learn(schemas)
            if isinstance(known, _Unreadable):
                raise BrokenSchemaError("of these messages", known.reason)

    def decode(self, values: Sequence[bytes]) -> Decoded:
        """Every value becomes a row or stands in `bad`, never both. No value may be None (a tombstone).

        Raises:
            RegistryError: a schema can't be had; nothing is said of the values.
        """
        pieces = [self._decode_block(values, block) for block in split_blocks(values, _BLOCK_BYTES)]
        tables = [piece.table for piece in pieces] or [self._empty]
        return Decoded(pa.concat_tables(tables), tuple(bad for piece in pieces for bad in piece.bad))

    def _decode_block(self, values: Sequence[bytes], block: range) -> Decoded:
        joined = Joined(values[block.start : block.stop])
        pieces = []
        for schema_id, rows in self._group(joined):
            known = self._schema_of_id(schema_id) if isinstance(schema_id, int) else schema_id
            if isinstance(known, _Unreadable):
                pieces.append(_Piece(rows[:0], [], [BadValue(row, known.code, known.reason) for row in rows.tolist()]))
            else:
                pieces += self._read(known, values, block, joined, rows)
        return self._complete(pieces, block)

    def _group(self, joined: Joined) -> list[tuple[int | _Unreadable, Integers]]:
        """The messages by the id of their schema; those that name none apart."""
        everything = np.arange(len(joined.starts))
        lengths = joined.stops - joined.starts
        empty = lengths == 0
        groups: list[tuple[int | _Unreadable, Integers]] = []
        if self._schema_of is None:
            return [(0, everything)]
        magic = joined.octets[joined.starts]
        framed = ~empty & (magic == _MAGIC_BYTE) & (lengths >= _PREFIX_BYTES)
        if not framed.all():
            groups.append((_EMPTY, everything[empty]))
            groups += [
                (_wrong_magic(octet), everything[~empty & (magic == octet)])
                for octet in np.unique(magic[~empty & (magic != _MAGIC_BYTE)]).tolist()
            ]
            groups.append((_CUT_PREFIX, everything[~empty & (magic == _MAGIC_BYTE) & (lengths < _PREFIX_BYTES)]))
        rows = everything[framed]
        ids = joined.words(">u4")[joined.starts[rows] + 1].astype(np.int64)
        if len(rows) and (ids == ids[0]).all():
            return [*groups, (int(ids[0]), rows)]
        return [*groups, *((schema_id, rows[ids == schema_id]) for schema_id in np.unique(ids).tolist())]

    def _schema_of_id(self, schema_id: int) -> _Known:
        if schema_id not in self._known:
            assert self._schema_of is not None
            schema = self._schema_of(schema_id)
            if schema is None:  # the registry may know it later
                return _Unreadable("unknown_schema_id", f"the schema registry has no schema of the id {schema_id}")
            self._known[schema_id] = self._learn(schema, f"the schema {schema_id}")
        return self._known[schema_id]

    def _learn(self, schema: RegisteredSchema, name: str = "the schema") -> _Known:
        if schema.kind != "AVRO":
            return _Unreadable("wrong_schema_kind", f"{name} is a schema of {schema.kind}, expected AVRO")
        try:
            writer: Node = parse_schema(schema.text, schema.references)
            plan = plan_columns(writer, self._columns, self._reader, read_default)
            return _Readable(plan, is_plain(writer, MAX_DEPTH))
        except BrokenSchema as error:
            return _Unreadable("broken_schema", f"{name} can't be used: {error}")
        except RecursionError:
            return _Unreadable("broken_schema", f"{name} can't be used: it nests too deep")

    def _read(
        self, known: _Readable, values: Sequence[bytes], block: range, joined: Joined, rows: Integers
    ) -> list[_Piece]:
        if not known.is_plain or len(rows) < FEWEST:
            return [self._judge(known.plan, values, block, rows, np.full(len(rows), DOUBTED, np.uint8))]
        starts, stops = joined.starts[rows] + self._prefix_bytes, joined.stops[rows]
        cursor = Cursor(joined, starts, stops, np.zeros(len(rows), np.uint8))
        arrays = read_plan(known.plan, cursor)
        cursor.flaws[cursor.at != cursor.stops] = BROKEN
        for place in self._required:
            if arrays[place].null_count:
                cursor.doubt(arrays[place].is_null().to_numpy(zero_copy_only=False))
        fine = cursor.flaws == FINE
        if fine.all():
            return [_Piece(rows, arrays, [])]
        kept = pa.array(fine)
        proved = _Piece(rows[fine], [array.filter(kept) for array in arrays], [])
        return [proved, self._judge(known.plan, values, block, rows[~fine], cursor.flaws[~fine])]

    def _judge(
        self, plan: Plan, values: Sequence[bytes], block: range, rows: Integers, flaws: npt.NDArray[np.uint8]
    ) -> _Piece:
        found: list[list[object]] = []
        good: list[int] = []
        bad: list[BadValue] = []
        for row, flaw in zip(rows.tolist(), flaws.tolist(), strict=True):
            try:
                items = read_body(plan, values[block.start + row], self._prefix_bytes)
                for place in self._required:
                    if items[place] is None:
                        raise self._missing(place)
                if flaw == BROKEN:
                    raise BadBody("broken_avro", "the body is no value of the writer's schema as the schema has to be written")
                found.append(items)
                good.append(row)
            except BadBody as error:
                bad.append(BadValue(row, error.code, error.reason))
        columns = zip(*found, strict=True) if found else ((),) * len(self._schema)
        arrays = [build_array(list(items), field.type) for items, field in zip(columns, self._schema, strict=True)]
        return _Piece(np.array(good, np.int64), arrays, bad)

    def _missing(self, place: int) -> BadBody:
        column = self._columns[place]
        label = ".".join(column.path)
        return BadBody("missing_required", f"field {label!r} is missing or null, expected {column.type}")

    @property
    def _prefix_bytes(self) -> int:
        return 0 if self._schema_of is None else _PREFIX_BYTES

    def _complete(self, pieces: list[_Piece], block: range) -> Decoded:
        """All rows in the order of the messages, and the bad ones likewise, numbered among all values."""
        tables = [pa.Table.from_arrays(piece.arrays, schema=self._schema) for piece in pieces if len(piece.rows)]
        table = pa.concat_tables(tables) if tables else self._empty
        if len(tables) > 1:
            order = np.argsort(np.concatenate([piece.rows for piece in pieces if len(piece.rows)]))
            table = table.take(pa.array(order))
        bad = sorted((bad for piece in pieces for bad in piece.bad), key=lambda one: one.index)
        return Decoded(table, tuple(BadValue(block.start + one.index, one.code, one.reason) for one in bad))


def _parse_reader(reader: RegisteredSchema) -> Node:
    try:
        return parse_schema(reader.text, reader.references)
    except BrokenSchema as error:
        raise BrokenSchemaError("of the columns", str(error)) from None


_EMPTY = _Unreadable("empty", "the value is empty, expected an Avro message with the id of its schema")
_CUT_PREFIX = _Unreadable("broken_avro", f"the value ends within the id of its schema, which takes {_PREFIX_BYTES} bytes")


def _wrong_magic(octet: int) -> _Unreadable:
    return _Unreadable("wrong_magic_byte", f"the value begins with the byte {octet:#04x}, expected 0x00 and the id of a schema")
