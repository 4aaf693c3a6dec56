"""The fast decoder: walks a plan once, and reads each field from all messages at the same time.

A field costs a few array operations however many messages there are. Unions and lists split the messages into those that have
a value here and those that have none; what was read apart is put together again in the order of the messages.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse_assets.decode.avro.cursor import BROKEN, Cursor
from lakehouse_assets.decode.avro.decimals import scaled
from lakehouse_assets.decode.avro.plan import (
    BlocksPlan,
    Built,
    Constant,
    Given,
    Passed,
    Plan,
    RecordPlan,
    Refused,
    ScalarPlan,
    Scaled,
    Skip,
    UnionPlan,
)
from lakehouse_assets.decode.avro.schema import Array, Enum, Field, Map, Node, Record, Scalar, Union
from lakehouse_assets.decode.avro.values import Integers, convert_each
from lakehouse_assets.decode.nested import build_array

FEWEST = 32
"""Of fewer messages, each costs the exact decoder less than all together cost here."""
_FREE_ROUNDS = 8  # items of a list that are read here, however few lists have so many

Arrays = list[pa.Array]


def read_plan(plan: Plan, cursor: Cursor) -> Arrays:
    """One array for each thing that the plan gives, with a value per message. Flagged messages have any value."""
    match plan:
        case Skip(node):
            _skip(node, cursor)
            return []
        case ScalarPlan():
            return _read_scalar(plan, cursor)
        case RecordPlan():
            found = [read_plan(field, cursor) for field in plan.fields]
            return [_give(out, kind, found, cursor) for out, kind in zip(plan.outs, plan.types, strict=True)]
        case UnionPlan():
            return _read_union(plan, cursor)
        case BlocksPlan():
            return _read_blocks(plan, cursor)


def _read_scalar(plan: ScalarPlan, cursor: Cursor) -> Arrays:
    raw = _read_raw(plan.node, cursor)
    arrays = []
    for out, kind in zip(plan.outs, plan.types, strict=True):
        if isinstance(out, Refused):
            arrays.append(_refuse(kind, cursor, is_null=plan.node == Scalar("null")))
        else:
            arrays.append(out.conversion.many(raw, cursor.doubt))
    return arrays


def _refuse(kind: pa.DataType, cursor: Cursor, *, is_null: bool = False) -> pa.Array:
    if not is_null:
        cursor.doubt(np.ones(len(cursor), np.bool_))
    return pa.nulls(len(cursor), kind)


def _read_raw(node: Scalar | Enum, cursor: Cursor) -> object:
    match node.kind if isinstance(node, Scalar) else "enum":
        case "null":
            return range(len(cursor))
        case "boolean":
            return cursor.read_boolean()
        case "int":
            return _read_within(cursor, -(2**31), 2**31 - 1)
        case "long":
            return cursor.read_long()
        case "float":
            return cursor.read_float("<f4")
        case "double":
            return cursor.read_float("<f8")
        case "enum":
            return _read_within(cursor, 0, len(node.symbols) - 1 if isinstance(node, Enum) else 0)
        case "fixed":
            return cursor.read_span(node.size if isinstance(node, Scalar) else 0)
        case _:
            return cursor.read_span()


def _read_within(cursor: Cursor, low: int, high: int) -> Integers:
    """A number; outside of the bounds the message is broken, and it reads 0."""
    number = cursor.read_long()
    wrong = (number < low) | (number > high)
    if wrong.any():
        cursor.condemn(wrong)
        number = np.where(wrong, 0, number)
    return number


def _give(out: Given, kind: pa.DataType, found: list[Arrays], cursor: Cursor) -> pa.Array:
    match out:
        case Passed(field, slot):
            return found[field][slot]
        case Constant(None):
            return pa.nulls(len(cursor), kind)
        case Constant(value):
            return _repeat(value, kind, len(cursor))
        case Built(_, members):
            parts = [_give(member, field.type, found, cursor) for member, field in zip(members, kind, strict=True)]
            return pa.StructArray.from_arrays(parts, fields=list(kind))
        case Scaled():
            return _scale(out, kind, found, cursor)
        case Refused():
            return _refuse(kind, cursor)


def _scale(out: Scaled, kind: pa.DataType, found: list[Arrays], cursor: Cursor) -> pa.Array:
    values = _give(out.value, pa.binary(), found, cursor).to_pylist()
    scales = _give(out.scale, pa.int32(), found, cursor).to_pylist()
    pairs = list(zip(values, scales, strict=True))
    return convert_each(pairs, lambda pair: None if None in pair else scaled(pair[0], pair[1], out.kind), kind, cursor.doubt)


def _repeat(value: Any, kind: pa.DataType, count: int) -> pa.Array:
    return build_array([value], kind).take(pa.array(np.zeros(count, np.int64)))


def _read_union(plan: UnionPlan, cursor: Cursor) -> Arrays:
    branch = _read_within(cursor, 0, len(plan.branches) - 1)
    if (branch == branch[0]).all():
        return read_plan(plan.branches[branch[0]], cursor)
    places = np.empty(len(cursor), np.int64)
    is_null = np.zeros(len(cursor), np.bool_)
    parts: list[Arrays] = []
    done = 0
    for number in np.unique(branch).tolist():
        mine = branch == number
        if _is_null(plan.branches[number]):
            is_null |= mine
            continue
        rows = np.flatnonzero(mine)
        part = cursor.select(rows)
        parts.append(read_plan(plan.branches[number], part))
        cursor.merge(rows, part)
        places[rows] = np.arange(done, done + len(rows))
        done += len(rows)
    order = pa.array(places, mask=is_null if is_null.any() else None)
    return [_joined([part[slot] for part in parts]).take(order) for slot in range(len(plan.types))]


def _is_null(plan: Plan) -> bool:
    match plan:
        case Skip(node) | ScalarPlan(node):
            return node == Scalar("null")
        case _:
            return False


def _joined(arrays: Arrays) -> pa.Array:
    return arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)


def _read_blocks(plan: BlocksPlan, cursor: Cursor) -> Arrays:
    wanted = [None if isinstance(out, Refused) else kind for out, kind in zip(plan.outs, plan.types, strict=True)]

    def read_item(part: Cursor) -> Arrays:
        keys = [part.read_span().to_array()] if plan.is_map else []
        return keys + read_plan(plan.item, part)

    items, counts = _read_items(read_item, cursor)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    keys = _keys(items.pop(0) if items and plan.is_map else None, counts, cursor) if plan.is_map else None
    slots = iter(items)
    arrays: list[pa.Array | None] = []
    for kind in wanted:
        if kind is None:
            arrays.append(None)
            continue
        values = next(slots, None)
        if values is None:  # no list has an item
            arrays.append(_repeat([], kind, len(cursor)))
        elif plan.is_map:
            arrays.append(pa.MapArray.from_arrays(offsets, keys, values, type=kind))
        else:
            arrays.append(pa.ListArray.from_arrays(offsets, values, type=kind))
    return [_refuse(kind, cursor) if array is None else array for array, kind in zip(arrays, plan.types, strict=True)]


def _read_items(read_item: Callable[[Cursor], Arrays], cursor: Cursor) -> tuple[Arrays, Integers]:
    """The items of all lists, list by list, and how many each has. One round reads the next item of each that has one."""
    counts = np.zeros(len(cursor), np.int64)
    left = np.zeros(len(cursor), np.int64)  # of the block
    active = np.arange(len(cursor))
    rounds: list[tuple[Integers, Arrays]] = []
    while True:
        fresh = active[left[active] == 0]
        if len(fresh):
            part = cursor.select(fresh)
            left[fresh] = _read_block_size(part)
            cursor.merge(fresh, part)
        active = active[left[active] > 0]
        if not len(active):
            break
        if len(rounds) >= _FREE_ROUNDS and len(active) < FEWEST:
            cursor.leave(active)
            break
        part = cursor.select(active)
        rounds.append((active, read_item(part)))
        cursor.merge(active, part)
        counts[active] += 1
        left[active] -= 1
        active = active[cursor.flaws[active] < BROKEN]
    if not rounds:
        return [], counts
    order = pa.array(np.argsort(np.concatenate([rows for rows, _ in rounds]), kind="stable"))
    slots = range(len(rounds[0][1]))
    return [_joined([arrays[slot] for _, arrays in rounds]).take(order) for slot in slots], counts


def _read_block_size(cursor: Cursor) -> Integers:
    """Items of the block that begins here. A negative number is followed by the bytes that it takes, which nobody needs."""
    size = cursor.read_long()
    is_sized = size < 0
    if is_sized.any():
        rows = np.flatnonzero(is_sized)
        part = cursor.select(rows)
        part.read_long()
        cursor.merge(rows, part)
        size = np.abs(size)
    # Each item takes a byte at least; and the least of all numbers has no absolute value.
    wrong = (size > cursor.stops - cursor.at) | (size < 0)
    if wrong.any():
        cursor.condemn(wrong)
    return np.where(cursor.flaws >= BROKEN, 0, size)


def _keys(octets: pa.Array | None, counts: Integers, cursor: Cursor) -> pa.Array | None:
    """The keys as text; messages whose keys are none, or stand twice, are doubted."""
    if octets is None:
        return None
    owners = np.repeat(np.arange(len(cursor)), counts)
    distinct = octets.dictionary_encode()
    pairs = owners * (len(distinct.dictionary) + 1) + distinct.indices.to_numpy()
    found, times = np.unique(pairs, return_counts=True)
    doubted = found[times > 1] // (len(distinct.dictionary) + 1)
    try:
        keys = octets.cast(pa.string())
    except pa.ArrowInvalid:
        doubted = np.arange(len(cursor))
        keys = _repeat("", pa.string(), len(octets))
    if len(doubted):
        mask = np.zeros(len(cursor), np.bool_)
        mask[doubted] = True
        cursor.doubt(mask)
    return keys


def _skip(node: Node, cursor: Cursor) -> None:
    match node:
        case Record():
            for field in node.fields:
                _skip(field.node, cursor)
        case Union(branches):
            _read_union(UnionPlan(tuple(map(Skip, branches)), ()), cursor)
        case Array(items):
            _read_items(lambda part: read_plan(Skip(items), part), cursor)
        case Map(values):
            entry = Record("", (Field("key", Scalar("bytes")), Field("value", values)))
            _read_items(lambda part: read_plan(Skip(entry), part), cursor)
        case _:
            _read_raw(node, cursor)
