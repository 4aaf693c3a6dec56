"""Keeps changes on disk, apart by key, so that more of them than memory holds can be collapsed share by share.

A key's changes are all in one share, in the order in which they came. The files are in a folder of their own, which goes with
the object.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import feather
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import BooleanType

from lakehouse_assets.operations.collapsing import ChangeBuffer, concatenated
from lakehouse_assets.systems.changes import Changes, Mask, Truncated

_SLOTS = 64  # each of which has to fit into a buffer; shares are as many of them as do
_SETTLED = b"settled"
_DELETE, _UNAVAILABLE, _OLD_KEY = "\0delete", "\0unavailable ", "\0old key "  # names that no column can have


class SpilledChanges:
    """Changes of one table on disk."""

    def __init__(self, schema: Schema, key: Sequence[str], limit_bytes: int) -> None:
        """`limit_bytes`: what a share may take in memory when it is read back."""
        self._key, self._limit = tuple(key), limit_bytes
        self._kinds = [schema.find_field(name).field_type for name in key]
        self._folder = tempfile.TemporaryDirectory(prefix="lakehouse-changes-")
        self._pieces: list[list[Path | Truncated]] = [[] for _ in range(_SLOTS)]
        self._bytes = [0] * _SLOTS
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._folder.cleanup()

    def add(self, changes: Changes) -> None:
        """Keep changes that were read after all others."""
        if changes.truncated is not None:
            for pieces in self._pieces:
                pieces.append(changes.truncated)
        if not len(changes):
            return
        self._count += 1
        slots = self._slots(changes.rows)
        order = np.argsort(slots, kind="stable")
        edges = np.searchsorted(slots[order], np.arange(_SLOTS + 1))
        for slot, (begin, end) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
            if begin < end:
                piece, path = _to_table(changes.take(order[begin:end])), Path(self._folder.name, f"{slot}-{self._count}.arrow")
                feather.write_feather(piece, path, compression="lz4")
                self._pieces[slot].append(path)
                self._bytes[slot] += piece.nbytes

    def shares(self) -> list[list[int]]:
        """The slots that are to be collapsed together: one share of all keys, unless that would take too much memory."""
        shares: list[list[int]] = [[]]
        for slot, size_bytes in enumerate(self._bytes):
            if sum(self._bytes[one] for one in shares[-1]) + size_bytes > self._limit and shares[-1]:
                shares.append([])
            shares[-1].append(slot)
        return shares

    def collapse(self, share: Sequence[int]) -> Changes:
        """The last change of each key of some slots."""
        collapsed = []
        for slot in share:
            buffer = ChangeBuffer(self._key, self._limit)
            for piece in self._pieces[slot]:
                buffer.add(Changes.truncation(piece) if isinstance(piece, Truncated) else _read(piece, self._key))
            collapsed.append(buffer.take())
        found = [changes for changes in collapsed if changes is not None and len(changes)]
        return concatenated(found) if found else Changes.nothing()

    def _slots(self, rows: pa.Table) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        slots = np.zeros(rows.num_rows, np.int64)
        for name, kind in zip(self._key, self._kinds, strict=True):
            column = rows.column(name).combine_chunks()
            if isinstance(kind, BooleanType):
                found = pc.cast(column, pa.int64())
            else:
                found = BucketTransform(_SLOTS).pyarrow_transform(kind)(column)
            slots = slots * 31 + found.to_numpy(zero_copy_only=False)
        return slots % _SLOTS


def _to_table(changes: Changes) -> pa.Table:
    table = changes.rows.append_column(_DELETE, pa.array(changes.deletes))
    table = table.replace_schema_metadata({_SETTLED: b"1" if changes.is_settled else b"0"})
    for name, mask in changes.unavailable.items():
        table = table.append_column(_UNAVAILABLE + name, pa.array(mask))
    if changes.old_keys is not None:
        for name in changes.old_keys.column_names:
            table = table.append_column(_OLD_KEY + name, changes.old_keys.column(name))
    return table


def _read(path: Path, key: Sequence[str]) -> Changes:
    table = feather.read_table(path, memory_map=False)
    names = table.column_names
    masks = {name.removeprefix(_UNAVAILABLE): _mask(table.column(name)) for name in names if name.startswith(_UNAVAILABLE)}
    old_keys = None
    if any(name.startswith(_OLD_KEY) for name in names):
        old_keys = pa.table({name: table.column(_OLD_KEY + name) for name in key})
    rows = table.select([name for name in names if not name.startswith("\0")])
    is_settled = table.schema.metadata[_SETTLED] == b"1"
    return Changes(rows, _mask(table.column(_DELETE)), masks, old_keys, is_settled=is_settled)


def _mask(column: pa.ChunkedArray) -> Mask:
    mask: Mask = column.to_numpy().astype(np.bool_)
    return mask
