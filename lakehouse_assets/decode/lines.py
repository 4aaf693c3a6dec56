r"""Many JSON objects as lines of one block, which Arrow's JSON reader reads in one call, and the proof that it did so rightly.

Every value begins with `{` and ends with `}`, and `}\\n{` can't stand inside of a JSON text, so each join is a border between
rows and each value gives at least one row; as many rows as values then means one row each, in order. Bytes that the reader
treats more kindly than JSON does (NUL, NaN, Infinity, invalid UTF-8, any depth) are looked for afterwards: a block that fails
in the reader, which is the usual way to fail, need not be looked at.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.json as pa_json

from lakehouse_assets.decode.rules import MAX_DEPTH, is_too_deep

_MAX_BLOCK_BYTES = 2**31 - 2
_OPEN, _CLOSE = ord("{"), ord("}")
_BRACKET_BIT = ord("{") ^ ord("[")
_WORD, _PIECE = 8, 1 << 17
_ROW_HINT = re.compile(r"in row (\d+)$")
_NOT_A_NUMBER = re.compile(rb"[:,\[\s-](?:NaN|Inf)")


@dataclass(frozen=True, slots=True)
class Doubt:
    """Nothing is proved. `rows`, ascending, seem to be why; where `certain`, each of them is."""

    rows: Sequence[int]
    certain: bool


NO_CLUE = Doubt([], certain=False)


def join_lines(values: Sequence[bytes]) -> tuple[bytes, int] | Doubt:
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
        return NO_CLUE
    block = b"\n".join(values)
    characters = np.frombuffer(block, np.uint8)
    delimited = (characters[ends] == _CLOSE) & (characters[ends - lengths + 1] == _OPEN)
    if not delimited.all():
        return Doubt(np.flatnonzero(~delimited).tolist(), certain=True)
    return block, int(lengths.max())


def is_strict(block: bytes, longest: int, values: Sequence[bytes]) -> bool:
    """Whether a block that was read as one row per value has nothing in it that is no JSON. `longest`: the longest value."""
    return (
        b"\0" not in block
        and _is_utf8(block)
        and not _may_hold_nan(block)
        and (longest <= 2 * MAX_DEPTH or _is_shallow(block, longest, values))
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


def _is_shallow(block: bytes, longest: int, values: Sequence[bytes]) -> bool:
    # What nests too deep has brackets in so many words of eight bytes, all within the length of a value.
    words = _words_with_brackets(block)
    fewest = MAX_DEPTH // _WORD
    if len(words) <= fewest or (words[fewest:] - words[:-fewest]).min() > longest // _WORD + 1:
        return True
    return not any(map(is_too_deep, values))


def _words_with_brackets(block: bytes) -> npt.NDArray[np.int64]:
    """Numbers of the words of eight bytes in which an object or list begins; in pieces that fit the processor's cache."""
    characters, found = np.frombuffer(block, np.uint8), []
    folded, opens, words = np.empty(_PIECE, np.uint8), np.zeros(_PIECE, np.bool_), np.empty(_PIECE // _WORD, np.bool_)
    for start in range(0, len(block), _PIECE):
        piece = characters[start : start + _PIECE]
        opens[len(piece) :] = False
        np.bitwise_or(piece, _BRACKET_BIT, out=folded[: len(piece)])
        np.equal(folded[: len(piece)], _OPEN, out=opens[: len(piece)])
        np.not_equal(opens.view(np.uint64), 0, out=words)  # places of what is true are found faster than of what is not 0
        found.append(np.flatnonzero(words) + start // _WORD)
    return np.concatenate(found)


def doubt_of(error: Exception) -> Doubt:
    """What an error of the reader says of where it was raised."""
    hint = _ROW_HINT.search(str(error))
    return Doubt([int(hint[1])] if hint else [], certain=False)


def read_lines(block: bytes, schema: pa.Schema, unexpected: str) -> pa.Table:
    """The block, by the reader. `unexpected`: what it does with fields that `schema` lacks.

    Raises:
        pa.ArrowInvalid: it can't be read.
        UnicodeDecodeError: the same, where Arrow's message quotes bytes that are no UTF-8.
    """
    return pa_json.read_json(
        pa.BufferReader(block),
        read_options=pa_json.ReadOptions(use_threads=False, block_size=len(block) + 1),
        parse_options=pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected),
    )
