"""Publishes what was prepared for one state of a table, whoever else commits meanwhile: then it is prepared again.

What was staged goes where it certainly did not land.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from lakehouse_assets.model.errors import CommitConflictError, CommitOutcomeUnknownError, LakehouseError
from lakehouse_assets.systems.catalog import load_table
from lakehouse_assets.systems.commit import Delivery, Landed, publish
from lakehouse_assets.systems.parquet import build_writer, delete_staged
from lakehouse_assets.systems.schema import Base
from lakehouse_assets.systems.slice_files import SliceFiles
from lakehouse_assets.systems.snapshots import table_name

_ATTEMPTS = 20


@contextmanager
def undo_unless_landed(undo: Callable[[], object]) -> Iterator[None]:
    """Undo what was staged, where what is done within certainly did not land.

    Who is interrupted in the middle of it, by anything but an error of ours, does not know that.
    """
    try:
        yield
    except CommitOutcomeUnknownError:
        raise
    except LakehouseError:
        undo()
        raise


def publish_prepared(
    catalog: Catalog,
    table: Table,
    delivery: Delivery,
    prepare: Callable[[Table], bool],
    undo: Callable[[Table], None],
) -> Landed | None:
    """Prepare for the head of the table and publish, until nobody else was first. None: `prepare` found nothing to do.

    `undo` deletes what was prepared for a head that has gone.

    Raises:
        LakehouseError: of the tree; then nothing landed, or CommitOutcomeUnknownError.
    """
    name = table_name(table)
    for attempt in range(1, _ATTEMPTS + 1):
        if not prepare(table):
            return None
        try:
            return publish(catalog, name, delivery)
        except CommitConflictError:
            undo(table)
            head = load_table(catalog, name)
            if attempt == _ATTEMPTS or head is None or Base.of(head) != delivery.base:
                raise
            table = head
    raise AssertionError("unreachable: the last attempt returns or raises")


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
    """Take rows of given offsets out, and put those of `delivery`, whose `replaces` is `taken.swap`, in.

    None: it brings nothing, and there was nothing to take out. With `may_be_empty` such a delivery is published too, for its
    offsets. Where the table moved under it, only what remains of old files is written again. `check` looks at each head before
    that.

    Raises:
        LakehouseError: of the tree; then nothing landed, or CommitOutcomeUnknownError.
    """

    def prepare(head: Table) -> bool:
        check(head)
        writer = build_writer(head, buffer_bytes)
        try:
            taken.prepare(head, writer)
        finally:
            writer.abandon()
        return bool(delivery.files) or not taken.is_untouched or may_be_empty

    return publish_prepared(
        catalog, table, delivery, prepare, lambda head: delete_staged(head.io, taken.rewritten_locations)
    )
