"""Assets downstream of complete hours, their events, and a daemon whose clock the test moves."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from lakehouse_assets.orchestration.names import KAFKA_TIME, SLICES_TAG

START = datetime(2026, 11, 1, tzinfo=UTC)
COMPLETE = dg.AssetKey(["ods", "flights__complete"])
FLIGHTS = dg.AssetKey(["ods", "flights"])
ROLLUP = dg.AssetKey(["dm", "delays"])


def hours(end_offset: int = 0, start: datetime = START) -> dg.HourlyPartitionsDefinition:
    return dg.HourlyPartitionsDefinition(start, end_offset=end_offset)


def days(end_offset: int = 0) -> dg.DailyPartitionsDefinition:
    return dg.DailyPartitionsDefinition(START, end_offset=end_offset)


def hour(number: int) -> str:
    return (START + timedelta(hours=number)).strftime("%Y-%m-%d-%H:00")


def day(number: int) -> str:
    return (START + timedelta(days=number)).strftime("%Y-%m-%d")


class World:
    """A table, what is downstream of its complete hours, and ticks of the conditions."""

    def __init__(self, instance: dg.DagsterInstance, *downstream: dg.AssetsDefinition) -> None:
        @dg.asset(key=FLIGHTS, partitions_def=hours(1), tags={SLICES_TAG: KAFKA_TIME})
        def table() -> None: ...

        complete = dg.AssetSpec(COMPLETE, deps=[FLIGHTS], partitions_def=hours(1))
        self.instance = instance
        self.defs = dg.Definitions(assets=[table, complete, *downstream])
        self.cursor: Any = None
        self.now = START

    def completed(self, *numbers: int) -> None:
        """Hours of event time become complete, or are reported again."""
        for number in numbers:
            self.updated(COMPLETE, hour(number))

    def updated(self, key: dg.AssetKey, partition: str | None) -> None:
        self.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition))

    def tick(self, at: float) -> set[str | None]:
        """Partitions of the roll-up that are asked for, `at` hours after the start."""
        self.now = START + timedelta(hours=at)
        result = dg.evaluate_automation_conditions(
            defs=self.defs, instance=self.instance, evaluation_time=self.now, cursor=self.cursor
        )
        self.cursor = result.cursor
        return set(result.get_requested_partitions(ROLLUP))

    def started(self, partition: str) -> dg.DagsterRun:
        """A run of the roll-up that works."""
        return self.instance.create_run_for_job(
            self._job, asset_selection=frozenset({ROLLUP}), tags={"dagster/partition": partition}, status=dg.DagsterRunStatus.STARTED
        )

    def ended(self, run: dg.DagsterRun) -> None:
        """It has written what it read when it was started."""
        self.updated(ROLLUP, run.tags["dagster/partition"])
        self.instance.report_run_canceled(run)

    def ran(self, partition: str, is_failing: bool = False) -> None:
        """A whole run of the roll-up."""
        done = self._job.execute_in_process(
            instance=self.instance,
            asset_selection=[ROLLUP],
            partition_key=partition,
            raise_on_error=False,
            tags={"fail": "yes"} if is_failing else {},
        )
        assert done.success is not is_failing

    @property
    def _job(self) -> dg.JobDefinition:
        return self.defs.resolve_implicit_global_asset_job_def()


def rollup(
    condition: dg.AutomationCondition[Any],
    partitions: dg.PartitionsDefinition[str] | None = None,
    deps: Collection[Any] = (COMPLETE,),
) -> dg.AssetsDefinition:
    @dg.asset(key=ROLLUP, deps=deps, partitions_def=partitions or hours(), automation_condition=condition)
    def delays(context: dg.AssetExecutionContext) -> None:
        if context.run.tags.get("fail"):
            raise RuntimeError("the test wants it")

    return delays
