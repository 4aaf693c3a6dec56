"""What only a REST catalog does: it takes a commit and does not answer for a while, and it can be nowhere."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pyiceberg.catalog.rest import RestCatalog

from lakehouse_assets.model.errors import CatalogUnavailableError, CommitOutcomeUnknownError
from lakehouse_assets_tests.broker import Broker
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


def test_a_catalog_that_is_nowhere_is_an_error_of_the_tree_and_of_one_sentence(lake: Lake) -> None:
    lake.catalog = {**lake.catalog, "uri": "http://127.0.0.1:1"}

    with pytest.raises(CatalogUnavailableError, match=r"^Cannot open the catalog 'lakehouse': .* did not answer") as caught:
        lake.reopened()

    assert "\n" not in str(caught.value)
