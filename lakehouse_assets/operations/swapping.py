"""Takes rows of given offsets out of a table and puts others in, in one snapshot, whoever else commits meanwhile."""

from collections.abc import Callable

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from lakehouse_assets.model.errors import CommitConflictError
from lakehouse_assets.systems.catalog import load_table
from lakehouse_assets.systems.commit import Delivery, Landed, publish
from lakehouse_assets.systems.parquet import build_writer, delete_staged
from lakehouse_assets.systems.schema import Base
from lakehouse_assets.systems.slice_files import SliceFiles
from lakehouse_assets.systems.snapshots import table_name

_ATTEMPTS = 20


def swap_rows(
    catalog: Catalog,
    table: Table,
    taken: SliceFiles,
    delivery: Delivery,
    buffer_bytes: int,
    check: Callable[[Table], None] = lambda _: None,
    *,
    may_be_empty: bool = False,
) -> Landed | None:
    """Publish `delivery`, whose `replaces` is `taken.swap`. None: it brings nothing, and there was nothing to take out.

    With `may_be_empty` such a delivery is published too, for its offsets.

    Where the table moved under it, only what remains of old files is written again. `check` looks at each head before that.

    Raises:
        LakehouseError: of the tree; then nothing landed, or CommitOutcomeUnknownError.
    """
    name = table_name(table)
    for attempt in range(1, _ATTEMPTS + 1):
        check(table)
        writer = build_writer(table, buffer_bytes)
        try:
            taken.prepare(table, writer)
            if not delivery.files and taken.is_untouched and not may_be_empty:
                return None
            return publish(catalog, name, delivery)
        except CommitConflictError:
            delete_staged(table.io, taken.rewritten_locations)
            head = load_table(catalog, name)
            if attempt == _ATTEMPTS or head is None or Base.of(head) != delivery.base:
                raise
            table = head
        finally:
            writer.abandon()
    raise AssertionError("unreachable: the last attempt returns or raises")
