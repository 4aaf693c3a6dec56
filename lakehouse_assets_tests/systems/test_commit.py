"""Commits: exactly one lands, and each ends in one of three ways."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException, RESTError
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.update import SetSnapshotRefUpdate
from pyiceberg.types import StringType
from requests.exceptions import ConnectionError as RequestsConnectionError
from sqlalchemy.exc import OperationalError

from lakehouse_assets.model.errors import (
    CatalogUnavailableError,
    CommitConflictError,
    CommitOutcomeUnknownError,
    LakehouseError,
    LedgerMissingError,
    StaleOffsetsError,
    StorageError,
    TableMissingError,
    TableReplacedError,
    TopicReplacedError,
)
from lakehouse_assets.model.ledger import LEDGER_KEY
from lakehouse_assets.model.offsets import TopicRanges
from lakehouse_assets.systems import commit
from lakehouse_assets.systems.commit import Landed, publish
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets_tests import faults, judge
from lakehouse_assets_tests.builders import (
    append_foreign_rows,
    make_delivery,
    make_ranges,
    make_spec,
    make_systems,
    make_table,
    stage_rows,
)
from lakehouse_assets_tests.faults import EFFECTS, Fault, FaultyCatalog, raising

NAME = "ods.clicks"
UNANSWERED = [
    RequestsConnectionError("reset by peer"),
    RESTError("504 gateway timeout"),
    CommitStateUnknownException("500"),
    OSError("broken pipe"),
    OperationalError("COMMIT", {}, Exception("server closed the connection")),
]


def positions(p: int, *ranges: range) -> list[tuple[int, int]]:
    return [(p, offset) for offsets in ranges for offset in offsets]


def held(table: Table) -> TopicRanges:
    ledger = read_ledger(table)
    assert ledger is not None
    return ledger.held


def files_of(table: Table) -> set[str]:
    root = Path(table.location().removeprefix("file://"))
    return {path.name for path in root.rglob("*") if path.is_file()}


def outcome(act: Callable[[], Landed]) -> str:
    try:
        act()
    except LakehouseError as error:
        return type(error).__name__
    return "landed"


def test_a_commit_carries_rows_and_ledger_in_one_snapshot(catalog: FaultyCatalog) -> None:
    table = make_table(catalog)

    landed = publish(catalog, NAME, make_delivery(table, {0: range(10), 1: range(5, 8)}))

    table = catalog.load_table(NAME)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.snapshot_id == landed.snapshot_id
    assert snapshot.summary[LEDGER_KEY] == table.properties[LEDGER_KEY] == landed.ledger.to_json()
    assert held(table) == make_ranges({0: [(0, 10)], 1: [(5, 8)]})
    assert judge.read_positions(table) == positions(0, range(10)) + positions(1, range(5, 8))
    assert snapshot.summary["total-records"] == "13"


def test_the_same_offsets_land_once(catalog: FaultyCatalog) -> None:
    table = make_table(catalog)
    publish(catalog, NAME, make_delivery(table, {0: range(10)}))

    with pytest.raises(StaleOffsetsError, match="offsets 5..9"):
        publish(catalog, NAME, make_delivery(table, {0: range(5, 15)}))

    assert judge.read_positions(catalog.load_table(NAME)) == positions(0, range(10))


def test_of_five_publishers_of_the_same_offsets_exactly_one_lands(
    catalog: FaultyCatalog, tmp_path: Path
) -> None:
    table = make_table(catalog)
    deliveries = [make_delivery(table, {0: range(10)}) for _ in range(5)]
    catalogs = [make_systems(tmp_path).catalog for _ in deliveries]

    with ThreadPoolExecutor(5) as pool:
        answers = list(
            pool.map(
                lambda pair: outcome(lambda: publish(pair[0], NAME, pair[1])),
                zip(catalogs, deliveries, strict=True),
            )
        )

    assert sorted(answers) == ["StaleOffsetsError"] * 4 + ["landed"]
    assert judge.read_positions(catalog.load_table(NAME)) == positions(0, range(10))


def test_publishers_of_different_offsets_all_land(catalog: FaultyCatalog, tmp_path: Path) -> None:
    table = make_table(catalog)
    deliveries = [make_delivery(table, {0: range(10 * i, 10 * i + 10)}) for i in range(4)]
    catalogs = [make_systems(tmp_path).catalog for _ in deliveries]

    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(
                lambda pair: outcome(lambda: publish(pair[0], NAME, pair[1])),
                zip(catalogs, deliveries, strict=True),
            )
        )

    table = catalog.load_table(NAME)
    assert answers == ["landed"] * 4
    assert judge.read_positions(table) == positions(0, range(40))
    assert held(table) == make_ranges({0: [(0, 40)]})
    assert judge.read_every_snapshot(table) == [10, 20, 30, 40]


def test_files_staged_on_a_stale_handle_land_on_the_head(catalog: FaultyCatalog) -> None:
    stale = make_table(catalog)
    publish(catalog, NAME, make_delivery(stale, {0: range(10)}))

    publish(catalog, NAME, make_delivery(stale, {0: range(10, 20)}))

    assert judge.read_positions(catalog.load_table(NAME)) == positions(0, range(20))


@pytest.mark.parametrize("error", UNANSWERED, ids=lambda error: type(error).__name__)
def test_a_commit_that_landed_but_lost_its_answer_is_not_repeated(
    catalog: FaultyCatalog, error: Exception
) -> None:
    delivery = make_delivery(make_table(catalog), {0: range(10)})
    catalog.after_commit = [raising(error)]

    landed = publish(catalog, NAME, delivery)

    table = catalog.load_table(NAME)
    assert catalog.commit_count == 1
    assert table.current_snapshot().snapshot_id == landed.snapshot_id  # type: ignore[union-attr]
    assert judge.read_positions(table) == positions(0, range(10))
    assert held(table) == landed.ledger.held


@pytest.mark.parametrize("error", UNANSWERED, ids=lambda error: type(error).__name__)
def test_a_commit_that_was_lost_on_the_way_is_tried_again(catalog: FaultyCatalog, error: Exception) -> None:
    delivery = make_delivery(make_table(catalog), {0: range(10)})
    catalog.before_commit = [raising(error)]

    landed = publish(catalog, NAME, delivery)

    assert landed.attempts == 2
    assert judge.read_positions(catalog.load_table(NAME)) == positions(0, range(10))


def test_a_commit_that_landed_but_was_refused_on_a_repeated_request_keeps_its_files(
    catalog: FaultyCatalog,
) -> None:
    """A proxy that sends a request again makes the server answer the second one with a conflict."""
    delivery = make_delivery(make_table(catalog), {0: range(10)})
    catalog.after_commit = [raising(CommitFailedException("the head is another one"))]

    publish(catalog, NAME, delivery)

    assert catalog.commit_count == 1
    assert judge.read_positions(catalog.load_table(NAME)) == positions(0, range(10))


def test_that_holds_on_the_last_attempt_too(catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "ATTEMPTS", 1)
    delivery = make_delivery(make_table(catalog), {0: range(10)})
    catalog.after_commit = [raising(CommitFailedException("the head is another one"))]

    publish(catalog, NAME, delivery)

    assert judge.read_positions(catalog.load_table(NAME)) == positions(0, range(10))


def test_a_commit_that_landed_and_was_built_upon_is_found_below_the_head(catalog: FaultyCatalog) -> None:
    table = make_table(catalog)
    delivery = make_delivery(table, {0: range(10)})
    lose_the_answer = raising(RequestsConnectionError("reset by peer"))
    catalog.after_commit = [_both(lambda: append_foreign_rows(catalog.load_table(NAME)), lose_the_answer)]

    landed = publish(catalog, NAME, delivery)

    table = catalog.load_table(NAME)
    assert [s.snapshot_id for s in table.snapshots()][0] == landed.snapshot_id
    assert judge.read_positions(table) == [*positions(0, range(10)), (None, None)]


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def step() -> None:
        first()
        second()

    return step


def test_a_foreign_append_between_load_and_commit_is_kept(catalog: FaultyCatalog) -> None:
    table = make_table(catalog)
    delivery = make_delivery(table, {0: range(10)})
    catalog.before_commit = [lambda: append_foreign_rows(catalog.load_table(NAME))]

    landed = publish(catalog, NAME, delivery)

    table = catalog.load_table(NAME)
    assert landed.attempts == 2
    assert judge.read_positions(table) == [*positions(0, range(10)), (None, None)]
    assert held(table) == make_ranges({0: [(0, 10)]})


def test_a_twin_that_lands_between_load_and_commit_makes_the_commit_stale(catalog: FaultyCatalog) -> None:
    table = make_table(catalog)
    delivery, twin = (make_delivery(table, {0: range(10)}) for _ in range(2))
    catalog.before_commit = [lambda: publish(catalog, NAME, twin) and None]

    with pytest.raises(StaleOffsetsError):
        publish(catalog, NAME, delivery)

    assert judge.read_positions(catalog.load_table(NAME)) == positions(0, range(10))


def test_the_catalog_may_be_away_for_a_while(catalog: FaultyCatalog) -> None:
    delivery = make_delivery(make_table(catalog), {0: range(10)})
    away = raising(RequestsConnectionError("refused"))
    catalog.before_load = [away, away]
    catalog.before_commit = [away]

    publish(catalog, NAME, delivery)

    assert judge.read_positions(catalog.load_table(NAME)) == positions(0, range(10))


def test_a_catalog_that_never_answered_leaves_nothing_in_doubt(
    catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "ATTEMPTS", 3)
    delivery = make_delivery(make_table(catalog), {0: range(10)})
    catalog.before_load = [raising(RequestsConnectionError("refused"))] * 3

    with pytest.raises(CatalogUnavailableError):
        publish(catalog, NAME, delivery)


@pytest.mark.parametrize("landed", [True, False])
def test_a_commit_whose_end_nobody_knows_keeps_every_file(
    catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch, landed: bool
) -> None:
    monkeypatch.setattr(commit, "ATTEMPTS", 3)
    table = make_table(catalog)
    delivery = make_delivery(table, {0: range(10)})
    away = raising(RequestsConnectionError("reset by peer"))

    def go_away() -> None:
        catalog.before_load = [away] * 10
        away()

    catalog.before_commit, catalog.after_commit = ([], [go_away]) if landed else ([go_away], [])
    EFFECTS.arm(None)
    with pytest.raises(CommitOutcomeUnknownError):
        publish(catalog, NAME, delivery)

    catalog.before_load = []
    assert not [effect for effect in EFFECTS.seen if effect.startswith("delete")]
    assert judge.read_positions(catalog.load_table(NAME)) == positions(0, range(10)) * landed


def test_a_lost_commit_whose_table_is_gone_since_is_unknown(catalog: FaultyCatalog) -> None:
    delivery = make_delivery(make_table(catalog), {0: range(10)})
    catalog.after_commit = [
        _both(lambda: catalog.drop_table(NAME), raising(RequestsConnectionError("reset by peer")))
    ]

    with pytest.raises(CommitOutcomeUnknownError):
        publish(catalog, NAME, delivery)


def test_a_commit_that_certainly_failed_leaves_only_its_data_files(
    catalog: FaultyCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "ATTEMPTS", 3)
    table = make_table(catalog)
    delivery = make_delivery(table, {0: range(10)})
    before = files_of(table)
    catalog.before_commit = [raising(CommitFailedException("busy"))] * 3

    with pytest.raises(CommitConflictError):
        publish(catalog, NAME, delivery)

    assert files_of(table) == before


def test_attempts_that_lost_leave_no_files_behind(catalog: FaultyCatalog) -> None:
    table = make_table(catalog)
    delivery = make_delivery(table, {0: range(10)})
    catalog.before_commit = [raising(CommitFailedException("busy")), raising(RequestsConnectionError("lost"))]

    publish(catalog, NAME, delivery)

    names = files_of(table)
    assert len([name for name in names if name.startswith("snap-")]) == 1
    assert judge.read_positions(catalog.load_table(NAME)) == positions(0, range(10))


def test_a_full_disk_is_an_error_of_storage_and_lands_nothing(catalog: FaultyCatalog) -> None:
    table = make_table(catalog)
    delivery = make_delivery(table, {0: range(10)})
    EFFECTS.arm(Fault("write", "half", faults.fill_disk))

    with pytest.raises(StorageError, match="No space left"):
        publish(catalog, NAME, delivery)

    assert judge.read_positions(catalog.load_table(NAME)) == []


def test_a_dropped_table_is_said_to_be_gone(catalog: FaultyCatalog) -> None:
    delivery = make_delivery(make_table(catalog), {0: range(10)})
    catalog.drop_table(NAME)

    with pytest.raises(TableMissingError):
        publish(catalog, NAME, delivery)


def test_a_table_dropped_between_load_and_commit_is_said_to_be_gone(catalog: FaultyCatalog) -> None:
    delivery = make_delivery(make_table(catalog), {0: range(10)})
    catalog.before_commit = [lambda: catalog.drop_table(NAME)]

    with pytest.raises(TableMissingError):
        publish(catalog, NAME, delivery)


@pytest.mark.parametrize("moment", ["before", "between load and commit"])
def test_a_table_that_was_dropped_and_created_again_is_noticed(catalog: FaultyCatalog, moment: str) -> None:
    delivery = make_delivery(make_table(catalog), {0: range(10)})

    def replace_table() -> None:
        catalog.drop_table(NAME)
        make_table(catalog)

    if moment == "before":
        replace_table()
    else:
        catalog.before_commit = [replace_table]
    with pytest.raises(TableReplacedError):
        publish(catalog, NAME, delivery)

    assert judge.read_positions(catalog.load_table(NAME)) == []


def test_a_schema_that_changed_since_staging_makes_the_files_invalid(catalog: FaultyCatalog) -> None:
    table = make_table(catalog)
    delivery = make_delivery(table, {0: range(10)})

    def change() -> None:
        with catalog.load_table(NAME).update_schema() as update:
            update.add_column("extra", StringType())

    catalog.before_commit = [change]
    with pytest.raises(CommitConflictError, match="schema 0"):
        publish(catalog, NAME, delivery)

    assert judge.read_positions(catalog.load_table(NAME)) == []


def test_a_partition_spec_that_changed_since_staging_makes_the_files_invalid(catalog: FaultyCatalog) -> None:
    table = make_table(catalog)
    delivery = make_delivery(table, {0: range(10)})

    def change() -> None:
        with catalog.load_table(NAME).update_spec() as update:
            update.add_identity("text")

    catalog.before_commit = [change]
    with pytest.raises(CommitConflictError, match="partition spec 0"):
        publish(catalog, NAME, delivery)


def test_offsets_of_another_topic_id_are_refused(catalog: FaultyCatalog) -> None:
    table = make_table(catalog)

    with pytest.raises(TopicReplacedError):
        publish(catalog, NAME, make_delivery(table, {0: range(10)}, topic_id="another"))


def test_a_topic_that_the_ledger_does_not_know_is_refused(catalog: FaultyCatalog) -> None:
    table = make_table(catalog)

    with pytest.raises(CommitConflictError, match="does not know the topic 'other'"):
        publish(catalog, NAME, make_delivery(table, {0: range(10)}, topic="other"))


def test_a_ledger_that_was_deleted_by_hand_stops_the_table(catalog: FaultyCatalog) -> None:
    table = make_table(catalog)
    publish(catalog, NAME, make_delivery(table, {0: range(10)}))
    with catalog.load_table(NAME).transaction() as transaction:
        transaction.remove_properties(LEDGER_KEY)

    with pytest.raises(LedgerMissingError):
        publish(catalog, NAME, make_delivery(table, {0: range(10, 20)}))


def test_a_commit_to_another_branch_in_between_is_no_reason_to_fail(catalog: FaultyCatalog) -> None:
    table = make_table(catalog)
    publish(catalog, NAME, make_delivery(table, {0: range(5)}))
    first = catalog.load_table(NAME).current_snapshot()
    assert first is not None
    catalog.load_table(NAME).manage_snapshots().create_branch(first.snapshot_id, "side").commit()
    catalog.before_commit = [lambda: append_foreign_rows(catalog.load_table(NAME), branch="side")]

    landed = publish(catalog, NAME, make_delivery(table, {0: range(5, 10)}))

    assert landed.attempts == 2
    assert judge.read_positions(catalog.load_table(NAME)) == positions(0, range(10))
    assert len(catalog.load_table(NAME).scan(snapshot_id=catalog.load_table(NAME).refs()["side"].snapshot_id).to_arrow()) == 6


def test_retention_settings_of_the_branch_are_kept(catalog: FaultyCatalog) -> None:
    table = make_table(catalog)
    publish(catalog, NAME, make_delivery(table, {0: range(10)}))
    table = catalog.load_table(NAME)
    kept = SetSnapshotRefUpdate(
        ref_name="main", type=SnapshotRefType.BRANCH, snapshot_id=table.current_snapshot().snapshot_id,  # type: ignore[union-attr]
        max_ref_age_ms=1_000_000, max_snapshot_age_ms=2_000_000, min_snapshots_to_keep=7,
    )  # fmt: skip
    catalog.commit_table(table, (), (kept,))

    publish(catalog, NAME, make_delivery(table, {0: range(10, 20)}))

    ref = catalog.load_table(NAME).metadata.refs["main"]
    assert (ref.max_ref_age_ms, ref.max_snapshot_age_ms, ref.min_snapshots_to_keep) == (
        1_000_000,
        2_000_000,
        7,
    )


def test_files_of_a_partitioned_table_are_found_by_their_partition(catalog: FaultyCatalog) -> None:
    table = make_table(catalog, make_spec(partition_by=["bucket(4, id)", "truncate(6, text)"]))

    publish(catalog, NAME, make_delivery(table, {0: range(100)}))

    table = catalog.load_table(NAME)
    assert judge.read_positions(table) == positions(0, range(100))
    assert judge.query(table, "SELECT count(*) FROM {table} WHERE id = 42") == [(1,)]
    assert table.scan(row_filter="id == 42").to_arrow().num_rows == 1


def test_metadata_files_do_not_pile_up(catalog: FaultyCatalog) -> None:
    table = make_table(catalog, make_spec(properties={"write.metadata.previous-versions-max": "5"}))

    _publish_many(catalog, table, 20)

    metadata = [name for name in files_of(table) if name.endswith(".metadata.json")]
    assert len(metadata) == 6


def _publish_many(catalog: FaultyCatalog, table: Table, count: int, first: int = 0) -> None:
    for i in range(first, first + count):
        publish(catalog, NAME, make_delivery(table, {0: range(i, i + 1)}, files=stage_rows(table, {0: [i]})))


@pytest.mark.parametrize("count", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_merged_manifests_keep_every_entry_and_stay_few(catalog: FaultyCatalog, count: int) -> None:
    table = make_table(catalog)

    _publish_many(catalog, table, count)

    table = catalog.load_table(NAME)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert judge.read_positions(table) == positions(0, range(count))
    assert [s.sequence_number for s in table.snapshots()] == list(range(1, count + 1))
    assert len(snapshot.manifests(table.io)) <= 48
    assert judge.read_every_snapshot(table)[:: count // 20] == list(range(1, count + 1))[:: count // 20]
