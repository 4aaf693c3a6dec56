r"""The fast decoder: many messages in one call of Arrow's JSON reader, and the proof that this was right.

The values are joined with newlines and read as one block. Every value begins with `{` and ends with `}`,
and `}\\n{` can't stand inside of a JSON text, so each join is a border between rows and each value gives
at least one row; as many rows as values then means one row each, in order. Bytes that the reader treats
more kindly than JSON does (NUL, NaN, Infinity, invalid UTF-8, any depth) are looked for afterwards: a
block that fails in the reader, which is the usual way to fail, need not be looked at.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.json as pa_json

from lakehouse_assets.decode.columns import Column, arrow_schema
from lakehouse_assets.decode.rules import MAX_DEPTH, is_too_deep
from lakehouse_assets.decode.unknown import UnknownWatch
from lakehouse_assets.decode.wire import Suspects, Unproven, convert_column
from lakehouse_assets.model.unknown import UnknownFields

_MAX_BLOCK_BYTES = 2**31 - 2
_OPEN, _CLOSE = ord("{"), ord("}")
_BRACKET_BIT = ord("{") ^ ord("[")
_ROW_HINT = re.compile(r"in row (\d+)$")
_UNEXPECTED = "unexpected field"  # Arrow's words
_NOT_A_NUMBER = re.compile(rb"[:,\[\s-](?:NaN|Inf)")


@dataclass(frozen=True, slots=True)
class FastRead:
    """A row per value. The rows where `suspects` is true hold nothing to rely on.

    `has_declared_only`: no value has a field that no column reads, not even a null.
    """

    table: pa.Table
    suspects: npt.NDArray[np.bool_]
    unknown: UnknownFields
    has_declared_only: bool


@dataclass(frozen=True, slots=True)
class Doubt:
    """Nothing is proved. `rows`, ascending, seem to be why; where `certain`, each of them is."""

    rows: Sequence[int]
    certain: bool


_NO_CLUE = Doubt([], certain=False)


class FastDecoder:
    """Decodes many JSON messages at once, or says that it can't prove the result."""

    def __init__(self, columns: Sequence[Column], wire_schema: pa.Schema) -> None:
        """`wire_schema` is what `plan_wire_schema` made of `columns`."""
        self._columns = tuple(columns)
        self._schema = arrow_schema(columns)
        self._wire_schema = wire_schema
        self._watch = UnknownWatch(columns, wire_schema)

    def decode(self, values: Sequence[bytes]) -> FastRead | Doubt:
        """All values (at least one) as rows, of which some may be suspects, or why nothing is proved."""
        joined = _join(
            values
        )  # never skip this: a block that begins with `null` crashes the reader's process
        if isinstance(joined, Doubt):
            return joined
        block, longest = joined
        try:
            read, is_watched = self._read(block)
            has_declared_only = is_watched and read.schema.equals(self._wire_schema)
        except pa.ArrowInvalid as error:
            hint = _ROW_HINT.search(str(error))
            return Doubt([int(hint[1])] if hint else [], certain=False)
        except UnicodeDecodeError:  # Arrow's message quoted bytes that are no UTF-8
            return _NO_CLUE
        if read.num_rows != len(values) or not _is_strict(block, longest, values):
            return _NO_CLUE
        suspects = Suspects(np.zeros(len(values), np.bool_))
        try:
            arrays = [convert_column(read, column, suspects) for column in self._columns]
        except Unproven:
            return _NO_CLUE
        good = ~suspects.rows
        unknown = self._watch.count(read, good) if is_watched else self._watch.look(values, good)
        return FastRead(pa.Table.from_arrays(arrays, schema=self._schema), suspects.rows, unknown, has_declared_only)

    def _read(self, block: bytes) -> tuple[pa.Table, bool]:
        """The block, and whether every field in it was read, also those that no column asks for."""
        schema = self._watch.read_schema
        if schema is not None:
            try:
                return _read_block(block, schema, "error"), True
            except (pa.ArrowInvalid, UnicodeDecodeError) as error:
                # With unknown fields in the schema it may be one of them that is at fault, which is no fault of the message.
                if schema is self._wire_schema and _UNEXPECTED not in str(error):
                    raise
        return _read_block(block, self._wire_schema, "ignore"), False


def _join(values: Sequence[bytes]) -> tuple[bytes, int] | Doubt:
    """The values as lines, if each begins with `{` and ends with `}` once surrounding whitespace is gone.

    Beside it the length of the longest value.
    """
    joined = _join_objects(values)
    if isinstance(joined, Doubt) and joined.rows:
        stripped = list(values)
        for row in joined.rows:
            stripped[row] = values[row].strip(b" \t\r\n")
        return _join_objects(stripped)
    return joined


def _join_objects(values: Sequence[bytes]) -> tuple[bytes, int] | Doubt:
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    if lengths.min() < len(b"{}"):
        return Doubt(np.flatnonzero(lengths < len(b"{}")).tolist(), certain=True)
    ends = np.cumsum(lengths + 1) - 2
    if ends[-1] >= _MAX_BLOCK_BYTES:
        return _NO_CLUE
    block = b"\n".join(values)
    characters = np.frombuffer(block, np.uint8)
    delimited = (characters[ends] == _CLOSE) & (characters[ends - lengths + 1] == _OPEN)
    if not delimited.all():
        return Doubt(np.flatnonzero(~delimited).tolist(), certain=True)
    return block, int(lengths.max())


def _is_strict(block: bytes, longest: int, values: Sequence[bytes]) -> bool:
    return (
        b"\0" not in block
        and _is_utf8(block)
        and not _may_hold_nan(block)
        and (longest <= 2 * MAX_DEPTH or _is_shallow(block, values))
    )


def _is_utf8(block: bytes) -> bool:
    if block.isascii():
        return True
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _may_hold_nan(block: bytes) -> bool:
    """Looks for `Na` and `In` two bytes at a time, several times faster than a search for the words."""
    scratch = np.empty(len(block) // 2, np.bool_)
    for start in (0, 1):
        pairs = np.frombuffer(block, "<u2", (len(block) - start) // 2, start)
        for word in (b"Na", b"In"):
            hits = np.equal(pairs, int.from_bytes(word, "little"), out=scratch[: len(pairs)])
            if hits.any():
                return (
                    _NOT_A_NUMBER.search(block) is not None if b"NaN" in block or b"Inf" in block else False
                )
    return False


def _is_shallow(block: bytes, values: Sequence[bytes]) -> bool:
    brackets = np.bitwise_or(np.frombuffer(block, np.uint8), _BRACKET_BIT)
    if np.count_nonzero(brackets == _OPEN) - len(values) < MAX_DEPTH:
        return True
    return not any(map(is_too_deep, values))


def _read_block(block: bytes, schema: pa.Schema, unexpected: str) -> pa.Table:
    return pa_json.read_json(
        pa.BufferReader(block),
        read_options=pa_json.ReadOptions(use_threads=False, block_size=len(block) + 1),
        parse_options=pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected),
    )
