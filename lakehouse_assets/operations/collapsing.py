"""Of many changes of one key, the last: changes are gathered in bounded memory, and collapse when there are too many.

Within a topic partition the later offset is newer. Where a key moved from one topic partition to another, the position in the
source's own log decides, and without one Kafka's timestamp; of equal ones, that which was read later.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_assets.model.columns import (
    DELETED,
    KAFKA_PARTITION,
    KAFKA_TIMESTAMP,
    KAFKA_TOPIC,
    SOURCE_POSITION,
)
from lakehouse_assets.systems.changes import Changes, Mask, Truncated

Indices = npt.NDArray[np.int64]

_NONE = -1


class ChangeBuffer:
    """Changes in the order in which they were read. Holds at most about `limit_bytes`, unless that many keys differ."""

    def __init__(self, key: Sequence[str], limit_bytes: int) -> None:
        self._key, self._limit = tuple(key), limit_bytes
        self._pieces: list[Changes] = []
        self._bytes = 0
        self._truncated: Truncated | None = None
        self._is_full = False

    @property
    def is_full(self) -> bool:
        """More than half of the limit is taken by changes of different keys, so that a commit is due."""
        return self._is_full

    def add(self, changes: Changes) -> None:
        """Take changes that were read after all others of their topic partitions."""
        if changes.truncated is not None:
            self._truncate(changes.truncated)
        if len(changes):
            self._pieces.append(changes)
            self._bytes += changes.rows.nbytes
        if self._bytes > self._limit:
            self._collapse()
            self._is_full = self._bytes > self._limit // 2

    def take(self) -> Changes | None:
        """One change per key, the last, and forget them; None where there is nothing."""
        self._collapse(is_last=True)
        pieces, truncated = self._pieces, self._truncated
        self._pieces, self._bytes, self._truncated, self._is_full = [], 0, None, False
        if not pieces:
            return None if truncated is None else Changes.truncation(truncated)
        (changes,) = pieces
        return replace(changes, truncated=truncated)

    def _truncate(self, truncated: Truncated) -> None:
        self._truncated = truncated
        pieces = [one.only(_is_newer(one.rows, truncated)) for one in self._pieces]
        self._pieces = [one for one in pieces if len(one)]
        self._bytes = sum(one.rows.nbytes for one in self._pieces)

    def _collapse(self, *, is_last: bool = False) -> None:
        if self._pieces:
            changes = collapse(self._pieces, self._key, keeps_taken=not is_last)
            self._pieces, self._bytes = [changes], changes.rows.nbytes


def concatenated(pieces: Sequence[Changes]) -> Changes:
    """All of them, one after the other; at least one. Truncations are not looked at."""
    if len(pieces) == 1:
        return pieces[0]
    names = {name for one in pieces for name in one.unavailable}
    known = next((one.old_keys.schema for one in pieces if one.old_keys is not None), None)
    return Changes(
        rows=pa.concat_tables([one.rows for one in pieces], promote_options="default"),  # positions may be missing
        deletes=np.concatenate([one.deletes for one in pieces]),
        unavailable={
            name: np.concatenate([one.unavailable.get(name, np.zeros(len(one), np.bool_)) for one in pieces]) for name in names
        },
        old_keys=None if known is None else pa.concat_tables([_old_keys(one, known) for one in pieces]),
    )


def _old_keys(changes: Changes, schema: pa.Schema) -> pa.Table:
    if changes.old_keys is not None:
        return changes.old_keys
    return pa.Table.from_arrays([pa.nulls(len(changes), field.type) for field in schema], schema=schema)


def collapse(pieces: Sequence[Changes], key: Sequence[str], *, keeps_taken: bool) -> Changes:
    """The last change of each key, in the order in which they were read.

    A value that it does not hold is that of the change before, as far as there is one since the row was last deleted. With
    `keeps_taken` the last row of a key whose last change deletes it is kept as well: a change of key that is still to be read
    may take values from it.
    """
    changes = concatenated(pieces)
    settled = np.repeat([one.is_settled for one in pieces], [len(one) for one in pieces])
    codes = _codes(changes.rows, key)
    order = _sorted_by_source(changes.rows, codes)
    if order is not None:
        changes, codes, settled = changes.take(order), codes[order], settled[order]
    last = _last_places(codes, np.ones(len(codes), np.bool_))
    if keeps_taken:
        last = np.union1d(last, _last_places(codes, ~changes.deletes))
    collapsed = changes.take(last)
    if collapsed.unavailable:
        collapsed = _Filling(changes, settled, codes, tuple(key)).fill(collapsed, last)
    return replace(collapsed, is_settled=True)


def _marks(rows: pa.Table) -> Mask:
    """Which rows stay although they are deleted."""
    if DELETED not in rows.column_names:
        return np.zeros(rows.num_rows, np.bool_)
    marks: Mask = pc.fill_null(rows.column(DELETED), False).to_numpy().astype(np.bool_)
    return marks


def _last_places(codes: Indices, wanted: Mask) -> Indices:
    """Of each code the last place that is wanted, ascending."""
    last = np.full(int(codes.max(initial=_NONE)) + 1, _NONE, np.int64)
    last[codes[wanted]] = np.flatnonzero(wanted)  # of several places that are assigned to, the last one stays
    found: Indices = np.sort(last[last != _NONE])
    return found


@dataclass(frozen=True, slots=True)
class _Filling:
    """Gives values that a change does not hold from the changes before it."""

    changes: Changes
    settled: Mask
    codes: Indices
    key: tuple[str, ...]

    def fill(self, collapsed: Changes, kept: Indices) -> Changes:
        """`collapsed` are the changes at `kept`."""
        order = np.argsort(self.codes, kind="stable")
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        # No value is older than the row: the search ends at the first change of the key, or of the row that came after a
        # deletion. A row that is marked as deleted keeps its values, also where it is marked once more.
        begins = np.searchsorted(self.codes[order], self.codes[order])
        deletes, marks = self.changes.deletes[order], _marks(self.changes.rows)[order]
        is_new = np.append(False, deletes[:-1] | (marks[:-1] & ~marks[1:]))
        begins = np.maximum(begins, np.maximum.accumulate(np.where(is_new, np.arange(len(order)), _NONE)))
        rows, unavailable = collapsed.rows, dict(collapsed.unavailable)
        for name, wanted in collapsed.unavailable.items():
            holds = ~self.changes.unavailable[name][order] & ~deletes
            latest = np.maximum.accumulate(np.where(holds, np.arange(len(order)), _NONE))
            found = np.where(latest >= begins, order[latest], _NONE)[place[kept]]
            filled = wanted & (found >= 0)
            sources = np.where(filled, found, kept)
            column = self.changes.rows.column(name).take(pa.array(sources))
            rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), column)
            unavailable[name] = wanted & ~filled
        filled_up = replace(collapsed, rows=rows, unavailable={n: mask for n, mask in unavailable.items() if mask.any()})
        return self._follow_keys(filled_up, order[begins[place[kept]]]) if filled_up.unavailable else filled_up

    def _follow_keys(self, collapsed: Changes, firsts: Indices) -> Changes:
        """Values of rows whose key changed, from the changes of the key before; such changes are few.

        `firsts`: for each row the first change since it came under its key, which names the key before.
        """
        if self.changes.old_keys is None:
            return collapsed
        rows, old_keys = collapsed.rows, self.changes.old_keys.take(pa.array(firsts)).to_pylist()
        unavailable = {name: mask.copy() for name, mask in collapsed.unavailable.items()}
        for row in np.flatnonzero(np.logical_or.reduce(list(unavailable.values()))).tolist():
            at, wanted = int(firsts[row]), {name for name, mask in unavailable.items() if mask[row]}
            # The old key of a settled change is one of the table's.
            while wanted and _is_key(old_keys[row]) and not self.settled[at]:
                at = self._change_before(old_keys[row], at)
                if at < 0:
                    break
                held = {name for name in wanted if not self.changes.unavailable[name][at]}
                for name in held:
                    rows = _set(rows, name, row, self.changes.rows.column(name)[at])
                    unavailable[name][row] = False
                wanted -= held
                before = self.changes.old_keys.slice(at, 1).to_pylist()[0]
                if wanted and _is_key(before):
                    old_keys[row] = before
        schema = self.changes.old_keys.schema
        return replace(
            collapsed,
            rows=rows,
            unavailable={name: mask for name, mask in unavailable.items() if mask.any()},
            old_keys=pa.Table.from_pylist(old_keys, schema=schema),
        )

    def _change_before(self, key: Mapping[str, object], at: int) -> int:
        """Place of the last change before `at` that put a row under this key; -1 where there is none."""
        rows = self.changes.rows.slice(0, at)
        same = ~self.changes.deletes[:at]
        for name in self.key:
            column = rows.column(name)
            same &= pc.equal(_plain(column), _plain_scalar(key[name], column.type)).to_numpy()
        found = np.flatnonzero(same)
        return int(found[-1]) if len(found) else _NONE


def _is_key(key: Mapping[str, object]) -> bool:
    return bool(key) and None not in key.values()


def _set(rows: pa.Table, name: str, row: int, value: pa.Scalar) -> pa.Table:
    column = rows.column(name)
    pieces = [column.slice(0, row), pa.chunked_array([pa.array([value.as_py()], column.type)]), column.slice(row + 1)]
    chunks = [chunk for piece in pieces for chunk in piece.chunks]
    return rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), pa.chunked_array(chunks, column.type))


def _sorted_by_source(rows: pa.Table, codes: Indices) -> Indices | None:
    """An order in which the changes of keys that stand in several topic partitions follow their source; None: as it is."""
    logs = _logs(rows)
    first = np.empty(int(codes.max(initial=_NONE)) + 1, np.int64)
    first[codes[::-1]] = logs[::-1]
    moved = np.isin(codes, np.unique(codes[logs != first[codes]]))
    if not moved.any():
        return None
    order = np.arange(len(codes))
    for places in _groups(codes, np.flatnonzero(moved)):
        order[places] = places[np.argsort(_times(rows.take(pa.array(places))), kind="stable")]
    return order


def _groups(codes: Indices, places: Indices) -> Iterator[Indices]:
    """The places of each key that has any of them, ascending."""
    by_code = places[np.argsort(codes[places], kind="stable")]
    edges = np.flatnonzero(np.diff(codes[by_code])) + 1
    yield from np.split(by_code, edges)


def _times(rows: pa.Table) -> Indices:
    """What says which change of a key is newer: the source's position where all have one, else Kafka's timestamp."""
    if SOURCE_POSITION in rows.column_names:
        positions = rows.column(SOURCE_POSITION)
        if not positions.null_count:
            found: Indices = positions.to_numpy().astype(np.int64)
            return found
    stamps: Indices = rows.column(KAFKA_TIMESTAMP).cast(pa.int64()).fill_null(_NONE).to_numpy().astype(np.int64)
    return stamps


def _logs(rows: pa.Table) -> Indices:
    """A number for each topic partition."""
    partitions: Indices = rows.column(KAFKA_PARTITION).to_numpy().astype(np.int64)
    if KAFKA_TOPIC not in rows.column_names:
        return partitions
    topics = _dense(rows.column(KAFKA_TOPIC))
    return topics * (int(partitions.max(initial=0)) + 1) + partitions


def _is_newer(rows: pa.Table, truncated: Truncated) -> Mask:
    """Which rows a truncation leaves: those that the source made after it, if both are known."""
    if truncated.position is None or SOURCE_POSITION not in rows.column_names:
        return np.zeros(rows.num_rows, np.bool_)
    newer = pc.fill_null(pc.greater(rows.column(SOURCE_POSITION), truncated.position), False)
    found: Mask = newer.to_numpy().astype(np.bool_)
    return found


def _codes(rows: pa.Table, key: Sequence[str]) -> Indices:
    """A number for each key, from 0 on without gaps."""
    codes = _dense(rows.column(key[0]))
    for name in key[1:]:
        other = _dense(rows.column(name))
        codes = np.unique(codes * (int(other.max(initial=0)) + 1) + other, return_inverse=True)[1].astype(np.int64)
    return codes


def _dense(column: pa.ChunkedArray) -> Indices:
    """A number for each value, from 0 on without gaps."""
    indices = pc.dictionary_encode(_plain(column).combine_chunks()).indices
    found: Indices = indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without an extension type, which Arrow's functions don't know."""
    if isinstance(column.type, pa.BaseExtensionType):
        return pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    return column


def _plain_scalar(value: object, kind: pa.DataType) -> pa.Scalar:
    array = pa.array([value], kind)
    return (array.storage if isinstance(kind, pa.BaseExtensionType) else array)[0]
