"""The only place that makes a snapshot visible.

A commit says which offsets it adds. It lands only on a table that is the one it was staged for and, unless it brings them
again, that holds none of these offsets; rows and ledger move in one atomic step, asserted against the very snapshot that was
judged. Every attempt loads the table and judges anew. A commit ends in one of three ways: landed, certainly not landed (staged
files may go), unknown (every file is kept). An unanswered attempt is looked for by its snapshot id; a further attempt keeps
that id and asserts the head it is built on, so two attempts can't both land.
"""

import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, RESTError
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.update import (
    AssertCurrentSchemaId,
    AssertDefaultSpecId,
    AssertRefSnapshotId,
    AssertTableUUID,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from lakehouse_assets.model.errors import (
    CatalogUnavailableError,
    CommitConflictError,
    CommitOutcomeUnknownError,
    LakehouseError,
    LedgerLostError,
    StaleOffsetsError,
    TableMissingError,
    TableReplacedError,
    TopicReplacedError,
)
from lakehouse_assets.model.ledger import COMMIT_ID_KEY, LEDGER_KEY, OPERATION_KEY, Ledger
from lakehouse_assets.model.offsets import NO_OFFSETS, TopicPartition, TopicRanges
from lakehouse_assets.model.watermark import (
    Arrivals,
    WatermarkMove,
    count_late,
    move_watermark,
)
from lakehouse_assets.systems.catalog import catalog_errors, require_table, send_commit
from lakehouse_assets.systems.datafiles import refuse_other_base
from lakehouse_assets.systems.history import has_ledger, read_ledger, read_promised_ledger, refuse_ledger
from lakehouse_assets.systems.metadata_cache import remember_metadata
from lakehouse_assets.systems.schema import Base
from lakehouse_assets.systems.snapshots import Change, SnapshotBuilder, table_name
from lakehouse_assets.systems.table_times import tag_days, watermark_notes
from lakehouse_assets.systems.tombstones import carried_notes

ATTEMPTS = 10
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.05, 2.0


Notes = Callable[[Table, int], Mapping[str, str]]  # the head, and the id of the snapshot that is made on it


@dataclass(frozen=True, slots=True)
class Delivery:
    """Rows, staged as files, on their way into a table.

    `topic_ids` are those of the topics as they were read. `ranges` are the offsets that the rows stand for; `last_row` and
    `newest_ms` per topic partition as in `Ledger`. With
    `replaces`, the rows of `ranges` that the table has are taken out in the same snapshot: `replaces` answers for the head it
    is given, with data files to take out and rewritten ones to put in, or raises CommitConflictError. With `maintains`, our
    word for it, rows and offsets stay what they are, whoever's the table is. With `derives`, the rows are computed from other
    tables: it answers with properties for the head and the id of the snapshot that is made. `summary` is what else the snapshot
    says.
    """

    topic_ids: Mapping[str, str]
    ranges: TopicRanges
    files: Sequence[DataFile]
    last_row: Mapping[TopicPartition, int]
    newest_ms: Mapping[TopicPartition, int]
    base: Base
    replaces: "Callable[[Table], Change] | None" = None
    again: bool = False
    by_key: bool = False
    amends: "Callable[[Ledger], Ledger] | None" = None
    maintains: str | None = None
    derives: "Notes | None" = None
    arrivals: Arrivals | None = None
    watermark: WatermarkMove | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    summary: Mapping[str, str] = field(default_factory=dict)
    commit_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def operation(self) -> str:
        """Our word for it in the summary; maintenance has its own."""
        if self.maintains is not None:
            return self.maintains
        if self.derives is not None:
            return "derive-slice"
        if self.amends is not None:
            return "amend-ledger" if self.watermark is None else "move-watermark"
        if not self.again:
            return "ingest"
        return "fold-again" if self.by_key else "replace-slice"

    @classmethod
    def amending(cls, table: Table, amend: "Callable[[Ledger], Ledger]") -> "Delivery":
        """A change of what the ledger says beside offsets with rows: no file.

        It makes a snapshot all the same: without one, a commit that was judged before would not notice, and undo it.
        """
        return cls({}, NO_OFFSETS, (), {}, {}, Base.of(table), amends=amend)

    @classmethod
    def moving(cls, table: Table, move: WatermarkMove, held: TopicRanges) -> "Delivery":
        """The watermark alone, of a table that holds `held`: no file. What it holds else by then is a conflict."""

        def judge(ledger: Ledger) -> Ledger:
            if ledger.held != held:
                raise CommitConflictError(table_name(table), "it holds other offsets than those by which its topics are idle")
            return ledger

        return cls({}, NO_OFFSETS, (), {}, {}, Base.of(table), amends=judge, watermark=move)

    @classmethod
    def maintaining(cls, table: Table, operation: str, replaces: "Callable[[Table], Change]") -> "Delivery":
        """The same rows in other files, under our own word for what was done.

        `replaces` answers for the head that it is given, or raises CommitConflictError. Ledger, deletions that are remembered
        and what else the head says go on; a table that never had a ledger gets none.
        """
        return cls({}, NO_OFFSETS, (), {}, {}, Base.of(table), replaces=replaces, maintains=operation)

    @classmethod
    def deriving(
        cls, table: Table, replaces: "Callable[[Table], Change]", notes: "Notes", summary: Mapping[str, str]
    ) -> "Delivery":
        """Rows that were computed from other tables, into one that holds nothing else and has no ledger.

        `replaces` answers for the head that it is given, or raises CommitConflictError. `notes` is asked in the same attempt,
        after it, so what it reads in the head's properties is what its answer replaces.
        """
        return cls({}, NO_OFFSETS, (), {}, {}, Base.of(table), replaces=replaces, derives=notes, summary=summary)

    @property
    def needs_ledger(self) -> bool:
        """Whether only a table that is filled from Kafka may take it."""
        return self.maintains is None and self.derives is None


@dataclass(frozen=True, slots=True)
class Landed:
    """A commit that is in the table; `before` and `ledger` are the table's ledgers on either side of it.

    `added_paths` are the data and delete files of the attempt that landed, which need not be the last one.
    """

    snapshot_id: int
    metadata: TableMetadata
    before: Ledger
    ledger: Ledger
    attempts: int
    seconds: float
    added_paths: frozenset[str] = frozenset()


def publish(catalog: Catalog, name: str, delivery: Delivery) -> Landed:
    """Make one snapshot of `delivery`, or raise. Safe against any number of others doing the same.

    Every error but CommitOutcomeUnknownError means: certainly not landed, so the staged files may go.

    Raises:
        StaleOffsetsError: the table holds some of these offsets already.
        CommitConflictError: the table moved, on every attempt or in schema or partition spec.
        TableMissingError, TableReplacedError, TopicReplacedError: it is another table or topic now.
        StorageError: the snapshot's own files could not be written, or the table's not be read.
        CatalogUnavailableError: it was never there to be asked.
        CommitOutcomeUnknownError: an attempt was not answered, and the table can't be asked or does not show it.
    """
    return _Commit(catalog, name, delivery).run()


@dataclass(slots=True)
class _Commit:
    """The attempts at one snapshot. `silence` is why an attempt was not answered; it may have landed then."""

    catalog: Catalog
    name: str
    delivery: Delivery
    snapshot_id: int = field(default_factory=lambda: uuid.uuid4().int & (2**63 - 1))
    began: float = field(default_factory=time.monotonic)
    before: Ledger = field(default_factory=lambda: Ledger({}))
    tried: list[SnapshotBuilder] = field(default_factory=list)
    silence: Exception | None = None

    def run(self) -> Landed:
        error: LakehouseError = CommitConflictError(self.name, f"other commits were first in {ATTEMPTS} attempts")
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if landed := self._look() or self._try():
                    return landed
            except CatalogUnavailableError as away:
                error = away
            except LakehouseError as final:
                raise self._ended(final) from final
            _wait(attempt)
        # The last attempt may have landed under a refusal that came from a repeated request.
        try:
            if landed := self._look():
                return landed
        except LakehouseError as away:
            error = away
        raise self._ended(error)

    def _look(self) -> Landed | None:
        """The snapshot, if an attempt landed after all."""
        if not self.tried:
            return None
        table = self._load()
        own = table.metadata.snapshot_by_id(self.snapshot_id)
        if own is None:
            return None
        with catalog_errors(self.catalog.name, f"read the ledger of {self.name}"):
            ledger = _own_ledger(table) if has_ledger(table) or self.delivery.needs_ledger else Ledger({})
            return self._land(table.metadata, ledger, own.manifest_list)

    def _try(self) -> Landed | None:
        table = self._load()
        with catalog_errors(self.catalog.name, f"read the ledger of {self.name}"):
            before = _judge(self.name, table, self.delivery)
        self.before = before or Ledger({})
        signed = _advance(before, table, self.delivery, self.snapshot_id) if before is not None else None
        builder = SnapshotBuilder(table, self.snapshot_id)
        self.tried.append(builder)
        with catalog_errors(self.catalog.name, f"write a snapshot of {self.name}"):
            updates = _updates(builder, self.delivery, self.before, signed)
        try:
            response = send_commit(self.catalog, table, _requirements(table, updates), updates)
        except CommitFailedException:
            return None
        except NoSuchTableError as error:
            raise TableMissingError(self.name) from error
        except (RESTError, RequestException, SQLAlchemyError, OSError) as error:
            self.silence = error
            return None
        except ValueError:
            # What PyIceberg's own catalogs say where a commit to another branch took the sequence number.
            if self._load().metadata.next_sequence_number() == table.metadata.next_sequence_number():
                raise
            return None
        remember_metadata(response.metadata_location, response.metadata)
        _drop_old_metadata(table, response.metadata)
        return self._land(response.metadata, signed or Ledger({}), builder.manifest_list)

    def _load(self) -> Table:
        return require_table(self.catalog, self.name)

    def _land(self, metadata: TableMetadata, ledger: Ledger, manifest_list: str) -> Landed:
        self._delete_attempts(except_for=manifest_list)
        seconds = time.monotonic() - self.began
        added = next(builder.added_paths for builder in self.tried if builder.manifest_list == manifest_list)
        return Landed(self.snapshot_id, metadata, self.before, ledger, len(self.tried), seconds, added)

    def _ended(self, error: LakehouseError) -> LakehouseError:
        """The error of a commit that did not land for certain, or may have."""
        if self.silence is not None:
            reason = f"{type(self.silence).__name__}: {self.silence}; since then: {error}"
            return CommitOutcomeUnknownError(self.name, self.delivery.commit_id, reason)
        self._delete_attempts()
        return error

    def _delete_attempts(self, except_for: str | None = None) -> None:
        for builder in self.tried:
            if except_for is None or builder.manifest_list != except_for:
                _delete_quietly(builder.table, builder.written)


def _judge(name: str, table: Table, delivery: Delivery) -> Ledger | None:
    """Decide on the snapshot that this attempt builds on, whether it may; return the ledger that is true for it.

    It says what never goes back as far as any snapshot said it. None: the table is nobody's who reads Kafka.
    """
    metadata = table.metadata
    if metadata.table_uuid != delivery.base.table_uuid:
        raise TableReplacedError(name, str(delivery.base.table_uuid), str(metadata.table_uuid))
    refuse_other_base(table, [delivery.base])
    if not delivery.needs_ledger and not has_ledger(table):
        return None
    if delivery.derives is not None:
        refuse_ledger(table)
    ledger, promised = read_ledger(table), read_promised_ledger(table)
    if ledger is None or promised is None:
        raise LedgerLostError(name, "it holds no ledger any more")
    for topic in delivery.ranges.topics:
        if topic not in ledger.topic_ids:
            raise CommitConflictError(name, f"its ledger does not know the topic {topic!r} any more")
        if ledger.topic_ids[topic] != delivery.topic_ids[topic]:
            raise TopicReplacedError(name, topic, ledger.topic_ids[topic], delivery.topic_ids[topic])
    if not delivery.again and (overlap := ledger.held & delivery.ranges):
        raise StaleOffsetsError(name, str(overlap))
    return ledger.never_before(promised)


def _advance(before: Ledger, table: Table, delivery: Delivery, snapshot_id: int) -> Ledger:
    """The ledger that the attempt carries, signed by its snapshot."""
    moved = before.with_rows(delivery.ranges, delivery.last_row, delivery.newest_ms)
    if delivery.arrivals is not None:
        moved = count_late(moved, delivery.arrivals)
    if delivery.watermark is not None:
        moved = move_watermark(moved, delivery.watermark, delivery.ranges)
    if delivery.by_key:
        moved = moved.unproved()
    if delivery.amends is not None:
        moved = delivery.amends(moved)
    return moved.written_by(
        str(table.metadata.table_uuid), snapshot_id, table.metadata.next_sequence_number()
    )


def _updates(
    builder: SnapshotBuilder, delivery: Delivery, before: Ledger, signed: Ledger | None
) -> tuple[TableUpdate, ...]:
    """Write the snapshot's metadata files; what must be committed together."""
    swap = delivery.replaces(builder.table) if delivery.replaces is not None else Change(())
    change = replace(swap, added=(*delivery.files, *swap.added))
    ledger = {LEDGER_KEY: signed.to_json()} if signed is not None else {}
    carried = carried_notes(builder.table) if delivery.maintains or delivery.amends else {}
    watermark = watermark_notes(builder.table, signed.watermark_ms) if signed is not None else {}
    derived = delivery.derives(builder.table, builder.snapshot_id) if delivery.derives is not None else {}
    summary = {**carried, **ledger, **watermark, **delivery.summary}
    summary |= {COMMIT_ID_KEY: delivery.commit_id, OPERATION_KEY: delivery.operation}
    properties = {**delivery.properties, **derived, **ledger, **watermark}
    made = builder.build(change, summary)
    move = delivery.watermark
    tags = tag_days(builder, move, before, signed) if signed is not None and move is not None else ()
    return (*made, *tags, *((SetPropertiesUpdate(updates=properties),) if properties else ()))


def _requirements(table: Table, updates: Sequence[TableUpdate]) -> tuple[TableRequirement, ...]:
    metadata = table.metadata
    head = metadata.current_snapshot()
    new = (one for one in updates if isinstance(one, SetSnapshotRefUpdate) and one.type == SnapshotRefType.TAG)
    # A table without snapshots has no tags; PyIceberg refuses the question.
    tags = [one.ref_name for one in new] if head is not None else []
    return (
        AssertTableUUID(uuid=metadata.table_uuid),
        AssertRefSnapshotId.model_validate({"ref": MAIN_BRANCH, "snapshot-id": head.snapshot_id if head else None}),
        AssertCurrentSchemaId.model_validate({"current-schema-id": metadata.current_schema_id}),
        AssertDefaultSpecId.model_validate({"default-spec-id": metadata.default_spec_id}),
        *(AssertRefSnapshotId.model_validate({"ref": tag, "snapshot-id": None}) for tag in tags),
    )


def _has_ledger(table: Table) -> bool:
    return LEDGER_KEY in table.metadata.properties


def _own_ledger(table: Table) -> Ledger:
    ledger = read_ledger(table)
    if ledger is None:
        raise LedgerLostError(table_name(table), "its ledger vanished right after a commit")
    return ledger


def _drop_old_metadata(table: Table, metadata: TableMetadata) -> None:
    """What PyIceberg does after its own commits: metadata files that left the log go, where the table says so."""
    if metadata.properties.get("write.metadata.delete-after-commit.enabled") == "true":
        gone = {log.metadata_file for log in table.metadata.metadata_log} - {log.metadata_file for log in metadata.metadata_log}
        _delete_quietly(table, sorted(gone))


def _delete_quietly(table: Table, locations: Sequence[str]) -> None:
    """Delete files that nothing reads. What can't be deleted stays as an orphan, which costs space and nothing else."""
    for location in locations:
        try:
            table.io.delete(location)
        except OSError:
            continue


def _wait(attempt: int) -> None:
    longest = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2**attempt)
    time.sleep(random.uniform(longest / 2, longest))  # noqa: S311 - jitter, so that two losers don't meet again
