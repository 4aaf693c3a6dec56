"""Debezium's envelopes in Avro, taken apart: the columns in `after`, the key's in `before`, the operation and the position."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_assets.decode.avro.decoder import AvroDecoder, find_schema_id
from lakehouse_assets.decode.avro.schema import Record, parse_schema
from lakehouse_assets.decode.changes.decoded import Indices
from lakehouse_assets.decode.changes.envelope import LOGICAL_MESSAGE, OPERATIONS, TRUNCATE
from lakehouse_assets.decode.changes.positions import SOURCE_FIELDS, read_position, read_positions
from lakehouse_assets.decode.changes.table_names import (
    NAME_FIELDS,
    NO_NAME,
    NO_NAME_REASON,
    NamedRows,
    TableNames,
    read_names,
)
from lakehouse_assets.decode.columns import Column
from lakehouse_assets.decode.decoded import BadValue, BrokenSchema
from lakehouse_assets.decode.kinds import Integer
from lakehouse_assets.decode.wire import Suspects
from lakehouse_assets.model.schemas import RegisteredSchema, SchemaOf
from lakehouse_assets.model.types import DataType, Primitive

LETTERS = (*OPERATIONS, TRUNCATE, LOGICAL_MESSAGE)
NO_ENVELOPE = len(LETTERS)
"""Stands for the operation of heartbeats, marks of transactions and changes of schemas."""

_UNKNOWN = -1
_LETTERS = pa.array(LETTERS)
_IMAGES = frozenset(("before", "after"))
_TIMES = frozenset(("ts_ms", "ts_us", "ts_ns"))
_SOURCE_TYPES = {pa.int64(): "long", pa.string(): "string"}


@dataclass(frozen=True, slots=True)
class Envelopes:
    """What messages hold, one entry each.

    Attributes:
        places: Which of the values they are, ascending.
        operations: A place in `LETTERS`, or `NO_ENVELOPE`.
        after: By column.
        before: By column of the key.
        positions: int64.
        tables: Which of the source's tables they are of.
    """

    places: Indices
    operations: npt.NDArray[np.int64]
    after: Mapping[str, pa.Array]
    before: Mapping[str, pa.Array]
    positions: pa.Array
    tables: NamedRows


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the envelope as the Avro decoder sees it. What has to be there depends on the operation."""

    name: str
    type: DataType
    path: tuple[str, ...]
    epoch: str | None = None
    required: bool = False


