"""Many decimals at once, from text and from base64 of the unscaled number; the few that are long or odd, one at a time."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_assets.decode.rules import Rejected
from lakehouse_assets.decode.wire import Suspects, keep_where, within

Read = Callable[[Any], Any]
Bytes = npt.NDArray[np.uint8]

_GROUP, _GROUP_BYTES = 4, 3  # characters of base64, and the bytes that they are
_LONGEST = 12  # characters: up to 8 bytes, so that the number is one of 64 bits
_NONE, _PAD = 255, 254
_SEXTETS = np.full(256, _NONE, np.uint8)
_SEXTETS[np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8)] = np.arange(64)
_SEXTETS[ord("=")] = _PAD
_OF_NUMBERS = np.zeros(256, np.bool_)
_OF_NUMBERS[np.frombuffer(b"0123456789+eE", np.uint8)] = True
_MAX_SHORT_PRECISION = 18


def read_each(texts: pa.Array, read: Read, to: pa.DataType, suspects: Suspects) -> pa.Array:
    """Each text by itself; what `read` refuses is suspected."""
    values: list[Any] = []
    for row, text in enumerate(texts.to_pylist()):
        try:
            values.append(None if text is None else read(text))
        except Rejected:
            values.append(None)
            suspects.rows[row] = True
    return pa.array(values, to)


def decimals_of_text(texts: pa.Array, read: Read, to: pa.DataType, suspects: Suspects, *, is_clear: bool) -> pa.Array:
    """Text of numbers. Not `is_clear`: what could be base64 too is suspected."""
    if not is_clear:
        texts = keep_where(pa.array(~_could_be_either(texts)), texts, suspects)
    try:
        found = texts.cast(to)
    except pa.ArrowInvalid:
        return read_each(texts, read, to, suspects)
    largest = Decimal(10**to.precision - 1).scaleb(-to.scale)
    return within(found, -largest, largest, suspects)


def decimals_of_base64(
    texts: pa.Array, read: Read, scale: int, to: pa.DataType, suspects: Suspects, *, is_clear: bool
) -> pa.Array:
    """Base64 of big-endian numbers with `scale` digits behind the point. Not `is_clear`: as in text."""
    if scale != to.scale or not len(texts):
        return read_each(texts, read, to, suspects)
    if not is_clear:
        texts = keep_where(pa.array(~_could_be_either(texts)), texts, suspects)
    there = _mask(texts.is_valid())
    lengths, starts, characters = _measure(texts)
    is_short = there & (lengths <= _LONGEST) & (lengths > 0) & (lengths % _GROUP == 0)
    numbers, is_right = _decode(characters, starts[is_short], lengths[is_short])
    if to.precision <= _MAX_SHORT_PRECISION:
        limit = 10**to.precision
        is_right &= (numbers < limit) & (numbers > -limit)
    rows = np.flatnonzero(is_short)[is_right]
    found = np.zeros((len(texts), 2), np.int64)
    found[rows, 0], found[rows, 1] = numbers[is_right], numbers[is_right] >> 63
    is_done = np.zeros(len(texts), np.bool_)
    is_done[rows] = True
    short = pa.Array.from_buffers(to, len(texts), [None, pa.py_buffer(found)])
    short = pc.if_else(pa.array(is_done), short, pa.scalar(None, to))
    others = there & ~is_done
    if not others.any():
        return short
    rest = read_each(pc.if_else(pa.array(others), texts, pa.scalar(None, pa.string())), read, to, suspects)
    return pc.coalesce(short, rest)


def _measure(texts: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Bytes]:
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    return np.diff(offsets), offsets[:-1], np.frombuffer(texts.buffers()[2] or b"", np.uint8)


def _mask(flags: pa.Array) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_] = flags.to_numpy(zero_copy_only=False)
    return mask


def _could_be_either(texts: pa.Array) -> npt.NDArray[np.bool_]:
    """Which texts, none of them missed, could be a number and base64."""
    if not len(texts):
        return np.zeros(0, np.bool_)
    lengths, starts, characters = _measure(texts)
    either: npt.NDArray[np.bool_] = (lengths % _GROUP == 0) & (lengths > 0)
    either[either] = _OF_NUMBERS[characters[starts[either]]]  # most begin with another character
    if not either.any():
        return either
    others = np.concatenate([[0], np.cumsum(~_OF_NUMBERS[characters], dtype=np.int64)])
    mask: npt.NDArray[np.bool_] = either & (others[starts + lengths] == others[starts])
    return mask


def _decode(
    characters: Bytes, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The numbers, and which of them are right. Of as many characters as `_LONGEST`, the last must be a pad."""
    width = int(lengths.max()) if len(lengths) else _GROUP
    sextets = np.zeros((_LONGEST, len(starts)), np.uint8)
    for column in range(width):
        if column % _GROUP == 0:
            rows = slice(None) if (lengths >= column + _GROUP).all() else np.flatnonzero(lengths > column)
        sextets[column, rows] = _SEXTETS[characters[starts[rows] + column]]
    is_pad = sextets == _PAD
    pads = is_pad.sum(axis=0)
    is_right = (sextets != _NONE).all(axis=0)
    if pads.any():
        everyone = np.arange(len(starts))
        behind = is_pad[lengths - 1, everyone].astype(np.int64) + is_pad[lengths - 2, everyone]
        # One at the very end, or two; none elsewhere.
        is_right &= (pads == behind) & (is_pad[lengths - 1, everyone] | (pads == 0))
        sextets[is_pad] = 0
    wide = sextets.astype(np.int64)
    words = [wide[i] << 18 | wide[i + 1] << 12 | wide[i + 2] << 6 | wide[i + 3] for i in range(0, _LONGEST, _GROUP)]
    count = lengths // _GROUP * _GROUP_BYTES - pads
    is_right &= count <= 8
    # 72 bits, of which the last 8 are none of ours; the number stands in the first ones.
    bits = words[0] << 40 | words[1] << 16 | words[2] >> 8
    return bits >> (64 - 8 * np.clip(count, 1, 8)), is_right
