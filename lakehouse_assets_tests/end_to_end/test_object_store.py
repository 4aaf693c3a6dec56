"""Tables whose files lie in an object store, not on a disk."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from lakehouse_assets.model.errors import BadRecordError, CommitConflictError, StorageError
from lakehouse_assets.systems.key_audit import audit_keys
from lakehouse_assets_tests import faults
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import make_message, make_systems
from lakehouse_assets_tests.faults import EFFECTS, FAULTY, Fault, FaultyCatalog
from lakehouse_assets_tests.object_store import SECRET_KEY, ObjectStore
from lakehouse_assets_tests.operations.lake import Lake
from lakehouse_assets_tests.places import ObjectStorePlace
from lakehouse_assets_tests.proxy import FaultyProxy
from lakehouse_assets_tests.systems.merges import MODES, Merger, Mode, make_upsert_spec

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("object_store")]

MakeLake = Callable[..., Lake]

@pytest.fixture
def lake(
    tmp_path: Path, broker: Broker, topic: Callable[..., str], object_store: ObjectStore, store_proxy: FaultyProxy
) -> Iterator[MakeLake]:
    """`lake(topic_partitions=1, **declaration)` creates a topic and opens its table, with a bucket of its own."""

    def open_lake(topic_partitions: int = 1, **declaration: object) -> Lake:
        place = ObjectStorePlace(object_store, store_proxy, tmp_path).catalog(tmp_path)
        catalog = {**{name: value for name, value in place.items() if name != "type"}, **FAULTY}
        return Lake.open(tmp_path, broker, topic(topic_partitions), catalog, **declaration)

    EFFECTS.arm(None)
    yield open_lake
    EFFECTS.arm(None)


def test_messages_land_once_and_every_file_is_in_the_store(lake: MakeLake, object_store: ObjectStore) -> None:
    table = lake(topic_partitions=2)
    table.produce(30, partition=0)
    table.produce(20, partition=1)
    table.ingest()
    table.produce(5, partition=1)

    table.reopened().ingest()

    table.assert_holds({0: list(range(30)), 1: list(range(25))})
    assert table.table.location().startswith("s3://warehouse-")
    assert object_store.list_locations(table.table.location()) == list_named(table.table)


@pytest.mark.slow
def test_workers_stage_into_the_store_too(lake: MakeLake) -> None:
    table = lake(topic_partitions=2, workers=2)
    table.produce(20, partition=0)
    table.produce(20, partition=1)

    table.ingest()

    table.assert_holds({0: list(range(20)), 1: list(range(20))})


def test_files_of_a_run_that_comes_second_are_deleted_from_the_store(lake: MakeLake, object_store: ObjectStore) -> None:
    table = lake()
    table.ingest()
    table.produce(10)
    other = table.reopened()
    EFFECTS.arm(Fault("commit", "before", lambda _: other.ingest() and None))

    table.ingest()

    table.assert_holds({0: list(range(10))})
    assert object_store.list_locations(table.table.location()) == list_named(table.table)


def test_files_of_a_run_that_fails_are_deleted_from_the_store(
    lake: MakeLake, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse_assets.operations.retrying.MAX_FAILURES_IN_A_ROW", 1)
    monkeypatch.setattr("lakehouse_assets.systems.commit.ATTEMPTS", 2)
    table = lake()
    table.ingest()
    table.produce(10)
    catalog = table.systems.catalog
    assert isinstance(catalog, FaultyCatalog)
    catalog.before_commit = [faults.raising(CommitFailedException("refused"))] * 2

    with pytest.raises(CommitConflictError):
        table.ingest()

    assert table.positions() == []
    assert object_store.list_locations(table.table.location()) == list_named(table.table)


def test_what_came_before_a_bad_record_lands_and_nothing_else_stays_in_the_store(lake: MakeLake, object_store: ObjectStore) -> None:
    table = lake(on_bad_record="fail")
    table.broker.produce(table.topic, [make_message(1), b"nonsense", make_message(2)])

    with pytest.raises(BadRecordError, match="offset 1 "):
        table.ingest()

    table.assert_holds({0: [0]}, lag=2)
    assert object_store.list_locations(table.table.location()) == list_named(table.table)


def test_a_warehouse_that_does_not_exist_is_an_error_of_one_sentence_without_secrets(
    lake: MakeLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse_assets.operations.retrying.MAX_FAILURES_IN_A_ROW", 1)
    table = lake()
    table.produce(1)
    table.catalog = {**table.catalog, "warehouse": "s3://nowhere"}

    with pytest.raises(StorageError, match=r"^Cannot create ods\.clicks .*nowhere") as caught:
        table.reopened().ingest()

    assert "\n" not in str(caught.value)
    assert SECRET_KEY not in str(caught.value)


def list_named(table: Table) -> set[str]:
    """Locations of every file that the table's metadata names, itself included."""
    metadata = [table.metadata_location, *(log.metadata_file for log in table.metadata.metadata_log)]
    lists = [snapshot.manifest_list for snapshot in table.metadata.snapshots]
    manifests = {m.manifest_path: m for s in table.metadata.snapshots for m in s.manifests(table.io)}
    files = [entry.data_file.file_path for m in manifests.values() for entry in m.fetch_manifest_entry(table.io)]
    return {*metadata, *lists, *manifests, *files}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_rows_are_merged_by_key_in_the_store(
    tmp_path: Path, object_store: ObjectStore, store_proxy: FaultyProxy, mode: Mode
) -> None:
    place = ObjectStorePlace(object_store, store_proxy, tmp_path).catalog(tmp_path)
    catalog = make_systems(tmp_path, **{name: value for name, value in place.items() if name != "type"}).catalog
    merger = Merger(catalog, make_upsert_spec(partition_by=["bucket(2, id)"]), mode)

    merger.put(dict.fromkeys(range(200), "a"), has_several_logs=True)
    merger.put(dict.fromkeys(range(50), "b") | dict.fromkeys(range(100, 120), None), has_several_logs=True)
    merger.put(dict.fromkeys(range(0, 200, 7), "c"), has_several_logs=True)

    deleted = set(range(100, 120)) - set(range(0, 200, 7))
    model = dict.fromkeys(range(200), "a") | dict.fromkeys(range(50), "b") | dict.fromkeys(range(0, 200, 7), "c")
    assert merger.read() == {key: text for key, text in model.items() if key not in deleted}
    assert audit_keys(merger.table, ["id"]).duplicate_keys == 0
    catalog.close()
