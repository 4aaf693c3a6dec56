"""Images of rows: the objects with a row's columns that stand in `before` and `after`, and in the keys of messages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from lakehouse_assets.decode.changes.connect import ConnectType, Wrappers, is_wrapper, read_type
from lakehouse_assets.decode.changes.encodings import EncodedColumn, is_unavailable, open_reader
from lakehouse_assets.decode.exact import Read, Unreadable, describe, member_of, parse_value
from lakehouse_assets.decode.rules import Rejected


@dataclass(frozen=True, slots=True)
class Image:
    """The values of the columns, and the numbers of those whose values the image does not hold."""

    values: list[Any]
    unavailable: Sequence[int]


class ImageReader:
    """Reads columns of images, whose types a message may say or not."""

    def __init__(self, columns: Sequence[EncodedColumn], source: ConnectType | None, where: str = "") -> None:
        """`where`: what stands before the names of fields in reasons."""
        self._columns = [(column, open_reader(column, type_at(column, source))) for column in columns]
        self._where = where

    def read(self, image: Mapping[str, Any]) -> Image:
        """The image.

        Raises:
            Unreadable: a value is none of its column, or a required one is missing.
        """
        values: list[Any] = []
        unavailable: list[int] = []
        for number, (column, read) in enumerate(self._columns):
            found = self._find(image, column)
            if is_unavailable(found):
                unavailable.append(number)
                found = None
            elif found is None:
                if column.required:
                    reason = f"field {self._label(column)!r} is missing or null, expected {column.type}"
                    raise Unreadable("missing_required", reason)
            else:
                found = self._convert(found, column, read)
            values.append(found)
        return Image(values, unavailable)

    def _find(self, image: Mapping[str, Any], column: EncodedColumn) -> Any:
        found: Any = image
        try:
            for key in column.path:
                if found is None:
                    break
                if is_unavailable(found):
                    return found
                found = member_of(found, key)
        except Rejected as error:
            raise self._bad(found, column, error) from None
        return found

    def _convert(self, found: Any, column: EncodedColumn, read: Read) -> Any:
        try:
            return read(found)
        except Rejected as error:
            raise self._bad(found, column, error) from None

    def _bad(self, found: Any, column: EncodedColumn, error: Rejected) -> Unreadable:
        reason = f"field {self._label(column)!r}: found {describe(found)}, expected {error.expected}"
        return Unreadable(error.code, reason)

    def _label(self, column: EncodedColumn) -> str:
        return self._where + ".".join(column.path)


class KeyReader:
    """Reads the columns of the table's key, all of which must have values."""

    def __init__(self, columns: Sequence[EncodedColumn], source: ConnectType | None, where: str) -> None:
        """`where` as in `ImageReader`."""
        self._reader = ImageReader(columns, source, where)
        self._columns = columns
        self._where = where

    def read(self, image: Mapping[str, Any]) -> list[Any]:
        """The key.

        Raises:
            Unreadable: it lacks a value.
        """
        found = self._reader.read(image)
        for number, (column, value) in enumerate(zip(self._columns, found.values, strict=True)):
            if value is None:
                state = "unavailable" if number in found.unavailable else "missing or null"
                label = self._where + ".".join(column.path)
                raise Unreadable("missing_required", f"field {label!r} is {state}, and the table's key needs it")
        return found.values


class MessageKeys:
    """Keys of messages: JSON objects with the fields of the source's key, with or without their schema.

    Where the table's key is one column, its bare value too, as transformations make it.
    """

    def __init__(self, columns: Sequence[EncodedColumn]) -> None:
        """`columns`: those of the table's key."""
        self._path = columns[0].path if len(columns) == 1 else None
        self._wrappers = Wrappers(lambda source: KeyReader(columns, source, "key."))

    def read(self, key: bytes | None) -> list[Any]:
        """The values of the columns.

        Raises:
            Unreadable: the message has no key, or not one of these columns.
        """
        if key is None:
            raise Unreadable("missing_required", "the message has no key, and nothing else says which row it is about")
        reader, payload = self._wrappers.open(key)
        try:
            found = parse_value(payload)
        except Unreadable as error:
            raise Unreadable(error.code, f"the key: {error.reason}") from None
        if isinstance(found, dict) and is_wrapper(found):
            reader, found = self._wrappers.make(read_type(found["schema"])), found["payload"]
        if isinstance(found, dict):
            return reader.read(found)
        if self._path is None or found is None:
            raise Unreadable("not_an_object", f"the key is {describe(found)}, expected a JSON object")
        return reader.read(reduce(lambda inside, name: {name: inside}, reversed(self._path), found))


def type_at(column: EncodedColumn, source: ConnectType | None) -> ConnectType | None:
    """The type of a column in an image of type `source`, where it is known."""
    return reduce(lambda found, key: found.member(key) if found else None, column.path, source)
