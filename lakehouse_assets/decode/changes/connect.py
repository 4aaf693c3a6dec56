"""Kafka Connect's schemas, as its JSON converter writes them around keys and values: `{"schema": …, "payload": …}`.

A schema is several times as long as what it describes, and the same in every message. So it is read once: a message that
begins with bytes that were understood before is its payload, with the same schema.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from lakehouse_assets.decode.rules import is_too_deep

Opened = TypeVar("Opened")

WRAPPER = b'{"schema":'
_PAYLOAD = b',"payload":'
_MAX_KNOWN = 100  # a topic has as many as its table had columns; more only where a topic holds many tables
_SCALE = re.compile("-?[0-9]{1,5}")
_JSON = json.JSONDecoder()


@dataclass(frozen=True, slots=True, eq=False)
class ConnectType:
    """A type of Connect: its kind (`int64`, `bytes`, `struct`, …), and the name that says what the kind stands for."""

    kind: str
    name: str = ""
    scale: int | None = None
    item: "ConnectType | None" = None
    members: Mapping[str, "ConnectType"] = field(default_factory=dict)

    def member(self, name: str) -> "ConnectType | None":
        """The type of a struct's field."""
        return self.members.get(name)


def read_type(found: Any) -> ConnectType | None:
    """The type that a schema in JSON describes; None where it describes none."""
    if not isinstance(found, dict) or not isinstance(found.get("type"), str):
        return None
    parameters = found.get("parameters")
    scale = parameters.get("scale") if isinstance(parameters, dict) else None
    fields = found.get("fields")
    members = {
        str(one["field"]): kind
        for one in (fields if isinstance(fields, list) else ())
        if isinstance(one, dict) and "field" in one and (kind := read_type(one)) is not None
    }
    return ConnectType(
        kind=found["type"],
        name=str(found.get("name") or ""),
        scale=int(scale) if isinstance(scale, str) and _SCALE.fullmatch(scale) else None,
        item=read_type(found.get("items", found.get("values"))),
        members=members,
    )


def is_wrapper(message: Mapping[str, Any]) -> bool:
    """Whether an object is a payload with its schema around it."""
    return message.keys() == {"schema", "payload"}


class Wrappers(Generic[Opened]):
    """Takes wrappers off, and remembers what was made of their schemas."""

    def __init__(self, make: Callable[[ConnectType | None], Opened]) -> None:
        """`make` gives what messages of a type are read with; of None: those without a schema."""
        self.make = make
        self.plain = make(None)
        self._known: dict[bytes, Opened] = {}
        self._last: tuple[bytes, Opened] | None = None

    def open(self, value: bytes) -> tuple[Opened, bytes]:
        """What a message is read with, and its payload: the message itself where no wrapper was recognised.

        One that is written with spaces is not.
        """
        if not value.startswith(WRAPPER) or not value.endswith(b"}"):
            return self.plain, value
        if self._last is None or not value.startswith(self._last[0]):
            self._last = self._find(value)
            if self._last is None:
                return self.plain, value
        prefix, opened = self._last
        return opened, value[len(prefix) : -1]

    def _find(self, value: bytes) -> tuple[bytes, Opened] | None:
        if is_too_deep(value):
            return None
        try:
            text = value.decode()
            schema, end = _JSON.raw_decode(text, len(WRAPPER))
        except ValueError:
            return None
        prefix = text[:end].encode() + _PAYLOAD
        if not value.startswith(prefix):
            return None
        opened = self._known.get(prefix)
        if opened is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            opened = self._known[prefix] = self.make(read_type(schema))
        return prefix, opened
