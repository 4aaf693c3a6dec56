"""Finds the fields of messages that no column reads.

The fast reader is given the unknown fields that were met so far as further columns and refuses any other, so that counting
costs nothing where there are none, and is exact where there are few. What it refuses is looked at message by message, and
learnt. Where that has no end (names that are data, fields of several kinds), a sample of each block is looked at instead.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_assets.decode.columns import Column
from lakehouse_assets.decode.kinds import Kind, arrow_of, describe_kind, kind_of, merge, size_of
from lakehouse_assets.model.types import DataType, ListType, MapType, Primitive, StructType
from lakehouse_assets.model.unknown import FieldPath, UnknownField, UnknownFields

_MAX_WATCHED = 32  # columns of unknown fields that the fast reader is given; each costs about as much as a declared one
_MAX_LESSONS = 20  # blocks looked at message by message
_SAMPLE, _SAMPLE_BYTES = 50, 256 * 1024  # of a block, where not all are looked at
_FEW = 500  # of so many, all are looked at
_MAX_NAMES = 1000  # told apart in one block

Mask = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Shape:
    """What of a value is read: all of it, or the named members of an object, or such items of a list or map."""

    reads_all: bool = False
    members: dict[str, "Shape"] = field(default_factory=dict)
    items: "Shape | None" = None
    is_column: bool = False

    @classmethod
    def of(cls, columns: Iterable[Column]) -> "Shape":
        """What declared columns read of a message."""
        root = cls()
        for column in columns:
            node = root
            for key in column.path:
                node = node.members.setdefault(key, cls())
            node.is_column = True
            node._add(column.type)
        return root

    def _add(self, kind: DataType) -> None:
        match kind:
            case StructType(fields):
                for member in fields:
                    self.members.setdefault(member.name, Shape())._add(member.type)
            case ListType(inner) | MapType(_, inner):
                self.items = self.items or Shape()
                self.items._add(inner)
            case Primitive():
                self.reads_all = True

    def find_unread(self, value: Any, at: FieldPath = (), *, inside: bool = False) -> Iterator[tuple[FieldPath, Any, bool]]:
        """Each part of a value that is not read, nulls too: its path, the value, and whether a column holds it."""
        if self.reads_all:
            return
        inside = inside or self.is_column
        if isinstance(value, list):
            if self.items is not None:
                for item in value:
                    yield from self.items.find_unread(item, at, inside=inside)
        elif isinstance(value, dict):
            for key, item in value.items():
                known = self.members.get(key)
                if known is not None:
                    yield from known.find_unread(item, (*at, key), inside=inside)
                elif self.items is not None:
                    yield from self.items.find_unread(item, at, inside=inside)
                else:
                    yield (*at, key), item, inside


class UnknownCounter:
    """Counts message by message."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._messages = 0
        self._counts: dict[FieldPath, int] = {}
        self._kinds: dict[FieldPath, Kind] = {}
        self._inside: dict[FieldPath, bool] = {}
        self._other_names = 0

    @property
    def kinds(self) -> Mapping[FieldPath, Kind]:
        """The fields found."""
        return self._kinds

    @property
    def is_complete(self) -> bool:
        """Whether every name could be told apart."""
        return not self._other_names

    def add(self, message: dict[str, Any], *, is_counted: bool = True) -> None:
        """Look at one message; what is not counted is known all the same."""
        self._messages += is_counted
        seen: set[FieldPath] = set()
        for path, value, inside in self._shape.find_unread(message):
            if path not in self._kinds and len(self._kinds) >= _MAX_NAMES:
                self._other_names += 1
                continue
            self._kinds[path] = merge(self._kinds.get(path), kind_of(value))
            self._inside[path] = inside
            if is_counted and value is not None and path not in seen:
                seen.add(path)
                self._counts[path] = self._counts.get(path, 0) + 1

    def result(self, messages: int | None = None, kinds: Mapping[FieldPath, Kind] | None = None) -> UnknownFields:
        """What was found; `messages`: how many there are, if not all were looked at; `kinds`: what is known from before."""
        known = {**self._kinds, **(kinds or {})}
        fields = {
            path: UnknownField(path, count, describe_kind(known[path]), self._inside[path])
            for path, count in self._counts.items()
        }
        total = self._messages if messages is None else messages
        return UnknownFields(total, self._messages, fields, self._other_names).bounded()


