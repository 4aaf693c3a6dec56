"""One behaviour, wherever tables lie: in a SQLite or a PostgreSQL catalog, in a REST catalog, in an object store."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
from pyiceberg.catalog import load_catalog

from lakehouse_assets.model.column_spec import ColumnSpec
from lakehouse_assets.model.errors import CommitOutcomeUnknownError, TableMissingError, TableReplacedError
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.operations.dropping import run_drop, run_purge, run_undo_drop
from lakehouse_assets.operations.expiring import run_expire
from lakehouse_assets.operations.maintenance import MaintenanceTask
from lakehouse_assets.operations.query import answer_query
from lakehouse_assets.systems.catalog import list_tables
from lakehouse_assets.systems.dropped import list_dropped
from lakehouse_assets.systems.storage import list_files
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import append_foreign_rows, make_message, roll_back
from lakehouse_assets_tests.command import run_lakehouse
from lakehouse_assets_tests.object_store import SECRET_KEY
from lakehouse_assets_tests.operations.child import Meeting, Order, finish, start
from lakehouse_assets_tests.operations.lake import Lake, clock_ms, hours_ago
from lakehouse_assets_tests.places import ObjectStorePlace, Place, PostgresPlace, RestPlace, SqlitePlace
from lakehouse_assets_tests.test_docs import OPERATIONS

pytestmark = pytest.mark.kafka

# One test process has one server of a kind, whose tests are kept together.
SERVED = [
    pytest.param("postgresql", marks=pytest.mark.xdist_group("postgres")),
    pytest.param("rest", marks=pytest.mark.xdist_group("rest_catalog")),
    pytest.param("s3", marks=pytest.mark.xdist_group("object_store")),
]
DONE = 0


# The other tests of operations are on SQLite.
@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.slow), *SERVED])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place that no other test has a table in."""
    get = request.getfixturevalue
    build: dict[str, Callable[[], Place]] = {
        "sqlite": lambda: SqlitePlace(tmp_path),
        "postgresql": lambda: PostgresPlace(get("postgres_server"), get("postgres_proxy")),
        "rest": lambda: RestPlace(get("rest_server"), get("rest_proxy")),
        "s3": lambda: ObjectStorePlace(get("object_store"), get("store_proxy"), tmp_path),
    }
    found = build[request.param]()
    yield found
    found.come_back()


@pytest.fixture
def lake(tmp_path: Path, broker: Broker, topic: Callable[..., str], place: Place) -> Lake:
    """A table over a topic of two partitions, of which the tests use the first alone where one will do."""
    return Lake.open(tmp_path, broker, topic(2), place.catalog(tmp_path), table=place.table)


def fill_hours(lake: Lake, *hours: int) -> list[str]:
    """Ten messages into each hour so long ago, and into the table; the keys of the hours."""
    for ago in hours:
        lake.produce(10, timestamp_ms=hours_ago(ago))
    lake.ingest()
    return [lake.key(hours_ago(ago)) for ago in hours]


def operations(lake: Lake) -> list[str]:
    """What the snapshots say they are, oldest first."""
    summaries = [snapshot.summary for snapshot in lake.table.snapshots()]
    return [summary.additional_properties["lakehouse.operation"] for summary in summaries if summary is not None]


def test_messages_land_once_over_several_runs_and_clients_and_a_restart(lake: Lake, place: Place) -> None:
    lake.produce(30, partition=0)
    lake.produce(20, partition=1)
    lake.ingest()
    place.go_away()
    place.come_back()
    lake.produce(5, partition=1)

    old_clients = lake.ingest()
    lake.produce(5, partition=0)
    new_clients = lake.reopened().ingest()

    assert [old_clients.row_count, new_clients.row_count] == [5, 5]
    lake.assert_holds({0: list(range(35)), 1: list(range(25))})


