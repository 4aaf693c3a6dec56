"""Whether an hour or a day of event time is complete in a table, and what keeps it from that. Reads its metadata only."""

import time
from collections.abc import Callable
from typing import Final

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from lakehouse_assets.model.completeness import Completeness
from lakehouse_assets.model.errors import LakehouseError
from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.offsets import NO_OFFSETS, TopicPartition
from lakehouse_assets.model.slices import TimeSlice
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.event_times import build_move
from lakehouse_assets.operations.retrying import retry_transient
from lakehouse_assets.systems.catalog import require_table
from lakehouse_assets.systems.history import read_promised_ledger
from lakehouse_assets.systems.scanning import require_event_time_column
from lakehouse_assets.systems.table_times import read_table_times

_LONGEST_WAIT_SECONDS: Final = 5.0


def read_completeness(catalog: Catalog, name: str, within: TimeSlice, spec: TableSpec | None, now_ms: int) -> Completeness:
    """How far a table is with an hour or a day. `spec` is its declaration, where there is one.

    Raises:
        TableMissingError: there is no such table.
        NoEventTimeError: no column of it says when a row happened.
        LedgerLostError, CatalogUnavailableError, CatalogAccessError, StorageError
    """
    table = require_table(catalog, name)
    require_event_time_column(table)
    return judge_completeness(table, within, spec, now_ms)


def judge_completeness(table: Table, within: TimeSlice, spec: TableSpec | None, now_ms: int) -> Completeness:
    """The same of a table that was loaded just now.

    Raises:
        LedgerLostError: its ledger can't be read.
    """
    times, ledger = read_table_times(table), read_promised_ledger(table)
    late_rows = sum(count for hour_ms, count in times.late_rows.items() if within.start_ms <= hour_ms < within.stop_ms)
    found = Completeness(".".join(table.name()), within, times.watermark_ms, late_rows=late_rows)
    if found.is_complete or spec is None or spec.event_time is None or ledger is None:
        return found
    move = build_move(spec, table, ledger, {}, _list_logs(ledger), NO_OFFSETS, now_ms)
    reached = move.list_holding(ledger.settled_ms)
    holding = {log: ms for log, ms in reached.items() if ms is None or ms < within.stop_ms}
    return Completeness(found.table, within, times.watermark_ms, holding, late_rows)


def wait_until_complete(
    look: Callable[[], Completeness],
    seconds: float | None,
    on_wait: Callable[[Completeness], None],
    on_retry: Callable[[LakehouseError, float], None],
) -> Completeness:
    """Look until it is complete, for at most so many seconds; what was found last. `on_wait` hears of each look in vain.

    Errors that can pass by themselves are tried again, and `on_retry` hears of them.

    Raises:
        LakehouseError: of the tree.
    """
    deadline = time.monotonic() + seconds if seconds is not None else float("inf")
    pause = 0.25
    while True:
        found = retry_transient(look, lambda: time.monotonic() >= deadline, on_retry)
        left = deadline - time.monotonic()
        if found.is_complete or left <= 0:
            return found
        on_wait(found)
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_WAIT_SECONDS)


def _list_logs(ledger: Ledger) -> set[TopicPartition]:
    """The topic partitions that the table knows of: those that its beginning names, and those that it has something of."""
    return {*ledger.start, *ledger.held.partitions, *ledger.settled_ms}
