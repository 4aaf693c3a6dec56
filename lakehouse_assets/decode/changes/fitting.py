"""Changes as the declaration reads them, judged by the columns that the table has now; see `decode.fitting`."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from lakehouse_assets.decode.changes.decoded import ChangeDecoder, ChangeMessages, DecodedChanges
from lakehouse_assets.decode.decoded import BadValue
from lakehouse_assets.decode.fitting import MISFIT_CODE, find_misfits


@dataclass(frozen=True, slots=True)
class FittingChangeDecoder:
    """Decodes as `decoder` does; a message with a value that `table_schema` has no place for is bad."""

    decoder: ChangeDecoder
    table_schema: pa.Schema

    def decode(self, messages: ChangeMessages) -> DecodedChanges:
        """As every decoder of changes."""
        decoded = self.decoder.decode(messages)
        rows = np.flatnonzero(~decoded.deletes)
        reasons = find_misfits(decoded.table.take(pa.array(rows)), self.table_schema)
        bad = [BadValue(int(decoded.messages[rows[row]]), MISFIT_CODE, reason) for row, reason in reasons.items()]
        kept = decoded.table.select([name for name in decoded.table.column_names if name in self.table_schema.names])
        return replace(decoded, table=kept).with_bad(bad)
