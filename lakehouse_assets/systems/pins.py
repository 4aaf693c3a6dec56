"""Tags that people set so that they can read a table again as it was: what they mean, and how they come and go.

A tag is moved by nobody, and expiry keeps what it means. Iceberg counts the age of a tag from the time of its snapshot; here it
lasts as long as asked from when it is set.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import BadRequestError, CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRef, SnapshotRefType
from pyiceberg.table.update import (
    AssertRefSnapshotId,
    AssertTableUUID,
    RemoveSnapshotRefUpdate,
    SetSnapshotRefUpdate,
    TableUpdate,
)

from lakehouse_assets.model.as_of import AsOf, History, KnownSnapshot, find_snapshot
from lakehouse_assets.model.errors import CommitConflictError, PinTakenError, SnapshotMissingError
from lakehouse_assets.model.mistakes import nearest
from lakehouse_assets.systems.catalog import catalog_errors, require_table
from lakehouse_assets.systems.expiry import read_rules
from lakehouse_assets.systems.snapshots import table_name

_ATTEMPTS: Final = 20
# Iceberg's own word for "no limit". Left out, the table's `history.expire.max-ref-age-ms` would be the limit, once it is set.
_FOR_EVER_MS: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Pin:
    """A tag of a table; `until_ms` is when expiry may take it, None for never."""

    table: str
    name: str
    snapshot_id: int
    snapshot_ms: int
    until_ms: int | None


def resolve_as_of(table: Table, as_of: AsOf) -> int:
    """The id of the snapshot that a tag, an id or a time means. Read-only.

    Raises:
        SnapshotMissingError: there is none.
    """
    metadata = table.metadata
    known = {
        one.snapshot_id: KnownSnapshot(one.parent_snapshot_id, one.sequence_number or 0) for one in metadata.snapshots
    }
    return find_snapshot(
        History(
            table_name(table),
            {name: ref.snapshot_id for name, ref in metadata.refs.items()},
            known,
            metadata.next_sequence_number() - 1,
            [(entry.timestamp_ms, entry.snapshot_id) for entry in metadata.snapshot_log if entry.snapshot_id in known],
        ),
        as_of,
    )


def list_pins(table: Table) -> list[Pin]:
    """Every tag, whoever set it, by name. Read-only.

    Raises:
        ConfigurationError: the age that the table gives to tags is no number.
    """
    begun_ms, usual_ms, pins = _begin_of(table), read_rules(table).max_ref_age_ms, []
    for name, ref in sorted(table.metadata.refs.items()):
        if ref.snapshot_ref_type == SnapshotRefType.TAG and ref.snapshot_id in begun_ms:
            age_ms = usual_ms if ref.max_ref_age_ms is None else ref.max_ref_age_ms
            at_ms = begun_ms[ref.snapshot_id]
            until_ms = None if age_ms is None or age_ms == _FOR_EVER_MS else at_ms + age_ms
            pins.append(Pin(table_name(table), name, ref.snapshot_id, at_ms, until_ms))
    return pins


def pin(catalog: Catalog, name: str, tag: str, of: AsOf | None, keep: timedelta | None, now_ms: Callable[[], int]) -> Pin:
    """Let `tag` mean a snapshot of the table, the current one where `of` is None, for ever where `keep` is.

    Safe to repeat: a tag that means this snapshot already gets the age that is asked for now.

    Raises:
        SnapshotMissingError: `of` means none, or expiry has taken it meanwhile.
        PinTakenError: the name means something else.
        TableMissingError, CommitConflictError, CatalogUnavailableError, CatalogAccessError
    """
    table = require_table(catalog, name)
    snapshot_id = resolve_as_of(table, MAIN_BRANCH if of is None else of)
    for _ in range(_ATTEMPTS):
        there = table.metadata.refs.get(tag)
        if there is not None and (there.snapshot_ref_type != SnapshotRefType.TAG or there.snapshot_id != snapshot_id):
            is_branch = there.snapshot_ref_type != SnapshotRefType.TAG
            raise PinTakenError(name, tag, there.snapshot_id, snapshot_id, is_branch=is_branch)
        begun_ms = _begin_of(table)[resolve_as_of(table, snapshot_id)]
        until_ms = None if keep is None else now_ms() + keep // timedelta(milliseconds=1)
        age_ms = _FOR_EVER_MS if until_ms is None else until_ms - begun_ms
        update = SetSnapshotRefUpdate.model_validate(
            {"ref-name": tag, "type": SnapshotRefType.TAG, "snapshot-id": snapshot_id, "max-ref-age-ms": age_ms}
        )
        if _commit(catalog, table, tag, there, update):
            return Pin(name, tag, snapshot_id, begun_ms, until_ms)
        table = require_table(catalog, name)
    raise CommitConflictError(name, f"others changed the table in {_ATTEMPTS} attempts to set the tag {tag!r}")


def unpin(catalog: Catalog, name: str, tag: str) -> Pin:
    """Take a tag away: what it meant expires like everything else. The tag that there was.

    Raises:
        SnapshotMissingError: the table has no such tag.
        TableMissingError, CommitConflictError, CatalogUnavailableError, CatalogAccessError
    """
    for _ in range(_ATTEMPTS):
        table = require_table(catalog, name)
        pins = {one.name: one for one in list_pins(table)}
        if tag not in pins:
            raise SnapshotMissingError(name, tag, "it is no tag of the table", sorted(pins), nearest(tag, pins))
        update = RemoveSnapshotRefUpdate.model_validate({"ref-name": tag})
        if _commit(catalog, table, tag, table.metadata.refs[tag], update):
            return pins[tag]
    raise CommitConflictError(name, f"others changed the table in {_ATTEMPTS} attempts to take the tag {tag!r} away")


def _commit(catalog: Catalog, table: Table, tag: str, there: SnapshotRef | None, update: TableUpdate) -> bool:
    """Whether the catalog took it. Not where others changed the tag, or took the snapshot away, since `table` was loaded."""
    known = {"ref": tag, "snapshot-id": there.snapshot_id if there else None}
    requirements = AssertTableUUID(uuid=table.metadata.table_uuid), AssertRefSnapshotId.model_validate(known)
    action = f"change the tag {tag!r} of {table_name(table)}"
    # The last two are what PyIceberg and servers say of a snapshot that is gone.
    with catalog_errors(catalog.name, action), suppress(CommitFailedException, ValueError, BadRequestError):
        catalog.commit_table(table, requirements, (update,))
        return True
    return False


def _begin_of(table: Table) -> dict[int, int]:
    return {snapshot.snapshot_id: snapshot.timestamp_ms for snapshot in table.metadata.snapshots}
