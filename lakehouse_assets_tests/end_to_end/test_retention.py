"""Expiry and the removal of orphans where a server holds the catalog, and where an object store holds the files."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.update import SetSnapshotRefUpdate

from lakehouse_assets.model.errors import RefLostError
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.operations.expiring import run_expire
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.operations.removing_orphans import run_remove_orphans
from lakehouse_assets.systems.commit import publish
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets.systems.reachability import reach
from lakehouse_assets.systems.storage import list_files, normalize
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import make_delivery, make_spec, make_systems, make_table
from lakehouse_assets_tests.places import ObjectStorePlace, Place, RestPlace

DAY_MS = 24 * 3600 * 1000


@pytest.fixture(
    params=[
        pytest.param("rest", marks=pytest.mark.xdist_group("rest_catalog")),
        pytest.param("s3", marks=pytest.mark.xdist_group("object_store")),
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    get = request.getfixturevalue
    build: dict[str, Callable[[], Place]] = {
        "rest": lambda: RestPlace(get("rest_server"), get("rest_proxy")),
        "s3": lambda: ObjectStorePlace(get("object_store"), get("store_proxy"), tmp_path),
    }
    return build[request.param]()


@pytest.fixture
def catalog(place: Place, tmp_path: Path) -> Iterator[Catalog]:
    opened = make_systems(tmp_path, **place.catalog(tmp_path)).catalog
    yield opened
    opened.close()


@pytest.fixture
def table(catalog: Catalog, place: Place) -> Table:
    """Five snapshots with ten rows each, of which only the head must stay."""
    table = make_table(catalog, make_spec(table=place.table, properties={"history.expire.min-snapshots-to-keep": "1"}))
    for number in range(5):
        publish(catalog, place.table, make_delivery(table, {0: range(number * 10, number * 10 + 10)}))
    return catalog.load_table(place.table)


def make_task(catalog: Catalog, name: str, days: int, **parts: bool) -> MaintenanceTask:
    """An operation some days from now, so that everything is old."""
    return MaintenanceTask(catalog, name, MaintenanceSpec(), now_ms=lambda: int(time.time() * 1000) + days * DAY_MS, **parts)


def set_tag(catalog: Catalog, table: Table, snapshot_id: int) -> None:
    tag = SetSnapshotRefUpdate.model_validate({"ref-name": "kept", "type": "tag", "snapshot-id": snapshot_id})
    catalog.commit_table(table, (), (tag,))


def test_exactly_what_nothing_reaches_goes(catalog: Catalog, place: Place, table: Table) -> None:
    ids, ledger = [one.snapshot_id for one in table.metadata.snapshots], read_ledger(table)
    set_tag(catalog, table, ids[1])
    orphan = f"{table.location()}/data/orphan.parquet"
    with table.io.new_output(orphan).create() as stream:
        stream.write(b"nothing")

    expired = run_expire(make_task(catalog, place.table, days=1))
    removed = run_remove_orphans(make_task(catalog, place.table, days=5, is_confirmed=True))

    after = catalog.load_table(place.table)
    assert [one.snapshot_id for one in after.metadata.snapshots] == [ids[1], ids[4]]
    assert judge.read_every_snapshot(after) == [20, 50]
    assert read_ledger(after) == ledger
    assert expired.figures["snapshots_deleted"] == 3
    assert orphan in {row[0] for row in removed.planned.rows}
    stored = {normalize(file.location) for file in list_files(after.io, after.location())}
    assert stored == set(map(normalize, reach(after, after.io).all)) & stored
    assert stored >= set(map(normalize, reach(after, after.io).needed))


def test_a_tag_of_the_same_moment_is_never_lost_with_its_files(
    catalog: Catalog, place: Place, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A catalog in this process refuses the expiry, and it is judged again; a server drops the tag, which is noticed."""
    second = table.metadata.snapshots[1].snapshot_id
    commit = catalog.commit_table

    def tag_and_commit(*arguments: object) -> object:
        monkeypatch.setattr(catalog, "commit_table", commit)
        set_tag(catalog, table, second)
        return commit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(catalog, "commit_table", tag_and_commit)
    files = reach(table, table.io, [second]).needed

    if isinstance(place, RestPlace):
        with pytest.raises(RefLostError, match=f"Cannot expire snapshots of {place.table}: kept came to name"):
            run_expire(make_task(catalog, place.table, days=1))
    else:
        run_expire(make_task(catalog, place.table, days=1))
        assert judge.read_every_snapshot(catalog.load_table(place.table)) == [20, 50]

    stored = {file.location for file in list_files(table.io, table.location())}
    assert files <= stored
