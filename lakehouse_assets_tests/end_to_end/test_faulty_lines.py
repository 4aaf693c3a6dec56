"""Lines to real servers on which answers are errors, come late, or never: of a REST catalog and of an object store."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse_assets.model.errors import CatalogAccessError, StorageError
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.object_store import ObjectStore
from lakehouse_assets_tests.operations.lake import Lake
from lakehouse_assets_tests.places import ObjectStorePlace, Place, RestPlace
from lakehouse_assets_tests.proxy import FaultyProxy, reply
from lakehouse_assets_tests.rest_catalog import RestCatalogServer

pytestmark = pytest.mark.kafka

COMMIT, LOAD = rb"POST \S+/tables/", rb"GET \S+/tables/"
DATA, MANIFEST, METADATA = rb"(PUT|POST) \S+/data/", rb"PUT \S+\.avro", rb"PUT \S+\.metadata\.json"


def say(status: int, words: str) -> bytes:
    """What a catalog answers."""
    kind = {404: "NoSuchTableException", 409: "CommitFailedException", 401: "NotAuthorizedException"}.get(status, "ServerError")
    return reply(status, words, f'{{"error": {{"message": "{words}", "type": "{kind}", "code": {status}}}}}')


def say_s3(status: int, code: str) -> bytes:
    """What an object store answers."""
    return reply(status, code, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>", "application/xml")


def open_table(place: Place, folder: Path, broker: Broker, topic: str) -> Lake:
    table = Lake.open(folder, broker, topic, place.catalog(folder), table=place.table)
    table.ingest()
    return table


@pytest.mark.xdist_group("rest_catalog")
@pytest.mark.parametrize(
    "request_line", [pytest.param(COMMIT, id="commit"), pytest.param(LOAD, id="load", marks=pytest.mark.slow)]
)
def test_whatever_a_catalog_answers_a_commit_lands_once(
    request_line: bytes, tmp_path: Path, broker: Broker, topic: Callable[..., str], rest_server: RestCatalogServer, rest_proxy: FaultyProxy
) -> None:
    table = open_table(RestPlace(rest_server, rest_proxy), tmp_path, broker, topic())
    answers = [(429, "Too Many Requests"), (500, "Internal"), (502, "Bad Gateway"), (503, "Unavailable"), (504, "Gateway Timeout")]
    hows = [say(*answer) for answer in answers] + ([say(409, "Conflict")] if request_line == COMMIT else [])

    for number, how in enumerate([*hows, "cut", "lose", "hold"], start=1):
        table.produce(10)
        met = rest_proxy.disturb(request_line, how, seconds=1.0)  # type: ignore[arg-type]
        table.ingest()
        assert met.met, how
        assert len(table.table.snapshots()) == number, how

    table.assert_holds({0: list(range(10 * number))})


@pytest.mark.xdist_group("rest_catalog")
def test_a_catalog_that_lets_nobody_in_any_more_lands_nothing_and_is_not_asked_again(
    tmp_path: Path, broker: Broker, topic: Callable[..., str], rest_server: RestCatalogServer, rest_proxy: FaultyProxy
) -> None:
    table = open_table(RestPlace(rest_server, rest_proxy), tmp_path, broker, topic())
    table.produce(10)
    rest_proxy.disturb(LOAD, say(401, "expired"), times=100)

    with pytest.raises(CatalogAccessError):
        table.ingest()

    assert table.retries == []
    rest_proxy.calm()
    table.ingest()
    table.assert_holds({0: list(range(10))})


@pytest.mark.xdist_group("object_store")
@pytest.mark.parametrize(
    "request_line",
    [
        pytest.param(DATA, id="data"),
        pytest.param(MANIFEST, id="manifest", marks=pytest.mark.slow),
        pytest.param(METADATA, id="metadata", marks=pytest.mark.slow),
    ],
)
def test_whatever_a_store_answers_a_commit_lands_once(
    request_line: bytes, tmp_path: Path, broker: Broker, topic: Callable[..., str], object_store: ObjectStore, store_proxy: FaultyProxy
) -> None:
    table = open_table(ObjectStorePlace(object_store, store_proxy, tmp_path), tmp_path, broker, topic())

    for number, how in enumerate([say_s3(503, "SlowDown"), say_s3(500, "InternalError"), "cut", "lose", "hold"], start=1):
        table.produce(10)
        met = store_proxy.disturb(request_line, how, seconds=1.0)  # type: ignore[arg-type]
        table.ingest()
        assert met.met, how
        assert len(table.table.snapshots()) == number, how

    table.assert_holds({0: list(range(10 * number))})


@pytest.mark.xdist_group("object_store")
@pytest.mark.parametrize("code", ["AccessDenied", "ExpiredToken"])
def test_a_store_that_lets_nobody_in_any_more_lands_nothing_until_it_does(
    code: str, tmp_path: Path, broker: Broker, topic: Callable[..., str], object_store: ObjectStore, store_proxy: FaultyProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("lakehouse_assets.operations.retrying.MAX_FAILURES_IN_A_ROW", 2)
    table = open_table(ObjectStorePlace(object_store, store_proxy, tmp_path), tmp_path, broker, topic())
    table.produce(10)
    store_proxy.disturb(rb"(PUT|POST) ", say_s3(403, code), times=1000)

    with pytest.raises(StorageError):
        table.ingest()

    assert table.positions() == []
    store_proxy.calm()
    table.ingest()
    table.assert_holds({0: list(range(10))})


@pytest.mark.xdist_group("object_store")
def test_staged_files_that_somebody_removes_before_the_commit_are_loud_and_a_rollback_mends_it(
    tmp_path: Path, broker: Broker, topic: Callable[..., str], object_store: ObjectStore, store_proxy: FaultyProxy
) -> None:
    table = open_table(ObjectStorePlace(object_store, store_proxy, tmp_path), tmp_path, broker, topic())
    table.produce(10)
    table.ingest()
    table.produce(10)
    before = object_store.list_locations(table.table.location())

    def remove_staged() -> None:
        for location in object_store.list_locations(table.table.location()) - before:
            if "/data/" in location:
                table.table.io.delete(location)

    table.around_first_commit(before=remove_staged)
    table.ingest()

    with pytest.raises(Exception, match=r"data/.*\.parquet"):
        table.positions()
    table.table.manage_snapshots().rollback_to_snapshot(table.reports[0].snapshot_id).commit()
    table.reopened().ingest()
    assert table.positions() == [(0, offset) for offset in range(20)]
