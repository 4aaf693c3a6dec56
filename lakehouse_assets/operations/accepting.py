"""An operator's decision that messages are lost: recorded in the ledger, so that the table goes on without them.

Only what Kafka no longer has can be accepted. Rows are not touched.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from lakehouse_assets.model.errors import NothingLostError, TableMissingError
from lakehouse_assets.model.ledger import AcceptedLoss, Ledger
from lakehouse_assets.model.offsets import TopicRanges
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.ingest import open_table
from lakehouse_assets.operations.status import describe_source, list_expired, list_topics, refuse_other_log
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.systems.catalog import load_table
from lakehouse_assets.systems.commit import Delivery, publish


def run_accept_loss(
    systems: Systems, spec: TableSpec, reason: str, topic: str | None, now_ms: Callable[[], int], *, is_dry_run: bool = False
) -> AcceptedLoss:
    """Accept that the offsets which the table lacks and Kafka has no more are lost; or, with `topic`, that it is gone.

    Safe beside ingestion. With `is_dry_run` nothing is recorded.

    Raises:
        NothingLostError: Kafka has everything that the table lacks, or the topic is there, or never was the table's.
        TableMissingError: the table was not created yet, so it lacks nothing.
        LakehouseError: of the tree.
    """
    if load_table(systems.catalog, spec.table) is None:
        raise TableMissingError(spec.table)
    at = datetime.fromtimestamp(now_ms() // 1000, UTC).isoformat()
    table, ledger = open_table(systems, spec, now_ms)
    if topic is None:
        found = AcceptedLoss(reason, at, offsets=_lost_offsets(systems, spec, ledger))
    else:
        found = AcceptedLoss(reason, at, topics=(_gone_topic(systems, spec, ledger, topic),))
    if not is_dry_run:
        publish(systems.catalog, spec.table, Delivery.amending(table, partial(Ledger.with_loss, loss=found)))
    return found


def _lost_offsets(systems: Systems, spec: TableSpec, ledger: Ledger) -> TopicRanges:
    description = describe_source(systems.source, spec)
    bounds = systems.source.read_bounds(spec.table, description.logs)
    refuse_other_log(systems.source, spec, ledger, description, bounds)
    lost = list_expired(ledger.missing({log: b.stop for log, b in bounds.items()}), bounds)
    if not lost:
        raise NothingLostError(spec.table, "Kafka still has every message that the table lacks")
    return lost


def _gone_topic(systems: Systems, spec: TableSpec, ledger: Ledger, topic: str) -> str:
    if topic not in ledger.topic_ids:
        raise NothingLostError(spec.table, f"the table never had messages of a topic {topic!r}")
    if topic in ledger.lost_topics:
        raise NothingLostError(spec.table, f"that topic {topic!r} is gone is accepted already")
    if topic in list_topics(systems.source, spec):
        raise NothingLostError(spec.table, f"topic {topic!r} is there, or the declaration names it")
    return topic
