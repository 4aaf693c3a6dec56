"""The fast decoder: many messages in one call of Arrow's JSON reader, and what it read as the declared types."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse_assets.decode.columns import Column, arrow_schema
from lakehouse_assets.decode.lines import NO_CLUE, Doubt, doubt_of, is_strict, join_lines, read_lines
from lakehouse_assets.decode.unknown import UnknownWatch
from lakehouse_assets.decode.wire import Suspects, Unproven, convert_column
from lakehouse_assets.model.unknown import UnknownFields

_UNEXPECTED = "unexpected field"  # Arrow's words


@dataclass(frozen=True, slots=True)
class FastRead:
    """A row per value. The rows where `suspects` is true hold nothing to rely on.

    `has_declared_only`: no value has a field that no column reads, not even a null.
    """

    table: pa.Table
    suspects: npt.NDArray[np.bool_]
    unknown: UnknownFields
    has_declared_only: bool


class FastDecoder:
    """Decodes many JSON messages at once, or says that it can't prove the result."""

    def __init__(self, columns: Sequence[Column], wire_schema: pa.Schema) -> None:
        """`wire_schema` is what `plan_wire_schema` made of `columns`."""
        self._columns = tuple(columns)
        self._schema = arrow_schema(columns)
        self._wire_schema = wire_schema
        self._watch = UnknownWatch(columns, wire_schema)

    def decode(self, values: Sequence[bytes]) -> FastRead | Doubt:
        """All values (at least one) as rows, of which some may be suspects, or why nothing is proved."""
        joined = join_lines(
            values
        )  # never skip this: a block that begins with `null` crashes the reader's process
        if isinstance(joined, Doubt):
            return joined
        block, longest = joined
        try:
            read, is_watched = self._read(block)
            has_declared_only = is_watched and read.schema.equals(self._wire_schema)
        except pa.ArrowInvalid as error:
            return doubt_of(error)
        except UnicodeDecodeError:  # Arrow's message quoted bytes that are no UTF-8
            return NO_CLUE
        if read.num_rows != len(values) or not is_strict(block, longest, values):
            return NO_CLUE
        suspects = Suspects(np.zeros(len(values), np.bool_))
        try:
            arrays = [convert_column(read, column, suspects) for column in self._columns]
        except Unproven:
            return NO_CLUE
        good = ~suspects.rows
        unknown = self._watch.count(read, good) if is_watched else self._watch.look(values, good)
        return FastRead(pa.Table.from_arrays(arrays, schema=self._schema), suspects.rows, unknown, has_declared_only)

    def _read(self, block: bytes) -> tuple[pa.Table, bool]:
        """The block, and whether every field in it was read, also those that no column asks for."""
        schema = self._watch.read_schema
        if schema is not None:
            try:
                return read_lines(block, schema, "error"), True
            except (pa.ArrowInvalid, UnicodeDecodeError) as error:
                # With unknown fields in the schema it may be one of them that is at fault, which is no fault of the message.
                if schema is self._wire_schema and _UNEXPECTED not in str(error):
                    raise
        return read_lines(block, self._wire_schema, "ignore"), False
