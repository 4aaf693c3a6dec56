"""Listing and deleting many files on a disk, and which spellings mean the same file."""

import os
from pathlib import Path

import pytest
from pyiceberg.io import FileIO
from pyiceberg.io.fsspec import FsspecFileIO
from pyiceberg.io.pyarrow import PyArrowFileIO

from lakehouse_assets.model.errors import StorageError
from lakehouse_assets.systems.storage import (
    StoredFile,
    delete_files,
    delete_prefix,
    is_inside,
    list_files,
    normalize,
)

SPELLINGS = {"path": "", "file:": "file:", "file://": "file://"}


@pytest.fixture(params=[PyArrowFileIO, FsspecFileIO])
def io(request: pytest.FixtureRequest) -> FileIO:
    return request.param({})  # type: ignore[no-any-return]


def put(path: Path, size: int = 3, modified_ms: int = 1_700_000_000_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (modified_ms / 1000, modified_ms / 1000))
    return path


@pytest.mark.parametrize("scheme", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("end", ["", "/"])
def test_files_of_every_depth_are_listed_with_size_and_time(io: FileIO, tmp_path: Path, scheme: str, end: str) -> None:
    put(tmp_path / "table/data/day=1/a.parquet", size=5, modified_ms=1_234_000)
    put(tmp_path / "table/metadata/v1.json", size=7, modified_ms=5_678_000)
    put(tmp_path / "table2/data/b.parquet")

    listed = set(list_files(io, f"{scheme}{tmp_path}/table{end}"))

    root = f"{scheme}{tmp_path}/table"
    assert listed == {
        StoredFile(f"{root}/data/day=1/a.parquet", 5, 1_234_000),
        StoredFile(f"{root}/metadata/v1.json", 7, 5_678_000),
    }
    assert delete_files(io, [file.location for file in listed]) == []
    assert not list(list_files(io, root))


def test_a_folder_that_is_not_there_has_no_files(io: FileIO, tmp_path: Path) -> None:
    assert list(list_files(io, f"file://{tmp_path}/nowhere")) == []
    delete_prefix(io, f"file://{tmp_path}/nowhere")


def test_what_cannot_be_deleted_is_returned_and_what_is_gone_is_not(io: FileIO, tmp_path: Path) -> None:
    files = [put(tmp_path / f"{number}") for number in range(1100)]
    folder = put(tmp_path / "folder/file").parent
    locations = [f"file://{path}" for path in (*files[:1050], folder, tmp_path / "missing", *files[1050:])]

    assert delete_files(io, [*locations, "unknown://bucket/file"]) == [f"file://{folder}", "unknown://bucket/file"]

    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_name_that_stands_for_another_file_deletes_neither(io: FileIO, tmp_path: Path) -> None:
    live = put(tmp_path / "live.parquet")
    strange = [put(tmp_path / f"live.parquet{end}") for end in ("?copy", "#1", "\t")]

    assert delete_files(io, [f"file://{path}" for path in strange]) == [f"file://{path}" for path in strange]

    assert live.exists()


def test_a_name_that_is_a_pattern_deletes_that_file_only(io: FileIO, tmp_path: Path) -> None:
    live, pattern = put(tmp_path / "day=1/a"), put(tmp_path / "day=*/a")

    assert delete_files(io, [f"file://{pattern}"]) == []

    assert live.exists()
    assert not pattern.exists()


def test_a_prefix_is_a_folder_with_all_below_it_and_no_folder_that_begins_so(io: FileIO, tmp_path: Path) -> None:
    put(tmp_path / "table/data/deep/a.parquet")
    other = put(tmp_path / "table10/b.parquet")

    delete_prefix(io, f"file://{tmp_path}/table/")

    assert [path.name for path in tmp_path.iterdir()] == ["table10"]
    assert other.exists()


@pytest.mark.parametrize("location", ["/", "file:///", "s3://bucket", "s3://bucket//", "file:///a/..", "s3://bucket/*", "s3://b/a?b"])
def test_a_prefix_that_is_a_whole_storage_or_a_pattern_is_refused(io: FileIO, location: str) -> None:
    with pytest.raises(StorageError, match="no folder of its own"):
        delete_prefix(io, location)


def test_a_file_io_that_knows_no_folders_is_named() -> None:
    class Other(FileIO):
        def new_input(self, location: str):  # type: ignore[no-untyped-def]
            raise NotImplementedError

        def new_output(self, location: str):  # type: ignore[no-untyped-def]
            raise NotImplementedError

        def delete(self, location: object) -> None:
            raise FileNotFoundError

    with pytest.raises(StorageError, match="Other has no folders"):
        list(list_files(Other({}), "file:///somewhere"))
    assert delete_files(Other({}), ["file:///somewhere/file"]) == []


@pytest.mark.parametrize(
    ("spellings", "same"),
    [
        (["s3://b/t/a", "s3a://b/t/a", "s3n://b/t/a", "S3://B/t//a", "s3://b//t/a/"], "s3://b/t/a"),
        (["/w/t/a", "file:/w/t/a", "file:///w/t/a", "file:////w//t/a", "/w/./t/x/../a/"], "file:///w/t/a"),
        (["hdfs://NN:8020/t/a", "hdfs://nn:8020//t/a"], "hdfs://nn:8020/t/a"),
        (["hdfs:///t/a", "hdfs:/t/a"], "hdfs:///t/a"),
        (["gs://b/t", "gcs://b/t/"], "gs://b/t"),
        (["abfss://c@account.dfs.core.windows.net/t", "abfs://c@account.dfs.core.windows.net/t"], "abfs://c@account.dfs.core.windows.net/t"),
        (["s3://b/day=2026%2D01?x#y"], "s3://b/day=2026%2D01?x#y"),
        (["s3://b", "s3://b/"], "s3://b"),
    ],
)  # fmt: skip
def test_spellings_of_one_file_are_equal(spellings: list[str], same: str) -> None:
    assert [normalize(one) for one in spellings] == [same] * len(spellings)


def test_other_storages_are_other_files() -> None:
    places = ["s3://b/t", "s3://c/t", "gs://b/t", "hdfs://b/t", "hdfs:///t", "file:///b/t", "s3://b/T"]
    assert len({normalize(place) for place in places}) == len(places)


def test_a_relative_path_is_where_the_process_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert normalize("t/a") == f"file://{tmp_path}/t/a"


def test_inside_means_below_a_folder_or_the_folder_itself() -> None:
    assert is_inside("s3://b/t/a", "s3://b/t")
    assert is_inside("s3://b/t", "s3://b/t")
    assert is_inside("s3://b/t", "s3://b")
    assert not is_inside("s3://b/t10", "s3://b/t")
    assert not is_inside("s3://b", "s3://b/t")
