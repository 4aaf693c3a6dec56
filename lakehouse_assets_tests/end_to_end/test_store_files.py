"""Listing and deleting many files in an object store."""

import time
from itertools import count

import pytest
from pyiceberg.io.pyarrow import PyArrowFileIO

from lakehouse_assets.systems.storage import delete_files, delete_prefix, list_files
from lakehouse_assets_tests.object_store import ObjectStore

pytestmark = pytest.mark.xdist_group("object_store")

_numbers = count()


def fill(store: ObjectStore, names: list[str]) -> tuple[PyArrowFileIO, str]:
    """A FileIO, and the bucket in which it wrote these files."""
    io, bucket = PyArrowFileIO(store.properties), store.create_bucket(f"files-{next(_numbers)}")
    for name in names:
        with io.new_output(f"{bucket}/{name}").create() as stream:
            stream.write(name.encode())
    return io, bucket


@pytest.mark.parametrize("scheme", ["s3", "s3a"])
def test_objects_are_listed_with_size_and_time_and_deleted(object_store: ObjectStore, scheme: str) -> None:
    names = ["table/data/day=1/a.parquet", "table/data/day=2/bb.parquet", "table/metadata/1.json", "table10/c"]
    io, bucket = fill(object_store, names)
    root = bucket.replace("s3:", f"{scheme}:") + "/table"

    listed = {file.location: file for file in list_files(io, root)}

    assert listed.keys() == {f"{root}/data/day=1/a.parquet", f"{root}/data/day=2/bb.parquet", f"{root}/metadata/1.json"}
    assert listed[f"{root}/metadata/1.json"].size_bytes == len("table/metadata/1.json")
    assert all(abs(time.time() * 1000 - (file.modified_ms or 0)) < 300_000 for file in listed.values())
    assert delete_files(io, [*listed, f"{root}/missing"]) == []
    assert object_store.list_locations(bucket) == {f"{bucket}/table10/c"}


def test_a_prefix_goes_and_nothing_beside_it(object_store: ObjectStore) -> None:
    io, bucket = fill(object_store, ["table/data/a", "table/b", "table10/c"])

    delete_prefix(io, f"{bucket}/table/")
    delete_prefix(io, f"{bucket}/nowhere")

    assert object_store.list_locations(bucket) == {f"{bucket}/table10/c"}


def test_a_bucket_that_is_not_there_has_no_files(object_store: ObjectStore) -> None:
    assert list(list_files(PyArrowFileIO(object_store.properties), "s3://nowhere/table")) == []
