"""What decoding a change stream gives, whatever the format: rows to put under their keys, and keys to take out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse_assets.decode.decoded import BadValue, Headers
from lakehouse_assets.model.unknown import UnknownFields

Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ChangeMessages:
    """Messages as columns of equal length. A value that is None is a tombstone: it takes the row of the message's key out."""

    values: Sequence[bytes | None]
    keys: Sequence[bytes | None]
    headers: Sequence[Headers | None]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Truncation:
    """Every row that was there before this message is gone. `position`: in the source, None where the message has none."""

    message: int
    position: int | None = None


@dataclass(frozen=True, slots=True)
class DecodedChanges:
    """The changes in the order of their messages, one row of `table` each.

    Every message is in `messages` (once or, where it holds several changes, more often), in `skipped`, in `truncations` or in
    `bad`; never in two of them, and never half.

    Attributes:
        table: The decoded columns. Of a delete, the key's columns hold values; of the others it may hold anything or null.
            Columns of `key` are never null.
        messages: Index of each change's message, ascending.
        deletes: Which changes take the row of their key out.
        bad: Messages that can't be read, ascending.
        skipped: Messages that say nothing of rows (heartbeats, marks of transactions, changes of schemas), ascending.
        truncations: In the order of their messages.
        positions: int64, where each change stands in the source's own log, so that of two changes of one row the larger is
            newer; null where a message does not say. None: the format has none.
        operations: string, the source's word for each change, for a log of changes: `insert`, `update`, `delete`, `read`.
        unavailable: By column, which changes don't hold its value because it did not change; the last one stays.
            Only columns that have any.
        old_keys: The key that the row had before this change, as columns of `key`; all null where it kept its key. Only of
            changes that don't hold all values is it of account. None: no change of a key.
        unknown: Fields of rows that no column reads.
        tables: The source's tables that rows and truncations are of, as `public.orders` or `shop.orders`.
        filtered: Messages of which `where` leaves a row out, so that it is taken out of the table; they are in `messages` too.
    """

    table: pa.Table
    messages: Indices
    deletes: Mask
    bad: tuple[BadValue, ...] = ()
    skipped: Indices = field(default_factory=lambda: np.empty(0, np.int64))
    truncations: tuple[Truncation, ...] = ()
    positions: pa.Array | None = None
    operations: pa.Array | None = None
    unavailable: Mapping[str, Mask] = field(default_factory=dict)
    old_keys: pa.Table | None = None
    unknown: UnknownFields = UnknownFields()
    tables: frozenset[str] = frozenset()
    filtered: Indices = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.messages)

    def with_bad(self, bad: Sequence[BadValue]) -> "DecodedChanges":
        """The same with further bad messages, the first reason of each: none of their changes is left."""
        if not bad:
            return self
        reasons: dict[int, BadValue] = {}
        for one in (*self.bad, *bad):
            reasons.setdefault(one.index, one)
        kept = ~np.isin(self.messages, list(reasons))
        mask = pa.array(kept)
        return replace(
            self,
            table=self.table.filter(mask),
            messages=self.messages[kept],
            deletes=self.deletes[kept],
            bad=tuple(reasons[index] for index in sorted(reasons)),
            positions=self.positions.filter(mask) if self.positions is not None else None,
            operations=self.operations.filter(mask) if self.operations is not None else None,
            unavailable={name: flags[kept] for name, flags in self.unavailable.items() if flags[kept].any()},
            old_keys=self.old_keys.filter(mask) if self.old_keys is not None else None,
            filtered=np.setdiff1d(self.filtered, list(reasons)),
        )


class ChangeDecoder(Protocol):
    """Decodes the change stream of one table. Not shared between threads."""

    def decode(self, messages: ChangeMessages) -> DecodedChanges:
        """Every message becomes changes, or says nothing of rows, or is bad.

        Raises:
            RegistryError: a schema can't be had; nothing is said of the messages.
        """
