"""Moves the watermark of a table whose topics are silent: by no row, so by an empty commit, and by few of them.

Plan: where the clock alone brings the watermark. An empty commit is worth it where an hour becomes complete by it, and not
before as many commit intervals have passed as the table says. Publish: as every other commit; nothing is staged.
"""

from datetime import timedelta
from typing import Final

from lakehouse_assets.model.completeness import HOUR_MS
from lakehouse_assets.model.errors import CommitConflictError
from lakehouse_assets.model.offsets import TopicPartition
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.watermark import WatermarkMove
from lakehouse_assets.operations.event_times import build_move
from lakehouse_assets.operations.status import TableStatus
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.systems.commit import Delivery, Landed, publish
from lakehouse_assets.systems.table_times import read_watermark

EMPTY_COMMITS_KEY: Final = "flink.max-continuous-empty-commits"  # table property: one empty commit in so many intervals
_EMPTY_COMMITS = 10


def plan_idle_move(spec: TableSpec, status: TableStatus, now_ms: int) -> WatermarkMove | None:
    """The move that is due without a row; None where there is none. Pure."""
    table, ledger = status.table, status.ledger
    if spec.event_time is None or spec.event_time.idle_after is None or table is None or ledger is None:
        return None
    text = table.properties.get(EMPTY_COMMITS_KEY, "")
    intervals = int(text) if text.isdecimal() else _EMPTY_COMMITS
    pause_ms = intervals * (spec.commit_interval // timedelta(milliseconds=1))
    if status.committed_ms is not None and now_ms - status.committed_ms < pause_ms:
        return None
    move = build_move(spec, table, ledger, {}, status.bounds, status.missing, now_ms)
    reached_ms, watermark_ms = move.find(ledger.settled_ms), read_watermark(table)
    if reached_ms is None or (watermark_ms is not None and reached_ms // HOUR_MS <= watermark_ms // HOUR_MS):
        return None
    return move


def find_holding(spec: TableSpec, status: TableStatus, now_ms: int) -> TopicPartition | None:
    """The topic partition that is furthest back; None where there is none, or no table or event time yet. Pure."""
    if spec.event_time is None or status.table is None or status.ledger is None:
        return None
    move = build_move(spec, status.table, status.ledger, {}, status.bounds, status.missing, now_ms)
    return next(iter(move.list_holding(status.ledger.settled_ms)), None)


def run_idle_move(systems: Systems, spec: TableSpec, status: TableStatus, now_ms: int) -> Landed | None:
    """Move the watermark of a table that was looked at just now, if that is due.

    None: it is not, or somebody else committed meanwhile.

    Raises:
        LakehouseError: of the tree.
    """
    move = plan_idle_move(spec, status, now_ms)
    if move is None or status.table is None or status.ledger is None:
        return None
    delivery = Delivery.moving(status.table, move, status.ledger.held)
    try:
        return publish(systems.catalog, spec.table, delivery)
    except CommitConflictError:
        return None
