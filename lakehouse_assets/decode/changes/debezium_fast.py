"""The fast decoder of Debezium's JSON: many messages of one schema in one call of Arrow's reader.

The reader is asked for the columns in `after`, the key in `before`, the operation and the position, and ignores the rest.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_assets.decode.changes.choosing import ImageForms, find_column, members_of, no_suspects
from lakehouse_assets.decode.changes.connect import ConnectType
from lakehouse_assets.decode.changes.decoded import Mask
from lakehouse_assets.decode.changes.encodings import EncodedColumn
from lakehouse_assets.decode.changes.envelope import OPERATIONS
from lakehouse_assets.decode.changes.forms import Form
from lakehouse_assets.decode.changes.images import type_at
from lakehouse_assets.decode.changes.placeholders import find_unavailable
from lakehouse_assets.decode.changes.positions import SOURCE_FIELDS, read_positions
from lakehouse_assets.decode.changes.table_names import (
    NAME_FIELDS,
    NamedRows,
    TableNames,
    read_name,
    read_names,
)
from lakehouse_assets.decode.columns import arrow_schema
from lakehouse_assets.decode.exact import Unreadable, parse_object
from lakehouse_assets.decode.lines import NO_CLUE, Doubt, doubt_of, is_strict, join_lines, read_lines
from lakehouse_assets.decode.screen import Screen
from lakehouse_assets.decode.wire import Suspects, Unproven

TOMBSTONE = b'{"op":"d"}'
"""What stands for a message without a value."""

_LESSON_ROWS = 40
_LETTERS = pa.array(list(OPERATIONS))
_WORDS = pa.array(list(OPERATIONS.values()))
_UPDATE, _DELETE = list(OPERATIONS).index("u"), list(OPERATIONS).index("d")


@dataclass(frozen=True, slots=True)
class FastRead:
    """A row per message, of which the suspects hold nothing to rely on. In deletions, the columns of the key are null.

    `before`: the columns of the key in `before`, null where it does not have them for sure; empty where nobody asked.
    `others`: messages of tables that are not meant; of them nothing else counts.
    """

    table: pa.Table
    suspects: Mask
    operations: pa.Array
    deletes: Mask
    positions: pa.Array
    unavailable: Mapping[str, Mask]
    before: Mapping[str, pa.Array]
    tables: NamedRows
    others: Mask


class FastDebezium:
    """Decodes many messages of one schema at once, or says that it can't prove the result."""

    def __init__(
        self, columns: Sequence[EncodedColumn], key: Sequence[str], tables: TableNames, source: ConnectType | None
    ) -> None:
        """`key`: names of columns. `tables`: those that are meant. `source`: the envelope's type, where messages say it."""
        self._tables = tables
        self._columns, self._key, self._schema = columns, frozenset(key), arrow_schema(columns)
        after, before = (source.member(name) if source else None for name in ("after", "before"))
        self._forms = ImageForms(columns, after)
        keyed = [column for column in columns if column.name in self._key]
        self.can_read = self._forms.can_be_read and all(_are_alike(type_at(one, before), type_at(one, after)) for one in keyed)
        self._read_schema: pa.Schema | None = None
        self._has_schemas = False  # so that nobody asks for the name of the database

    def decode(self, values: Sequence[bytes], *, needs_before: bool) -> FastRead | Doubt:
        """All values (at least one), or why nothing is proved."""
        joined = join_lines(values)
        if isinstance(joined, Doubt):
            return joined
        if not self._forms.is_learnt:
            self._learn(values)
        block, longest = joined
        read = self._read(block)
        if isinstance(read, Doubt) and self._learn(values[read.rows[0] if read.rows else 0 :]):
            read = self._read(block)
        if isinstance(read, Doubt):
            return read
        if read.num_rows != len(values) or not is_strict(block, longest, values):
            return NO_CLUE
        try:
            return self._convert(read, values, needs_before)
        except Unproven:
            return NO_CLUE

    def find_others(self, values: Sequence[bytes]) -> Mask | None:
        """Which values are of tables that are not meant, whatever else is in them; None: that can't be said."""
        joined = join_lines(values)
        if isinstance(joined, Doubt):
            return None
        block, longest = joined
        try:
            read = read_lines(block, pa.schema([("source", pa.struct(NAME_FIELDS))]), "ignore")
        except (pa.ArrowInvalid, UnicodeDecodeError):
            return None
        if read.num_rows != len(values) or not is_strict(block, longest, values):
            return None
        return read_names(read.column("source").combine_chunks().flatten()).find(self._tables.leave_out)

    def screen(self, values: Sequence[bytes]) -> list[int]:
        """Which values look good, of many of which some are not."""
        screen = Screen(self._plan())
        return [row for row, value in enumerate(values) if screen.passes(value)]

    def _learn(self, values: Sequence[bytes]) -> bool:
        self._read_schema = None
        images, named = [], []
        for value in values[:_LESSON_ROWS]:
            try:
                message = parse_object(value)
            except Unreadable:
                continue
            source = message.get("source")
            if not self._tables.leave_out(read_name(source)):
                images.append(message.get("after"))
            if isinstance(source, dict) and source.get("table"):
                named.append(source)
        self._has_schemas = bool(named) and all(source.get("schema") for source in named)
        return self._forms.learn(images)

    def _plan(self) -> pa.Schema:
        images = [("before", self._forms.plan(self._key)), ("after", self._forms.plan())]
        return pa.schema([*images, ("op", pa.string()), ("source", pa.struct((*SOURCE_FIELDS, *self._name_fields())))])

    def _name_fields(self) -> Sequence[tuple[str, pa.DataType]]:
        return [one for one in NAME_FIELDS if one[0] != "db"] if self._has_schemas else NAME_FIELDS

    def _read(self, block: bytes) -> pa.Table | Doubt:
        if self._read_schema is None:
            self._read_schema = self._plan()
        try:
            return read_lines(block, self._read_schema, "ignore")
        except pa.ArrowInvalid as error:
            return doubt_of(error)
        except UnicodeDecodeError:
            return NO_CLUE

    def _convert(self, read: pa.Table, values: Sequence[bytes], needs_before: bool) -> FastRead:
        before, after, letters, source = (read.column(name).combine_chunks() for name in ("before", "after", "op", "source"))
        operations = pc.index_in(letters, _LETTERS)
        codes = pc.fill_null(operations, -1).to_numpy()
        deletes: Mask = codes == _DELETE
        suspects = Suspects((codes < 0) | (~deletes & ~_mask(after.is_valid())))
        parts = dict(zip((field.name for field in source.type), source.flatten(), strict=True))
        positions = read_positions([parts[name] for name, _ in SOURCE_FIELDS], suspects)
        tables, others = self._find_tables(parts, values, suspects)
        is_update: Mask = (codes == _UPDATE) & _mask(before.is_valid())
        now, once = members_of(after), members_of(before)
        arrays: list[pa.Array] = []
        unavailable: dict[str, Mask] = {}
        keys_before: dict[str, pa.Array] = {}
        for column, form in self._forms:
            array, is_key = find_column(now, column.path, suspects), column.name in self._key
            there = find_unavailable(array, suspects)
            if is_key:
                old = find_column(once, column.path, suspects)
                if needs_before:
                    keys_before[column.name] = _convert_surely(old, form)
                suspects.rows |= there | (is_update & _mask(pc.fill_null(pc.not_equal(old, array), False)))
            elif there.any():
                unavailable[column.name] = there
                array = pc.if_else(pa.array(there), pa.scalar(None, array.type), array)
            if (column.required or is_key) and array.null_count:
                suspects.rows |= _mask(array.is_null()) & ~deletes & ~there
            converted = form.convert(array, suspects)
            if form.takes_text:
                suspects.rows |= _find_texts(column, converted, values)
            arrays.append(converted)
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        words = _WORDS.take(operations)
        return FastRead(table, suspects.rows, words, deletes, positions, unavailable, keys_before, tables, others)


    def _find_tables(
        self, parts: Mapping[str, pa.Array], values: Sequence[bytes], suspects: Suspects
    ) -> tuple[NamedRows, Mask]:
        """The tables that messages are of, and which are not meant."""
        tables = read_names([parts.get(name, pa.nulls(len(values), kind)) for name, kind in NAME_FIELDS])
        others = tables.find(self._tables.leave_out)
        if self._has_schemas:
            lacks = _mask(pc.equal(pc.fill_null(parts["schema"], ""), "")) & _mask(parts["table"].is_valid())
            suspects.rows |= lacks
            others &= ~lacks
        if not self._tables.are_all and None in tables.names:
            is_tombstone = np.fromiter((value is TOMBSTONE for value in values), np.bool_, len(values))
            suspects.rows |= tables.find(lambda name: name is None) & ~is_tombstone
        return tables, others


