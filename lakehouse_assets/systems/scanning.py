"""A table as Arrow's own kind of dataset, for engines that scan those: they ask for columns and a condition, and get a stream.

Hides how an Iceberg table is read: its files, one after the other, in batches. Memory is a few batches of the columns asked
for, whatever the size of the table. Every scan reads the same snapshot. A slice of event time is left to the files: those of
other partitions, or whose bounds lie outside, are not opened, nor are row groups.
"""

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import and_
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem
from pyiceberg.conversions import from_bytes
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, GreaterThanOrEqual, LessThan, Reference
from pyiceberg.expressions.literals import literal
from pyiceberg.expressions.visitors import _InclusiveMetricsEvaluator
from pyiceberg.io.pyarrow import ArrowScan, _read_all_delete_files, schema_to_pyarrow
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import FileScanTask, Table
from pyiceberg.types import DateType, IntegerType, LongType, StringType, TimestampType, TimestamptzType

from lakehouse_assets.model.errors import NoEventTimeError
from lakehouse_assets.model.slices import EVENT_TIME_COLUMN_KEY, TimeSlice

_BOUNDED = (IntegerType, LongType, DateType, TimestampType, TimestamptzType, StringType)


class TableDataset(ds.Dataset):  # type: ignore[misc]  # pyarrow is untyped
    """What of a dataset an engine uses: `schema`, and `scanner(...).to_reader()`.

    Engines that know Arrow take a subclass for a dataset, also where nothing of the base is there: that is how Lance and others
    are read. `failure` is what a scan raised, which engines wrap in words of their own.
    """

    def __init__(
        self,
        table: Table,
        snapshot_id: int | None = None,
        within: TimeSlice | None = None,
        only: Sequence[DataFile] | None = None,
    ) -> None:
        """`table` is read as it was when it was loaded, or as it was at a snapshot, with the columns of that time.

        With `within`, only rows whose event time lies in it, by the column that the table names; rows without one are left out.
        With `only`, these data files in the place of those of the snapshot, and without their deletes.

        Raises:
            NoEventTimeError: the table names no column of event time.
        """
        head = table.metadata.current_snapshot_id
        self._table = table
        self._scan = table.scan(
            AlwaysTrue() if within is None else _happened(table, within),
            # The head with the columns of now: a change of columns alone makes no snapshot.
            snapshot_id=None if snapshot_id == head else snapshot_id,
        )
        self._columns = self._scan.projection()
        self._schema = schema_to_pyarrow(self._columns, include_field_ids=False)
        self._only = only
        self.snapshot_id = head if snapshot_id is None else snapshot_id
        self.failure: Exception | None = None

    @property
    def schema(self) -> pa.Schema:
        """Every column."""
        return self._schema

    def scanner(self, columns: Sequence[str] | None = None, filter: Any = None, **_hints: Any) -> "_Scanner":  # noqa: A002 - Arrow's
        """Read these columns of the rows for which `filter`, an Arrow expression over them, is true."""
        return _Scanner(self, self._schema.names if columns is None else list(columns), filter)

    def read(self, columns: Sequence[str], condition: Any) -> Iterator[pa.RecordBatch]:
        """The batches of one scan."""
        try:
            yield from self._read(columns, condition)
        except Exception as error:
            self.failure = error
            raise

    def _read(self, columns: Sequence[str], condition: Any) -> Iterator[pa.RecordBatch]:
        schema = select_columns(self._schema, columns)
        projection = self._scan.update(selected_fields=tuple(columns)).projection()
        reader = ArrowScan(self._table.metadata, self._table.io, projection, self._scan.row_filter)
        for task in _may_match(self._plan(), self._columns, self._schema, condition):
            for batch in _stream(reader, self._table, task):
                whole = batch.select(schema.names).cast(schema)
                kept = whole if condition is None else pa.Table.from_batches([whole]).filter(condition)
                yield from [kept] if condition is None else kept.to_batches()

    def _plan(self) -> list[FileScanTask]:
        if self._only is None:
            return list(self._scan.plan_files())
        may_hold = _InclusiveMetricsEvaluator(self._columns, self._scan.row_filter).eval
        return [FileScanTask(file) for file in self._only if may_hold(file)]


class _Scanner:
    """One scan that an engine asked for."""

    def __init__(self, dataset: TableDataset, columns: Sequence[str], condition: Any) -> None:
        self._dataset, self._columns, self._condition = dataset, columns, condition
        self.projected_schema = select_columns(dataset.schema, columns)

    def to_reader(self) -> pa.RecordBatchReader:
        """The stream."""
        return pa.RecordBatchReader.from_batches(
            self.projected_schema, self._dataset.read(self._columns, self._condition)
        )


def select_columns(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    """These columns of a schema, in this order."""
    return pa.schema([schema.field(name) for name in columns])


def _happened(table: Table, within: TimeSlice) -> BooleanExpression:
    column = Reference(require_event_time_column(table))
    start, stop = (literal(time_ms * 1000) for time_ms in (within.start_ms, within.stop_ms))
    return And(GreaterThanOrEqual(term=column, value=start), LessThan(term=column, value=stop))


def require_event_time_column(table: Table) -> str:
    """The column that says when a row of the table happened.

    Raises:
        NoEventTimeError: the table names none, or what is none.
    """
    column = table.properties.get(EVENT_TIME_COLUMN_KEY)
    field = next((field for field in table.schema().fields if field.name == column), None)
    if field is None or not isinstance(field.field_type, (TimestampType, TimestamptzType)):
        found = f"no table property {EVENT_TIME_COLUMN_KEY}" if column is None else f"{EVENT_TIME_COLUMN_KEY}={column!r}"
        raise NoEventTimeError(".".join(table.name()), found)
    return field.name


def _may_match(tasks: list[FileScanTask], columns: Schema, schema: pa.Schema, condition: Any) -> list[FileScanTask]:
    """Without the files whose bounds say that no row fulfils the condition. Arrow itself judges what follows from what."""
    if condition is None or not tasks:
        return tasks
    files = ds.ParquetFileFormat()  # never opened: a fragment is a number with what is known of its rows
    known = [_known_of(task.file, columns, schema) for task in tasks]
    nowhere = LocalFileSystem()
    fragments = [files.make_fragment(str(i), nowhere, partition_expression=fact) for i, fact in enumerate(known)]
    matching = ds.FileSystemDataset(fragments, schema, files, nowhere).get_fragments(condition)
    return [tasks[int(fragment.path)] for fragment in matching]


def _known_of(file: DataFile, columns: Schema, schema: pa.Schema) -> pc.Expression:
    """That each value is null or within its bounds. Not of floats: bounds say nothing of NaN."""
    known: list[pc.Expression] = []
    lowers, uppers = file.lower_bounds or {}, file.upper_bounds or {}
    for field in columns.fields:
        lower, upper = lowers.get(field.field_id), uppers.get(field.field_id)
        if lower is None or upper is None or not isinstance(field.field_type, _BOUNDED):
            continue
        kind, column = schema.field(field.name).type, pc.field(field.name)
        low, high = (pa.scalar(from_bytes(field.field_type, bound), kind) for bound in (lower, upper))
        known += [(column >= low) | column.is_null(), (column <= high) | column.is_null()]  # a form that Arrow reasons about
    return reduce(and_, known) if known else pc.scalar(True)


def _stream(reader: ArrowScan, table: Table, task: FileScanTask) -> Iterator[pa.RecordBatch]:
    # Not `to_record_batches`: it reads files whole, and those that follow before anybody asks.
    return reader._record_batches_from_scan_tasks_and_deletes([task], _read_all_delete_files(table.io, [task]))
