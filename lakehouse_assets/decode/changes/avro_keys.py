"""Keys of messages in Avro, by schemas that the registry has: records with the fields of the table's key, or one bare value."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from lakehouse_assets.decode.avro.decoder import AvroDecoder, find_schema_id
from lakehouse_assets.decode.avro.schema import Record, parse_schema
from lakehouse_assets.decode.beside import PlacedColumn
from lakehouse_assets.decode.changes.decoded import Indices
from lakehouse_assets.decode.changes.plain import KeyDecoder
from lakehouse_assets.decode.decoded import BadValue, BrokenSchema, Decoded
from lakehouse_assets.model.schemas import SchemaOf
from lakehouse_assets.model.types import DataType


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A column of the table's key as it stands in keys of messages."""

    name: str
    type: DataType
    path: tuple[str, ...]
    epoch: str | None
    required: bool = True

    @classmethod
    def of(cls, column: PlacedColumn) -> "KeyColumn":
        """Where it is declared to be in the message's key, there, and else where values have it."""
        return cls(column.name, column.type, column.from_key or column.path or (column.name,), column.epoch)


class AvroKeys:
    """Keys that begin with the id of a schema; others are left to another decoder, because keys are often written otherwise."""

    def __init__(self, columns: Sequence[KeyColumn], schemas: SchemaOf, others: KeyDecoder) -> None:
        """`columns`: those of the table's key."""
        self._schema_of, self._others = schemas, others
        self._records = AvroDecoder(columns, schemas)
        self._values = AvroDecoder([replace(columns[0], path=())], schemas) if len(columns) == 1 else self._records
        self._are_bare: dict[int, bool] = {}

    def decode(self, keys: Sequence[bytes | None]) -> Decoded:
        """Every key becomes a row, without a null in it, or stands in `bad`; one that is None is bad.

        Raises:
            RegistryError: a schema can't be had; nothing is said of the keys.
        """
        records: list[int] = []
        values: list[int] = []
        others: list[int] = []
        for place, key in enumerate(keys):
            schema_id = None if key is None else find_schema_id(key)
            mine = others if schema_id is None else values if self._is_bare(schema_id) else records
            mine.append(place)
        parts = [_decode(self._records, keys, records), _decode(self._values, keys, values)]
        if others:
            parts.append(_at(self._others.decode([keys[place] for place in others]), others))
        order = np.argsort(np.concatenate([rows for _, rows, _ in parts]), kind="stable")
        table = pa.concat_tables([table for table, _, _ in parts]).take(pa.array(order))
        return Decoded(table, tuple(sorted((one for _, _, bad in parts for one in bad), key=lambda one: one.index)))

    def _is_bare(self, schema_id: int) -> bool:
        """Whether keys of a schema are no record."""
        if schema_id not in self._are_bare:
            schema = self._schema_of(schema_id)
            if schema is None:  # the registry may know it later
                return False
            try:
                self._are_bare[schema_id] = not isinstance(parse_schema(schema.text, schema.references), Record)
            except BrokenSchema:  # the decoder says so
                self._are_bare[schema_id] = False
        return self._are_bare[schema_id]


_Part = tuple[pa.Table, Indices, list[BadValue]]  # rows, their places among the keys, and what is bad of the others


def _decode(decoder: AvroDecoder, keys: Sequence[bytes | None], places: Sequence[int]) -> _Part:
    decoded = decoder.decode([key for place in places if (key := keys[place]) is not None])
    bad = tuple(replace(one, reason=f"the key: {one.reason}") for one in decoded.bad)
    return _at(replace(decoded, bad=bad), places)


def _at(decoded: Decoded, places: Sequence[int]) -> _Part:
    rows = np.array(places, np.int64)[decoded.rows(len(places))]
    return decoded.table, rows, [replace(one, index=places[one.index]) for one in decoded.bad]
