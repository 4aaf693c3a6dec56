"""What only a REST catalog does: it takes a commit and does not answer for a while, and it can be nowhere."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pyiceberg.catalog.rest import RestCatalog

from lakehouse_assets.model.completeness import DAY_MS
from lakehouse_assets.model.errors import CatalogUnavailableError, CommitOutcomeUnknownError
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import make_spec
from lakehouse_assets_tests.operations.lake import Lake
from lakehouse_assets_tests.places import RestPlace
from lakehouse_assets_tests.proxy import FaultyProxy
from lakehouse_assets_tests.rest_catalog import RestCatalogServer

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("rest_catalog")]


@pytest.fixture
def lake(
    tmp_path: Path, broker: Broker, topic: Callable[..., str], rest_server: RestCatalogServer, rest_proxy: FaultyProxy
) -> Lake:
    place = RestPlace(rest_server, rest_proxy)
    return Lake.open(tmp_path, broker, topic(), place.catalog(tmp_path), table=place.table)


def test_a_run_goes_on_when_the_catalog_took_a_commit_and_did_not_answer_for_a_while(
    lake: Lake, rest_server: RestCatalogServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse_assets.systems.commit.ATTEMPTS", 1)
    monkeypatch.setattr("lakehouse_assets.systems.rest_patience.ANSWER_SECONDS", 1.0)
    lake.ingest()
    lake.produce(10)
    lake.around_first_commit(before=rest_server.halt)

    def wake_catalog() -> bool:
        if lake.retries:
            rest_server.wake()
        return False

    try:
        lake.ingest(stop=wake_catalog)
    finally:
        rest_server.wake()

    assert isinstance(lake.systems.catalog, RestCatalog)
    assert isinstance(lake.retries[0], CommitOutcomeUnknownError)
    lake.assert_holds({0: list(range(10))})


def test_a_server_takes_rows_watermark_and_tag_in_one_commit_and_the_tag_once(lake: Lake) -> None:
    columns = [{"name": "id", "type": "long", "required": True}, {"name": "at", "type": "timestamptz"}]
    event_time = {"column": "at", "max_disorder": "0s", "max_ahead": "1000d", "complete_for": "day", "keep_tags": "7d"}
    lake.spec = make_spec(lake.topic, table=lake.spec.table, schema=columns, event_time=event_time)
    for at in ("2026-10-25T12:00:00Z", "2026-10-26T00:00:00Z", "2026-10-26T00:00:01Z"):
        lake.broker.produce(lake.topic, [json.dumps({"id": 1, "at": at}).encode()])
        lake.ingest()

    refs = lake.reopened().table.metadata.refs
    second = lake.table.metadata.snapshots[1]

    assert (refs["complete-2026-10-25"].snapshot_id, refs["complete-2026-10-25"].max_ref_age_ms) == (second.snapshot_id, 7 * DAY_MS)
    assert refs["complete-2026-10-24"].snapshot_id == lake.table.metadata.snapshots[0].snapshot_id
    assert "complete-2026-10-26" not in refs


def test_a_catalog_that_is_nowhere_is_an_error_of_the_tree_and_of_one_sentence(lake: Lake) -> None:
    lake.catalog = {**lake.catalog, "uri": "http://127.0.0.1:1"}

    with pytest.raises(CatalogUnavailableError, match=r"^Cannot open the catalog 'lakehouse': .* did not answer") as caught:
        lake.reopened()

    assert "\n" not in str(caught.value)
