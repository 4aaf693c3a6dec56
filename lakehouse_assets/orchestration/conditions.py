"""When a partition downstream of tables runs: the automation condition, and the sensor that evaluates it.

Everything is Dagster's own conditions, so it composes with them (`hour_is_complete() & ...`), and the daemon evaluates it.
Two things start a partition. It is missing while what it depends on is there: that holds for a new asset and after a lost
cursor too. Or what it depends on was updated since the partition was asked for; since then and not since it was materialized,
because a run that works may have read what was there before.
"""

from collections.abc import Collection
from typing import Any, Final, Literal, cast

import dagster as dg

from lakehouse_assets.orchestration.names import KAFKA_TIME, SLICES_TAG

SENSOR: Final = "downstream"
INTERVAL_SECONDS: Final = 10
_Condition = dg.AutomationCondition[Any]
OnLate = Literal["report", "rerun"]


def hour_is_complete(
    on_late: OnLate = "report", *, whole: Collection[dg.AssetKey] = ()
) -> _Condition:
    """Run a partition, once, when every partition that it depends on is there: the `__complete` slices of its tables above all.

    Days wait for all of their hours, by Dagster's mapping of partitions. What was materialized by hand before it was complete
    runs again when it is. A run that failed is not repeated: that is left to a person, or to a condition beside this one.

    Args:
        on_late: What becomes of rows that arrive when their slice was complete: `report` shows them and leaves the partition
            as it is, `rerun` runs it again.
        whole: Dependencies that are read as a whole: they hold nothing back and start nothing. Tables that are filled from
            Kafka are such anyway, because their partitions are hours of Kafka's time; it is their `__complete` that counts.
    """
    missing, asked = dg.AutomationCondition.missing(), dg.AutomationCondition.newly_requested()
    complete = (_any_dep(~missing, whole) & ~_any_dep(missing, whole)).with_label("complete")
    updated = _any_dep(dg.AutomationCondition.newly_updated(), whole).with_label("updated")

    first = ((missing & complete).newly_true().since(asked) & missing).with_label("complete and missing")
    news = updated if on_late == "rerun" else (complete.newly_true() & updated)
    # News of the tick after wins over its request, whatever the clocks say that stamped them.
    again = news.since(asked & ~news).with_label("updated since it was asked for")
    is_idle = ~dg.AutomationCondition.in_progress() & ~_any_dep(dg.AutomationCondition.in_progress(), whole)
    return cast(_Condition, ((first | again) & complete & is_idle).with_label(f"hour_is_complete({on_late})"))


def on_update() -> _Condition:
    """Run a table that is computed as a whole when what it depends on has changed, at most once a minute.

    What changes while a run works starts the next one, because that run may have read what was there before.
    """
    missing, asked = dg.AutomationCondition.missing(), dg.AutomationCondition.newly_requested()
    first = (missing & dg.AutomationCondition.any_deps_match(~missing)).newly_true().since(asked).with_label("missing")
    news = dg.AutomationCondition.any_deps_match(dg.AutomationCondition.newly_updated())
    changed = news.since(asked & ~news).with_label("changed since it was asked for")
    minute = dg.AutomationCondition.cron_tick_passed("* * * * *").since(asked).with_label("a minute has passed")
    is_idle = ~dg.AutomationCondition.in_progress()
    return cast(_Condition, ((first | changed) & minute & is_idle).with_label("on_update"))


def build_automation_sensor() -> dg.AutomationConditionSensorDefinition:
    """Evaluates the conditions of all assets. On by default, which Dagster's own is not.

    Several partitions of one tick become a backfill, which goes by the asset's policy: one run for those that are contiguous.
    """
    return dg.AutomationConditionSensorDefinition(
        name=SENSOR,
        target=dg.AssetSelection.all(),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=INTERVAL_SECONDS,
        description="Starts what is downstream of tables when the hours or days that it needs are complete.",
    )


def _any_dep(condition: _Condition, whole: Collection[dg.AssetKey]) -> Any:
    of_kafka = dg.AssetSelection.tag(SLICES_TAG, KAFKA_TIME)
    return dg.AutomationCondition.any_deps_match(condition).ignore(of_kafka | dg.AssetSelection.assets(*whole))