def test_a_replaced_hour_holds_its_rows_once_and_no_other_hour_is_touched(lake: Lake) -> None:
    _, key, _ = fill_hours(lake, 2, 1, 0)

    heard = lake.reopened().replace(key)

    (report,) = heard.values()
    assert report is not None
    assert report.row_count == 10
    assert report.ranges[lake.log()].ranges[0].start == 10
    lake.assert_holds({0: list(range(30))})


def test_a_bad_message_waits_in_quarantine_once_and_leaves_it_when_it_can_be_a_row(lake: Lake) -> None:
    values = [make_message(1), b'{"id": "seven", "text": "7"}', make_message(2)]
    lake.broker.produce(lake.topic, values, timestamp_ms=hours_ago(1))
    lake.ingest()
    lake.reopened().replace(lake.key(hours_ago(1)))
    lake.assert_holds({0: [0, 2]}, bad={0: [1]})

    head = lake.table.current_snapshot()
    assert head is not None
    assert judge.query(lake.quarantine, 'SELECT value FROM {table} WHERE "offset" = 1') == [(values[1],)]  # type: ignore[arg-type]


def test_a_declaration_that_moves_on_brings_its_table_along_and_older_snapshots_stay_readable(lake: Lake) -> None:
    lake.produce(3)
    lake.ingest()
    first = lake.table.current_snapshot()
    assert first is not None
    again = lake.reopened()
    columns = [ColumnSpec(name="price", type="double", doc="In euros."), ColumnSpec(name="id", type="long")]
    again.spec = lake.spec.model_copy(update={"columns": (*columns, lake.spec.columns[1])})
    lake.broker.produce(lake.topic, [b'{"price": 1.5}'])
    again.ingest()

    again.assert_holds({0: [0, 1, 2, 3]})
    found = judge.query(again.table, "SELECT id, price FROM {table} ORDER BY _kafka_offset")
    assert found == [(0, None), (1, None), (2, None), (None, 1.5)]
    assert judge.count_rows(again.table, first.snapshot_id) == 3
    change = again.reports[-1].schema_change
    assert change is not None
    assert [str(it) for it in change.changes] == ["id: long required -> long", "price: no such column -> double"]


def test_sql_reads_the_table_as_duckdb_reads_its_files(lake: Lake) -> None:
    lake.produce(10, partition=0)
    lake.produce(20, partition=1)
    lake.ingest()
    lake.produce(5, partition=1)
    lake.ingest()
    sql = "SELECT _kafka_partition, count(*), max(text) FROM {table} WHERE id > 2 GROUP BY 1 ORDER BY 1"

    with answer_query(lake.reopened().systems.catalog, sql.format(table=lake.spec.table)) as answer:
        rows = [tuple(row.values()) for batch in answer.batches for row in batch.to_pylist()]

    assert rows == judge.query(lake.table, sql)


def test_a_commit_that_is_refused_is_judged_anew_and_lands_on_what_came_first(lake: Lake) -> None:
    (key,) = fill_hours(lake, 1)
    lake.produce(10, timestamp_ms=hours_ago(0))
    other = lake.reopened()
    lake.around_first_commit(before=lambda: other.replace(key))

    lake.ingest()

    assert [report.commit_attempts for report in lake.reports] == [1, 2]
    assert operations(lake) == ["ingest", "replace-slice", "ingest"]
    lake.assert_holds({0: list(range(20))})


def test_of_two_processes_that_ingest_the_same_messages_one_lands(lake: Lake, tmp_path: Path) -> None:
    lake.ingest()
    lake.produce(10)
    meeting = Meeting(tmp_path / "meeting", 2)

    processes = [start(Order.of(lake, meeting=meeting)) for _ in range(2)]

    assert [finish(process) for process in processes] == [DONE, DONE]
    assert operations(lake) == ["ingest"]
    lake.assert_holds({0: list(range(10))})


