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
    """

    places: Indices
    operations: npt.NDArray[np.int64]
    after: Mapping[str, pa.Array]
    before: Mapping[str, pa.Array]
    positions: pa.Array


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

    def __init__(self, columns: Sequence[Column], key: Sequence[Column], schemas: SchemaOf) -> None:
        """`key`: those of the columns that are the table's key."""
        self._schemas = schemas
        self._parts = list(_list_parts(columns, key))
        self._width = len(columns)
        self._names = [column.name for column in (*columns, *key)]
        self._decoder = AvroDecoder(self._parts, self._schema_of)
        self._are_beside: dict[int, bool] = {}

    def decode(self, values: Sequence[bytes]) -> tuple[Envelopes, list[BadValue]]:
        """Every value is in the envelopes or bad.

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
            _read_positions(source),
        )
        return (found if (operations != _UNKNOWN).all() else _select(found, operations != _UNKNOWN)), bad

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
    for name, kind in SOURCE_FIELDS:
        yield _Part(f"source.{name}", Primitive(_SOURCE_TYPES[kind]), ("source", name))
    for image, wanted in (("after", columns), ("before", key)):
        for column in wanted:
            yield _Part(f"{image}.{column.name}", column.type, (image, *column.path), column.epoch)


def _is_beside(names: set[str]) -> bool:
    """Whether messages with these fields are those that Debezium writes beside envelopes."""
    if "op" in names or names & _IMAGES:
        return False
    return names <= _TIMES or {"status", "id"} <= names or ("source" in names and not names.isdisjoint({"ddl", "tableChanges"}))


def _read_positions(source: Sequence[pa.Array]) -> pa.Array:
    block = pa.StructArray.from_arrays(source, names=[name for name, _ in SOURCE_FIELDS])
    suspects = Suspects(np.zeros(len(block), np.bool_))
    positions = read_positions(block, suspects)
    if not suspects.rows.any():
        return positions
    found = positions.to_pylist()
    for row in np.flatnonzero(suspects.rows).tolist():
        one = {name: Integer(item) if isinstance(item, int) else item for name, item in block[row].as_py().items()}
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
    )
