"""The forms that values of a column may have, for Arrow's JSON reader: what it reads, and how that becomes the declared type.

What `encodings` says of one value, for a whole array. A conversion either proves every row but the named suspects, or raises
`Unproven`. The reader has to be told the kind of JSON value beforehand; which form it is, a look at some messages shows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial, reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_assets.decode.changes.connect import ConnectType
from lakehouse_assets.decode.changes.decimals import decimals_of_base64, decimals_of_text, read_each
from lakehouse_assets.decode.changes.encodings import (
    CONNECT_DECIMAL,
    DAY_MICROS,
    MAX_DAYS,
    MAX_SCALE,
    MIN_DAYS,
    NANOS_OF_INFINITY,
    UNITS,
    bytes_of,
    decimal_of,
    fitting_decimal,
    string_of,
    unit_of,
    unscaled_decimal,
)
from lakehouse_assets.decode.columns import arrow_type
from lakehouse_assets.decode.kinds import Fraction, Integer
from lakehouse_assets.decode.nested import with_items, with_members
from lakehouse_assets.decode.rules import MAX_MICROS, MIN_MICROS, Rejected
from lakehouse_assets.decode.wire import Suspects, convert_texts, keep_where, within
from lakehouse_assets.model.types import DataType, ListType, MapType, Primitive, StructType

_VARIABLE = pa.struct([("scale", pa.int32()), ("value", pa.string())])

Convert = Callable[[pa.Array, Suspects], pa.Array]


@dataclass(frozen=True, slots=True)
class Form:
    """One form: the type to read, the conversion of what was read, and whether a value (as `decode.exact` has it) is of it.

    `takes_text`: whether the reader takes text for values that the form does not mean by it, if they are whole numbers.
    """

    wire: pa.DataType
    convert: Convert
    fits: Callable[[Any], bool]
    takes_text: bool = False


def list_forms(
    declared: DataType, epoch: str | None, encoding: str | None, source: ConnectType | None
) -> Sequence[Form]:
    """The forms that a column's values may have, the likeliest first. None at all: the reader can't read them."""
    match declared:
        case MapType() | StructType(()):
            return ()
        case ListType(element):
            items = list_forms(element, epoch, encoding, source.item if source else None)
            return [_list_form(declared, item) for item in items if not item.takes_text]
        case StructType(fields):
            members = [list_forms(one.type, None, None, source.member(one.name) if source else None) for one in fields]
            return [_struct_form(declared, [forms[0] for forms in members])] if all(members) else ()  # of decimals, base64
        case Primitive():
            return list(_list_primitive_forms(declared, epoch, encoding, source))


def _list_primitive_forms(
    declared: Primitive, epoch: str | None, encoding: str | None, source: ConnectType | None
) -> Iterator[Form]:
    match declared.name:
        case "boolean":
            yield Form(pa.bool_(), _as_read, lambda found: isinstance(found, bool))
            yield Form(pa.int64(), _booleans, _is_integer)
        case "int" | "long":
            yield Form(arrow_type(declared), _as_read, _is_integer)
        case "float" | "double":
            yield Form(arrow_type(declared), _finite, _is_number)
        case "decimal":
            yield from _list_decimal_forms(declared, encoding, source)
        case "date":
            yield Form(pa.int64(), _days, _is_integer)
            yield Form(pa.string(), lambda texts, suspects: convert_texts(_without_z(texts), declared, suspects), _is_text)
        case "timestamptz":
            yield Form(pa.string(), lambda texts, suspects: convert_texts(texts, declared, suspects), _is_text)
        case "time" | "timestamp":
            yield Form(pa.string(), lambda texts, suspects: convert_texts(_without_z(texts), declared, suspects), _is_text)
        case "uuid":
            yield Form(pa.string(), lambda texts, suspects: convert_texts(texts, declared, suspects), _is_text)
        case "string":
            yield Form(pa.string(), _string_converter(source), _is_text)
            yield _variable_form(pa.string(), lambda value: format(value, "f"))
        case _:
            yield Form(pa.string(), _bytes_converter(declared, encoding, source), _is_text)
    unit = unit_of(epoch, source) if declared.name in ("time", "timestamp", "timestamptz") else None
    if unit is not None:
        yield Form(pa.int64(), lambda numbers, suspects: _moments(numbers, declared, unit, suspects), _is_integer)


def _list_decimal_forms(declared: Primitive, encoding: str | None, source: ConnectType | None) -> Iterator[Form]:
    precision, scale = declared.parameters
    to, read = arrow_type(declared), partial(decimal_of, precision=precision, scale=scale, encoding=encoding, source=source)
    if source is not None:
        encoding = "base64" if source.kind == "bytes" else "text"
    is_clear, scale_there = encoding is not None, scale if source is None or source.scale is None else source.scale
    if encoding != "text":
        yield Form(
            pa.string(),
            lambda texts, suspects: decimals_of_base64(texts, read, scale_there, to, suspects, is_clear=is_clear),
            lambda found: _is_text(found) and (is_clear or not _looks_like_a_number(found)),
        )
    if encoding != "base64":
        yield Form(
            pa.string(), lambda texts, suspects: decimals_of_text(texts, read, to, suspects, is_clear=is_clear), _is_text
        )
    yield _variable_form(to, lambda value: fitting_decimal(value, precision, scale))
    # The reader takes text of a number for one, too.
    yield Form(to, partial(_fitting, to=to), _is_number, takes_text=encoding != "text")


def _variable_form(to: pa.DataType, write: Callable[[Decimal], Any]) -> Form:
    """Decimals that say their own scale."""

    def convert(structs: pa.Array, suspects: Suspects) -> pa.Array:
        values: list[Any] = []
        for row, found in enumerate(structs.to_pylist()):
            value = None
            if found is not None:
                try:
                    value = write(_read_variable(**found))
                except Rejected:
                    suspects.rows[row] = True
            values.append(value)
        return pa.array(values, to)

    return Form(_VARIABLE, convert, lambda found: isinstance(found, dict) and found.keys() >= {"scale", "value"})


def _read_variable(scale: int | None, value: str | None) -> Decimal:
    if scale is None or value is None or not -MAX_SCALE <= scale < MAX_SCALE:
        raise Rejected("wrong_type", "a scale and base64")
    return unscaled_decimal(value, scale)


def _list_form(declared: ListType, item: Form) -> Form:
    to = arrow_type(declared)

    def convert(lists: pa.Array, suspects: Suspects) -> pa.Array:
        inside = Suspects(np.zeros(len(lists.values), np.bool_))
        items = item.convert(lists.values, inside)
        if inside.rows.any():
            before = np.concatenate([[0], np.cumsum(inside.rows)])[lists.offsets.to_numpy()]
            suspects.rows |= before[1:] > before[:-1]
        return with_items(lists, items, to)

    def fits(found: Any) -> bool:
        return isinstance(found, list) and all(one is None or item.fits(one) for one in found)

    return Form(pa.list_(item.wire), convert, fits)


def _struct_form(declared: StructType, members: Sequence[Form]) -> Form:
    to = arrow_type(declared)
    wire = pa.struct([(one.name, form.wire) for one, form in zip(declared.fields, members, strict=True)])

    def convert(structs: pa.Array, suspects: Suspects) -> pa.Array:
        found = [pc.struct_field(structs, place) for place in range(len(members))]
        # The placeholder of a struct has none of its members, and the reader does not say what it has instead.
        has_none = pc.and_(structs.is_valid(), reduce(pc.and_, (member.is_null() for member in found)))
        suspects.add(has_none)
        return with_members(structs, [form.convert(one, suspects) for one, form in zip(found, members, strict=True)], to)

    return Form(wire, convert, lambda found: isinstance(found, dict))


def _string_converter(source: ConnectType | None) -> Convert:
    if source is None or source.name != CONNECT_DECIMAL:
        return _as_read
    read = partial(string_of, source=source)
    return lambda texts, suspects: read_each(texts, read, pa.string(), suspects)


def _bytes_converter(declared: Primitive, encoding: str | None, source: ConnectType | None) -> Convert:
    length = declared.parameters[0] if declared.parameters else None
    read = partial(bytes_of, encoding=encoding, source=source, length=length)
    return lambda texts, suspects: read_each(texts, read, arrow_type(declared), suspects)


def _as_read(array: pa.Array, _: Suspects) -> pa.Array:
    return array


def _booleans(numbers: pa.Array, suspects: Suspects) -> pa.Array:
    return within(numbers, 0, 1, suspects).cast(pa.bool_())


def _finite(numbers: pa.Array, suspects: Suspects) -> pa.Array:
    return keep_where(pc.is_finite(numbers), numbers, suspects)


def _fitting(numbers: pa.Array, suspects: Suspects, to: pa.DataType) -> pa.Array:
    largest = Decimal(10**to.precision - 1).scaleb(-to.scale)
    return within(numbers, -largest, largest, suspects)


def _days(numbers: pa.Array, suspects: Suspects) -> pa.Array:
    return within(numbers, MIN_DAYS, MAX_DAYS, suspects).cast(pa.int32()).cast(pa.date32())


def _moments(numbers: pa.Array, declared: Primitive, unit: str, suspects: Suspects) -> pa.Array:
    factor, divisor = UNITS[unit]
    low, high = (0, DAY_MICROS - 1) if declared.name == "time" else (MIN_MICROS, MAX_MICROS)
    if divisor == 1:
        numbers = within(numbers, -(-low // factor), high // factor, suspects)
        micros = numbers if factor == 1 else pc.multiply(numbers, factor)
    else:
        numbers = within(numbers, 1 - NANOS_OF_INFINITY, NANOS_OF_INFINITY - 1, suspects)
        cut = np.floor_divide(pc.fill_null(numbers, 0).to_numpy(), divisor)
        micros = within(pa.array(cut, mask=numbers.is_null().to_numpy(zero_copy_only=False)), low, high, suspects)
    return micros.cast(arrow_type(declared))


def _without_z(texts: pa.Array) -> pa.Array:
    ends = pc.ends_with(texts, "Z")
    return pc.if_else(ends, pc.utf8_slice_codeunits(texts, 0, -1), texts) if pc.any(ends).as_py() else texts


def _is_integer(found: Any) -> bool:
    return type(found) is Integer


def _is_number(found: Any) -> bool:
    return isinstance(found, (Integer, Fraction))


def _is_text(found: Any) -> bool:
    return type(found) is str


def _looks_like_a_number(text: str) -> bool:
    return not text.strip("0123456789+-.eE")
