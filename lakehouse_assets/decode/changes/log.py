"""Every change as a row, for tables that keep what happened: what a change says, and what it was.

Of a deletion only the key is kept; a value that a change does not carry, because it did not change, is null.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_assets.decode.changes.decoded import ChangeDecoder, ChangeMessages, DecodedChanges, Indices
from lakehouse_assets.decode.decoded import Decoded, Messages
from lakehouse_assets.model.columns import OPERATION, SOURCE_POSITION


@dataclass(frozen=True, slots=True)
class ChangeLogDecoder:
    """Decodes as `changes` does; `key` names columns. What says nothing of rows is left out, as if by a filter."""

    changes: ChangeDecoder
    key: Sequence[str]

    def decode(self, messages: Messages) -> Decoded:
        """Every message becomes rows, stands in `bad`, or is filtered."""
        decoded = self.changes.decode(ChangeMessages(messages.values, messages.keys, messages.headers))
        rows, places = list_changes(decoded, self.key)
        return Decoded(rows, decoded.bad, decoded.unknown, decoded.skipped, places)


def list_changes(decoded: DecodedChanges, key: Sequence[str]) -> tuple[pa.Table, Indices]:
    """The changes, truncations too, as rows in the order of their messages, and the message of each."""
    table, count = decoded.table, len(decoded)
    columns = [_spoken(table.column(name), _unspoken(decoded, name, key)) for name in table.column_names]
    rows = pa.table(columns, schema=pa.schema([field.with_nullable(True) for field in table.schema]))
    nothing = pa.nulls(count, pa.int64())
    rows = rows.append_column(SOURCE_POSITION, decoded.positions if decoded.positions is not None else nothing)
    rows = rows.append_column(OPERATION, decoded.operations if decoded.operations is not None else _operations(decoded))
    if not decoded.truncations:
        return rows, decoded.messages
    emptied = len(decoded.truncations)
    blank = {name: pa.nulls(emptied, rows.schema.field(name).type) for name in rows.column_names}
    blank[SOURCE_POSITION] = pa.array([one.position for one in decoded.truncations], pa.int64())
    blank[OPERATION] = pa.array(["truncate"] * emptied, pa.string())
    places = np.concatenate([decoded.messages, np.array([one.message for one in decoded.truncations], np.int64)])
    order = np.argsort(places, kind="stable")
    return pa.concat_tables([rows, pa.table(blank, schema=rows.schema)]).take(pa.array(order)), places[order]


def _operations(decoded: DecodedChanges) -> pa.Array:
    """Where the source has no words for them."""
    return pc.if_else(pa.array(decoded.deletes), "delete", "upsert")


def _unspoken(decoded: DecodedChanges, name: str, key: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.bool_]] | None:
    """Which changes don't say the value of a column; None: all do."""
    if name in key:
        return None
    mask = decoded.unavailable.get(name)
    if not decoded.deletes.any():
        return mask
    return decoded.deletes if mask is None else decoded.deletes | mask


def _spoken(column: pa.ChunkedArray, unspoken: np.ndarray[tuple[int], np.dtype[np.bool_]] | None) -> pa.ChunkedArray:
    if unspoken is None:
        return column
    # Not if_else: Arrow has none for maps.
    places = pa.array(np.arange(len(column)), mask=unspoken)
    return column.take(places)
