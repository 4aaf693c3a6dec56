"""Schemas of messages as a schema registry keeps them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

SchemaKind = Literal["AVRO", "PROTOBUF", "JSON"]


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """One schema, in its own language.

    `references` are the schemas that it builds on, each after those that it needs itself: the name under which it is known
    (an Avro type's full name, the file that a Protobuf schema imports) and its text.
    """

    kind: SchemaKind
    text: str
    references: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SubjectVersion:
    """A version of a subject; versions count from 1, ids are the registry's own. Of a file both are 0; it is the subject."""

    subject: str
    version: int
    schema_id: int
    schema: RegisteredSchema


SchemaOf = Callable[[int], RegisteredSchema | None]
"""The schema of an id; None: the registry knows no such id."""
