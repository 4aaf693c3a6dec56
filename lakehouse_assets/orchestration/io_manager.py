"""Hands the rows of tables to Python assets, and makes tables of what they return.

An asset says by the types of its parameters as what it wants them: pandas, Polars (lazy too), Arrow (a stream too) or a DuckDB
relation. A partition is a slice of event time. What an asset returns takes the place of the slice in one snapshot, however
often it runs.
"""

from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from lakehouse_assets.environment import Environment
from lakehouse_assets.model.as_of import AsOf
from lakehouse_assets.model.errors import HandOverError
from lakehouse_assets.model.slices import TimeSlice
from lakehouse_assets.model.written import read_table_name
from lakehouse_assets.orchestration.names import COMPLETE_SUFFIX, complete_key
from lakehouse_assets.orchestration.partitions import read_clock
from lakehouse_assets.orchestration.slice_metadata import slice_line, slice_metadata
from lakehouse_assets.orchestration.steps import reads_of

if TYPE_CHECKING:
    from lakehouse_assets.model.derived_table import DerivedTable

EVENT_TIME: Final = "event_time"  # metadata of an asset: its column that says when a row happened
AS_OF: Final = "as_of"  # metadata of an input: the tag, snapshot id or time as of which it is read
WHOLE: Final = "whole"  # metadata of an input: True, where it is read as a whole


def complete_slices(table: str, *, as_of: AsOf | None = None) -> dg.AssetIn:
    """An input: the rows of a table, `namespace.name` with `event_time`, that happened in the partition."""
    return dg.AssetIn(complete_key(table), metadata={AS_OF: as_of} if as_of is not None else None)


def whole_table(table: str, *, as_of: AsOf | None = None) -> dg.AssetIn:
    """An input: all rows of a table, `namespace.name`, whatever the partition is and by which time it has partitions itself."""
    metadata = {WHOLE: True} | ({AS_OF: as_of} if as_of is not None else {})
    return dg.AssetIn(dg.AssetKey(table.split(".")), metadata=metadata, partition_mapping=dg.LastPartitionMapping())


class LakehouseIOManager(dg.ConfigurableIOManager):
    """Tables of the catalog that the environment names; `ns/name` and `ns/name__complete` are keys of the table `ns.name`."""

    def load_input(self, context: dg.InputContext) -> Any:
        """The rows of the input's partitions, or of the whole table, as the type with which the parameter is annotated.

        Raises:
            HandOverError: no rows can be handed over as that type, or of such partitions.
            UnknownTableError, SnapshotMissingError, NoEventTimeError: of the table.
            LakehouseError: of the tree.
        """
        from lakehouse_assets.operations.systems import open_environment_catalog
        from lakehouse_assets.operations.table_views import open_view, refuse_kafka_hours

        table, within = _name_table(context.asset_key), _choose_slice(context)
        catalog = open_environment_catalog(Environment.read())
        view = open_view(catalog, table, within, context.definition_metadata.get(AS_OF))
        if within is not None and not context.asset_key.path[-1].endswith(COMPLETE_SUFFIX):
            refuse_kafka_hours(view)
        reads = reads_of(_step_of(context))
        reads.views.append(view)
        return view.read(context.dagster_type.typing_type, reads.engine.relate)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Put the rows in the place of those of the partition, or of the whole table, and show what became of them.

        Raises:
            HandOverError: they are no rows, or the asset does not say what a table needs.
            RowsOutsideSliceError: of the rows; nothing is written.
            LakehouseError: of the tree.
        """
        from lakehouse_assets.operations.systems import open_environment_catalog
        from lakehouse_assets.operations.writing_frames import write_frame

        catalog = open_environment_catalog(Environment.read())
        within = _slice_of(context) if context.has_asset_partitions else None
        reads = reads_of(context.step_context)
        report = write_frame(catalog, _describe(context, within), within, obj, reads.views, context.run_id)
        partition_count = len(context.asset_partition_keys) if context.has_asset_partitions else 1
        context.add_output_metadata(slice_metadata(report, partition_count))
        context.log.info(slice_line(report))


def _name_table(key: dg.AssetKey) -> str:
    table = ".".join(key.path).removesuffix(COMPLETE_SUFFIX)
    try:
        return read_table_name(table)
    except ValueError as error:
        raise HandOverError(key.to_user_string(), "this asset key", "namespace/name, as tables have") from error


def _step_of(context: dg.InputContext) -> object:
    try:
        return context.step_context
    except dg.DagsterInvariantViolationError:
        return None  # somebody loads a value outside of a run


def _choose_slice(context: dg.InputContext) -> TimeSlice | None:
    step = _step_of(context)
    is_sliced = step is None or context.step_context.has_partition_key or context.step_context.has_partition_key_range
    if not is_sliced or not context.has_asset_partitions or context.definition_metadata.get(WHOLE):
        return None
    return _slice_of(context)


def _slice_of(context: dg.InputContext | dg.OutputContext) -> TimeSlice:
    definition = context.asset_partitions_def
    if not isinstance(definition, dg.TimeWindowPartitionsDefinition):
        expected = "hours, days or other windows of time, or none"
        raise HandOverError(context.asset_key.to_user_string(), f"partitions that are {type(definition).__name__}", expected)
    return TimeSlice.between(*context.asset_partitions_time_window)


def _describe(context: dg.OutputContext, within: TimeSlice | None) -> "DerivedTable":
    from lakehouse_assets.model.derived_table import DerivedTable

    name, column = _name_table(context.asset_key), context.definition_metadata.get(EVENT_TIME)
    if within is not None and not isinstance(column, str):
        expected = f"metadata={{{EVENT_TIME!r}: ...}} on it: the column that says when a row happened"
        raise HandOverError(context.asset_key.to_user_string(), "partitions of time, but no column of event time", expected)
    clock = read_clock(context.asset_partitions_def) if within is not None else None
    return DerivedTable(name, column, clock, description=context.asset_spec.description or "")
