"""Slices of time as Dagster's partitions."""

from typing import Any

import dagster as dg

from lakehouse_assets.model.slices import SliceClock


def build_partitions(clock: SliceClock) -> dg.TimeWindowPartitionsDefinition:
    """Hours or days in UTC, the current one included."""
    build = dg.HourlyPartitionsDefinition if clock.every == "hour" else dg.DailyPartitionsDefinition
    return build(start_date=clock.start.strftime(clock.key_format), fmt=clock.key_format, timezone="UTC", end_offset=1)


def read_clock(definition: "dg.PartitionsDefinition[Any] | None") -> SliceClock | None:
    """Hours and days in UTC as slices; None for others, of which it is not known here which follow one another."""
    if not isinstance(definition, dg.TimeWindowPartitionsDefinition) or definition.timezone != "UTC":
        return None
    if definition.is_basic_hourly or definition.is_basic_daily:
        return SliceClock("hour" if definition.is_basic_hourly else "day", definition.start)
    return None
