"""The staging writer encodes beside its caller, and hides nothing from him."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from lakehouse_assets.model.errors import StorageError
from lakehouse_assets.systems.parquet import build_writer
from lakehouse_assets_tests.builders import make_rows, make_table

_NO_BUFFER = 1  # every call has to write


def _data_folder(table: Table) -> Path:
    return Path(table.location().removeprefix("file://")) / "data"


def _break_storage(table: Table) -> None:
    folder = _data_folder(table)
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_text("a file where the folder should be")


def test_rows_of_many_calls_are_handed_over_once_and_in_their_order(catalog: Catalog) -> None:
    table = make_table(catalog)
    writer = build_writer(table, _NO_BUFFER)

    for start in range(0, 500, 100):
        writer.add(make_rows({0: range(start, start + 100)}))
    staged = writer.finish()
    writer.abandon()

    written = [pq.read_table(file.location.removeprefix("file://")) for file in staged]
    assert [offset for rows in written for offset in rows["_kafka_offset"].to_pylist()] == list(range(500))
    assert sum(file.row_count for file in staged) == 500


def test_a_failure_to_write_what_is_buffered_is_raised_when_the_files_are_wanted(catalog: Catalog) -> None:
    table = make_table(catalog)
    writer = build_writer(table, 2**24)
    _break_storage(table)
    writer.add(make_rows({0: range(10)}))

    with pytest.raises(StorageError, match="write a data file"):
        writer.finish()

    writer.abandon()


def test_a_failure_beside_the_caller_is_raised_by_the_call_that_needs_its_memory(catalog: Catalog) -> None:
    table = make_table(catalog)
    writer = build_writer(table, _NO_BUFFER)
    _break_storage(table)

    with pytest.raises(StorageError, match="write a data file"):
        writer.add(make_rows({0: range(10)}))

    writer.abandon()


def test_what_is_abandoned_leaves_no_file(catalog: Catalog) -> None:
    table = make_table(catalog)
    writer = build_writer(table, _NO_BUFFER)
    writer.add(make_rows({0: range(10)}))
    assert list(_data_folder(table).rglob("*.parquet"))

    writer.abandon()

    assert not list(_data_folder(table).rglob("*.parquet"))
