"""The slices of event time of which a table has all rows: an external asset beside it, and the sensor that reports them.

A partition of the asset is materialized when the watermark has passed its end. That is in Dagster's event log for good, it is
what the UI shows, and what comes after the table depends on it. The log alone says what was reported; the cursor only spares a
look into it, so that neither a crash between events and cursor nor a lost cursor reports a slice twice, or leaves one out.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from lakehouse_assets.model.errors import LakehouseError
from lakehouse_assets.model.slices import SliceClock
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.orchestration.checks import complete_evaluation
from lakehouse_assets.orchestration.names import IO_MANAGER, complete_key, table_key
from lakehouse_assets.orchestration.partitions import build_partitions
from lakehouse_assets.orchestration.resources import LakehouseResource
from lakehouse_assets.orchestration.sensors import find_unfinished

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

SENSOR: Final = "complete"
MOST_EVENTS: Final = 200  # of one tick; Dagster takes up to 50 ms to store one
_INTERVAL_SECONDS = 10
_LATE_ROWS = "late_rows"


def build_complete_assets(specs: Sequence[TableSpec]) -> list[dg.AssetSpec]:
    """The external assets of the complete slices, of those tables that have event times."""
    return [_build_complete_asset(spec, clock) for spec, clock in _with_slices(specs)]


def build_complete_sensors(specs: Sequence[TableSpec]) -> list[dg.SensorDefinition]:
    """The sensor that reports slices of all tables when they become complete, or get late rows. On by default."""
    tables = list(_with_slices(specs))
    if not tables:
        return []

    @dg.sensor(
        name=SENSOR,
        minimum_interval_seconds=_INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reports the hours or days of event time of which tables have all rows, when they do, and their check.",
    )
    def complete(context: dg.SensorEvaluationContext, lakehouse: LakehouseResource) -> dg.SensorResult:
        return _report(context, _read_standings(context, lakehouse.systems().catalog, tables))

    return [complete]


@dataclass(frozen=True, slots=True)
class _Standing:
    """How far a table is.

    Attributes:
        until_ms: Beginning of the first slice that is not complete.
        late: Late rows of those that are, by partition key.
        check: The table's check `complete`.
    """

    spec: TableSpec
    clock: SliceClock
    watermark_ms: int
    snapshot_id: int | None
    until_ms: int
    late: Mapping[str, int]
    check: dg.AssetCheckEvaluation

    @property
    def seen(self) -> dict[str, object]:
        """As the cursor remembers it."""
        return {"until": self.clock.key(self.until_ms), "late": dict(self.late)}

    def list_due(self, instance: dg.DagsterInstance) -> Iterator[dg.AssetMaterialization]:
        """Events of slices that the log does not have, or has with fewer late rows; the oldest first."""
        key = complete_key(self.spec.table)
        reported = instance.get_materialized_partitions(key)
        for begin_ms in range(self.clock.start_ms, self.until_ms, self.clock.length_ms):
            partition = self.clock.key(begin_ms)
            late = self.late.get(partition, 0)
            if partition not in reported or (late and late > _count_reported(instance, key, partition)):
                metadata: dict[str, dg.MetadataValue[Any]] = {
                    "watermark": dg.MetadataValue.timestamp(self.watermark_ms / 1000),
                    "snapshot_id": dg.MetadataValue.text(str(self.snapshot_id)),
                    _LATE_ROWS: dg.MetadataValue.int(late),
                }
                yield dg.AssetMaterialization(key, partition=partition, metadata=metadata)


def _report(context: dg.SensorEvaluationContext, standings: Sequence[_Standing]) -> dg.SensorResult:
    """The slices that are due, and the check of each table with them, or when it changes its mind."""
    seen = json.loads(context.cursor) if context.cursor else {}
    events: list[dg.AssetMaterialization] = []
    checks: list[dg.AssetCheckEvaluation] = []
    for standing in standings:
        before = seen.get(standing.spec.table, {})
        room = MOST_EVENTS - len(events)
        is_known = before.get("slices") == standing.seen
        due = [] if is_known else list(islice(standing.list_due(context.instance), room + 1))
        events += due[:room]
        check, has_changed = standing.check, before.get("passed", True) != standing.check.passed
        # A run of ingestion records its checks itself; the UI would take this one for outdated with the next commit.
        if has_changed or (due and find_unfinished(context.instance, standing.spec) is None):
            checks.append(check)
        slices = standing.seen if len(due) <= room else None
        seen[standing.spec.table] = {"slices": slices, "passed": check.passed}
    told = "; ".join(f"{one.spec.table} up to {one.clock.key(one.until_ms)}" for one in standings)
    reason = f"{len(events):,} slices reported. Complete: {told or 'nothing yet'}."
    return dg.SensorResult(skip_reason=reason, asset_events=[*events, *checks], cursor=json.dumps(seen))


def _read_standings(
    context: dg.SensorEvaluationContext, catalog: "Catalog", tables: Sequence[tuple[TableSpec, SliceClock]]
) -> list[_Standing]:
    """Where the tables stand that have a watermark. One that can't be read does not keep the others waiting."""
    standings: list[_Standing] = []
    failures: list[LakehouseError] = []
    for spec, clock in tables:
        try:
            standing = _read_standing(catalog, spec, clock)
        except LakehouseError as error:
            context.log.warning(f"{spec.table}: {error}")
            failures.append(error)
            continue
        if standing is not None:
            standings.append(standing)
    if failures and not standings:
        raise dg.Failure(description=str(failures[0])) from failures[0]
    return standings


