"""Parts of a batch of changes become one again."""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
import pyarrow as pa

from lakehouse_assets.decode.changes.decoded import DecodedChanges, Indices, Mask
from lakehouse_assets.model.unknown import UnknownFields


def join_changes(parts: Sequence[DecodedChanges]) -> DecodedChanges:
    """Parts, at least one, together, in the order of their messages; all changes of one message are in one part.

    All have positions and operations, or none has.
    """
    if len(parts) == 1:
        return parts[0]
    names = {name for part in parts for name in part.unavailable}
    joined = DecodedChanges(
        table=pa.concat_tables([part.table for part in parts]),
        messages=np.concatenate([part.messages for part in parts]),
        deletes=np.concatenate([part.deletes for part in parts]),
        bad=tuple(sorted((one for part in parts for one in part.bad), key=lambda one: one.index)),
        skipped=np.sort(np.concatenate([part.skipped for part in parts])),
        truncations=tuple(sorted((one for part in parts for one in part.truncations), key=lambda one: one.message)),
        positions=_concat([part.positions for part in parts]),
        operations=_concat([part.operations for part in parts]),
        unavailable={name: np.concatenate([_mask_of(part, name) for part in parts]) for name in names},
        old_keys=_join_old_keys(parts),
        unknown=reduce(UnknownFields.joined, (part.unknown for part in parts)),
        tables=frozenset[str]().union(*(part.tables for part in parts)),
    )
    if np.all(joined.messages[1:] >= joined.messages[:-1]):
        return joined
    return select_changes(joined, np.argsort(joined.messages, kind="stable"))


def select_changes(changes: DecodedChanges, rows: Indices) -> DecodedChanges:
    """Some changes, in this order, and all that is beside them."""
    places = pa.array(rows)
    return replace(
        changes,
        table=changes.table.take(places),
        messages=changes.messages[rows],
        deletes=changes.deletes[rows],
        positions=None if changes.positions is None else changes.positions.take(places),
        operations=None if changes.operations is None else changes.operations.take(places),
        unavailable={name: mask[rows] for name, mask in changes.unavailable.items()},
        old_keys=None if changes.old_keys is None else changes.old_keys.take(places),
    )


def _concat(arrays: Sequence[pa.Array | None]) -> pa.Array | None:
    return None if arrays[0] is None else pa.concat_arrays(arrays)


def _mask_of(part: DecodedChanges, name: str) -> Mask:
    mask = part.unavailable.get(name)
    return np.zeros(len(part), np.bool_) if mask is None else mask


def _join_old_keys(parts: Sequence[DecodedChanges]) -> pa.Table | None:
    schema = next((part.old_keys.schema for part in parts if part.old_keys is not None), None)
    if schema is None:
        return None
    return pa.concat_tables([_nulls(schema, len(part)) if part.old_keys is None else part.old_keys for part in parts])


def _nulls(schema: pa.Schema, count: int) -> pa.Table:
    return pa.table([pa.nulls(count, field.type) for field in schema], schema=schema)
