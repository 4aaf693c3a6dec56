"""Canal's flat messages: several rows of one statement each, their values as text, the types of the columns beside them.

Canal writes an enum and a set as numbers, and bytes as the characters of ISO 8859-1; `mysqlType` and `sqlType` tell which are
those. It writes MySQL's `timestamp` in the time zone that it runs in, which no message names. Its messages have no position
that sorts; those of TiDB, which writes them too, may have one. Their keys are null.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from lakehouse_assets.decode.changes.decoded import ChangeMessages, DecodedChanges
from lakehouse_assets.decode.changes.gathering import ChangeList, RowChange
from lakehouse_assets.decode.changes.mysql_rows import Row, RowReader, Spell, parse_key, row_of
from lakehouse_assets.decode.changes.mysql_text import mysql_reader, refuse_text
from lakehouse_assets.decode.changes.table_names import TableNames, join_name
from lakehouse_assets.decode.columns import Column
from lakehouse_assets.decode.exact import Unreadable, describe, parse_object
from lakehouse_assets.decode.kinds import Integer
from lakehouse_assets.decode.rules import Rejected

_INSERTS: Final = {"INSERT": "insert", "INIT": "read"}
_WITH_ROWS: Final = frozenset((*_INSERTS, "UPDATE", "DELETE"))
_SILENT: Final = frozenset(
    ("QUERY", "CREATE", "ALTER", "ERASE", "RENAME", "CINDEX", "DINDEX", "GTID", "XACOMMIT", "XAROLLBACK", "MHEARTBEAT")
    + ("TIDB_WATERMARK",)
)
# Java's numbers of SQL types, as they stand in `sqlType`.
_SQL_INTEGER, _SQL_BIT, _SQL_BLOB = "4", "-7", "2004"
_MAX_DIGITS = 20  # of a number of 64 bits
_SYMBOL = re.compile("'((?:[^']|'')*)'")
_ENUMERATED = re.compile(r"(enum|set)\s*\((.*)\)", re.DOTALL | re.IGNORECASE)
_BYTES = re.compile("binary|blob|geometry", re.IGNORECASE)


class CanalDecoder:
    """Decodes Canal's messages of one table."""

    def __init__(self, columns: Sequence[Column], key: Sequence[str], names: TableNames) -> None:
        """`key`: names of the columns that name a row; they are required. `names`: the tables that are meant."""
        self._columns, self._key, self._names = columns, key, names
        self._rows = RowReader(columns, key, lambda column: mysql_reader(column, refuse_text, is_utc=False))
        self._key_fields = [column.path[0] for column in columns if column.name in key]

    def decode(self, messages: ChangeMessages) -> DecodedChanges:
        """As every decoder of changes. A message with a row that can't be read is bad as a whole."""
        changes, counter, has_positions = ChangeList(self._columns, self._key), self._rows.open_counter(), False
        for index, (value, key) in enumerate(zip(messages.values, messages.keys, strict=True)):
            try:
                if value is None:
                    changes.add(index, [self._rows.read_delete(self._row_of_key(key), None)], None)
                    continue
                message = parse_object(value)
                kind, position = str(message.get("type")), _position_of(message)
                table = join_name(message.get("database"), message.get("table"))
                if self._names.leave_out(table):
                    changes.skip(index)
                    continue
                has_positions = has_positions or position is not None
                if kind == "TRUNCATE":
                    self._names.demand(table)
                    changes.truncate(index, position, table)
                elif kind in _SILENT or (message.get("isDdl") is True and kind not in _WITH_ROWS):
                    changes.skip(index)
                else:
                    self._names.demand(table)
                    rows = _list_of_rows(message, "data") or []
                    changes.add(index, self._read(message, kind, rows, position), table)
                    if kind != "DELETE":
                        for row in rows:
                            counter.add(row)
            except Unreadable as error:
                changes.refuse(index, error)
        return changes.to_decoded(counter.result(), has_positions=has_positions)

    def _read(self, message: dict[str, Any], kind: str, rows: list[Row], position: int | None) -> list[RowChange]:
        if kind not in _WITH_ROWS:
            expected = "INSERT, UPDATE, DELETE, TRUNCATE or a change of the schema"
            raise Unreadable("unknown_operation", f"field 'type': found {describe(message.get('type'))}, expected {expected}")
        if not rows:
            raise Unreadable("missing_required", f"field 'data' is missing, null or empty, expected the rows of {kind}")
        spell = _speller(message.get("mysqlType"), message.get("sqlType"))
        before = self._old_values(message, len(rows)) if kind == "UPDATE" else [{}] * len(rows)
        changes: list[RowChange] = []
        for number, (row, old) in enumerate(zip(rows, before, strict=True), start=1):
            try:
                if kind == "DELETE":
                    changes.append(self._rows.read_delete(row, position, spell))
                elif kind == "UPDATE":
                    changes += self._rows.read_update(row, old, position, spell)
                else:
                    changes.append(self._rows.read_insert(_INSERTS[kind], row, position, spell))
            except Unreadable as error:
                if len(rows) == 1:
                    raise
                raise Unreadable(error.code, f"row {number} of {len(rows)}: {error.reason}") from None
        return changes

    def _old_values(self, message: dict[str, Any], count: int) -> list[Row]:
        """The old values of each row. Old versions of Canal leave out those of rows that say nothing new."""
        found = _list_of_rows(message, "old") or []
        if len(found) == count:
            return found
        if any(name in old for old in found for name in self._key_fields):
            reason = f"field 'old': found {len(found)} rows of which some had another key, expected {count}, as in 'data'"
            raise Unreadable("wrong_type", reason)
        return [{}] * count

    def _row_of_key(self, key: bytes | None) -> Row:
        """The row that a message without a value names; Canal itself sends none."""
        found = parse_key(key)
        if not isinstance(found, dict) and len(self._key_fields) == 1:
            found = {self._key_fields[0]: found}
        return row_of(found, "key")