class UnknownWatch:
    """What the fast reader knows of unknown fields. `wire_schema` is how it reads the declared ones."""

    def __init__(self, columns: Sequence[Column], wire_schema: pa.Schema) -> None:
        self._shape = Shape.of(columns)
        self._wire_schema = wire_schema
        self._kinds: dict[FieldPath, Kind] = {}
        self._lessons = 0
        self._read_schema: pa.Schema | None = wire_schema

    @property
    def read_schema(self) -> pa.Schema | None:
        """The schema with every field known so far, any other being refused; None: there are too many to know."""
        return self._read_schema

    def count(self, read: pa.Table, good: Mask) -> UnknownFields:
        """Of a table that was read by `read_schema`: how many of the good rows have which unknown field."""
        messages = int(good.sum())
        if not self._kinds:
            return UnknownFields(messages, messages)
        fields: dict[FieldPath, UnknownField] = {}
        columns = [(f.name, read.column(f.name).combine_chunks(), _known(self._wire_schema, f.name)) for f in read.schema]
        for path, mask in _find_present((), columns):
            if count := int((mask & good).sum()):
                fields[path] = UnknownField(path, count, describe_kind(self._kinds[path]), self._is_inside(path))
        return UnknownFields(messages, messages, fields).bounded()

    def look(self, values: Sequence[bytes], good: Mask) -> UnknownFields:
        """The same of values that `read_schema` does not fit; what is learnt from them, it fits then."""
        # Also a field that only bad messages have is to be known, or it would be refused in every block.
        rows = np.flatnonzero(good) if self._read_schema is None else np.arange(len(good))
        if self._read_schema is None and len(rows) > _FEW:
            rows = rows[:: -(-len(rows) // _SAMPLE)]
            rows = rows[np.cumsum([len(values[row]) for row in rows.tolist()]) <= _SAMPLE_BYTES]
        counter = UnknownCounter(self._shape)
        for row in rows.tolist():
            message = _parse(values[row])
            if message is not None:
                counter.add(message, is_counted=bool(good[row]))
        for path, kind in counter.kinds.items():
            if path in self._kinds or len(self._kinds) < _MAX_NAMES:
                self._kinds[path] = merge(self._kinds.get(path), kind)
        if self._read_schema is not None:
            self._learn(is_complete=counter.is_complete)
        return counter.result(int(good.sum()), self._kinds)

    def _learn(self, *, is_complete: bool) -> None:
        self._lessons += 1
        columns = sum(map(size_of, self._kinds.values()))
        types = {path: arrow_of(kind) for path, kind in self._kinds.items()}
        if not is_complete or columns > _MAX_WATCHED or self._lessons > _MAX_LESSONS or None in types.values():
            self._read_schema = None
            return
        fields = _with_unknown((), list(self._wire_schema), types)
        self._read_schema = pa.schema(fields)

    def _is_inside(self, path: FieldPath) -> bool:
        node: Shape | None = self._shape
        for key in path[:-1]:
            while node is not None and node.items is not None and key not in node.members:
                node = node.items
            if node is None or (node := node.members.get(key)) is None:
                return False
            if node.is_column:
                return True
        return False


def _parse(value: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _known(schema: pa.Schema, name: str) -> pa.DataType | None:
    place = schema.get_field_index(name)
    return schema.field(place).type if place >= 0 else None


def _with_unknown(at: FieldPath, known: Sequence[pa.Field], types: Mapping[FieldPath, pa.DataType]) -> list[pa.Field]:
    """The known fields, each with what is unknown inside of it, and the unknown ones behind them."""
    fields = [pa.field(f.name, _extend((*at, f.name), f.type, types)) for f in known]
    return fields + [pa.field(path[-1], kind) for path, kind in types.items() if path[:-1] == at]


def _extend(at: FieldPath, kind: pa.DataType, types: Mapping[FieldPath, pa.DataType]) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct(_with_unknown(at, list(kind), types))
    if pa.types.is_list(kind):
        return pa.list_(_extend(at, kind.value_type, types))
    return kind


def _find_present(
    at: FieldPath, columns: Iterable[tuple[str, pa.Array, pa.DataType | None]]
) -> Iterator[tuple[FieldPath, Mask]]:
    """Each unknown field among columns (with their known types, None: unknown), and in which rows it has a value."""
    for name, array, known in columns:
        path = (*at, name)
        if known is None:
            yield path, array.is_valid().to_numpy(zero_copy_only=False)
        else:
            yield from _find_inside(path, array, known)


def _find_inside(path: FieldPath, array: pa.Array, known: pa.DataType) -> Iterator[tuple[FieldPath, Mask]]:
    if array.type == known:
        return
    if pa.types.is_struct(known):
        members = [known.get_field_index(f.name) for f in array.type]
        yield from _find_present(
            path,
            [
                (f.name, pc.struct_field(array, i), known.field(place).type if place >= 0 else None)
                for i, (f, place) in enumerate(zip(array.type, members, strict=True))
            ],
        )
    elif pa.types.is_list(known):
        for inner, mask in _find_inside(path, array.values, known.value_type):
            before = np.concatenate([[0], np.cumsum(mask)])[array.offsets.to_numpy()]
            yield inner, before[1:] > before[:-1]
