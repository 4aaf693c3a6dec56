"""Takes snapshots out of a table's metadata, if branches and tags still are what the decision was made on.

Iceberg drops a branch or a tag in silence with the snapshot that it names, so a rollback or a new tag in the same moment would
be lost. A catalog that applies changes in this process refuses them then; a server can be asked about those branches and tags
only that are known, so after each commit the state that it was applied to is looked at.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from itertools import pairwise
from typing import Final

from pydantic import Field
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, RESTError
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import (
    AssertRefSnapshotId,
    AssertTableUUID,
    RemovePartitionStatisticsUpdate,
    RemoveSnapshotRefUpdate,
    RemoveSnapshotsUpdate,
    RemoveStatisticsUpdate,
    TableRequirement,
    TableUpdate,
)
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from lakehouse_assets.model.errors import (
    CommitOutcomeUnknownError,
    ConfigurationError,
    LakehouseError,
    RefLostError,
    TableMissingError,
    TableReplacedError,
)
from lakehouse_assets.model.ledger import LEDGER_KEY
from lakehouse_assets.model.retention import Ref, Retention, RetentionRules, Version, plan_retention
from lakehouse_assets.systems.catalog import catalog_errors, require_table, send_commit
from lakehouse_assets.systems.metadata_cache import read_logged, remember_metadata
from lakehouse_assets.systems.snapshots import table_name
from lakehouse_assets.systems.tombstones import TOMBSTONES_KEY

_CARRIED: Final = frozenset({LEDGER_KEY, TOMBSTONES_KEY})  # the event-time watermark stands in the ledger
_AT_ONCE: Final = 250  # snapshots that one update removes
_MAX_AGE, _MIN_SNAPSHOTS, _MAX_REF_AGE = (
    f"history.expire.{word}" for word in ("max-snapshot-age-ms", "min-snapshots-to-keep", "max-ref-age-ms")
)


def judge_retention(table: Table, now_ms: int) -> Retention:
    """Which of its snapshots, branches and tags may go.

    Raises:
        ConfigurationError: one of its properties is no number.
    """
    metadata = table.metadata
    replaced_ms = {older.snapshot_id: newer.timestamp_ms for older, newer in pairwise(metadata.snapshot_log)}
    versions = [
        Version(
            one.snapshot_id,
            one.parent_snapshot_id,
            one.timestamp_ms,
            _CARRIED & _words(one).keys(),
            replaced_ms.get(one.snapshot_id),
        )
        for one in metadata.snapshots
    ]
    refs = [
        Ref(
            name,
            ref.snapshot_id,
            ref.snapshot_ref_type == SnapshotRefType.BRANCH,
            ref.min_snapshots_to_keep,
            ref.max_snapshot_age_ms,
            ref.max_ref_age_ms,
        )
        for name, ref in metadata.refs.items()
    ]
    return plan_retention(versions, refs, read_rules(table), now_ms)


def read_rules(table: Table) -> RetentionRules:
    """What its properties say of its snapshots, branches and tags.

    Raises:
        ConfigurationError: one of them is no number.
    """
    age_ms, least, ref_age_ms = (_read_number(table, name) for name in (_MAX_AGE, _MIN_SNAPSHOTS, _MAX_REF_AGE))
    usual = RetentionRules()
    return RetentionRules(
        usual.max_snapshot_age_ms if age_ms is None else age_ms, usual.min_snapshots if least is None else least, ref_age_ms
    )


def _read_number(table: Table, name: str) -> int | None:
    text = table.properties.get(name)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise ConfigurationError(f"{name} of the table {table_name(table)}", repr(text), "a whole number") from None


def _words(snapshot: Snapshot) -> Mapping[str, str]:
    return snapshot.summary.additional_properties if snapshot.summary is not None else {}


def is_collected(table: Table) -> bool:
    """Whether its files may be deleted: `gc.enabled` is false where other tables use them."""
    return table.properties.get("gc.enabled", "true").lower() != "false"


def remove_snapshots(catalog: Catalog, table: Table, snapshot_ids: Set[int], refs: Collection[str]) -> Table | None:
    """Take them out of the table as it was judged; the table without them, loaded again. None: somebody else was first.

    Raises:
        CommitOutcomeUnknownError: the catalog did not answer, and the table does not show it, or can't be asked.
        RefLostError: the catalog dropped a branch or tag that nobody knew of.
        TableMissingError, TableReplacedError: it is another table now, or none.
        LakehouseError: of the tree.
    """
    name, silence = table_name(table), None
    updates: tuple[TableUpdate, ...] = (
        *(RemoveSnapshotRefUpdate.model_validate({"ref-name": ref}) for ref in refs),
        *_forget_statistics(table.metadata, snapshot_ids),
        *_removals([one.snapshot_id for one in table.metadata.snapshots if one.snapshot_id in snapshot_ids]),
    )
    try:
        response = send_commit(catalog, table, _requirements(table.metadata), updates)
        remember_metadata(response.metadata_location, response.metadata)
    except CommitFailedException:
        return None
    except ValueError:  # PyIceberg's answer where somebody else took out the same ones
        return None
    except NoSuchTableError as error:
        raise TableMissingError(name) from error
    except (RESTError, RequestException, SQLAlchemyError, OSError) as error:
        silence = error
    return _confirm(catalog, table, snapshot_ids, refs, silence)


def _removals(snapshot_ids: Sequence[int]) -> Iterator[TableUpdate]:
    """Some at a time, and oldest first, because PyIceberg's own catalogs look for each one from the oldest on."""
    for first in range(0, len(snapshot_ids), _AT_ONCE):
        yield RemoveSnapshotsUpdate.model_construct(snapshot_ids=_Ids(snapshot_ids[first : first + _AT_ONCE]))


