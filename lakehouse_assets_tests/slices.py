"""Slices of event time, and rows in them, for tests of computed tables."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa
from pyiceberg.catalog import Catalog

from lakehouse_assets.model.derived_table import DerivedTable
from lakehouse_assets.model.slice_notes import InputState
from lakehouse_assets.model.slices import SliceClock, TimeSlice
from lakehouse_assets.operations.slice_writing import SliceReport, replace_slice

START = datetime(2026, 11, 1, tzinfo=UTC)
NAME = "dm.delays"
DELAYS = DerivedTable(NAME, "at", SliceClock("hour", START))


def hour(number: int) -> TimeSlice:
    """The hours of 2026-11-01 and after, from 0 on."""
    return TimeSlice.between(START + timedelta(hours=number), START + timedelta(hours=number + 1))


def rows_at(hours: float | Sequence[float], *numbers: int, **columns: pa.Array) -> pa.RecordBatchReader:
    """Rows that happened so many hours after the start, each with a number."""
    at = [hours] * len(numbers) if isinstance(hours, (int, float)) else list(hours)
    times = [START + timedelta(hours=one) for one in at]
    named = {"at": pa.array(times, pa.timestamp("us", "UTC")), "number": pa.array(numbers, pa.int64()), **columns}
    return pa.table(named).to_reader()


def state(sequence_number: int, table: str = "ods.flights", uuid: str = "uuid-1", **parts: bool) -> InputState:
    """An input as it was after so many commits."""
    return InputState(table, uuid, 100 + sequence_number, sequence_number, **parts)


def put(
    catalog: Catalog,
    number: int,
    rows: pa.RecordBatchReader,
    *inputs: InputState,
    derived: DerivedTable = DELAYS,
    is_complete: bool = True,
) -> SliceReport:
    """Replace one hour."""
    within = hour(number)
    until_ms = within.stop_ms if is_complete else None
    return replace_slice(catalog, derived, within, rows, inputs or (state(1),), complete_until_ms=until_ms)


def read(catalog: Catalog, name: str = NAME) -> list[tuple[float, int]]:
    """Hours after the start, and numbers, sorted."""
    rows = catalog.load_table(name).scan().to_arrow().to_pylist()
    return sorted(((row["at"] - START) / timedelta(hours=1), row["number"]) for row in rows)
