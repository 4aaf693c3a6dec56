"""A table that owes too much gets its commits less often, and every place where they are shown says so."""

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakehouse_assets.model.debt import MOST_SMALL_FILES
from lakehouse_assets.orchestration.metadata import commit_line, commit_metadata
from lakehouse_assets.systems.commit import Delivery, publish
from lakehouse_assets.systems.datafiles import build_data_files
from lakehouse_assets.systems.parquet import build_writer
from lakehouse_assets.systems.snapshots import Change
from lakehouse_assets_tests.builders import make_rows
from lakehouse_assets_tests.operations.lake import Lake

pytestmark = pytest.mark.kafka

INTERVAL = 0.5
WHY = "500 small files in one partition; compact is due from 6 on, ingestion commits less often from 500 on"
PACE = f"commits come 2 times less often while maintenance catches up: {WHY}"


def _many_files(table: Table, count: int) -> list[DataFile]:
    """Files of one row each, all alike."""
    writer = build_writer(table, 2**24)
    writer.add(make_rows({7: [0]}))
    (file,) = writer.finish()
    places = [f"{file.location.removesuffix('.parquet')}-{i}.parquet" for i in range(count)]
    for place in places:
        shutil.copy(file.location.removeprefix("file://"), place.removeprefix("file://"))
    return build_data_files(table, [replace(file, location=place) for place in places])


def test_a_debt_that_can_not_be_measured_leaves_the_pace_as_it_is(lake: Callable[..., Lake]) -> None:
    table = lake()
    table.produce(1)
    table.ingest()
    with table.table.transaction() as others:
        others.set_properties({"history.expire.min-snapshots-to-keep": "many"})
    files = _many_files(table.table, MOST_SMALL_FILES)
    publish(table.systems.catalog, table.spec.table, Delivery.maintaining(table.table, "seed", lambda _: Change(files)))
    table.produce(2)

    table.ingest()

    assert [(report.row_count, report.pace.slowdown) for report in table.reports] == [(1, 1), (2, 1)]
    assert table.retries == []


def test_a_run_commits_less_often_while_the_table_owes_too_much_and_says_why(lake: Callable[..., Lake]) -> None:
    table = lake()
    table.spec = table.spec.model_copy(update={"commit_interval": timedelta(seconds=INTERVAL)})
    table.produce(1)
    table.ingest()
    owing = table.table
    files = _many_files(owing, MOST_SMALL_FILES - 1)
    publish(table.systems.catalog, table.spec.table, Delivery.maintaining(owing, "seed", lambda _: Change(files)))
    table.produce(2)
    began, ended = time.monotonic(), [0.0]

    table.ingest(on_commit=lambda _: ended.append(time.monotonic()))

    before, slow = table.reports
    assert ended[-1] - began >= 2 * INTERVAL
    assert (before.pace.slowdown, slow.pace.slowdown, slow.row_count) == (1, 2, 2)
    assert commit_line(slow).endswith(f"; {PACE}")
    shown = commit_metadata(table.spec, slow, 2)
    assert (shown["commit_slowdown"].value, shown["slowed_down_by"].value) == (2, PACE)
