"""Writes computed rows: they take the place of those of one slice of event time, or of the whole table, in one snapshot.

Rows are staged as a stream, in bounded memory; then the slice is swapped on the head of the table, whoever else commits
meanwhile. What it was computed from is noted in the same step. A run that read older inputs than the slice holds changes
nothing; one that is repeated replaces what it wrote. A crash at any instruction leaves at most files that no snapshot names.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakehouse_assets.model.derived_table import DerivedTable
from lakehouse_assets.model.errors import (
    CommitConflictError,
    ResultTypeError,
    RowsOutsideSliceError,
)
from lakehouse_assets.model.slice_notes import (
    INPUTS_KEY,
    RUN_KEY,
    SLICE_KEY,
    SLICES_KEY,
    InputState,
    SliceNote,
    SliceNotes,
)
from lakehouse_assets.model.slices import TimeSlice
from lakehouse_assets.model.watermark import WATERMARK_KEY
from lakehouse_assets.operations.swapping import publish_prepared, undo_unless_landed
from lakehouse_assets.systems.commit import Delivery, Landed
from lakehouse_assets.systems.datafiles import build_data_files
from lakehouse_assets.systems.derived_tables import open_derived
from lakehouse_assets.systems.parquet import build_writer, delete_staged
from lakehouse_assets.systems.snapshots import Change, ancestors, read_totals
from lakehouse_assets.systems.table_times import read_watermark, watermark_notes
from lakehouse_assets.systems.time_slices import TimeSliceFiles, mark_inside

BUFFER_BYTES = 64 * 1024 * 1024
FOLDED, ADDED = "folded with what it held", "added to what it held"


@dataclass(frozen=True, slots=True)
class SliceReport:
    """What became of one slice.

    Attributes:
        table: namespace.name.
        within: The slice; None: the whole table.
        snapshot_id: The snapshot that holds it; None where nothing was done, because it was computed from newer inputs.
        row_count: Rows of the slice that were written.
        inputs: What it was computed from.
        watermark_ms: Up to where the table is complete; None where nothing is.
        folding: Of a table that may be folded, FOLDED, ADDED (then `row_count` are those alone), or why it was computed whole.
    """

    table: str
    within: TimeSlice | None
    snapshot_id: int | None
    row_count: int
    inputs: Sequence[InputState]
    is_complete: bool
    watermark_ms: int | None = None
    total_rows: int = 0
    data_file_count: int = 0
    bytes_written: int = 0
    commit_seconds: float = 0.0
    commit_attempts: int = 0
    location: str = ""
    folding: str = ""

    @property
    def is_addition(self) -> bool:
        """Its rows stand beside those that the slice held, so how many that are is not known."""
        return self.folding == ADDED

    @property
    def was_newer(self) -> bool:
        """Nothing was done: the slice was computed from newer inputs."""
        return self.snapshot_id is None


@dataclass(frozen=True, slots=True)
class Addition:
    """Rows that are folded into what a slice holds. `snapshot_id`: the head of the table whose rows they were folded with.

    `keeps`: these are added beside; else they take the place of the old ones.
    """

    snapshot_id: int | None
    keeps: bool


def replace_slice(
    catalog: Catalog,
    derived: DerivedTable,
    within: TimeSlice | None,
    rows: pa.RecordBatchReader,
    inputs: Sequence[InputState],
    *,
    complete_until_ms: int | None,
    run_id: str = "",
    buffer_bytes: int = BUFFER_BYTES,
    code: str = "",
    addition: Addition | None = None,
) -> SliceReport:
    """Put `rows` in the place of those of a slice, or of the whole table without `within`. Columns are matched by name.

    The table is created with the first rows, and gets columns that are new. `complete_until_ms`: up to which event time all
    inputs were complete; None where nothing is known of that. `code` is noted: only to rows of the same code may others be
    added. Safe to repeat, and beside any other writer.

    Raises:
        RowsOutsideSliceError: of `rows`; nothing is written.
        ResultTypeError, TableDiffersError: the table can't take such columns.
        CommitConflictError: it was computed from newer inputs and from older ones meanwhile, or an `addition` came too late:
            compute again.
        LakehouseError: of the tree.
    """
    table = open_derived(catalog, derived, rows.schema)
    taken = TimeSliceFiles(derived.column, within)
    writing = _SliceWriting(derived, within, inputs, complete_until_ms, code, addition, taken)
    if not writing.may_replace(table):
        return writing.report_nothing(table)
    files = _stage(table, derived, within, rows, buffer_bytes)
    delivery = Delivery.deriving(table, writing.swap, writing.note, writing.summary(run_id))
    with undo_unless_landed(lambda: delete_staged(table.io, [file.file_path for file in files])):
        landed = publish_prepared(
            catalog,
            table,
            replace(delivery, files=files),
            lambda head: writing.prepare(head, buffer_bytes),
            lambda head: delete_staged(head.io, writing.taken.rewritten_locations),
        )
    if landed is None:
        delete_staged(table.io, [file.file_path for file in files])
        return writing.report_nothing(table)
    return writing.report(landed, files)


def read_notes(table: Table) -> SliceNotes:
    """What is known of the slices of a table: nothing, where the snapshot that said it is no part of its history any more."""
    signed_by, notes = SliceNotes.from_json(table.properties.get(SLICES_KEY, ""))
    head = table.metadata.current_snapshot()
    return notes if any(snapshot.snapshot_id == signed_by for snapshot in ancestors(table, head)) else SliceNotes()


def _stage(
    table: Table, derived: DerivedTable, within: TimeSlice | None, rows: pa.RecordBatchReader, buffer_bytes: int
) -> list[DataFile]:
    writer = build_writer(table, buffer_bytes)
    try:
        for batch in rows:
            try:
                if within is not None and derived.column is not None:
                    _refuse_outside(derived.name, derived.column, within, batch)
                writer.add(pa.Table.from_batches([batch]))
            except pa.ArrowInvalid as error:  # of a value that a narrower column does not hold, as nanoseconds in microseconds
                raise ResultTypeError(derived.name, ", ".join(batch.schema.names), str(error), "CAST(...)") from error
        return build_data_files(table, writer.finish())
    finally:
        writer.abandon()


def _refuse_outside(name: str, column: str, within: TimeSlice, batch: pa.RecordBatch) -> None:
    times = batch.column(column)
    outside = np.flatnonzero(~mark_inside(times, within))
    if len(outside):
        raise RowsOutsideSliceError(name, column, str(times[int(outside[0])].as_py()), str(within), len(outside))


@dataclass(slots=True)
class _SliceWriting:
    """One slice on its way."""

    derived: DerivedTable
    within: TimeSlice | None
    inputs: Sequence[InputState]
    complete_until_ms: int | None
    code: str
    addition: Addition | None
    taken: TimeSliceFiles

    def may_replace(self, head: Table) -> bool:
        """Whether what the head holds of the slice was computed from no newer inputs.

        Raises:
            CommitConflictError: from newer inputs and from older ones.
        """
        orders = {note.compare(self.inputs) for note in read_notes(head).within(self.within)}
        if "neither" in orders or {"newer", "same or older"} <= orders:
            reason = "the slice was computed meanwhile, from newer rows of one input and older ones of another"
            raise CommitConflictError(self.derived.name, reason)
        return "newer" not in orders

    def prepare(self, head: Table, buffer_bytes: int) -> bool:
        if not self.may_replace(head):
            return False
        self._refuse_if_changed(head)
        if self.addition is not None and self.addition.keeps:
            return True
        writer = build_writer(head, buffer_bytes)
        try:
            self.taken.prepare(head, writer)
        finally:
            writer.abandon()
        return True

    def swap(self, head: Table) -> Change:
        if not self.may_replace(head):
            raise CommitConflictError(self.derived.name, "the slice was computed from newer inputs meanwhile")
        if self.addition is not None and self.addition.keeps:
            self._refuse_if_changed(head)
            return Change(())
        return self.taken.swap(head)

    def _refuse_if_changed(self, head: Table) -> None:
        """Raise if the slice has other files by now than those whose rows were folded."""
        if self.addition is not None:
            before = self.taken.list_paths(head, self.addition.snapshot_id)
            if before != self.taken.list_paths(head, head.metadata.current_snapshot_id):
                raise CommitConflictError(self.derived.name, "the slice changed while rows were folded into it")

    def note(self, head: Table, snapshot_id: int) -> Mapping[str, str]:
        """The properties that go with the rows."""
        notes, watermark_ms, clock = read_notes(head), read_watermark(head), self.derived.clock
        for part in [self.within] if clock is None or self.within is None else clock.split(self.within):
            notes = notes.replaced(part, SliceNote(tuple(self.inputs), self._is_complete(part), self.code))
        if clock is not None and self.within is not None:
            watermark_ms = notes.complete_until(clock, watermark_ms)
        if self.within is not None:
            length_ms = clock.length_ms if clock is not None else self.within.stop_ms - self.within.start_ms
            horizon_ms = self.derived.late_horizon_ms
            notes = notes.pruned(length_ms, horizon_ms, watermark_ms, waits=clock is not None)
        return {SLICES_KEY: notes.to_json(snapshot_id), **watermark_notes(head, watermark_ms)}

    def _is_complete(self, part: TimeSlice | None) -> bool:
        return part is not None and self.complete_until_ms is not None and part.stop_ms <= self.complete_until_ms

    def summary(self, run_id: str) -> dict[str, str]:
        read = {it.table: it.snapshot_id for it in self.inputs}
        slice_text = str(self.within) if self.within is not None else "the whole table"
        return {INPUTS_KEY: json.dumps(read), SLICE_KEY: slice_text, **({RUN_KEY: run_id} if run_id else {})}

    def report(self, landed: Landed, files: Sequence[DataFile]) -> SliceReport:
        metadata = landed.metadata
        return SliceReport(
            self.derived.name,
            self.within,
            landed.snapshot_id,
            sum(file.record_count for file in files),
            self.inputs,
            self._is_complete(self.within),
            int(metadata.properties[WATERMARK_KEY]) if WATERMARK_KEY in metadata.properties else None,
            read_totals(metadata.snapshot_by_id(landed.snapshot_id)).live_rows,
            len(files),
            sum(file.file_size_in_bytes for file in files),
            landed.seconds,
            landed.attempts,
            metadata.location,
        )

    def report_nothing(self, table: Table) -> SliceReport:
        total = read_totals(table.metadata.current_snapshot()).live_rows
        return SliceReport(
            self.derived.name, self.within, None, 0, self.inputs, self._is_complete(self.within), read_watermark(table), total,
            location=table.location(),
        )  # fmt: skip