class _Ids(list[int]):
    """They also look for each snapshot that stays among those that go."""

    def __init__(self, ids: Sequence[int]) -> None:
        super().__init__(ids)
        self._known = frozenset(ids)

    def __contains__(self, one: object) -> bool:
        return one in self._known


def _confirm(
    catalog: Catalog, judged: Table, snapshot_ids: Collection[int], refs: Collection[str], silence: Exception | None
) -> Table:
    """The table as it is now, in which nothing of this may be left."""
    name = table_name(judged)
    what = f"that expires {len(snapshot_ids):,} snapshots"
    try:
        table = require_table(catalog, name)
    except LakehouseError as away:
        raise CommitOutcomeUnknownError(name, what, f"{silence or 'it was taken'}; since then: {away}") from away
    if table.metadata.table_uuid != judged.metadata.table_uuid:
        raise TableReplacedError(name, str(judged.metadata.table_uuid), str(table.metadata.table_uuid))
    if any(one.snapshot_id in snapshot_ids for one in table.metadata.snapshots) or table.metadata.refs.keys() & refs:
        raise CommitOutcomeUnknownError(name, what, f"{silence or 'it was taken'}; they are still there")
    _refuse_lost_refs(judged, table, frozenset(snapshot_ids))
    return table


class _AssertRefs(AssertTableUUID):
    """No branch or tag was made, moved or removed. To a server it says no more than that it is the same table."""

    refs: Mapping[str, int] = Field(exclude=True)

    def validate(self, base_metadata: TableMetadata | None) -> None:  # type: ignore[override]
        # PyIceberg's own name for it.
        super().validate(base_metadata)
        assert base_metadata is not None  # noqa: S101 - refused by the line above
        if _snapshots_of(base_metadata) != self.refs:
            raise CommitFailedException("a branch or tag was made, moved or removed")


def _requirements(metadata: TableMetadata) -> tuple[TableRequirement, ...]:
    refs = _snapshots_of(metadata)
    known = ({"ref": name, "snapshot-id": snapshot_id} for name, snapshot_id in refs.items())
    return _AssertRefs(uuid=metadata.table_uuid, refs=refs), *map(AssertRefSnapshotId.model_validate, known)


def _snapshots_of(metadata: TableMetadata) -> dict[str, int]:
    return {name: ref.snapshot_id for name, ref in metadata.refs.items()}


def _forget_statistics(metadata: TableMetadata, snapshot_ids: Collection[int]) -> list[TableUpdate]:
    """Catalogs forget those of the table by themselves at best, and those of partitions not at all."""
    of_table, of_partitions = (
        {one.snapshot_id for one in files} & set(snapshot_ids) for files in (metadata.statistics, metadata.partition_statistics)
    )
    return [
        *(RemoveStatisticsUpdate.model_validate({"snapshot-id": one}) for one in of_table),
        *(RemovePartitionStatisticsUpdate.model_validate({"snapshot-id": one}) for one in of_partitions),
    ]


def _refuse_lost_refs(judged: Table, table: Table, snapshot_ids: Collection[int]) -> None:
    """Look at the state in which the snapshots were for the last time, as far as it is still known."""
    for logged in reversed(table.metadata.metadata_log):
        if logged.metadata_file == judged.metadata_location:
            return
        with catalog_errors(table.catalog.name, f"read an older state of {table_name(table)}"):
            before = read_logged(table.io, logged.metadata_file)
        if before is None:
            return
        if any(one.snapshot_id in snapshot_ids for one in before.snapshots):
            known = _snapshots_of(judged.metadata)
            lost = [name for name, one in _snapshots_of(before).items() if one in snapshot_ids and known.get(name) != one]
            if lost:
                raise RefLostError(table_name(table), lost, logged.metadata_file)
            return
