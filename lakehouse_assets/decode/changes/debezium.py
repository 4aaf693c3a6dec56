"""Debezium's JSON as changes of rows.

Two decoders, bound by one rule: whatever the fast one accepts, the exact one accepts with the same values, and what the fast
one can't prove right, the exact one judges message by message. So speed never changes a result.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import repeat
from typing import cast

import numpy as np
import pyarrow as pa

from lakehouse_assets.decode.blocks import split_blocks
from lakehouse_assets.decode.changes.connect import WRAPPER, Wrappers
from lakehouse_assets.decode.changes.debezium_exact import ExactDebezium
from lakehouse_assets.decode.changes.debezium_fast import TOMBSTONE, FastDebezium, FastRead
from lakehouse_assets.decode.changes.decoded import ChangeMessages, DecodedChanges, Indices, Mask
from lakehouse_assets.decode.changes.encodings import EncodedColumn
from lakehouse_assets.decode.changes.envelope import find_old_key
from lakehouse_assets.decode.changes.fast_keys import FastKeys
from lakehouse_assets.decode.changes.joining import join_changes, select_changes
from lakehouse_assets.decode.changes.table_names import TableNames
from lakehouse_assets.decode.columns import arrow_type
from lakehouse_assets.decode.unknown import Shape, UnknownCounter
from lakehouse_assets.model.unknown import UnknownFields

_BLOCK_BYTES = 1 << 21  # of larger ones a bad message costs more, of smaller ones the calls
_CHUNK_ROWS = 250
_MAX_GUESSES = 3  # messages of a block that the reader's own words may take out
_SAMPLED = 12  # messages of a block that are looked at for fields that no column reads
_DENSE_ROWS = 100  # a reader that stops earlier would stop again and again


class DebeziumDecoder:
    """Decodes the messages of one table. Remembers what it met, so threads can't share it."""

    def __init__(self, columns: Sequence[EncodedColumn], key: Sequence[str], tables: TableNames) -> None:
        """`key`: the names of the columns of the key, in its order. `tables`: those that are meant."""
        keyed = [column for name in key for column in columns if column.name == name]
        self._key, self._shape = key, Shape.of(columns)
        self._tables = tables
        self._exact = ExactDebezium(columns, key, tables)
        self._keys = FastKeys(keyed, [arrow_type(column.type) for column in keyed])
        self._wrappers = Wrappers(lambda source: FastDebezium(columns, key, tables, source))
        self._is_keyed = True  # whether the messages at hand all have keys

    def decode(self, messages: ChangeMessages) -> DecodedChanges:
        """As every decoder of changes."""
        self._is_keyed = None not in messages.keys
        parts = [
            part
            for fast, group in self._group(messages.values)
            for block in split_blocks(group.payloads, _BLOCK_BYTES)
            for part in self._decode_block(messages, fast, group.cut(block))
        ]
        return join_changes(parts or [self._exact.decode(messages, ())])

    def _group(self, values: Sequence[bytes | None]) -> Iterable[tuple[FastDebezium, "_Group"]]:
        """The messages by what reads those of their schema; tombstones are read with those around them."""
        fast = self._wrappers.plain
        if None not in values:
            whole = cast("Sequence[bytes]", values)
            if not any(map(bytes.startswith, whole, repeat(WRAPPER))):
                return [(fast, _Group(range(len(values)), whole))]
        found: dict[FastDebezium, tuple[list[int], list[bytes]]] = {}
        for index, value in enumerate(values):
            payload = TOMBSTONE
            if value is not None:
                fast, payload = self._wrappers.open(value)
            indices, payloads = found.setdefault(fast, ([], []))
            indices.append(index)
            payloads.append(payload)
        return [(fast, _Group(*group)) for fast, group in found.items()]

    def _decode_block(self, messages: ChangeMessages, fast: FastDebezium, group: "_Group") -> Iterator[DecodedChanges]:
        if not fast.can_read:
            yield self._exact.decode(messages, group.indices)
            return
        whole = self._prove(messages, fast, group, range(len(group)))
        if whole is not None:
            yield whole
            return
        others = None if self._tables.are_all else fast.find_others(group.payloads)
        if others is not None and others.any():
            # Their rows may be why nothing was proved.
            yield replace(self._exact.decode(messages, ()), skipped=np.asarray(group.indices, np.int64)[others])
            if not others.all():
                yield from self._decode_block(messages, fast, group.take(np.flatnonzero(~others).tolist()))
            return
        passing = fast.screen(group.payloads)
        screened = self._prove(messages, fast, group, passing)
        if screened is not None:
            yield screened
            return
        for start in range(0, len(group), _CHUNK_ROWS):
            stop = min(start + _CHUNK_ROWS, len(group))
            chunk = group.cut(range(start, stop))
            candidates = [row - start for row in passing if start <= row < stop]
            yield self._prove(messages, fast, chunk, candidates) or self._exact.decode(messages, chunk.indices)

    def _prove(
        self, messages: ChangeMessages, fast: FastDebezium, group: "_Group", candidates: Sequence[int]
    ) -> DecodedChanges | None:
        """All of a group: `candidates` fast, what is left exactly. None: nothing is proved."""
        guesses = 0
        while candidates and guesses <= _MAX_GUESSES:
            tried = group.take(candidates)
            read = fast.decode(tried.payloads, needs_before=not self._is_keyed)
            if isinstance(read, FastRead):
                left = frozenset(group.indices).difference(tried.indices) if len(tried) < len(group) else ()
                return self._complete(messages, tried, read, left)
            if not read.certain:
                guesses += 1
                if not read.rows or read.rows[0] < _DENSE_ROWS:
                    return None
            dropped = frozenset(read.rows)
            candidates = [place for row, place in enumerate(candidates) if row not in dropped]
        return None

    def _complete(self, messages: ChangeMessages, group: "_Group", read: FastRead, left: Collection[int]) -> DecodedChanges:
        indices = np.asarray(group.indices, np.int64)
        table, proved = self._put_keys(messages, indices, read)
        rows = np.flatnonzero(proved)
        unavailable = {name: mask[proved] for name, mask in read.unavailable.items()}
        places = None if len(rows) == len(indices) else pa.array(rows)
        part = DecodedChanges(
            table=table if places is None else table.take(places),
            messages=indices[proved],
            skipped=indices[read.others],
            deletes=read.deletes[proved],
            positions=read.positions if places is None else read.positions.take(places),
            operations=read.operations if places is None else read.operations.take(places),
            unavailable={name: mask for name, mask in unavailable.items() if mask.any()},
            unknown=self._sample(group, rows[~read.deletes[proved]].tolist()),
        )
        part, worse = self._add_old_keys(messages, part)
        part = replace(part, tables=read.tables.among(proved & ~np.isin(indices, worse) if len(worse) else proved))
        others = sorted([*left, *indices[~proved & ~read.others].tolist(), *worse])
        return join_changes([part, self._exact.decode(messages, others)]) if others else part

    def _put_keys(self, messages: ChangeMessages, indices: Indices, read: FastRead) -> tuple[pa.Table, Mask]:
        """The table with the keys of what is deleted, and which of its rows are proved."""
        proved = ~read.suspects & ~read.others
        gone = np.flatnonzero(read.deletes & proved)
        if not len(gone):
            return read.table, proved
        keys = [messages.keys[index] for index in indices[gone].tolist()]
        has_key = np.fromiter((key is not None for key in keys), np.bool_, len(keys))
        named, unnamed = gone[has_key], gone[~has_key]
        found = self._keys.decode([key for key in keys if key is not None]) if len(named) else None
        table = read.table
        for number, name in enumerate(self._key):
            array = table.column(name).combine_chunks()
            places = np.arange(len(array))
            places[named] = len(array) + np.arange(len(named))
            pieces = [array] if found is None else [array, found.arrays[number]]
            if len(unnamed):
                places[unnamed] = len(array) + len(named) + unnamed
                pieces.append(read.before[name])
            array = pa.concat_arrays(pieces).take(pa.array(places))
            proved[gone] &= array.is_valid().to_numpy(zero_copy_only=False)[gone]
            table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), array)
        if found is not None:
            proved[named] &= found.proved
        return table, proved

    def _add_old_keys(self, messages: ChangeMessages, part: DecodedChanges) -> tuple[DecodedChanges, Sequence[int]]:
        """With the old keys of changes that lack values; beside it the messages that had better be judged one by one."""
        lacking = reduce(np.logical_or, part.unavailable.values(), np.zeros(len(part), np.bool_))
        headers = [(row, messages.headers[part.messages[row]]) for row in np.flatnonzero(lacking).tolist()]
        rows = [row for row, found in headers if find_old_key(found) is not None]
        if not rows:
            return part, ()
        kept = np.ones(len(part), np.bool_)
        kept[rows] = False
        return select_changes(part, np.flatnonzero(kept)), part.messages[rows].tolist()

    def _sample(self, group: "_Group", rows: Sequence[int]) -> UnknownFields:
        """What some messages have beside the columns, the last one among them."""
        counter = UnknownCounter(self._shape)
        for row in rows[:: -max(len(rows) // _SAMPLED, 1)][:_SAMPLED]:
            counter.add(json.loads(group.payloads[row])["after"])
        return counter.result(len(rows))


@dataclass(frozen=True, slots=True)
class _Group:
    """Messages by their indices, without what is around them."""

    indices: Sequence[int]
    payloads: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.indices)

    def cut(self, rows: range) -> "_Group":
        """Some in a row."""
        return _Group(self.indices[rows.start : rows.stop], self.payloads[rows.start : rows.stop])

    def take(self, rows: Sequence[int]) -> "_Group":
        """Some of them."""
        if len(rows) == len(self):
            return self
        return _Group([self.indices[row] for row in rows], [self.payloads[row] for row in rows])
