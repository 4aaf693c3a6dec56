"""A table that is computed by SQL becomes an asset, partitioned by hour or day of event time, or as a whole.

No logic lives here: the body opens the catalog, calls the operation, and reports each slice when it has landed.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from lakehouse_assets.model.errors import LakehouseError
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.sql_table_spec import SqlTableSpec
from lakehouse_assets.orchestration.conditions import hour_is_complete, on_update
from lakehouse_assets.orchestration.names import IO_MANAGER, complete_key, definition_name, table_key
from lakehouse_assets.orchestration.partitions import build_partitions
from lakehouse_assets.orchestration.plots import draw_bars
from lakehouse_assets.orchestration.resources import LakehouseResource
from lakehouse_assets.orchestration.slice_metadata import slice_line, slice_metadata
from lakehouse_assets.orchestration.stopping import stop_at_boundary

if TYPE_CHECKING:
    from lakehouse_assets.operations.slice_writing import SliceReport
    from lakehouse_assets.operations.systems import Systems

_MAX_RUN_SECONDS = 24 * 3600  # before Dagster takes a run for dead


@dataclass(frozen=True, slots=True)
class _Lineage:
    """What an asset is downstream of: slices that it waits for, and what is read as a whole."""

    slices: Sequence[dg.AssetKey]
    wholes: Sequence[dg.AssetKey]


def build_sql_assets(
    specs: Sequence[SqlTableSpec], tables: Sequence[TableSpec], others: Collection[dg.AssetKey] = ()
) -> list[dg.AssetsDefinition]:
    """The assets of tables that are computed. `tables` are filled from Kafka; `others` are assets with slices of event time."""
    with_times = {table.table: complete_key(table.table) for table in tables if table.event_time is not None}
    with_times |= {spec.table: table_key(spec) for spec in specs if spec.event_time is not None}
    return [_build_asset(spec, _find_lineage(spec, with_times, others)) for spec in specs]


def _find_lineage(
    spec: SqlTableSpec, with_times: Mapping[str, dg.AssetKey], others: Collection[dg.AssetKey]
) -> _Lineage:
    from lakehouse_assets.statements import parse_statement

    slices, wholes = [], []
    for name in parse_statement(spec.sql).tables:
        key, declared = dg.AssetKey(name.split(".")), spec.input(name)
        sliced = with_times.get(name, key if key in others else None)
        if sliced is None or spec.event_time is None or declared.whole or declared.as_of is not None:
            wholes.append(key)
        else:
            slices.append(sliced)
    return _Lineage(slices, wholes)


def _choose_condition(spec: SqlTableSpec, lineage: _Lineage) -> "dg.AutomationCondition[Any] | None":
    match spec.starts_by:
        case "hour_is_complete":
            return hour_is_complete(spec.on_late, whole=lineage.wholes) if lineage.slices else None
        case "on_update":
            return on_update()
        case "manual":
            return None


def _build_asset(spec: SqlTableSpec, lineage: _Lineage) -> dg.AssetsDefinition:
    key = table_key(spec)
    condition = _choose_condition(spec, lineage)
    whole_mapping = dg.LastPartitionMapping() if spec.event_time is not None else None

    @dg.multi_asset(
        name=definition_name(spec, "table"),
        specs=[
            dg.AssetSpec(
                key=key,
                deps=[
                    *lineage.slices,
                    *(dg.AssetDep(whole, partition_mapping=whole_mapping) for whole in lineage.wholes),
                ],
                skippable=True,  # each slice is reported when it lands, not once at the end
                description=_describe(spec, is_automatic=condition is not None),
                metadata={"dagster/table_name": spec.table, "sql": dg.MetadataValue.md(f"```sql\n{spec.sql.strip()}\n```")},
                group_name=spec.namespace,
                owners=list(spec.owners),
                kinds={"iceberg", "duckdb"},
                automation_condition=condition,
            ).with_io_manager_key(IO_MANAGER)
        ],
        partitions_def=build_partitions(spec.clock) if spec.clock is not None else None,
        backfill_policy=dg.BackfillPolicy.single_run() if spec.clock is not None else None,
        op_tags={"dagster/max_runtime": str(_MAX_RUN_SECONDS)},
    )
    def table(context: dg.AssetExecutionContext, lakehouse: LakehouseResource) -> Iterator[dg.MaterializeResult[Any]]:
        with stop_at_boundary() as stop:
            try:
                yield from _Run(context, spec, key).compute(lakehouse.systems(), stop)
            except LakehouseError as error:
                # The sentence is the whole story; what can pass by itself was tried again already.
                raise dg.Failure(description=str(error), allow_retries=False) from error

    return table


class _Run:
    """One run of one table: calls the operation, reports each slice that lands."""

    def __init__(self, context: dg.AssetExecutionContext, spec: SqlTableSpec, key: dg.AssetKey) -> None:
        self._context, self._spec, self._key = context, spec, key

    def compute(self, systems: "Systems", stop: Callable[[], bool]) -> Iterator[dg.MaterializeResult[Any]]:
        from lakehouse_assets.operations.deriving_slices import run_sql

        keys = list(self._context.partition_keys) if self._spec.clock is not None else [""]
        landed: dict[str, Mapping[str, dg.MetadataValue[Any]]] = {}

        def report(key: str, slice_report: "SliceReport") -> None:
            self._context.log.info(slice_line(slice_report))
            landed[key] = {**slice_metadata(slice_report), **self._picture(systems, slice_report)}
            if len(keys) > 1:
                self._context.log_event(dg.AssetMaterialization(self._key, partition=key, metadata=landed[key]))

        done = run_sql(
            systems.catalog,
            self._spec,
            keys,
            run_id=self._context.run.run_id,
            stop=stop,
            on_slice=report,
            on_retry=lambda error, seconds: self._context.log.warning(f"trying again in {seconds:g} s: {error}"),
        )
        if len(done) < len(keys):
            self._context.log.warning(f"stopped after {len(done)} of {len(keys)}; the others are as they were")
        elif len(keys) == 1:
            yield dg.MaterializeResult(metadata=landed[keys[0]])

    def _picture(self, systems: "Systems", report: "SliceReport") -> Mapping[str, dg.MetadataValue[Any]]:
        from lakehouse_assets.operations.picturing import read_bars

        try:
            bars = read_bars(systems.catalog, report, self._spec.derived.column)
        except LakehouseError as error:  # the rows have landed: that there is no picture of them must not fail the run
            self._context.log.warning(f"no picture: {error}")
            return {}
        return {"picture": draw_bars(bars)} if bars is not None else {}


def _describe(spec: SqlTableSpec, *, is_automatic: bool) -> str:
    """Markdown for the asset's description: what it is, and what the buttons do."""
    if spec.clock is None:
        when = "Materializing computes the whole table."
        when += " It is computed again, at most once a minute, when an input has changed." if is_automatic else ""
    else:
        every = spec.clock.every
        when = f"Materializing {'an hour' if every == 'hour' else 'a day'} replaces it."
        late = "computed again when late rows come" if spec.on_late == "rerun" else "left as it is when late rows come"
        when += f" Each is computed when its inputs are complete, and {late}." if is_automatic else ""
    return f"{spec.description or 'Computed from other tables.'}\n\n{when}"
