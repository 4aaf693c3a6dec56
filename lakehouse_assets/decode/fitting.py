"""Rows as the declaration reads them, judged by the columns that the table has now.

For tables that must stay as they are: a message with a value that the table has no place for is bad, all others fit. Whole
columns are compared at once, so that a table which fits costs nothing.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_assets.decode.decoded import BadValue, Decoded, Decoder, Messages

MISFIT_CODE = "schema_changed"

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FittingDecoder:
    """Decodes as `decoder` does; what the columns of `table_schema` can't hold is bad, and what they lack is left out."""

    decoder: Decoder
    table_schema: pa.Schema

    def decode(self, messages: Messages) -> Decoded:
        """Every message becomes a row, stands in `bad`, or is filtered."""
        decoded = self.decoder.decode(messages)
        rows = decoded.table
        reasons = find_misfits(rows, self.table_schema)
        kept = rows.select([name for name in rows.column_names if name in self.table_schema.names])
        if not reasons:
            return Decoded(kept, decoded.bad, decoded.unknown, decoded.filtered, decoded.places)
        good = decoded.rows(len(messages))
        misfits = {int(good[row]): reasons[row] for row in sorted(reasons, reverse=True)}  # the first of a message's rows
        fits = ~np.isin(good, list(misfits))
        found = (BadValue(index, MISFIT_CODE, reason) for index, reason in misfits.items())
        bad = tuple(sorted((*decoded.bad, *found), key=lambda one: one.index))
        places = None if decoded.places is None else decoded.places[fits]
        return Decoded(kept.filter(pa.array(fits)), bad, decoded.unknown, decoded.filtered, places)


def find_misfits(rows: pa.Table, table_schema: pa.Schema) -> dict[int, str]:
    """Rows that the table has no place for, each with the first reason."""
    reasons: dict[int, str] = {}

    def note(mask: Mask, reason: str) -> None:
        for row in np.flatnonzero(mask).tolist():
            reasons.setdefault(row, reason)

    for name in rows.column_names:
        array = rows.column(name).combine_chunks()
        if name not in table_schema.names:
            note(_is_valid(array), f"field {name!r} has a value, expected none: the table has no such column yet")
            continue
        there = table_schema.field(name)
        if not there.nullable:
            note(~_is_valid(array), f"field {name!r} is missing or null, and the table requires it still")
        note(_misfit(array, there.type), f"field {name!r} has a value that the table's type {there.type} can't hold yet")
    for there in table_schema:
        if not there.nullable and there.name not in rows.column_names:
            note(np.ones(rows.num_rows, np.bool_), f"the table requires {there.name!r} still, which is not declared")
    return dict(sorted(reasons.items()))


def _is_valid(array: pa.Array) -> Mask:
    valid: Mask = array.is_valid().to_numpy(zero_copy_only=False)
    return valid


def _misfit(array: pa.Array, there: pa.DataType) -> Mask:
    """For each element whether the type can't hold it, itself or something in it."""
    nothing = np.zeros(len(array), np.bool_)
    if array.type == there:
        return nothing
    if pa.types.is_struct(array.type):
        mask = nothing
        for i, field in enumerate(array.type):
            member = pc.struct_field(array, i)
            place = there.get_field_index(field.name)
            mask = mask | (_misfit(member, there.field(place).type) if place >= 0 else _is_valid(member))
        return mask
    if pa.types.is_list(array.type):
        return _any_inside(array, _misfit(array.values, there.value_type))
    if pa.types.is_map(array.type):
        inside = _misfit(array.keys, there.key_type) | _misfit(array.items, there.item_type)
        return _any_inside(array, inside)
    return _outgrows(array, there)


def _any_inside(array: pa.ListArray, items: Mask) -> Mask:
    """For each list whether one of its items is marked; `items` counts from the first item of the underlying array."""
    before = np.concatenate([[0], np.cumsum(items)])
    edges = before[array.offsets.to_numpy()]
    mask: Mask = edges[1:] > edges[:-1]
    return mask


def _outgrows(array: pa.Array, there: pa.DataType) -> Mask:
    """For each primitive whether it changes on the way into the type."""
    if pa.types.is_decimal(there) or pa.types.is_integer(there):
        try:
            array.cast(there)  # refuses what does not fit
        except pa.ArrowInvalid:
            return _beyond(array, there)
        return np.zeros(len(array), np.bool_)
    if pa.types.is_floating(there):
        back = array.cast(there, safe=False).cast(array.type)
        changed: Mask = pc.fill_null(pc.not_equal(array, back), False).to_numpy(zero_copy_only=False)
        return changed
    return np.zeros(len(array), np.bool_)  # the same values, spelt otherwise


def _beyond(array: pa.Array, there: pa.DataType) -> Mask:
    if pa.types.is_decimal(there):
        high = pa.scalar(10**there.precision - 1, pa.decimal128(38, 0)).as_py().scaleb(-there.scale)
        low = -high
    else:
        low, high = -(2 ** (there.bit_width - 1)), 2 ** (there.bit_width - 1) - 1
    outside = pc.or_(pc.less(array, pa.scalar(low, array.type)), pc.greater(array, pa.scalar(high, array.type)))
    mask: Mask = pc.fill_null(outside, False).to_numpy(zero_copy_only=False)
    return mask
