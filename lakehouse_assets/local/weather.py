"""The demo's Avro messages: the hourly weather at New York City's airports in 2013, in the order of time, which never changes.

After the year the same weather comes again, a year later.
As with the flights, how many messages each topic partition holds says exactly which ones they are.
"""

import csv
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

from lakehouse_assets.local.errors import LocalPlatformError
from lakehouse_assets.local.flights import PARTITION_COUNT, DemoMessage, add_years
from lakehouse_assets.model.schemas import RegisteredSchema

_MISSING = ("", "NA")
_OPTIONAL_DOUBLE = {"type": ["null", "double"], "default": None}
_WIND = {
    "type": "record",
    "name": "Wind",
    "fields": [
        {"name": "direction", "type": ["null", "int"], "default": None, "doc": "Degrees from north."},
        {"name": "speed", **_OPTIONAL_DOUBLE, "doc": "Miles per hour."},
        {"name": "gust", **_OPTIONAL_DOUBLE, "doc": "Miles per hour."},
    ],
}
_PRECIPITATION = {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}
_SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Weather",
    "namespace": "demo",
    "doc": "Weather at an airport in one hour.",
    "fields": [
        {
            "name": "origin",
            "type": {"type": "enum", "name": "Airport", "symbols": ["EWR", "JFK", "LGA"]},
            "doc": "Airport of the station.",
        },
        {"name": "time_hour", "type": {"type": "long", "logicalType": "timestamp-millis"}, "doc": "Beginning of the hour."},
        {"name": "temp", **_OPTIONAL_DOUBLE, "doc": "Temperature in degrees Fahrenheit."},
        {"name": "dewp", **_OPTIONAL_DOUBLE, "doc": "Dew point in degrees Fahrenheit."},
        {"name": "humid", **_OPTIONAL_DOUBLE, "doc": "Relative humidity in percent."},
        {"name": "wind", "type": _WIND, "doc": "Wind as measured at the station."},
        {"name": "precip", "type": ["null", _PRECIPITATION], "default": None, "doc": "Precipitation in inches."},
        {"name": "pressure", **_OPTIONAL_DOUBLE, "doc": "Pressure at sea level in millibars."},
        {"name": "visib", **_OPTIONAL_DOUBLE, "doc": "Visibility in miles."},
    ],
}
WEATHER_SCHEMA = RegisteredSchema("AVRO", json.dumps(_SCHEMA))


def read_weather(path: Path, schema_id: int, produced: Mapping[int, int]) -> Iterator[DemoMessage]:
    """All observations, and again in each year that follows, without the first `produced` messages of each topic partition.

    Raises:
        LocalPlatformError: the extra that brings the encoder is not installed.
    """
    try:
        import fastavro
    except ImportError as error:
        raise LocalPlatformError(
            "produce the demo's weather",
            "the package fastavro is not installed",
            "Install the extra: pip install 'lakehouse_assets[local]'.",
        ) from error
    schema = fastavro.parse_schema(_SCHEMA)
    prefix = b"\0" + schema_id.to_bytes(4, "big")
    ahead = dict(produced)
    with path.open(encoding="utf-8") as lines:
        rows = sorted(csv.DictReader(lines), key=lambda row: row["time_hour"])
    for later in count():
        for row in rows:
            key = row["origin"].encode()
            partition = zlib.crc32(key) % PARTITION_COUNT
            if ahead.get(partition, 0) > 0:
                ahead[partition] -= 1
                continue
            body = io.BytesIO()
            fastavro.schemaless_writer(body, schema, _record({**row, "time_hour": add_years(row["time_hour"], later)}))
            yield DemoMessage(partition, key, prefix + body.getvalue())


def _record(row: Mapping[str, str]) -> dict[str, Any]:
    found = {name: text for name, text in row.items() if text not in _MISSING}
    numbers = {name: float(text) for name, text in found.items() if name not in ("origin", "time_hour", "precip")}
    direction = numbers.get("wind_dir")
    return {
        "origin": row["origin"],
        "time_hour": datetime.fromisoformat(row["time_hour"]),
        **{name: numbers.get(name) for name in ("temp", "dewp", "humid", "pressure", "visib")},
        "wind": {
            "direction": None if direction is None else int(direction),
            "speed": numbers.get("wind_speed"),
            "gust": numbers.get("wind_gust"),
        },
        "precip": Decimal(found["precip"]).quantize(Decimal("0.01")) if "precip" in found else None,
    }
