"""Maxwell's messages: one row each, as JSON. Its keys name the row, also where the value is gone.

A position is the number of the binlog's file and the offset in it, as far as Maxwell was told to write them.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from lakehouse_assets.decode.changes.decoded import ChangeMessages, DecodedChanges
from lakehouse_assets.decode.changes.gathering import ChangeList, RowChange
from lakehouse_assets.decode.changes.mysql_rows import Row, RowReader, parse_key, row_of
from lakehouse_assets.decode.changes.mysql_text import mysql_reader, read_base64
from lakehouse_assets.decode.changes.positions import ROW_BITS, pack_binlog
from lakehouse_assets.decode.changes.table_names import TableNames, join_name
from lakehouse_assets.decode.columns import Column
from lakehouse_assets.decode.exact import Unreadable, describe, parse_object
from lakehouse_assets.decode.kinds import Integer

_INSERTS: Final = {"insert": "insert", "bootstrap-insert": "read"}
_SILENT: Final = frozenset(
    ("bootstrap-start", "bootstrap-complete", "table-create", "table-alter", "table-drop")
    + ("database-create", "database-alter", "database-drop")
)
_OFFSET = re.compile("[0-9]{1,18}")
_MAX_DIGITS = 18
_LAST_ROW = (1 << ROW_BITS) - 1
_KEY_PREFIX = "pk."


class MaxwellDecoder:
    """Decodes Maxwell's messages of one table."""

    def __init__(self, columns: Sequence[Column], key: Sequence[str], names: TableNames) -> None:
        """`key`: names of the columns that name a row; they are required. `names`: the tables that are meant."""
        self._columns, self._key, self._names = columns, key, names
        self._rows = RowReader(columns, key, lambda column: mysql_reader(column, read_base64, is_utc=True))
        # Maxwell's keys have the columns' names in lower case.
        self._key_fields = {column.path[0].lower(): column.path[0] for column in columns if column.name in key}

    def decode(self, messages: ChangeMessages) -> DecodedChanges:
        """As every decoder of changes."""
        changes, counter, has_positions = ChangeList(self._columns, self._key), self._rows.open_counter(), False
        for index, (value, key) in enumerate(zip(messages.values, messages.keys, strict=True)):
            try:
                if value is None:
                    table, row = self._read_key(key)
                    if self._names.leave_out(table):
                        changes.skip(index)
                        continue
                    self._names.demand(table)
                    changes.add(index, [self._rows.read_delete(row, None)], table)
                    continue
                message = parse_object(value)
                kind, table = str(message.get("type")), join_name(message.get("database"), message.get("table"))
                if kind in _SILENT or self._names.leave_out(table):
                    changes.skip(index)
                    continue
                self._names.demand(table)
                position = _position_of(message)
                row, read = self._read(message, kind, position)
                has_positions = has_positions or position is not None
                changes.add(index, read, table)
                if kind != "delete":
                    counter.add(row)
            except Unreadable as error:
                changes.refuse(index, error)
        return changes.to_decoded(counter.result(), has_positions=has_positions)

    def _read(self, message: dict[str, Any], kind: str, position: int | None) -> tuple[Row, list[RowChange]]:
        if kind not in (*_INSERTS, "update", "delete"):
            expected = "insert, update, delete, bootstrap-… or a change of the schema"
            raise Unreadable("unknown_operation", f"field 'type': found {describe(message.get('type'))}, expected {expected}")
        row = row_of(message.get("data"), "data")
        if kind == "delete":
            return row, [self._rows.read_delete(row, position)]
        if kind == "update":
            old = message.get("old")
            return row, self._rows.read_update(row, {} if old is None else row_of(old, "old"), position)
        return row, [self._rows.read_insert(_INSERTS[kind], row, position)]

    def _read_key(self, key: bytes | None) -> tuple[str | None, Row]:
        """The table and the row that a message without a value names, in both forms that Maxwell has for keys."""
        match parse_key(key):
            case dict() as found:
                table = join_name(found.get("database"), found.get("table"))
                parts = {name.removeprefix(_KEY_PREFIX): item for name, item in found.items() if name.startswith(_KEY_PREFIX)}
            case [str() as database, str() as name, list() as found]:
                table = join_name(database, name)
                parts = {name: item for part in found for name, item in row_of(part, "key").items()}
            case found:
                raise Unreadable("wrong_type", f"the key: found {describe(found)}, expected one of Maxwell's keys")
        return table, {self._key_fields.get(name, name): item for name, item in parts.items()}


def _position_of(message: dict[str, Any]) -> int | None:
    """Where the row stands in the binlog. The last row of a transaction has no number, but says that it is the last."""
    found = message.get("position")
    file, _, place = found.rpartition(":") if isinstance(found, str) else ("", "", "")
    if not _OFFSET.fullmatch(place):
        return None
    row = message.get("xoffset")
    if isinstance(row, Integer) and len(row) <= _MAX_DIGITS:
        return pack_binlog(file, int(place), int(row))
    return pack_binlog(file, int(place), _LAST_ROW if message.get("commit") is True else 0)
