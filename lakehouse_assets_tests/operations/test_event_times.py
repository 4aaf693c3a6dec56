"""What rows that a table holds already say of event time."""

from pathlib import Path

import pytest

from lakehouse_assets.model.completeness import HOUR_MS
from lakehouse_assets.model.errors import StorageError
from lakehouse_assets.model.event_time_spec import EventTimeSpec
from lakehouse_assets.operations.event_times import read_held_hours
from lakehouse_assets.systems.commit import publish
from lakehouse_assets_tests.builders import make_delivery, make_ranges, make_table
from lakehouse_assets_tests.faults import FaultyCatalog

TIMES = EventTimeSpec(column="_kafka_timestamp")
RANGES = make_ranges({0: [(3599, 3602)]})  # builders stamp a row with its offset in seconds


def test_they_are_counted_by_hour_for_the_offsets_that_are_asked_for(catalog: FaultyCatalog) -> None:
    publish(catalog, "ods.clicks", make_delivery(make_table(catalog), {0: range(3590, 3610)}))

    found = read_held_hours(TIMES, catalog.load_table("ods.clicks"), "clicks", RANGES)

    assert found.hours == {0: 1, HOUR_MS: 2}


def test_a_file_that_can_t_be_read_is_an_error_of_storage(catalog: FaultyCatalog) -> None:
    publish(catalog, "ods.clicks", make_delivery(make_table(catalog), {0: range(3590, 3610)}))
    table = catalog.load_table("ods.clicks")
    for task in table.scan().plan_files():
        Path(task.file.file_path.removeprefix("file://")).unlink()

    with pytest.raises(StorageError, match=r"read the slice of ods\.clicks"):
        read_held_hours(TIMES, table, "clicks", RANGES)
