"""Splits rows by the values of an Iceberg partition spec, one pass over the rows whatever the number of values."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionSpec, _to_partition_representation
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import IcebergType

PartitionValues = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Field:
    column: str
    transform: Callable[[pa.Array], pa.Array]
    result_type: IcebergType


class Partitioner:
    """Knows one partition spec over one schema."""

    def __init__(self, spec: PartitionSpec, schema: Schema) -> None:
        self._fields = [
            _Field(
                column=schema.find_field(field.source_id).name,
                transform=field.transform.pyarrow_transform(schema.find_field(field.source_id).field_type),
                result_type=field.transform.result_type(schema.find_field(field.source_id).field_type),
            )
            for field in spec.fields
        ]

    def split(self, rows: pa.Table) -> Iterator[tuple[PartitionValues, pa.Table]]:
        """Yield each partition value that occurs in `rows`, with its rows in their order. Empty input yields nothing."""
        if not rows.num_rows:
            return
        if not self._fields:
            yield (), rows
            return
        encoded = [self._encode(field, rows) for field in self._fields]
        group = np.zeros(rows.num_rows, dtype=np.int64)
        for codes, values in encoded:
            group = group * len(values) + codes
        found, first = np.unique(group, return_index=True)
        if len(found) == 1:
            yield tuple(values[codes[0]] for codes, values in encoded), rows
            return
        order = np.argsort(group, kind="stable")
        ordered, edges = rows.take(pa.array(order)), np.searchsorted(group[order], found)
        stops = [*edges[1:], rows.num_rows]
        for begin, stop, sample in zip(edges, stops, first, strict=True):
            yield tuple(values[codes[sample]] for codes, values in encoded), ordered.slice(begin, stop - begin)

    def _encode(self, field: _Field, rows: pa.Table) -> tuple["np.ndarray[tuple[int], np.dtype[np.int64]]", list[object]]:
        column = rows.column(field.column).combine_chunks()
        if isinstance(column, pa.ExtensionArray):  # a uuid: its bytes are what is transformed
            column = column.storage
        transformed = field.transform(column)
        coded = pc.dictionary_encode(transformed, null_encoding="encode")
        values = [_to_iceberg(field.result_type, value) for value in coded.dictionary.to_pylist()]
        return coded.indices.to_numpy(zero_copy_only=False).astype(np.int64), values


def _to_iceberg(result_type: IcebergType, value: object) -> object:
    # Dates, times and timestamps stand in a manifest as numbers; PyIceberg knows the rule per type.
    return None if value is None else _to_partition_representation(result_type, value)


def name_partition(table: Table, file: DataFile) -> str:
    """The partition of a file as people read it: its fields and their values."""
    spec, values = table.specs()[file.spec_id], file.partition
    if not spec.fields:
        return "all"
    kinds = spec.partition_type(table.schema()).fields
    texts = [
        f"{field.name}={field.transform.to_human_string(kind.field_type, values[place])}"
        for place, (field, kind) in enumerate(zip(spec.fields, kinds, strict=True))
    ]
    return ", ".join(texts) if file.spec_id == table.spec().spec_id else f"{', '.join(texts)} (spec {file.spec_id})"
