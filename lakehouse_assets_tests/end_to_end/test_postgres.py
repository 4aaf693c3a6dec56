"""What only PostgreSQL does: it dies in the middle of a commit, and lets others wait for one that does not end."""

import re
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from sqlalchemy import create_engine, make_url, text

from lakehouse_assets.model.errors import CatalogAccessError, CommitOutcomeUnknownError, ConfigurationError
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.operations.lake import Lake
from lakehouse_assets_tests.places import PostgresPlace
from lakehouse_assets_tests.postgres import GUARDED, PostgresServer
from lakehouse_assets_tests.proxy import FaultyProxy
from lakehouse_assets_tests.test_docs import OPERATIONS
from lakehouse_assets_tests.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("postgres")]


@pytest.fixture
def lake(
    tmp_path: Path, broker: Broker, topic: Callable[..., str], postgres_server: PostgresServer, postgres_proxy: FaultyProxy
) -> Lake:
    catalog = PostgresPlace(postgres_server, postgres_proxy).catalog(tmp_path)
    opened = Lake.open(tmp_path, broker, topic(), catalog)
    opened.ingest()
    opened.produce(10)
    return opened


def test_a_server_killed_in_the_middle_of_a_commit_loses_and_doubles_nothing(
    lake: Lake, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse_assets.systems.commit.ATTEMPTS", 1)
    blocker = create_engine(lake.catalog["uri"]).connect()
    blocker.execute(text("SELECT * FROM iceberg_tables FOR UPDATE"))
    observer = create_engine(lake.catalog["uri"], isolation_level="AUTOCOMMIT").connect()
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE iceberg_tables%'")
    run = Thread(target=lake.ingest)
    run.start()

    wait_until(lambda: observer.execute(waiting).scalar() == 1)
    postgres_server.kill()
    for connection in (blocker, observer):
        connection.invalidate()
        connection.close()
    wait_until(lambda: bool(lake.retries))
    postgres_server.start()
    run.join()

    assert isinstance(lake.retries[0], CommitOutcomeUnknownError)
    assert len(lake.table.snapshots()) == 1
    lake.assert_holds({0: list(range(10))})


def test_with_the_limits_that_the_documents_give_a_commit_that_hangs_holds_up_nobody_for_ever(
    lake: Lake, postgres_proxy: FaultyProxy
) -> None:
    found = re.search(r"postgresql\+psycopg2://[^?\s]+\?([^'\s]+)", OPERATIONS)
    assert found is not None
    limits = found[1].replace("60s", "1s")
    lake.catalog = {**lake.catalog, "uri": f"{lake.catalog['uri']}?{limits}"}
    hanging, other = lake.reopened(), lake.reopened()
    held = postgres_proxy.disturb(rb"(?s)Q....COMMIT", "hold", seconds=20)
    run = Thread(target=hanging.ingest)
    run.start()
    wait_until(lambda: bool(held.met))

    other.ingest()

    assert run.is_alive()  # still waits for its answer
    assert [report.row_count for report in other.reports] == [10]
    run.join()
    assert hanging.reports == []
    lake.assert_holds({0: list(range(10))})


@pytest.mark.parametrize(("password", "words"), [("never-shown", "password authentication failed"), ("right", "permission denied")])
def test_a_server_that_refuses_is_not_asked_again_and_no_password_is_shown(
    lake: Lake, postgres_server: PostgresServer, password: str, words: str
) -> None:
    postgres_server.create_guarded_user("right")
    uri = make_url(lake.catalog["uri"]).set(username=GUARDED, password=password)
    lake.catalog = {**lake.catalog, "uri": uri.render_as_string(hide_password=False)}

    with pytest.raises(CatalogAccessError, match=words) as caught:
        lake.reopened().ingest()

    assert not caught.value.retryable
    assert password == "right" or password not in str(caught.value)


def test_a_driver_that_is_not_installed_is_a_wrong_setting_that_names_it(lake: Lake) -> None:
    lake.catalog = {**lake.catalog, "uri": "postgresql+psycopg://lakehouse@127.0.0.1/catalog"}

    with pytest.raises(ConfigurationError, match="No module named 'psycopg'"):
        lake.reopened()
