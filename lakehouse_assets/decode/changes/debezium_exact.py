"""The reference decoder of Debezium's JSON: one message at a time, every rule spelled out.

Whatever the fast decoder accepts, this one accepts with the same values; it alone says why a message is bad.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lakehouse_assets.decode.changes.connect import ConnectType, Wrappers, is_wrapper, read_type
from lakehouse_assets.decode.changes.decoded import ChangeMessages, DecodedChanges
from lakehouse_assets.decode.changes.encodings import EncodedColumn
from lakehouse_assets.decode.changes.envelope import (
    DELETE,
    LOGICAL_MESSAGE,
    OPERATIONS,
    TRUNCATE,
    UPDATE,
    find_old_key,
    read_image,
    read_member,
    read_operation,
)
from lakehouse_assets.decode.changes.gathering import ChangeList, RowChange
from lakehouse_assets.decode.changes.images import ImageReader, KeyReader, MessageKeys
from lakehouse_assets.decode.changes.positions import read_position
from lakehouse_assets.decode.changes.table_names import TableNames, read_name
from lakehouse_assets.decode.decoded import Headers
from lakehouse_assets.decode.exact import Unreadable, parse_object
from lakehouse_assets.decode.unknown import Shape, UnknownCounter


@dataclass(frozen=True, slots=True)
class _Readers:
    """How the two images of messages of one schema are read."""

    before: KeyReader
    after: ImageReader


class ExactDebezium:
    """Decodes Debezium's messages one by one."""

    def __init__(self, columns: Sequence[EncodedColumn], key: Sequence[str], tables: TableNames) -> None:
        """`key`: the names of the columns of the key, in its order. `tables`: those that are meant."""
        names = [column.name for column in columns]
        self._key_places = [names.index(name) for name in key]
        key_columns = [columns[place] for place in self._key_places]
        self._keys = MessageKeys(key_columns)
        self._wrappers = Wrappers(lambda source: _open_readers(columns, key_columns, source))
        self._columns, self._key, self._shape, self._tables = columns, key, Shape.of(columns), tables

    def decode(self, messages: ChangeMessages, indices: Sequence[int]) -> DecodedChanges:
        """Judges the messages at the ascending `indices`."""
        found, unknown = ChangeList(self._columns, self._key), UnknownCounter(self._shape)
        for index in indices:
            try:
                self._judge(messages, index, found, unknown)
            except Unreadable as error:
                found.refuse(index, error)
        return found.to_decoded(unknown.result(), has_positions=True)

    def _judge(self, messages: ChangeMessages, index: int, found: ChangeList, unknown: UnknownCounter) -> None:
        value, key = messages.values[index], messages.keys[index]
        opened = None if value is None else self._open(value)
        if opened is None:
            found.add(index, [self._deletion(self._keys.read(key))], None)
            return
        readers, message = opened
        source = read_member(message, "source")
        table, position = read_name(source), read_position(source)
        operation = None if self._tables.leave_out(table) else read_operation(message)
        if operation is None or operation == LOGICAL_MESSAGE:
            found.skip(index)
            return
        self._tables.demand(table)
        if operation == TRUNCATE:
            found.truncate(index, position, table)
        elif OPERATIONS[operation] == DELETE:
            found.add(index, [self._deletion(self._deleted_key(key, message, readers), position)], table)
        else:
            upserts = self._upserts(key, messages.headers[index], message, readers, OPERATIONS[operation], position)
            found.add(index, upserts, table)
            unknown.add(message["after"])

    def _open(self, value: bytes) -> tuple[_Readers, dict[str, Any]] | None:
        """What a message is read with, and the message without a wrapper; None: a tombstone in a wrapper."""
        readers, payload = self._wrappers.open(value)
        if readers is not self._wrappers.plain and payload == b"null":
            return None
        message = parse_object(payload)
        if not is_wrapper(message):
            return readers, message
        payload_there = message["payload"]
        if payload_there is None:
            return None
        if not isinstance(payload_there, dict):
            raise Unreadable("not_an_object", "the payload is no JSON object")
        return self._wrappers.make(read_type(message["schema"])), payload_there

    def _deletion(self, key: Sequence[Any], position: int | None = None) -> RowChange:
        values: list[Any] = [None] * len(self._columns)
        for place, value in zip(self._key_places, key, strict=True):
            values[place] = value
        return RowChange(DELETE, values, position)

    def _deleted_key(self, key: bytes | None, message: dict[str, Any], readers: _Readers) -> list[Any]:
        """The message's key says it; where that has other columns, `before`, which holds whole rows then."""
        try:
            return self._keys.read(key)
        except Unreadable as error:
            image = read_image(message, "before")
            if image is None:
                raise
            try:
                return readers.before.read(image)
            except Unreadable:
                raise error from None

    def _upserts(
        self,
        message_key: bytes | None,
        headers: Headers | None,
        message: dict[str, Any],
        readers: _Readers,
        operation: str,
        position: int | None,
    ) -> list[RowChange]:
        image = read_image(message, "after")
        if image is None:
            raise Unreadable("missing_required", f"field 'after' is missing or null, expected the row of an {operation}")
        row = readers.after.read(image)
        for place in self._key_places:
            if row.values[place] is None:
                raise Unreadable("missing_required", "a column of the table's key is null or unavailable in 'after'")
        key = [row.values[place] for place in self._key_places]
        found = find_old_key(headers) if row.unavailable else None
        old_key = None if found is None else self._keys.read(found)
        before = self._key_before(message_key, message, readers, key) if operation == UPDATE else None
        if before is None:
            return [RowChange(operation, row.values, position, row.unavailable, old_key)]
        return [
            self._deletion(before, position),
            RowChange(operation, row.values, position, row.unavailable, old_key or before),
        ]

    def _key_before(
        self, message_key: bytes | None, message: dict[str, Any], readers: _Readers, key: list[Any]
    ) -> list[Any] | None:
        """The key that the row had in `before`, if it was another one.

        Where messages are keyed by the table's key, Debezium makes two messages of a change of key, and `before` may hold
        made-up values; so it counts only where the message's key has other columns.
        """
        image = read_image(message, "before")
        if image is None:
            return None
        before: list[Any] | Unreadable
        try:
            before = readers.before.read(image)
        except Unreadable as error:
            before = error
        if before == key or self._names_the_row(message_key):
            return None
        if not isinstance(before, Unreadable):
            return before
        if before.code == "missing_required":  # a row without a key was never put into the table
            return None
        raise before

    def _names_the_row(self, message_key: bytes | None) -> bool:
        try:
            self._keys.read(message_key)
        except Unreadable:
            return False
        return True


def _open_readers(
    columns: Sequence[EncodedColumn], key_columns: Sequence[EncodedColumn], source: ConnectType | None
) -> _Readers:
    before, after = (source.member(name) if source else None for name in ("before", "after"))
    return _Readers(KeyReader(key_columns, before, "before."), ImageReader(columns, after, "after."))
