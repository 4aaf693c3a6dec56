"""What must be true of any snapshot at any moment; DuckDB says what the files hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from pyiceberg.table import Table

from lakehouse_assets.model.offsets import RangeSet
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets.systems.snapshots import ancestors
from lakehouse_assets_tests import judge

Rows = set[tuple[int, int]]

_RECENT = 5  # snapshots


@dataclass(frozen=True, slots=True)
class Seen:
    """One snapshot: the positions in it, and what its ledger holds."""

    rows: Rows
    held: Mapping[int, RangeSet]


def judge_snapshot(table: Table, topic: str) -> Seen:
    """The current snapshot of a loaded table, whose metadata is one moment of it.

    Raises:
        AssertionError: a row twice, one that the ledger does not hold, rows of others that are gone, or a wrong sum.
    """
    positions = judge.read_positions(table)
    ours = [(p, offset) for p, offset in positions if p is not None and offset is not None]
    rows = set(ours)
    assert len(ours) == len(rows), f"{len(ours) - len(rows)} rows twice, of {len(ours)}"
    ledger = read_ledger(table)
    assert ledger is not None
    held = {log.partition: ranges for log, ranges in ledger.held.partitions.items() if log.topic == topic}
    stray = [(p, offset) for p, offset in rows if offset not in held.get(p, ())]
    assert not stray, f"rows that the ledger does not hold: {sorted(stray)[:5]}"
    current = table.current_snapshot()
    assert current is not None
    # Older ones may have expired, and those that are about to may go while one reads them.
    recent = list(islice(ancestors(table, current), _RECENT))
    summaries = [snapshot.summary.additional_properties for snapshot in recent if snapshot.summary]
    before = sum(p is None for p, _ in judge.read_positions(table, recent[-1].snapshot_id))
    foreign = before + sum(int(s["added-records"]) for s in summaries[:-1] if "lakehouse.operation" not in s)
    assert len(positions) - len(ours) == foreign, f"{len(positions) - len(ours)} rows of others, who wrote {foreign}"
    assert int(summaries[0]["total-records"]) == len(positions), f"total-records {summaries[0]['total-records']}"
    return Seen(rows, held)


def judge_against_topic(seen: Seen, good: Rows) -> None:
    """What the ledger holds is there, and nothing else.

    Raises:
        AssertionError
    """
    promised = {(p, offset) for p, offset in good if offset in seen.held.get(p, ())}
    lost, extra = promised - seen.rows, seen.rows - promised
    assert not lost, f"{len(lost)} rows lost that the ledger holds: {sorted(lost)[:5]}"
    assert not extra, f"{len(extra)} rows that the topic never had: {sorted(extra)[:5]}"
