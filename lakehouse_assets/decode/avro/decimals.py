"""Decimals as Avro has them: big-endian two's complement of the unscaled value. Each conversion for one and for many values."""

from decimal import Context, Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_assets.decode.avro.schema import Scalar
from lakehouse_assets.decode.avro.values import Conversion, Doubt, Integers, Spans, convert_each
from lakehouse_assets.decode.rules import Rejected, decimal_of_text
from lakehouse_assets.model.types import MAX_DECIMAL_PRECISION, Primitive

_WORD_BYTES = 8
_WIDE = Context(prec=2 * MAX_DECIMAL_PRECISION)
_MAX_UNSCALED_BYTES, _MAX_SCALE = 4096, 20_000  # about 10,000 digits; more would take long to spell out
_VAST = Context(prec=100_000)


def scaled(raw: bytes, scale: int, kind: Primitive) -> Decimal | str:
    """A decimal that brings its own scale, as the declared decimal, or as text of its digits."""
    found = digits_of(raw, scale)
    return decimal_of_text(found, *kind.parameters) if kind.name == "decimal" else found


def digits(scale: int) -> Conversion:
    """A decimal of any length as the text of its digits."""

    def many(raw: Spans, doubt: Doubt) -> pa.Array:
        return convert_each(raw.to_array().to_pylist(), one, pa.string(), doubt)

    def one(raw: bytes) -> str:
        return digits_of(raw, scale)

    return Conversion(many, one)


def digits_of(raw: bytes, scale: int) -> str:
    """The digits of an unscaled number of so many behind the point, or before it where `scale` is below 0."""
    if not 0 < len(raw) <= _MAX_UNSCALED_BYTES or abs(scale) > _MAX_SCALE:
        raise Rejected("out_of_range", f"a decimal of 1 to {_MAX_UNSCALED_BYTES} bytes")
    return format(Decimal(int.from_bytes(raw, "big", signed=True)).scaleb(-scale, _VAST), "f")


def decimals(node: Scalar, precision: int, scale: int) -> Conversion:
    """Big-endian two's complement of the unscaled value; never rounded."""
    to = pa.decimal128(precision, scale)
    shift = scale - node.scale
    digits = min(precision - shift, MAX_DECIMAL_PRECISION)  # of the unscaled value, at most

    def many(raw: Spans, doubt: Doubt) -> pa.Array:
        if node.scale > MAX_DECIMAL_PRECISION:
            doubt(np.ones(len(raw.starts), np.bool_))
            return pa.nulls(len(raw.starts), to)
        length, words = raw.stops - raw.starts, _unscaled(raw)
        # A float tells all but those at the very limit.
        wrong = (length < 1) | (length > 2 * _WORD_BYTES) | (_size(words) >= 10.0**digits * (1 - 1e-12))
        words[wrong] = 0
        if shift < 0:
            values = _decimal_array(words, pa.decimal128(MAX_DECIMAL_PRECISION, node.scale))
            cut = values.cast(pa.decimal128(MAX_DECIMAL_PRECISION, scale), safe=False)
            inexact = pc.not_equal(cut.cast(values.type), values).to_numpy(zero_copy_only=False)
            words[inexact] = 0
            wrong |= inexact
        if wrong.any():
            doubt(wrong)
        if shift == 0:
            return _decimal_array(words, to)
        return _decimal_array(words, pa.decimal128(MAX_DECIMAL_PRECISION, node.scale)).cast(to)

    def one(raw: bytes) -> Decimal:
        if not raw:
            raise Rejected("out_of_range", "at least one byte of a decimal")
        unscaled = int.from_bytes(raw, "big", signed=True)
        if shift < 0 and unscaled % 10**-shift:
            raise Rejected("out_of_range", f"at most {scale} digits after the point")
        stored = unscaled * 10**shift if shift >= 0 else unscaled // 10**-shift
        if abs(stored) >= 10**precision:
            raise Rejected("out_of_range", f"at most {precision - scale} digits before the point")
        return Decimal(stored).scaleb(-scale, _WIDE)

    return Conversion(many, one)


def _unscaled(raw: Spans) -> Integers:
    """Two words of 64 bits each, the lower first. Right for values of 1 to 16 bytes; the buffer is longer than its runs."""
    octets = len(raw.data)
    words = np.ndarray((octets - _WORD_BYTES + 1,), ">i8", raw.data, strides=(1,))
    length = np.clip(raw.stops - raw.starts, 1, 2 * _WORD_BYTES)
    is_long = length > _WORD_BYTES
    head = words[raw.starts].astype(np.int64)
    found = np.empty((len(length), 2), np.int64)
    found[:, 0] = head >> (8 * (_WORD_BYTES - np.minimum(length, _WORD_BYTES)))
    found[:, 1] = found[:, 0] >> 63
    if is_long.any():
        found[is_long, 0] = words[raw.stops[is_long] - _WORD_BYTES]
        found[is_long, 1] = head[is_long] >> (8 * (2 * _WORD_BYTES - length[is_long]))
    return found


def _size(words: Integers) -> npt.NDArray[np.float64]:
    low, high = words[:, 0], words[:, 1]
    whole = high.astype(np.float64) * 2.0**64 + low.view(np.uint64)
    # Where one word holds it all, the sum above would cancel out what matters.
    return np.abs(np.where(high == low >> 63, low.astype(np.float64), whole))


def _decimal_array(words: Integers, to: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(to, len(words), [None, pa.py_buffer(words.tobytes())])
