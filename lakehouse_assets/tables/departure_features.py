"""Features for a model of late departures: each flight of a day beside the weather in the hour in which it was to leave.

A Python asset of the tables folder: it is handed the rows of complete days as pandas, and what it returns replaces the day.
"""

import dagster as dg
import pandas as pd

from lakehouse_assets.downstream import complete_key, hour_is_complete


@dg.asset(
    key=["dm", "departure_features"],
    ins={"flights": dg.AssetIn(complete_key("demo.flights")), "weather": dg.AssetIn(complete_key("demo.weather"))},
    partitions_def=dg.DailyPartitionsDefinition("2013-01-01", timezone="UTC"),
    automation_condition=hour_is_complete(),
    metadata={"event_time": "time_hour"},
    io_manager_key="lakehouse_io",
    group_name="dm",
    owners=["team:demo"],
    kinds={"iceberg", "pandas"},
)
def departure_features(flights: pd.DataFrame, weather: pd.DataFrame) -> pd.DataFrame:
    """One row per flight that left: what was known before, and how late it left (`dep_delay`, minutes)."""
    left = flights.loc[flights["dep_delay"].notna(), ["time_hour", "origin", "carrier", "dest", "distance", "dep_delay"]]
    busy = flights.groupby(["origin", "time_hour"]).size().rename("flights_that_hour").reset_index()
    seen = weather[["origin", "time_hour", "temp", "visib", "precip"]]
    return left.merge(busy, on=["origin", "time_hour"]).merge(seen, on=["origin", "time_hour"], how="left")


ASSETS = [departure_features]
