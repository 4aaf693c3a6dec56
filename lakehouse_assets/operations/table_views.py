"""A table as one step reads it: in one state, whole or a slice of event time, and what the result has to remember of that."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from lakehouse_assets.model.as_of import AsOf
from lakehouse_assets.model.errors import HandOverError
from lakehouse_assets.model.slice_notes import InputState
from lakehouse_assets.model.slices import TimeSlice
from lakehouse_assets.operations.frames import Relate, read_frame
from lakehouse_assets.systems.catalog import find_table
from lakehouse_assets.systems.history import has_ledger
from lakehouse_assets.systems.pins import resolve_as_of
from lakehouse_assets.systems.scanning import TableDataset
from lakehouse_assets.systems.slice_inputs import describe_input, read_complete_until


@dataclass(frozen=True, slots=True)
class TableView:
    """A table in one state; every reading of it gives the same rows.

    `state` is what was read, for the table that is computed from it.
    """

    table: Table
    state: InputState
    within: TimeSlice | None

    def read(self, kind: object, relate: Relate) -> Any:
        """Its rows as a value of a type, of those that `frames` names.

        Raises:
            HandOverError: it is none of them.
            NoEventTimeError: a slice, of a table that does not say when its rows happened.
            StorageError
        """
        return read_frame(self.state.table, kind, self.open(), relate)

    def open(self) -> TableDataset:
        """Its rows, for engines that scan them.

        Raises:
            NoEventTimeError: a slice, of a table that does not say when its rows happened.
        """
        return TableDataset(self.table, self._chosen, self.within)

    @property
    def complete_until_ms(self) -> int | None:
        """Up to which event time its rows are all there, ms since 1970; None where nothing is known of that."""
        return read_complete_until(self.table, self._chosen)

    @property
    def _chosen(self) -> int | None:
        return self.state.snapshot_id if self.state.is_chosen else None


def open_view(catalog: Catalog, name: str, within: TimeSlice | None = None, as_of: AsOf | None = None) -> TableView:
    """The table as it is now, or as of a tag, a snapshot id or a time.

    Raises:
        UnknownTableError: the catalog has none of that name.
        SnapshotMissingError: `as_of` means no snapshot.
        CatalogUnavailableError, CatalogAccessError, StorageError
    """
    table = find_table(catalog, name)
    chosen = None if as_of is None else resolve_as_of(table, as_of)
    return TableView(table, describe_input(table, chosen, is_chosen=chosen is not None), within)


def find_complete_until(views: Sequence[TableView]) -> int | None:
    """Up to which event time those that are slices are complete; None where one says nothing, or there is none."""
    known = [view.complete_until_ms for view in views if view.within is not None]
    return min((until_ms for until_ms in known if until_ms is not None), default=None) if None not in known else None


def refuse_kafka_hours(view: TableView) -> None:
    """Raise where a partition means the hour in which messages came, which is no slice of event time.

    Raises:
        HandOverError: the table is filled from Kafka.
    """
    if has_ledger(view.table):
        name = view.state.table
        expected = f"'{name.replace('.', '/')}__complete', whose partitions are those of event time, or the table as a whole"
        raise HandOverError(name, "its partitions as an input, which are those of the time at which messages came", expected)