def test_two_processes_that_replace_one_hour_beside_one_that_ingests_leave_every_row_once(lake: Lake, tmp_path: Path) -> None:
    key, _ = fill_hours(lake, 1, 0)
    lake.produce(10)
    meeting = Meeting(tmp_path / "meeting", 3)

    processes = [start(Order.of(lake, *keys, meeting=meeting)) for keys in ((key,), (key,), ())]

    assert [finish(process) for process in processes] == [DONE] * 3
    assert sorted(operations(lake)) == ["ingest", "ingest", "replace-slice", "replace-slice"]
    lake.assert_holds({0: list(range(30))})


def test_a_commit_whose_answer_is_lost_is_found_and_not_repeated(lake: Lake, place: Place) -> None:
    lake.ingest()
    lake.produce(10)
    place.lose_answer(lake)

    lake.ingest()

    assert operations(lake) == ["ingest"]
    lake.assert_holds({0: list(range(10))})


def test_an_upsert_table_is_the_fold_of_its_topic_after_a_lost_answer_and_a_race(
    broker: Broker, topic: Callable[..., str], place: Place, tmp_path: Path
) -> None:
    declared = {"mode": "upsert", "key": ["id"], "partition_by": ["bucket(2, id)"]}
    lake = Lake.open(tmp_path, broker, topic(2), place.catalog(tmp_path), table=place.table, **declared)
    lake.produce(40, timestamp_ms=hours_ago(1))
    lake.ingest()

    lake.produce(3, timestamp_ms=hours_ago(0))
    place.lose_answer(lake)
    lake.ingest()
    lake.assert_holds({0: list(range(3, 43))})

    lake.produce(5)
    meeting = Meeting(tmp_path / "meeting", 3)
    processes = [start(Order.of(lake, *keys, meeting=meeting)) for keys in ((lake.key(hours_ago(1)),), (), ())]

    assert [finish(process) for process in processes] == [DONE] * 3
    assert len(lake.table.snapshots()) == 4
    lake.assert_holds({0: [*range(5, 40), *range(43, 48)]})
    assert judge.read_every_snapshot(lake.table) == [40] * 4


