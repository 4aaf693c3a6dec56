"""A table with event times, as ingestion would leave it, and a roll-up of it by SQL."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.transforms import HourTransform

from lakehouse_assets.model.slices import Every
from lakehouse_assets.model.sql_table_spec import SqlTableSpec
from lakehouse_assets.operations.deriving_slices import run_sql
from lakehouse_assets.operations.slice_writing import SliceReport
from lakehouse_assets_tests.slices import START

FLIGHTS, DELAYS = "ods.flights", "dm.delays"
COLUMNS = pa.schema([("happened", pa.timestamp("us", "UTC")), ("carrier", pa.string()), ("delay", pa.int64())])
ROLL_UP = """
SELECT date_trunc('hour', happened) AS hour, carrier, count(*) AS flights, sum(delay) AS delay
FROM ods.flights
GROUP BY ALL
"""
Flight = tuple[float, str, int | None]  # hours after the start, carrier, delay


def make_flights(catalog: Catalog, name: str = FLIGHTS, *, has_times: bool = True) -> Table:
    """The table, laid out by hours, without rows."""
    catalog.create_namespace_if_not_exists(name.partition(".")[0])
    properties = {"lakehouse.event-time-column": "happened"} if has_times else {}
    table = catalog.create_table(name, COLUMNS, properties=properties)
    with table.update_spec() as update:
        update.add_field("happened", HourTransform())
    return table


def fly(catalog: Catalog, flights: Iterable[Flight], complete_hours: int | None = None, name: str = FLIGHTS) -> None:
    """Append flights; all of so many hours have come then."""
    rows = [{"happened": START + timedelta(hours=at), "carrier": carrier, "delay": delay} for at, carrier, delay in flights]
    table = catalog.load_table(name)
    with table.transaction() as change:
        change.append(pa.Table.from_pylist(rows, schema=COLUMNS))
        if complete_hours is not None:
            watermark = START + timedelta(hours=complete_hours)
            change.set_properties({"lakehouse.event-time-watermark": str(int(watermark.timestamp() * 1000))})


def make_sql(**parts: Any) -> SqlTableSpec:
    """A roll-up by the hour."""
    return SqlTableSpec(
        **({"table": DELAYS, "sql": ROLL_UP, "event_time": {"column": "hour"}, "partitions": {"start": START}} | parts)
    )


def key(hour: int, every: Every = "hour") -> str:
    """Dagster's name of an hour, or of the day that begins with it."""
    at = START + timedelta(hours=hour)
    return f"{at:%Y-%m-%d-%H:%M}" if every == "hour" else f"{at:%Y-%m-%d}"


def compute(catalog: Catalog, *hours: int, spec: SqlTableSpec | None = None) -> list[SliceReport]:
    """Compute these hours, or the days that begin with them, or with none the whole table."""
    spec, reports = spec or make_sql(), list[SliceReport]()
    run_sql(
        catalog,
        spec,
        [key(hour, spec.clock.every) for hour in hours] if spec.clock is not None else [""],
        run_id="run-1",
        stop=lambda: False,
        on_slice=lambda _, report: reports.append(report),
        on_retry=lambda error, _: None,
    )
    return reports


def read_delays(catalog: Catalog, columns: Sequence[str] = ("hour", "carrier", "flights", "delay")) -> list[tuple[Any, ...]]:
    """The rows of the roll-up, sorted; times as hours after the start."""
    found = catalog.load_table(DELAYS).scan().to_arrow().to_pylist()
    for row in found:
        row["hour"] = (row["hour"] - START) / timedelta(hours=1)
    return sorted(tuple(row[name] for name in columns) for row in found)
