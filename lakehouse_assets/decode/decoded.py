"""What decoding gives, whatever the format: rows of good values, reasons for bad ones."""

from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse_assets.model.derived import DerivedColumn
from lakehouse_assets.model.unknown import UnknownFields

LeftOut = MutableMapping[str, str] | None


@dataclass(frozen=True, slots=True)
class BadValue:
    """A value that can't become a row: its index among them, a stable code, and one clause of reason."""

    index: int
    code: str
    reason: str


def _no_indices() -> npt.NDArray[np.int64]:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Decoded:
    """The declared columns with one row per good value, in the order of the values, and the bad values, ascending.

    `unknown`: the fields of the good ones that no column reads. `filtered`: indices, ascending, of what `where` leaves out.
    `places`: which value each row is of, ascending, where a value may be several rows or none; None: each good one is a row.
    """

    table: pa.Table
    bad: tuple[BadValue, ...]
    unknown: UnknownFields = UnknownFields()
    filtered: npt.NDArray[np.int64] = field(default_factory=_no_indices)
    places: npt.NDArray[np.int64] | None = None

    def rows(self, count: int) -> npt.NDArray[np.int64]:
        """Of `count` values, the indices of those that became rows, one for each row."""
        if self.places is not None:
            return self.places
        others = np.concatenate([np.array([one.index for one in self.bad], np.int64), self.filtered])
        return np.delete(np.arange(count), others)


class BrokenSchema(Exception):
    """A schema is none, or none that can be used; says why in a clause."""


def derive_each(fields: Iterable[Any], derive: Callable[[Any], DerivedColumn], left_out: LeftOut) -> list[DerivedColumn]:
    """A column of each field of a schema. With `left_out`, fields that can't be one are put there by name, with the reason.

    Raises:
        BrokenSchema: a field can't be a column; with `left_out`, none can.
    """
    columns: list[DerivedColumn] = []
    for each in fields:
        try:
            columns.append(derive(each))
        except BrokenSchema as error:
            if left_out is None:
                raise
            left_out[each.name] = str(error)
    if not columns:
        raise BrokenSchema("; ".join(left_out.values()) if left_out else "it has no fields")
    return columns


Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages as columns of equal length. No value is None: tombstones are no rows."""

    values: Sequence[bytes]
    keys: Sequence[bytes | None]
    headers: Sequence[Headers | None]

    def __len__(self) -> int:
        return len(self.values)


class Decoder(Protocol):
    """Decodes the messages of one table. Not shared between threads."""

    def decode(self, messages: Messages) -> Decoded:
        """Every message becomes a row, stands in `bad`, or is filtered.

        Raises:
            RegistryError: a schema can't be had; nothing is said of the messages.
        """


class ValueDecoder(Protocol):
    """Decodes values alone; the other columns of the table come from beside them."""

    def decode(self, values: Sequence[bytes]) -> Decoded:
        """Every value becomes a row or stands in `bad`, never both. No value may be None (a tombstone).

        Raises:
            RegistryError: a schema can't be had; nothing is said of the values.
        """