class AvroEnvelopes:
    """Decodes envelopes, all of one schema at once. Remembers schemas.

    What a schema lacks is null, also where the newest one has a default: Debezium makes defaults up (1970 for `now()`), and
    rows that were written before the column came have none.
    """

    def __init__(self, columns: Sequence[Column], key: Sequence[Column], schemas: SchemaOf, tables: TableNames) -> None:
        """`key`: those of the columns that are the table's key. `tables`: those that are meant."""
        self._schemas, self._tables = schemas, tables
        self._parts = list(_list_parts(columns, key))
        self._width = len(columns)
        self._names = [column.name for column in (*columns, *key)]
        self._decoder = AvroDecoder(self._parts, self._schema_of)
        self._namer = AvroDecoder(list(_list_source(NAME_FIELDS)), self._schema_of)
        self._are_beside: dict[int, bool] = {}

    def decode(self, values: Sequence[bytes]) -> tuple[Envelopes, list[BadValue], Indices]:
        """Every value is in the envelopes, or bad, or of a table that is not meant; the last ones by their places.

        Raises:
            RegistryError: a schema can't be had; nothing is said of the values.
        """
        decoded = self._decoder.decode(values)
        places, arrays = decoded.rows(len(values)), [column.combine_chunks() for column in decoded.table.columns]
        letters, *source = arrays[: len(self._parts) - len(self._names)]
        images = arrays[len(self._parts) - len(self._names) :]
        operations = pc.fill_null(pc.index_in(letters, _LETTERS), _UNKNOWN).to_numpy().astype(np.int64)
        bad = list(decoded.bad)
        for row in np.flatnonzero(operations == _UNKNOWN).tolist():
            place, letter = int(places[row]), letters[row].as_py()
            if letter is not None:
                reason = f"field 'op': found {letter!r}, expected one of {', '.join(LETTERS)}"
                bad.append(BadValue(place, "unknown_operation", reason))
            elif self._are_beside.get(find_schema_id(values[place]) or 0, False):
                operations[row] = NO_ENVELOPE
            else:
                reason = "the schema has no 'op', expected Debezium's envelope (rows without one are format: avro)"
                bad.append(BadValue(place, "no_envelope", reason))
        found = Envelopes(
            places,
            operations,
            dict(zip(self._names[: self._width], images, strict=False)),
            dict(zip(self._names[self._width :], images[self._width :], strict=True)),
            _read_positions(source[: len(SOURCE_FIELDS)]),
            read_names(source[len(SOURCE_FIELDS) :]),
        )
        kept: npt.NDArray[np.bool_] = operations != _UNKNOWN
        others = np.empty(0, np.int64)
        if not self._tables.are_all:
            bad, others = self._leave_out(values, found, bad)
            kept &= ~np.isin(places, others) & ~np.isin(places, [one.index for one in bad])
        return (found if kept.all() else _select(found, kept)), bad, others

    def _leave_out(
        self, values: Sequence[bytes], found: Envelopes, bad: Sequence[BadValue]
    ) -> tuple[list[BadValue], Indices]:
        """What is bad among messages of the tables that are meant, and the places of the others."""
        others = found.places[found.tables.find(self._tables.leave_out)]
        at = np.array([one.index for one in bad], np.int64)
        named = self._namer.decode([values[place] for place in at.tolist()])
        names = read_names([column.combine_chunks() for column in named.table.columns])
        others = np.union1d(others, at[named.rows(len(at))][names.find(self._tables.leave_out)])
        has_rows = (found.operations != NO_ENVELOPE) & (found.operations != LETTERS.index(LOGICAL_MESSAGE))
        nameless = found.places[has_rows & (found.operations != _UNKNOWN) & found.tables.find(lambda name: name is None)]
        left = [one for one in bad if one.index not in set(others.tolist())]
        return left + [BadValue(int(place), NO_NAME, NO_NAME_REASON) for place in nameless], others

    def _schema_of(self, schema_id: int) -> RegisteredSchema | None:
        """The schema of messages; what they are is noted."""
        schema = self._schemas(schema_id)
        if schema is not None:
            try:
                root = parse_schema(schema.text, schema.references)
                self._are_beside[schema_id] = isinstance(root, Record) and _is_beside({one.name for one in root.fields})
            except (BrokenSchema, RecursionError):  # the decoder says so
                self._are_beside[schema_id] = False
        return schema


def _list_parts(columns: Sequence[Column], key: Sequence[Column]) -> Iterator[_Part]:
    yield _Part("op", Primitive("string"), ("op",))
    yield from _list_source((*SOURCE_FIELDS, *NAME_FIELDS))
    for image, wanted in (("after", columns), ("before", key)):
        for column in wanted:
            yield _Part(f"{image}.{column.name}", column.type, (image, *column.path), column.epoch)


def _list_source(fields: Sequence[tuple[str, pa.DataType]]) -> Iterator[_Part]:
    for name, kind in fields:
        yield _Part(f"source.{name}", Primitive(_SOURCE_TYPES[kind]), ("source", name))


def _is_beside(names: set[str]) -> bool:
    """Whether messages with these fields are those that Debezium writes beside envelopes."""
    if "op" in names or names & _IMAGES:
        return False
    return names <= _TIMES or {"status", "id"} <= names or ("source" in names and not names.isdisjoint({"ddl", "tableChanges"}))


def _read_positions(source: Sequence[pa.Array]) -> pa.Array:
    suspects = Suspects(np.zeros(len(source[0]), np.bool_))
    positions = read_positions(source, suspects)
    if not suspects.rows.any():
        return positions
    found = positions.to_pylist()
    for row in np.flatnonzero(suspects.rows).tolist():
        items = ((name, part[row].as_py()) for (name, _), part in zip(SOURCE_FIELDS, source, strict=True))
        one = {name: Integer(item) if isinstance(item, int) else item for name, item in items}
        found[row] = read_position(one)
    return pa.array(found, pa.int64())


def _select(found: Envelopes, mask: npt.NDArray[np.bool_]) -> Envelopes:
    kept = pa.array(mask)
    return Envelopes(
        found.places[mask],
        found.operations[mask],
        {name: array.filter(kept) for name, array in found.after.items()},
        {name: array.filter(kept) for name, array in found.before.items()},
        found.positions.filter(kept),
        NamedRows(found.tables.names, found.tables.codes[mask]),
    )