# The client of an object store asks again by itself, so nothing stays unknown there.
@pytest.mark.parametrize("place", ["sqlite", *SERVED[:2]], indirect=True)
def test_a_commit_whose_answer_is_lost_before_the_catalog_goes_away_is_unknown_until_it_is_back(
    lake: Lake, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse_assets.systems.commit.ATTEMPTS", 1)
    lake.ingest()
    lake.produce(10)
    place.lose_answer(lake)
    commit = lake.systems.catalog.commit_table

    def commit_table(*arguments: object) -> object:
        try:
            return commit(*arguments)  # type: ignore[arg-type]
        finally:
            place.go_away()

    monkeypatch.setattr(lake.systems.catalog, "commit_table", commit_table)

    def come_back() -> bool:
        if lake.retries:
            place.come_back()
        return False

    lake.ingest(stop=come_back)

    assert isinstance(lake.retries[0], CommitOutcomeUnknownError)
    assert operations(lake) == ["ingest"]
    lake.assert_holds({0: list(range(10))})


def test_a_run_goes_on_when_the_catalog_or_the_storage_was_away_for_a_while(
    lake: Lake, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse_assets.systems.commit.ATTEMPTS", 2)  # else one commit alone waits for it
    lake.produce(10)
    returns: list[Thread] = []

    def leave(_: object) -> None:
        if not returns:
            lake.produce(10)
            place.go_away()

    def come_back() -> bool:
        if lake.retries and not returns:
            returns.append(Thread(target=place.come_back))
            returns[0].start()
        return False

    try:
        result = lake.ingest(stop=come_back, on_commit=leave)
    finally:
        for thread in returns:
            thread.join()

    assert result.ended == "caught up"
    assert lake.retries
    lake.assert_holds({0: list(range(20))})


def test_a_dropped_table_is_made_anew_in_another_place_and_the_old_one_can_be_had_back_or_purged(lake: Lake) -> None:
    lake.produce(10)
    lake.ingest()
    old = lake.table
    catalog, name = lake.systems.catalog, lake.spec.table

    def do(operation: Callable[[MaintenanceTask], object]) -> None:
        operation(MaintenanceTask(catalog, name, MaintenanceSpec(), now_ms=clock_ms))

    lake.around_first_commit(before=lambda: do(run_drop))
    lake.produce(5)
    with pytest.raises(TableMissingError):
        lake.ingest()
    lake.ingest()
    (dropped,) = list_dropped(catalog, name)
    assert catalog.load_table(dropped.full_name).metadata_location == old.metadata_location

    lake.assert_holds({0: list(range(15))})
    anew = lake.table
    assert anew.location() != old.location()

    do(run_purge)
    do(run_undo_drop)
    assert lake.table.metadata.table_uuid == old.metadata.table_uuid
    lake.assert_holds({0: list(range(10))}, lag=5)

    do(run_purge)
    assert [list(list_files(table.io, table.location())) for table in (old, anew)] == [[], []]
    assert name not in list_tables(catalog)
    assert list_dropped(catalog, name) == []


def test_a_table_that_is_rolled_back_below_the_rows_of_others_reads_the_rest_again(lake: Lake) -> None:
    fill_hours(lake, 1)
    lake.produce(10)
    lake.ingest()
    append_foreign_rows(lake.table)

    roll_back(lake.table, lake.reports[0].snapshot_id)
    lake.reopened().ingest()

    lake.assert_holds({0: list(range(20))})


def test_a_table_that_is_dropped_and_created_again_under_a_run_gets_nothing_of_it(lake: Lake) -> None:
    fill_hours(lake, 1)
    lake.produce(10)
    other = lake.reopened()

    def create_again() -> None:
        other.systems.catalog.drop_table(lake.spec.table)
        other.ingest()

    lake.around_first_commit(before=create_again)

    with pytest.raises(TableReplacedError):
        lake.ingest()

    assert operations(lake) == ["ingest"]
    lake.reopened().ingest()
    lake.assert_holds({0: list(range(20))})


@pytest.mark.parametrize("place", SERVED, indirect=True)
def test_the_variables_that_the_documents_name_lead_to_it(
    broker: Broker, topic: Callable[..., str], place: Place, tmp_path: Path
) -> None:
    name = topic()
    broker.produce(name, [make_message(i) for i in range(10)])
    catalog = place.catalog(tmp_path)
    named = {key.upper().replace("-", "_").replace(".", "__"): value for key, value in catalog.items()}
    variables = {
        "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "LAKEHOUSE_CATALOG": "prod",
        **{f"PYICEBERG_CATALOG__PROD__{key}": value for key, value in named.items()},
    }

    ran = run_lakehouse(tmp_path, name, "ingest", place.table, variables=variables, table=place.table)

    assert (ran.returncode, ran.stderr) == (0, "")
    assert SECRET_KEY not in ran.stdout
    table = load_catalog("prod", **catalog).load_table(place.table)
    assert judge.read_positions(table) == [(0, offset) for offset in range(10)]
    assert not list((tmp_path / "home").glob("catalog.db"))
    assert set(variables) <= set(re.findall(r"\w+(?==)", OPERATIONS))


def test_an_expiry_of_a_table_that_is_dropped_meanwhile_says_so_and_the_table_can_be_had_back(lake: Lake) -> None:
    for _ in range(3):
        lake.produce(5)
        lake.ingest()
    catalog, name = lake.systems.catalog, lake.spec.table
    with lake.table.transaction() as change:
        change.set_properties({"history.expire.max-snapshot-age-ms": "1", "history.expire.min-snapshots-to-keep": "1"})

    def do(operation: Callable[[MaintenanceTask], object]) -> None:
        operation(MaintenanceTask(catalog, name, MaintenanceSpec(), now_ms=clock_ms))

    lake.around_first_commit(before=lambda: do(run_drop))
    with pytest.raises(TableMissingError):
        do(run_expire)

    do(run_undo_drop)
    lake.assert_holds({0: list(range(15))})
