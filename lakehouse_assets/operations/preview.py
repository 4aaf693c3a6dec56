"""What materialising hours or days would read, as things are now. Reads no message, writes nothing, creates nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lakehouse_assets.model.offsets import NO_OFFSETS, TopicRanges
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.refolding import plan_hours
from lakehouse_assets.operations.replace import plan_slices
from lakehouse_assets.operations.status import with_topics_of
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.systems.catalog import load_table
from lakehouse_assets.systems.history import read_ledger


@dataclass(frozen=True, slots=True)
class Preview:
    """Offsets that the table holds and that would be read `again`; `onward`: those that it lacks and would have then."""

    again: TopicRanges
    onward: TopicRanges


def preview(systems: Systems, spec: TableSpec, keys: Sequence[str], now_ms: Callable[[], int]) -> Preview | None:
    """Of a table that is there; None: it is not.

    Raises:
        SliceIncompleteError, ReplayImpossibleError: materialising them would be refused.
        SourceError, TableError, CatalogUnavailableError
    """
    table = load_table(systems.catalog, spec.table)
    found = read_ledger(table) if table is not None else None
    if table is None or found is None:
        return None
    ledger = with_topics_of(systems.source, spec, found)
    if spec.is_upsert:
        plan = plan_hours(systems, spec, ledger, keys, now_ms)
        return Preview(plan.again, ledger.missing(plan.stops))
    ranges = NO_OFFSETS
    for slice_ in plan_slices(systems, spec, table, ledger, keys, now_ms):
        ranges |= slice_.ranges
    return Preview(ranges & ledger.held, ranges - ledger.held)
