"""Slices of time as Dagster's partitions."""

import dagster as dg

from lakehouse_assets.model.slices import SliceClock


def build_partitions(clock: SliceClock) -> dg.TimeWindowPartitionsDefinition:
    """Hours or days in UTC, the current one included."""
    build = dg.HourlyPartitionsDefinition if clock.every == "hour" else dg.DailyPartitionsDefinition
    return build(start_date=clock.start.strftime(clock.key_format), fmt=clock.key_format, timezone="UTC", end_offset=1)
