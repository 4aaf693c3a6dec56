"""Tables in a real REST catalog: Iceberg's own server decides whose commit lands."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import Thread

import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.catalog.rest import RestCatalog

from lakehouse_assets.model.errors import CatalogUnavailableError, CommitOutcomeUnknownError
from lakehouse_assets_tests import judge, ports
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import make_message
from lakehouse_assets_tests.command import run_lakehouse
from lakehouse_assets_tests.operations.lake import Lake, hours_ago
from lakehouse_assets_tests.rest_catalog import RestCatalogServer
from lakehouse_assets_tests.test_docs import OPERATIONS

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("rest_catalog")]

MakeLake = Callable[..., Lake]

_numbers = count()  # one server has the tables of all tests


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestCatalogServer]:
    with RestCatalogServer(tmp_path_factory.mktemp("rest"), ports.port_of(ports.REST_CATALOG)) as running:
        yield running


@pytest.fixture
def lake(tmp_path: Path, broker: Broker, topic: Callable[..., str], server: RestCatalogServer) -> MakeLake:
    """`lake(topic_partitions=1, **declaration)` creates a topic and opens its table, which nobody else has."""

    def open_lake(topic_partitions: int = 1, **declaration: object) -> Lake:
        catalog = {"type": "rest", "uri": server.uri}
        name = f"ods.clicks_{next(_numbers)}"
        return Lake.open(tmp_path, broker, topic(topic_partitions), catalog, table=name, **declaration)

    return open_lake


def test_messages_land_once_over_several_runs_and_clients(lake: MakeLake) -> None:
    table = lake(topic_partitions=2)
    table.produce(30, partition=0)
    table.produce(20, partition=1)
    table.ingest()
    table.produce(5, partition=1)

    again = table.reopened()
    result = again.ingest()

    assert isinstance(again.systems.catalog, RestCatalog)
    assert result.row_count == 5
    table.assert_holds({0: list(range(30)), 1: list(range(25))})


def test_the_variables_that_the_documents_name_lead_to_it(
    broker: Broker, topic: Callable[..., str], server: RestCatalogServer, tmp_path: Path
) -> None:
    name = topic()
    broker.produce(name, [make_message(i) for i in range(10)])
    variables = {
        "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "LAKEHOUSE_CATALOG": "prod",
        "PYICEBERG_CATALOG__PROD__TYPE": "rest",
        "PYICEBERG_CATALOG__PROD__URI": server.uri,
    }

    ran = run_lakehouse(tmp_path, name, "ingest", "ods.clicks", variables=variables)

    assert (ran.returncode, ran.stderr) == (0, "")
    table = load_catalog("prod", type="rest", uri=server.uri).load_table("ods.clicks")
    assert judge.read_positions(table) == [(0, offset) for offset in range(10)]
    assert not list((tmp_path / "home").glob("catalog.db"))
    assert set(variables) <= set(re.findall(r"\w+(?==)", OPERATIONS))


def test_a_replaced_hour_holds_its_rows_once_and_no_other_hour_is_touched(lake: MakeLake) -> None:
    table = lake()
    for hours in (2, 1, 0):
        table.produce(10, timestamp_ms=hours_ago(hours))
    table.ingest()

    heard = table.reopened().replace(table.key(hours_ago(1)))

    (report,) = heard.values()
    assert report is not None
    assert report.row_count == 10
    assert report.ranges[0].ranges[0].start == 10
    table.assert_holds({0: list(range(30))})


def test_two_runs_that_replace_one_hour_at_once_leave_every_row_once(lake: MakeLake) -> None:
    table = lake()
    table.produce(10, timestamp_ms=hours_ago(1))
    table.produce(10, timestamp_ms=hours_ago(0))
    table.ingest()
    key = table.key(hours_ago(1))

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(table.reopened().replace, key) for _ in range(2)]
    reports = [run.result()[key] for run in runs]

    assert all(report is not None and report.row_count == 10 for report in reports)
    table.assert_holds({0: list(range(20))})
    assert [summary["lakehouse.operation"] for summary in summaries(table)] == ["ingest", "replace-slice", "replace-slice"]


def test_a_commit_that_the_server_refuses_is_judged_anew_and_lands_on_what_came_first(
    lake: MakeLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = lake()
    table.produce(10, timestamp_ms=hours_ago(1))
    table.ingest()
    table.produce(10, timestamp_ms=hours_ago(0))
    other = table.reopened()
    commit = before_first_commit(table, lambda: other.replace(table.key(hours_ago(1))))
    monkeypatch.setattr(table.systems.catalog, "commit_table", commit)

    table.ingest()

    assert [report.commit_attempts for report in table.reports] == [1, 2]
    table.assert_holds({0: list(range(20))})


def test_a_run_goes_on_when_the_catalog_was_away_for_a_while(
    lake: MakeLake, server: RestCatalogServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse_assets.systems.commit.ATTEMPTS", 2)  # else one commit alone waits for it
    table = lake()
    table.produce(10)
    restarts: list[Thread] = []

    def stop_catalog(_: object) -> None:
        if not restarts:
            table.produce(10)
            server.stop()

    def start_catalog() -> bool:
        if table.retries and not restarts:
            restarts.append(Thread(target=server.start))
            restarts[0].start()
        return False

    try:
        result = table.ingest(stop=start_catalog, on_commit=stop_catalog)
    finally:
        for restart in restarts:
            restart.join()
        server.start()

    assert result.ended == "caught up"
    assert table.retries
    table.assert_holds({0: list(range(20))})


def test_a_run_goes_on_when_the_catalog_took_a_commit_and_did_not_answer_for_a_while(
    lake: MakeLake, server: RestCatalogServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse_assets.systems.commit.ATTEMPTS", 1)
    monkeypatch.setattr("lakehouse_assets.systems.rest_patience.ANSWER_SECONDS", 1.0)
    table = lake()
    table.ingest()
    table.produce(10)
    monkeypatch.setattr(table.systems.catalog, "commit_table", before_first_commit(table, server.halt))

    def wake_catalog() -> bool:
        if table.retries:
            server.wake()
        return False

    try:
        table.ingest(stop=wake_catalog)
    finally:
        server.wake()

    assert isinstance(table.retries[0], CommitOutcomeUnknownError)
    table.assert_holds({0: list(range(10))})


def test_a_catalog_that_is_nowhere_is_an_error_of_the_tree_and_of_one_sentence(lake: MakeLake) -> None:
    table = lake()
    table.catalog = {**table.catalog, "uri": "http://127.0.0.1:1"}

    with pytest.raises(CatalogUnavailableError, match=r"^Cannot open the catalog 'lakehouse': .* did not answer") as caught:
        table.reopened()

    assert "\n" not in str(caught.value)


def before_first_commit(table: Lake, act: Callable[[], object]) -> Callable[..., object]:
    """The catalog's own `commit_table`, with something else happening before it is called for the first time."""
    commit = table.systems.catalog.commit_table
    done: list[object] = []

    def commit_table(*arguments: object) -> object:
        if not done:
            done.append(True)
            act()
        return commit(*arguments)  # type: ignore[arg-type]

    return commit_table


def summaries(table: Lake) -> list[dict[str, str]]:
    """What the snapshots say of themselves, oldest first."""
    return [snapshot.summary.additional_properties for snapshot in table.table.snapshots() if snapshot.summary]