def _read_standing(catalog: "Catalog", spec: TableSpec, clock: SliceClock) -> _Standing | None:
    """None where there is no table or no watermark yet. A slice has also ended by the clock before it is told of."""
    from lakehouse_assets.systems.catalog import load_table
    from lakehouse_assets.systems.table_times import read_table_times

    if (table := load_table(catalog, spec.table)) is None:
        return None
    times = read_table_times(table)
    if times.watermark_ms is None:
        return None
    until_ms = clock.begin_ms(min(times.watermark_ms, int(time.time() * 1000)))
    late: Counter[str] = Counter()
    for hour_ms, count in times.late_rows.items():
        if clock.start_ms <= hour_ms < until_ms:
            late[clock.key(hour_ms)] += count
    snapshot_id = table.metadata.current_snapshot_id
    return _Standing(spec, clock, times.watermark_ms, snapshot_id, until_ms, late, complete_evaluation(spec, table))


def _count_reported(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str) -> int:
    """How many late rows the newest event of a partition tells of; none where a person reported it."""
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition])
    (newest,) = instance.fetch_materializations(wanted, limit=1).records
    told = newest.asset_materialization.metadata.get(_LATE_ROWS) if newest.asset_materialization else None
    return told.value if isinstance(told, dg.IntMetadataValue) and told.value is not None else 0


def _with_slices(specs: Sequence[TableSpec]) -> Iterator[tuple[TableSpec, SliceClock]]:
    for spec in specs:
        if (clock := spec.event_slices) is not None:
            yield spec, clock


def _build_complete_asset(spec: TableSpec, clock: SliceClock) -> dg.AssetSpec:
    return dg.AssetSpec(
        key=complete_key(spec.table),
        deps=[table_key(spec)],
        partitions_def=build_partitions(clock),
        group_name=spec.namespace,
        owners=list(spec.owners),
        kinds={"iceberg"},
        description=f"The {clock.every}s (UTC) of event time of which `{spec.table}` has all rows. One is materialized when "
        "the watermark has passed its end, and again when late rows came after that. What comes after the table depends on "
        "this, with `hour_is_complete()`.",
    ).with_io_manager_key(IO_MANAGER)
