"""Changes of rows by key, ready to be put into a table: at most one for each key, the last."""

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
        rows: One row per key, with columns of the table, those of the platform included (`_kafka_offset` and so on); what is
            missing is null. Of a delete, only the key's columns and the platform's hold values.
        deletes: Which rows say that the row of the key goes.
        unavailable: By column, which rows don't hold its value: the table's row of this key (or of `old_keys`) has it.
        old_keys: Columns of the key, one row per row: the key under which the table has the values that are unavailable; null
            where it is the row's own. None: it always is.
        truncated: Whether all rows of the table go first.
    """

    rows: pa.Table
    deletes: Mask
    unavailable: Mapping[str, Mask] = field(default_factory=dict)
    old_keys: pa.Table | None = None
    truncated: Truncated | None = None

    def __len__(self) -> int:
        return int(self.rows.num_rows)