def _list_of_rows(message: dict[str, Any], name: str) -> list[Row] | None:
    found = message.get(name)
    if found is None:
        return None
    if not isinstance(found, list):
        raise Unreadable("wrong_type", f"field {name!r}: found {describe(found)}, expected a list of rows")
    return [row_of(item, name) for item in found]


def _position_of(message: dict[str, Any]) -> int | None:
    """TiDB's number of the commit, where the message has it."""
    extension = message.get("_tidb")
    number = extension.get("commitTs") if isinstance(extension, dict) else None
    if not isinstance(number, Integer) or len(number) > _MAX_DIGITS or not 0 <= (position := int(number)) < 2**63:
        return None
    return position


def _speller(mysql_types: Any, sql_types: Any) -> Spell:
    mysql = mysql_types if isinstance(mysql_types, dict) else {}
    sql = sql_types if isinstance(sql_types, dict) else {}

    def spell(name: str, found: Any) -> Any:
        if type(found) is not str:
            return found
        convert = _conversion(str(mysql.get(name) or ""), str(sql.get(name) or ""))
        return found if convert is None else convert(found)

    return spell


@lru_cache(maxsize=1024)
def _conversion(mysql_type: str, sql_type: str) -> Callable[[str], Any] | None:
    """What undoes what Canal does to values of this type; None: nothing."""
    enumerated = _ENUMERATED.match(mysql_type)
    if enumerated is not None:
        symbols = [symbol.replace("''", "'") for symbol in _SYMBOL.findall(enumerated[2])]
        if enumerated[1].lower() == "enum":
            return lambda text: _symbol(text, symbols, is_number=sql_type == _SQL_INTEGER)
        return lambda text: _members(text, symbols, is_number=sql_type == _SQL_BIT)
    if mysql_type.lower() in ("enum", "set"):
        return _refuse_number
    return _octets if sql_type == _SQL_BLOB or _BYTES.search(mysql_type) else None


def _octets(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise Rejected("invalid_text", "bytes as characters of ISO 8859-1") from None


def _symbol(text: str, symbols: Sequence[str], *, is_number: bool) -> str:
    if not is_number and text in symbols:
        return text
    number = int(text) if text.isdecimal() and len(text) <= _MAX_DIGITS else -1
    if not 0 <= number <= len(symbols):
        raise Rejected("out_of_range", f"the number of one of {len(symbols)} symbols")
    return symbols[number - 1] if number else ""  # 0 is MySQL's mark of a value that was none


def _members(text: str, symbols: Sequence[str], *, is_number: bool) -> str:
    if not is_number and all(part in symbols for part in text.split(",")):
        return text
    bits = int(text) if text.isdecimal() and len(text) <= _MAX_DIGITS else 2**64
    if bits >= 2 ** len(symbols):
        raise Rejected("out_of_range", f"a number of {len(symbols)} bits, one for each member of the set")
    return ",".join(symbol for place, symbol in enumerate(symbols) if bits >> place & 1)


def _refuse_number(text: str) -> str:
    """TiDB names the type without its symbols unless `content-compatible` is set."""
    if text.isdecimal():
        raise Rejected("out_of_range", "the symbol, or a mysqlType that lists the symbols")
    return text
