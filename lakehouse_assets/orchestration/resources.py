"""The outside systems as one Dagster resource.

Opened at first use and kept for the life of the process: a code server's sensors tick every few seconds over the same clients.
PyIceberg and Arrow are imported here at first use, so that loading definitions stays fast.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg

from lakehouse_assets.environment import Environment
from lakehouse_assets.model.as_of import AsOf
from lakehouse_assets.model.slices import TimeSlice
from lakehouse_assets.orchestration.steps import CurrentStep

if TYPE_CHECKING:
    from lakehouse_assets.operations.slice_writing import SliceReport
    from lakehouse_assets.operations.systems import Systems

Rows = TypeVar("Rows")
Window = dg.TimeWindow | tuple[datetime, datetime]


class LakehouseResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Kafka and the catalog, as the environment says."""

    def systems(self) -> "Systems":
        """The open systems.

        Raises:
            ConfigurationError: the environment names no Kafka cluster.
            CatalogUnavailableError
        """
        from lakehouse_assets.operations.systems import open_environment

        return open_environment(Environment.read())

    def read(
        self, table: str, into: type[Rows], *, within: Window | None = None, as_of: AsOf | None = None
    ) -> Rows:
        """The rows of a table, `namespace.name`, as a value of a type: pandas, Polars, Arrow or a DuckDB relation.

        Args:
            table: namespace.name.
            into: The type, as `pandas.DataFrame`.
            within: The first moment of event time and that after the last, as `context.partition_time_window`; left out, all.
            as_of: A tag, a snapshot id or a time; left out, now.

        Raises:
            HandOverError: no rows can be handed over as that type.
            UnknownTableError, SnapshotMissingError, NoEventTimeError: of the table.
            LakehouseError: of the tree.
        """
        from lakehouse_assets.operations.systems import open_environment_catalog
        from lakehouse_assets.operations.table_views import open_view

        catalog, reads = open_environment_catalog(Environment.read()), CurrentStep.find().reads
        view = open_view(catalog, table, TimeSlice.between(*within) if within is not None else None, as_of)
        reads.views.append(view)
        rows: Rows = view.read(into, reads.engine.relate)
        return rows

    def write(
        self, table: str, rows: Any, *, event_time: str | None = None, within: Window | None = None
    ) -> "SliceReport":
        """Put rows in the place of those of a slice of event time, or of the whole table. Safe to repeat.

        In an asset, what it read before is noted with the rows, and the table's watermark follows its partitions.

        Args:
            table: namespace.name; created if it is not there.
            rows: A value of one of the types that `read` takes.
            event_time: The column that says when a row happened.
            within: The slice that they replace, all of which they are; left out, the whole table.

        Raises:
            HandOverError: they are no rows, or a slice without a column of event time.
            RowsOutsideSliceError: of the rows; nothing is written.
            LakehouseError: of the tree.
        """
        from lakehouse_assets.model.derived_table import DerivedTable
        from lakehouse_assets.model.errors import HandOverError
        from lakehouse_assets.operations.systems import open_environment_catalog
        from lakehouse_assets.operations.writing_frames import write_frame

        if within is not None and event_time is None:
            raise HandOverError(table, "a slice of event time, but no column of it", "event_time='...', the name of the column")
        catalog = open_environment_catalog(Environment.read())
        into, step = TimeSlice.between(*within) if within is not None else None, CurrentStep.find()
        derived = DerivedTable(table, event_time, step.clock if within is not None else None)
        return write_frame(catalog, derived, into, rows, step.reads.views, step.run_id)
