"""Rows of changes get their derived columns, and a row that `where` leaves out is taken out of the table.

A value that a message does not hold, because it did not change, can't be computed with: an expression of such values only
keeps its last result, and one that reads others too makes the message bad rather than wrong.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from lakehouse_assets.decode.changes.decoded import ChangeDecoder, ChangeMessages, DecodedChanges, Mask
from lakehouse_assets.decode.decoded import BadValue
from lakehouse_assets.decode.deriving import Deriver

_CODE = "unavailable_value"


class DerivingChangeDecoder:
    """Decodes with another decoder of changes, then applies the expressions of the declaration."""

    def __init__(self, deriver: Deriver, decoder: ChangeDecoder) -> None:
        """`decoder` gives the columns that are declared without `expr`."""
        self._deriver, self._decoder = deriver, decoder
        self._inputs = {one.column: (one.label, deriver.reads(one)) for one in deriver.derived}
        if deriver.where is not None:
            self._inputs[""] = (deriver.where.label, deriver.reads(deriver.where))

    def decode(self, messages: ChangeMessages) -> DecodedChanges:
        """As every decoder of changes. A message for which an expression fails is bad as a whole."""
        decoded = self._decoder.decode(messages)
        unavailable, bad = self._judge_unavailable(decoded)
        decoded = replace(decoded, unavailable=unavailable).with_bad(bad)
        rows = np.flatnonzero(~decoded.deletes)
        derived = self._deriver.derive(decoded.table.take(pa.array(rows)), decoded.messages[rows])
        kept, filtered = rows[derived.kept], rows[derived.filtered]
        # What is bad gets a place too, so that the changes keep their order; it goes with its message at the end.
        others = np.setdiff1d(np.arange(len(decoded)), kept)
        order = np.argsort(np.concatenate([kept, others]), kind="stable")
        deletes = decoded.deletes.copy()
        deletes[filtered] = True
        return replace(
            decoded,
            table=pa.concat_tables([derived.table, _bare(decoded.table.take(pa.array(others)), derived.table.schema)]).take(
                pa.array(order)
            ),
            deletes=deletes,
            filtered=np.unique(decoded.messages[filtered]),
        ).with_bad(derived.bad)

    def _judge_unavailable(self, decoded: DecodedChanges) -> tuple[dict[str, Mask], list[BadValue]]:
        """Which derived values stay as they are, and which messages can't be computed with."""
        unavailable, bad = dict(decoded.unavailable), list[BadValue]()
        if not unavailable:
            return unavailable, bad
        nothing = np.zeros(len(decoded), np.bool_)
        for column, (label, inputs) in self._inputs.items():
            flags = [decoded.unavailable.get(name, nothing) for name in inputs] or [nothing]
            some, every = np.logical_or.reduce(flags), np.logical_and.reduce(flags)
            stays = every if column else nothing
            reason = f"{label} reads a value that the message leaves out because it did not change"
            bad += [BadValue(int(decoded.messages[row]), _CODE, reason) for row in np.flatnonzero(some & ~stays)]
            if stays.any():
                unavailable[column] = stays
        return unavailable, bad


def _bare(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows of all columns; what is derived is null."""
    names = set(rows.column_names)
    arrays = [rows.column(f.name) if f.name in names else pa.nulls(rows.num_rows, f.type) for f in schema]
    return pa.Table.from_arrays(arrays, schema=schema)