def _mask(flags: pa.Array) -> Mask:
    mask: Mask = flags.to_numpy(zero_copy_only=False)
    return mask


def _convert_surely(array: pa.Array, form: Form) -> pa.Array:
    """The values that are proved; the others are null."""
    suspects = no_suspects(len(array))
    suspects.rows |= find_unavailable(array, suspects) | form.takes_text
    array = pc.if_else(pa.array(suspects.rows), pa.scalar(None, array.type), array)
    converted = form.convert(array, suspects)
    return pc.if_else(pa.array(suspects.rows), pa.scalar(None, converted.type), converted) if suspects.rows.any() else converted


def _find_texts(column: EncodedColumn, decimals: pa.Array, values: Sequence[bytes]) -> Mask:
    """Which decimals, that the reader took for numbers, may be text that could be base64 too."""
    # The name may be spelt with escapes.
    pattern = re.compile(rb'"%s"\s*:\s*"|\\u' % re.escape(json.dumps(column.path[-1], ensure_ascii=False)[1:-1].encode()))
    is_whole = pc.and_(pc.equal(decimals, pc.trunc(decimals)), pc.greater_equal(decimals, 0))
    found = np.zeros(len(values), np.bool_)
    for row in np.flatnonzero(_mask(pc.fill_null(is_whole, False))).tolist():
        found[row] = pattern.search(values[row]) is not None
    return found


def _are_alike(one: ConnectType | None, other: ConnectType | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.kind, one.name, one.scale) == (other.kind, other.name, other.scale)
