"""Debezium's envelope, as `decode.exact` reads JSON: which kind of message it is, and what it says beside the row."""

from collections.abc import Mapping
from typing import Any

from lakehouse_assets.decode.decoded import Headers
from lakehouse_assets.decode.exact import Unreadable, describe, member_of
from lakehouse_assets.decode.rules import Rejected

UPDATE, DELETE = "update", "delete"
OPERATIONS = {"c": "insert", "u": UPDATE, "d": DELETE, "r": "read"}
TRUNCATE, LOGICAL_MESSAGE = "t", "m"

_OLD_KEY_HEADER = "__debezium.oldkey"
_TIMES = {"ts_ms", "ts_us", "ts_ns"}
_KNOWN = ", ".join((*OPERATIONS, TRUNCATE, LOGICAL_MESSAGE))


def read_operation(message: Mapping[str, Any]) -> str | None:
    """The letter of what was done to the row; None of messages beside: heartbeats, transactions, changes of schemas.

    Raises:
        Unreadable: it is neither.
    """
    operation = read_member(message, "op")
    if operation is None:
        if _is_beside(message):
            return None
        expected = "Debezium's envelope (rows without one, as ExtractNewRecordState makes them, are format: json)"
        raise Unreadable("no_envelope", f"the value has no 'op', expected {expected}")
    if operation not in (*OPERATIONS, TRUNCATE, LOGICAL_MESSAGE):
        raise Unreadable("unknown_operation", f"field 'op': found {describe(operation)}, expected one of {_KNOWN}")
    return str(operation)


def read_member(message: Mapping[str, Any], name: str) -> Any:
    """A part of the envelope, None where it has none.

    Raises:
        Unreadable: it is there twice.
    """
    try:
        return member_of(message, name)
    except Rejected as error:
        raise Unreadable(error.code, f"the envelope: expected {error.expected}") from None


def read_image(message: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """The row in `before` or `after`, None where it has none.

    Raises:
        Unreadable: it is no object.
    """
    image = read_member(message, name)
    if image is not None and not isinstance(image, dict):
        raise Unreadable("wrong_type", f"field {name!r}: found {describe(image)}, expected an object with the row's columns")
    return image


def find_old_key(headers: Headers | None) -> bytes | None:
    """The key that the row had before this message, if it was another one."""
    return next((value for name, value in headers or () if name == _OLD_KEY_HEADER), None)


def _is_beside(message: Mapping[str, Any]) -> bool:
    if message.keys() & {"before", "after"}:
        return False
    if message and message.keys() <= _TIMES:
        return True
    if message.get("status") in ("BEGIN", "END"):
        return isinstance(message.get("id"), str)
    return isinstance(message.get("source"), dict) and not message.keys().isdisjoint({"ddl", "tableChanges"})
