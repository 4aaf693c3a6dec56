"""Changes of rows by key: as they were read, or collapsed to the last one of each key, ready to be put into a table."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Truncated:
    """Every row of the table goes before the changes are put in.

    `position`: in the source's log; None where it has none. Rows that are newer stay where both are known.
    """

    position: int | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What becomes of the rows of some keys. Plain values, so that they can cross processes.

    Attributes:
        rows: One row per change (once collapsed, per key), with columns of the table, those of the platform included
            (`_kafka_offset` and so on); what is missing is null. Of a delete, only the key's columns and the platform's hold
            values.
        deletes: Which rows say that the row of the key goes.
        unavailable: By column, which rows don't hold its value: the table's row of this key (or of `old_keys`) has it.
        old_keys: Columns of the key, one row per row: the key under which the table has the values that are unavailable; null
            where it is the row's own. None: it always is.
        truncated: Whether all rows of the table go first.
        is_settled: Whether these are the last changes of their keys, and `old_keys` speak of the table as it was before them;
            otherwise a key may be that of a change among them.
    """

    rows: pa.Table
    deletes: Mask
    unavailable: Mapping[str, Mask] = field(default_factory=dict)
    old_keys: pa.Table | None = None
    truncated: Truncated | None = None
    is_settled: bool = False

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    @classmethod
    def truncation(cls, truncated: Truncated) -> "Changes":
        """Nothing but that all rows go."""
        return cls(pa.table({}), np.zeros(0, np.bool_), truncated=truncated)

    @classmethod
    def nothing(cls) -> "Changes":
        """No change."""
        return cls(pa.table({}), np.zeros(0, np.bool_))

    def slice(self, start: int, stop: int) -> "Changes":
        """The changes from `start` to `stop`, without a copy."""
        return Changes(
            rows=self.rows.slice(start, stop - start),
            deletes=self.deletes[start:stop],
            unavailable={name: mask[start:stop] for name, mask in self.unavailable.items()},
            old_keys=self.old_keys.slice(start, stop - start) if self.old_keys is not None else None,
            is_settled=self.is_settled,
        )

    def take(self, places: "npt.NDArray[np.int64]") -> "Changes":
        """The changes at these places."""
        chosen = pa.array(places)
        return Changes(
            rows=self.rows.take(chosen),
            deletes=self.deletes[places],
            unavailable={name: mask[places] for name, mask in self.unavailable.items() if mask[places].any()},
            old_keys=self.old_keys.take(chosen) if self.old_keys is not None else None,
            truncated=self.truncated,
            is_settled=self.is_settled,
        )

    def only(self, wanted: Mask) -> "Changes":
        """The changes for which `wanted` is true."""
        return self if wanted.all() else self.take(np.flatnonzero(wanted))
