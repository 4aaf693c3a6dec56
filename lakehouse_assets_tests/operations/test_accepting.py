"""A loss is accepted by a person only, is exactly what Kafka dropped, and stays known."""

from collections.abc import Callable

import pytest

from lakehouse_assets.model.errors import NothingLostError, OffsetsExpiredError, TableMissingError
from lakehouse_assets.model.ledger import LEDGER_KEY, AcceptedLoss
from lakehouse_assets.operations.accepting import run_accept_loss
from lakehouse_assets.operations.status import read_status
from lakehouse_assets_tests.operations.lake import Lake, clock_ms, hours_ago

pytestmark = pytest.mark.kafka

MakeLake = Callable[..., Lake]


def accept(table: Lake, topic: str | None = None, *, is_dry_run: bool = False) -> AcceptedLoss:
    return run_accept_loss(table.systems, table.spec, "retention was too short", topic, clock_ms, is_dry_run=is_dry_run)


@pytest.fixture
def behind(lake: MakeLake) -> Lake:
    """A table with offsets 0 to 9, of a log that begins at 15 and ends at 20."""
    table = lake()
    table.produce(10, timestamp_ms=hours_ago(1))
    table.ingest()
    table.produce(10)
    table.broker.delete_records(table.topic, {0: 15})
    return table


def test_the_table_goes_on_behind_an_accepted_loss_which_stays_known(behind: Lake) -> None:
    with pytest.raises(OffsetsExpiredError, match="accept-loss"):
        behind.reopened().ingest()

    loss = accept(behind)
    behind.reopened().ingest()

    assert loss.offsets == behind.ranges({0: [(10, 15)]})
    behind.assert_holds({0: [*range(10), *range(15, 20)]})
    assert behind.ledger.losses == (loss,)
    current = behind.table.current_snapshot()
    assert current is not None
    assert current.summary is not None
    assert "retention was too short" in current.summary[LEDGER_KEY]
    status = read_status(behind.systems, behind.spec)
    assert status.ledger is not None
    assert status.ledger.losses == (loss,)


def test_a_dry_run_says_the_same_and_records_nothing(behind: Lake) -> None:
    assert accept(behind, is_dry_run=True).offsets == behind.ranges({0: [(10, 15)]})

    with pytest.raises(OffsetsExpiredError):
        behind.reopened().ingest()


def test_a_commit_that_was_judged_before_the_loss_was_accepted_does_not_undo_it(lake: MakeLake) -> None:
    table = lake(topic_partitions=2)
    table.produce(10)
    table.ingest()
    table.produce(5)
    table.produce(5, partition=1)

    def accept_meanwhile() -> None:
        table.broker.delete_records(table.topic, {1: 3})
        accept(table.reopened())

    run = table.reopened()
    run.systems.catalog.before_commit = [accept_meanwhile]  # type: ignore[attr-defined]
    run.ingest()
    table.reopened().ingest()

    (loss,) = table.ledger.losses
    assert loss.offsets == table.ranges({1: [(0, 3)]})
    assert set(table.positions()) >= {(0, offset) for offset in range(15)} | {(1, 3), (1, 4)}
    assert len(table.positions()) == len(set(table.positions()))


def test_where_nothing_is_lost_nothing_is_accepted(lake: MakeLake) -> None:
    table = lake()
    with pytest.raises(TableMissingError):
        accept(table)
    table.produce(3)
    table.ingest()
    table.produce(3)

    for topic in (None, table.topic, "nobody_knows"):
        with pytest.raises(NothingLostError):
            accept(table, topic)

    assert table.ledger.losses == ()


def test_a_rollback_behind_the_loss_asks_again(behind: Lake) -> None:
    before = behind.table.current_snapshot()
    assert before is not None
    accept(behind)
    behind.reopened().ingest()

    behind.table.manage_snapshots().rollback_to_snapshot(before.snapshot_id).commit()

    with pytest.raises(OffsetsExpiredError):
        behind.reopened().ingest()
