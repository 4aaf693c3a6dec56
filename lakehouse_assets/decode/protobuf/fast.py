"""The fast decoder: columns of many Protobuf messages at once, field by field. Which of them it can't prove, it says."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.descriptor import FieldDescriptor

from lakehouse_assets.decode.avro.values import Spans
from lakehouse_assets.decode.columns import arrow_type
from lakehouse_assets.decode.protobuf.conversions import micros_of_timestamps
from lakehouse_assets.decode.protobuf.plan import (
    Absent,
    Built,
    Converted,
    FieldPlan,
    Given,
    Instant,
    Items,
    MessagePlan,
    Passed,
    Refused,
)
from lakehouse_assets.decode.protobuf.scan import (
    FIXED32,
    FIXED64,
    LENGTH,
    VARINT,
    Found,
    Integers,
    Mask,
    Scope,
    scan,
)
from lakehouse_assets.model.types import MapType

_WIRE = {
    FieldDescriptor.TYPE_DOUBLE: FIXED64, FieldDescriptor.TYPE_FIXED64: FIXED64, FieldDescriptor.TYPE_SFIXED64: FIXED64,
    FieldDescriptor.TYPE_FLOAT: FIXED32, FieldDescriptor.TYPE_FIXED32: FIXED32, FieldDescriptor.TYPE_SFIXED32: FIXED32,
    FieldDescriptor.TYPE_STRING: LENGTH, FieldDescriptor.TYPE_BYTES: LENGTH, FieldDescriptor.TYPE_MESSAGE: LENGTH,
    FieldDescriptor.TYPE_GROUP: LENGTH,  # a group comes otherwise, which is strange enough for the runtime
}  # fmt: skip
_SIZES = {FIXED64: 8, FIXED32: 4}

_TYPED: dict[int, Callable[[Integers], Any]] = {
    FieldDescriptor.TYPE_BOOL: lambda raw: raw != 0,
    FieldDescriptor.TYPE_INT32: lambda raw: raw.astype(np.int32).astype(np.int64),
    FieldDescriptor.TYPE_ENUM: lambda raw: raw.astype(np.int32).astype(np.int64),
    FieldDescriptor.TYPE_SFIXED32: lambda raw: raw.astype(np.int32).astype(np.int64),
    FieldDescriptor.TYPE_UINT32: lambda raw: raw & 0xFFFFFFFF,
    FieldDescriptor.TYPE_FIXED32: lambda raw: raw & 0xFFFFFFFF,
    FieldDescriptor.TYPE_SINT32: lambda raw: (raw >> 1 & 0x7FFFFFFF) ^ -(raw & 1),
    FieldDescriptor.TYPE_SINT64: lambda raw: (raw >> 1 & 0x7FFFFFFFFFFFFFFF) ^ -(raw & 1),
    FieldDescriptor.TYPE_FLOAT: lambda raw: raw.astype(np.uint32).view(np.float32),
    FieldDescriptor.TYPE_DOUBLE: lambda raw: raw.view(np.float64),
}


def read_columns(scope: Scope, plan: MessagePlan) -> list[pa.Array]:
    """What the plan gives of each message; what stands there for a suspect is of no account."""
    wanted = {number: (_wire(field), field.is_repeated and not _is_bytes(field)) for number, field in plan.fields.items()}
    watched = {number for group in plan.rivals for number in group} - wanted.keys()
    found = scan(scope, wanted, watched)
    for group in plan.rivals:
        rows = np.concatenate([found[number].all_rows() for number in group])
        scope.doubt(np.bincount(rows, minlength=len(scope)) > 1)
    slots = {number: _read_field(scope, field, found[number]) for number, field in plan.fields.items()}
    return [_assemble(scope, given, slots) for given in plan.outs]


def _wire(field: FieldPlan) -> int:
    return _WIRE.get(field.type, VARINT)


def _is_bytes(field: FieldPlan) -> bool:
    return _wire(field) == LENGTH


def _assemble(scope: Scope, given: Given, slots: dict[int, list[pa.Array]]) -> pa.Array:
    match given:
        case Passed(number, slot):
            return slots[number][slot]
        case Absent(kind):
            return pa.nulls(len(scope), arrow_type(kind))
        case Refused():
            return _refuse(scope, np.arange(len(scope)), given)
        case Built(members, kind):
            arrays = [_assemble(scope, member, slots) for member in members]
            return pa.StructArray.from_arrays(arrays, fields=list(arrow_type(kind)))
        case Instant(seconds, nanos):
            whole, rest = (_assemble(scope, part, slots).to_numpy().astype(np.int64) for part in (seconds, nanos))
            return micros_of_timestamps(whole, rest, scope.doubt)


def _refuse(scope: Scope, rows: Integers, refused: Refused) -> pa.Array:
    scope.doubt(rows)
    return pa.nulls(len(scope), arrow_type(refused.type))


def _read_field(scope: Scope, field: FieldPlan, found: Found) -> list[pa.Array]:
    return _read_repeated(scope, field, found) if field.is_repeated else _read_singular(scope, field, found)


def _read_singular(scope: Scope, field: FieldPlan, found: Found) -> list[pa.Array]:
    count = len(scope)
    values, stops = _last(scope.starts if _is_bytes(field) else np.zeros(count, np.int64), found, count)
    has = np.zeros(count, np.bool_)
    for rows in found.rows:
        has[rows] = True
    if field.message is not None:
        scope.doubt(np.bincount(np.concatenate([*found.rows, np.zeros(0, np.int64)]), minlength=count) > 1)  # they merge
        if field.implicit:
            scope.doubt(~has)
    rows = np.arange(count) if field.implicit and field.message is None else np.flatnonzero(has)
    values, stops = values[rows], stops[rows]
    if field.message is not None:
        inner = Scope(scope.source, values, stops, scope.owners[rows], scope.suspects)
        arrays = read_columns(inner, field.message)
        arrays = [arrays[out] for out in field.outs if isinstance(out, int)]
    else:
        if _wire(field) in _SIZES:
            at = np.where(has[rows], values, 0)
            values = np.where(has[rows], scope.source.words(at).view(np.int64), 0)
        arrays = [_convert(scope, field, out, rows, values, stops) for out in field.outs if not isinstance(out, int | Items)]
    return [_spread(array, rows, count) for array in arrays]


def _last(first: Integers, found: Found, count: int) -> tuple[Integers, Integers]:
    """Of each message the last value, and where that ends if it is bytes."""
    if len(found.rows) == 1 and len(found.rows[0]) == count:
        return found.values[0], found.stops[0] if found.stops else found.values[0]
    values, stops = first.copy(), first.copy()
    for i, rows in enumerate(found.rows):
        values[rows] = found.values[i]
        if found.stops:
            stops[rows] = found.stops[i]
    return values, stops


def _convert(
    scope: Scope, field: FieldPlan, out: Converted | Refused, rows: Integers, values: Integers, stops: Integers
) -> pa.Array:
    """Values of a field, one for each of `rows`, in which a message may stand more than once."""
    if isinstance(out, Refused):
        scope.doubt(rows)
        return pa.nulls(len(rows), arrow_type(out.type))

    def doubt(mask: Mask) -> None:
        scope.doubt(rows[mask])

    if _is_bytes(field):
        return out.conversion.many(Spans(scope.source.buffer, values, stops), doubt)
    typed = _TYPED.get(field.type)
    return out.conversion.many(typed(values) if typed is not None else values, doubt)


def _spread(array: pa.Array, rows: Integers, count: int) -> pa.Array:
    """One value for each message; null for those that are not among `rows`."""
    if len(rows) == count:
        return array
    places = np.zeros(count, np.int64)
    missing = np.ones(count, np.bool_)
    places[rows] = np.arange(len(rows))
    missing[rows] = False
    return array.take(pa.array(places, mask=missing))


def _read_repeated(scope: Scope, field: FieldPlan, found: Found) -> list[pa.Array]:
    rows, values, stops = _occurrences(scope, field, found)
    if field.message is not None:
        inner = Scope(scope.source, values, stops, scope.owners[rows], scope.suspects)
        items = read_columns(inner, field.message)
    else:
        items = [_convert(scope, field, out, rows, values, stops) for out in field.values]
    counts = np.bincount(rows, minlength=len(scope))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    arrays = []
    for out in field.outs:
        if isinstance(out, Items):
            arrays.append(_list(scope, out, rows, offsets, items))
        else:
            assert isinstance(out, Refused)  # noqa: S101 - the plan has no more
            arrays.append(_refuse(scope, rows, out))
    return arrays


def _list(scope: Scope, out: Items, rows: Integers, offsets: pa.Array, items: list[pa.Array]) -> pa.Array:
    to = arrow_type(out.type)
    if not isinstance(out.type, MapType) or out.key is None:
        return pa.ListArray.from_arrays(offsets, items[out.slot], type=to)
    keys = items[out.key]
    if keys.null_count:
        scope.doubt(rows[keys.is_null().to_numpy(zero_copy_only=False)])
        keys = keys.fill_null("")
    codes = keys.dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)
    pairs = rows * (len(keys) + 1) + codes
    distinct, first, counts = np.unique(pairs, return_index=True, return_counts=True)
    if len(distinct) < len(pairs):
        scope.doubt(rows[first[counts > 1]])
    return pa.MapArray.from_arrays(offsets, keys, items[out.slot], type=to)


def _occurrences(scope: Scope, field: FieldPlan, found: Found) -> tuple[Integers, Integers, Integers]:
    """Every value, by message and in order: its message, itself or where it begins, where bytes end."""
    nothing = np.zeros(0, np.int64)
    rows, values = (np.concatenate([*parts, nothing]) for parts in (found.rows, found.values))
    stops = np.concatenate([*found.stops, nothing]) if _is_bytes(field) else values
    if _wire(field) in _SIZES:
        values = scope.source.words(values).view(np.int64)
    if found.packed is not None and found.packed.rows:
        more, numbers = _unpack(scope, field, found.packed)
        scope.doubt(np.intersect1d(rows, more))  # in which order they came is not known any more
        rows, values = np.concatenate([rows, more]), np.concatenate([values, numbers])
        stops = values
    order = np.argsort(rows, kind="stable")
    return rows[order], values[order], stops[order]


def _unpack(scope: Scope, field: FieldPlan, packed: Found) -> tuple[Integers, Integers]:
    rows, starts, stops = (np.concatenate(parts) for parts in (packed.rows, packed.values, packed.stops))
    size = _SIZES.get(_wire(field))
    if size is None:
        begins, counts, broken = scope.source.split_packed(starts, stops)
        numbers, _, wrong = scope.source.read_varints(begins)
        rows_of = np.repeat(rows, counts)
        if wrong is not None:
            scope.doubt(rows_of[wrong])
        scope.doubt(rows[broken])
        return rows_of, numbers.view(np.int64)
    lengths = stops - starts
    scope.doubt(rows[lengths % size != 0])
    counts = lengths // size
    total = np.cumsum(counts)
    nth = np.arange(total[-1]) - np.repeat(total - counts, counts)
    return np.repeat(rows, counts), scope.source.words(np.repeat(starts, counts) + nth * size).view(np.int64)


def suspect_missing(scope: Scope, array: pa.Array) -> None:
    """Leave messages without a required value to the runtime, which says so."""
    if array.null_count:
        scope.doubt(pc.is_null(array).to_numpy(zero_copy_only=False))
