"""Two tables in one place are noticed, wherever in the catalog the other is and however it spells the place."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.table import Table

from lakehouse_assets.model.errors import MetadataUnreadableError, SharedLocationError, StorageError
from lakehouse_assets.systems.neighbours import refuse_shared_location, table_folders
from lakehouse_assets_tests.faults import FaultyCatalog, raising


def create(catalog: FaultyCatalog, name: str, location: str, properties: dict[str, str] | None = None) -> Table:
    namespace = name.rpartition(".")[0]
    catalog.create_namespace_if_not_exists(namespace)
    return catalog.create_table(name, pa.schema([("id", pa.int64())]), location=location, properties=properties or {})


def test_tables_beside_each_other_share_nothing(catalog: FaultyCatalog, tmp_path: Path) -> None:
    table = create(catalog, "ods.t", f"file://{tmp_path}/w/t")
    create(catalog, "ods.t2", f"file://{tmp_path}/w/t2")
    create(catalog, "ods.deep", f"file://{tmp_path}/w/deep", {"write.data.path": f"file://{tmp_path}/w/tables"})

    refuse_shared_location(catalog, table, "remove orphans of")


@pytest.mark.parametrize("place", ["w/t/inner", "w", "w/t", "w//t/"])
@pytest.mark.parametrize("name", ["ods.other", "lakehouse_dropped.ods__t__1", "a.b.c.other"])
def test_a_table_inside_around_or_in_the_same_place_is_refused(catalog: FaultyCatalog, tmp_path: Path, place: str, name: str) -> None:
    table = create(catalog, "ods.t", f"file://{tmp_path}/w/t")
    create(catalog, name, f"{tmp_path}/{place}")

    with pytest.raises(SharedLocationError, match=rf"^Cannot remove orphans of ods\.t: .* those of {name} in"):
        refuse_shared_location(catalog, table, "remove orphans of")


@pytest.mark.parametrize("path", ["write.data.path", "write.metadata.path"])
def test_where_properties_put_files_counts_on_both_sides(catalog: FaultyCatalog, tmp_path: Path, path: str) -> None:
    table = create(catalog, "ods.t", f"file://{tmp_path}/w/t", {path: f"file://{tmp_path}/elsewhere/t"})
    other = create(catalog, "ods.other", f"file://{tmp_path}/w/other", {path: f"file://{tmp_path}/elsewhere"})

    for one in (table, other):
        with pytest.raises(SharedLocationError):
            refuse_shared_location(catalog, one, "drop")


def test_folders_within_each_other_are_one(catalog: FaultyCatalog, tmp_path: Path) -> None:
    place = f"file://{tmp_path}/w/t"
    paths = {"write.data.path": f"{tmp_path}/w/t/data", "write.metadata.path": f"file://{tmp_path}/m"}

    assert table_folders(create(catalog, "ods.t", place, paths)) == (paths["write.metadata.path"], place)


def test_the_same_table_under_two_names_is_refused(catalog: FaultyCatalog, tmp_path: Path) -> None:
    table = create(catalog, "ods.t", f"file://{tmp_path}/w/t")
    catalog.register_table("ods.again", table.metadata_location)

    with pytest.raises(SharedLocationError):
        refuse_shared_location(catalog, table, "remove orphans of")


def test_a_table_that_cannot_be_asked_is_an_error(catalog: FaultyCatalog, tmp_path: Path) -> None:
    table = create(catalog, "ods.t", f"file://{tmp_path}/w/t")
    create(catalog, "ods.broken", f"file://{tmp_path}/w/broken")
    catalog.before_load = [raising(FileNotFoundError("no such file"))]

    with pytest.raises(StorageError, match=r"^Cannot load ods\.broken"):
        refuse_shared_location(catalog, table, "remove orphans of")


def test_a_broken_table_is_where_its_metadata_was(catalog: FaultyCatalog, tmp_path: Path) -> None:
    table = create(catalog, "ods.t", f"file://{tmp_path}/w/t")
    create(catalog, "ods.broken", f"file://{tmp_path}/w/broken")
    catalog.before_load = [raising(MetadataUnreadableError(f"{tmp_path}/w/broken/metadata/1.metadata.json", "gone"))]

    refuse_shared_location(catalog, table, "remove orphans of")

    create(catalog, "ods.broken_inside", f"file://{tmp_path}/w/t/inside")
    catalog.before_load = [raising(MetadataUnreadableError(f"{tmp_path}/w/t/inside/metadata/1.metadata.json", "gone"))]
    with pytest.raises(SharedLocationError):
        refuse_shared_location(catalog, table, "remove orphans of")


def test_tables_are_asked_once_in_a_while(catalog: FaultyCatalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [create(catalog, f"ods.t{number}", f"file://{tmp_path}/w/t{number}") for number in range(5)]
    refuse_shared_location(catalog, tables[0], "drop")
    asked: list[object] = []
    load = catalog.load_table
    monkeypatch.setattr(catalog, "load_table", lambda name: asked.append(name) or load(name))

    for table in tables:
        refuse_shared_location(catalog, table, "drop")

    assert asked == [tables[0].name()]
