"""Every error that the platform raises, in one tree.

    LakehouseError
    ├─ DeclarationError            a table file is wrong; carries every mistake found
    ├─ ConfigurationError          an environment variable or setting is wrong
    ├─ DeclarationExistsError      `new` overwrites nothing
    ├─ UnknownTableError           no declaration, or no table of the catalog, bears this name
    ├─ HandOverError               a Python asset asks for, or gives, what can't be rows of a table
    ├─ QueryError                  a SQL statement that is no query, or that the engine does not accept
    ├─ SourceError                 Kafka, or what stands in it
    │  ├─ SourceUnavailableError      R  broker not reachable, or no answer in time
    │  ├─ SourceAccessError              authentication or authorisation refused
    │  ├─ TopicMissingError
    │  ├─ TopicGoneError                 the table has messages of a topic that is gone
    │  ├─ TopicReplacedError             same name, other topic id
    │  ├─ TopicTruncatedError         R  the log ends before offsets that the table holds
    │  ├─ OffsetsExpiredError            Kafka dropped messages before the table had them
    │  ├─ SliceIncompleteError           Kafka holds only a part of what the table has
    │  ├─ ReplayImpossibleError          the log no longer reaches back to the start of an hour
    │  ├─ NothingToDraftError            no message from which columns could be guessed
    │  ├─ NothingLostError               there is no loss to accept
    │  ├─ BadRecordError                 one record can't become a row
    │  ├─ TooManyBadRecordsError         most can't: the declaration is wrong
    │  └─ UnaccountedRecordsError        a defect: read is not written, quarantined and skipped
    ├─ RegistryError               the schema registry
    │  ├─ RegistryUnavailableError    R  not reachable, no answer in time, or an error of its own
    │  ├─ RegistryAccessError            authentication or authorisation refused
    │  ├─ SubjectMissingError            no schema is registered under this name
    │  └─ SchemaMovedError             R  a newer version gives other columns; plan again
    ├─ BrokenSchemaError           a schema of messages can't be used
    ├─ TableError                  the Iceberg table
    │  ├─ TableMissingError
    │  ├─ TableReplacedError             same name, other uuid
    │  ├─ TableDiffersError              the table is not what its declaration says
    │  ├─ NoEventTimeError               no column says when a row happened
    │  ├─ SnapshotMissingError           no such tag, snapshot or time
    │  ├─ PinTakenError                  the name of a tag means another snapshot
    │  ├─ ResultTypeError                a column of computed rows can't be one of a table
    │  ├─ RowsOutsideSliceError          computed rows that would not be replaced next time
    │  ├─ DropImpossibleError            it can't be dropped so that it can be had back
    │  ├─ UndoImpossibleError            no dropped table can be had back under this name
    │  ├─ PurgeRefusedError              its files may be somebody else's too
    │  ├─ LedgerMissingError             rows, but no ledger of ours
    │  ├─ LedgerLostError                which ledger counts can't be proved
    │  ├─ RefLostError                   a catalog dropped a branch or tag with the snapshot that it names
    │  ├─ ListingIncompleteError         files that the table needs are not where its files are looked for
    │  ├─ SharedLocationError            another table's files lie in the same place
    │  └─ TooManyOrphansError            so many files that no snapshot knows that somebody should look
    ├─ CommitError
    │  ├─ CommitConflictError         R  certainly not landed: the table moved; plan again
    │  ├─ StaleOffsetsError           R  certainly not landed: another run was first; plan again
    │  └─ CommitOutcomeUnknownError   R  may or may not have landed: every file is kept, the ledger decides
    ├─ RowsDifferError             files that were written again do not hold the rows that were read
    ├─ WorkerLostError             R  a staging process died
    ├─ SparkError                  Spark, which a table was handed to, failed or changed what it must not
    ├─ StorageError                R  files could not be read or written
    │  └─ MetadataUnreadableError     R  the file that says what a table is can't be read
    ├─ CatalogUnavailableError     R  the catalog did not answer
    └─ CatalogAccessError             it refused credentials or rights

R: `retryable` is True: trying the same run again can succeed without anybody changing anything.
A message reads: `Cannot <do what> <object>: <facts, expected and found>. <what to do>.`
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from lakehouse_assets.model.offsets import TopicPartition

_NAMED = 20  # tables that an error names at most


class LakehouseError(Exception):
    """Base of every error the platform raises on purpose. `str(error)` is the sentence for the reader."""

    retryable: ClassVar[bool] = False

    def __str__(self) -> str:
        # What others wrote (a schema, a server's answer) may be quoted in it, and a terminal obeys control characters.
        return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in super().__str__())

    def __reduce__(self) -> tuple[object, ...]:
        # Errors make their own sentence from facts, so pickling by arguments would not find its way back.
        return _revive, (type(self), self.args, self.__dict__)


def _revive(kind: type[LakehouseError], args: tuple[object, ...], facts: dict[str, object]) -> LakehouseError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in one declaration file. Lines count from 1; `path` is dotted, as `schema[2].type`."""

    file: str
    line: int
    path: str
    found: str
    allowed: str
    suggestion: str | None = None

    def __str__(self) -> str:
        hint = f" Did you mean {self.suggestion!r}?" if self.suggestion else ""
        return f"{self.file}:{self.line}: {self.path}: found {self.found}; allowed: {self.allowed}.{hint}"


class DeclarationError(LakehouseError):
    """A declaration can't become a table spec; `problems` lists every mistake of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ConfigurationError(LakehouseError):
    """An environment variable or setting is wrong."""

    def __init__(self, setting: str, found: str, allowed: str) -> None:
        self.setting, self.found, self.allowed = setting, found, allowed
        super().__init__(f"Cannot use the setting {setting}: found {found}; allowed: {allowed}.")


class UnknownTableError(LakehouseError):
    """No declaration of a table with a topic bears this name; with `catalog`, no table of the catalog."""

    def __init__(
        self,
        table: str,
        known: Sequence[str],
        suggestion: str | None,
        *,
        catalog: str | None = None,
        is_declared: bool = False,
        is_computed: bool = False,
    ) -> None:
        self.table, self.known, self.suggestion = table, tuple(known), suggestion
        found = "found no declaration of it; declared" if catalog is None else f"the catalog {catalog!r} has none; it has"
        if is_computed:
            found = "it is computed by SQL and has no topic; declared"
        more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
        hint = f" Did you mean {suggestion!r}?" if suggestion and not is_computed else ""
        if is_declared:
            hint = " It is declared: its first run creates it."
        super().__init__(f"Cannot find the table {table!r}: {found}: {', '.join(known[:_NAMED]) or 'none'}{more}.{hint}")


class DeclarationExistsError(LakehouseError):
    """A declaration is to be written where one is; nothing is overwritten."""

    def __init__(self, table: str, found: str) -> None:
        self.table, self.found = table, found
        super().__init__(
            f"Cannot write a declaration of {table}: found {found}. Nothing was changed. Choose another name, or remove it "
            "first."
        )


class QueryError(LakehouseError):
    """A SQL statement that is no query, or that the engine does not accept."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"Cannot run the query: {reason}.")


class HandOverError(LakehouseError):
    """A Python asset asks for rows, or gives rows, in a way in which a table can't be read or written."""

    def __init__(self, asset: str, found: str, expected: str) -> None:
        self.asset, self.found, self.expected = asset, found, expected
        super().__init__(f"Cannot hand rows of {asset} over: found {found}, expected {expected}.")


class SourceError(LakehouseError):
    """Kafka, or what stands in it, keeps a table from being read."""


class SourceUnavailableError(SourceError):
    """The broker can't be reached or did not answer in time."""

    retryable = True

    def __init__(self, servers: str, action: str, reason: str) -> None:
        self.servers, self.action, self.reason = servers, action, reason
        super().__init__(
            f"Cannot {action}: the Kafka cluster at {servers} did not answer ({reason}). "
            "Check that it runs and that KAFKA_BOOTSTRAP_SERVERS names it; the run tries again by itself."
        )


class SourceAccessError(SourceError):
    """Kafka refused the credentials or the right to read."""

    def __init__(self, servers: str, action: str, reason: str) -> None:
        self.servers, self.action, self.reason = servers, action, reason
        super().__init__(
            f"Cannot {action}: the Kafka cluster at {servers} refused access ({reason}). "
            "Check the security settings (security.protocol, sasl.*, ssl.*) and the rights of this user."
        )


class TopicMissingError(SourceError):
    """The topic does not exist, or no topic matches the pattern."""

    def __init__(
        self, table: str, topic: str, servers: str, *, is_pattern: bool = False, suggestion: str | None = None
    ) -> None:
        self.table, self.topic, self.servers, self.suggestion = table, topic, servers, suggestion
        fact = f"no topic on {servers} matches {topic!r}" if is_pattern else f"topic {topic!r} does not exist on {servers}"
        hint = f" Did you mean {suggestion!r}?" if suggestion else ""
        super().__init__(f"Cannot read {table}: {fact}. Create it, or correct its name.{hint}")


class TopicGoneError(SourceError):
    """A topic of which the table has messages does not exist any more, though the declaration still means it."""

    def __init__(self, table: str, topic: str, servers: str) -> None:
        self.table, self.topic, self.servers = table, topic, servers
        super().__init__(
            f"Cannot continue {table}: topic {topic!r}, of which the table has messages, is gone from {servers}, so some that "
            "the table lacks may be lost. Take it out of the declaration if it was deleted on purpose; where a pattern means "
            f"it, say so: lakehouse accept-loss {table} --topic {topic} --reason '...'."
        )


class TopicReplacedError(SourceError):
    """A topic of this name was deleted and created again: its offsets mean other messages."""

    def __init__(self, table: str, topic: str, expected_id: str, found_id: str) -> None:
        self.table, self.topic, self.expected_id, self.found_id = table, topic, expected_id, found_id
        super().__init__(
            f"Cannot read {table}: topic {topic!r} was deleted and created again (expected topic id {expected_id}, "
            f"found {found_id}), so its offsets no longer mean what the table recorded. "
            "Nothing was changed. Point the declaration at a new table, or rename this one and let it be created anew."
        )


class TopicTruncatedError(SourceError):
    """The log ends before offsets that the table holds: Kafka lost messages that it had handed out.

    Retryable, because a new leader may lag behind for a moment before its log reaches as far as the old one's.
    """

    retryable = True

    def __init__(self, table: str, missing: Mapping[TopicPartition, tuple[int, int]]) -> None:
        self.table, self.missing = table, dict(missing)
        gaps = "; ".join(
            f"{log}: the table holds offsets up to {held - 1}, expected the log to end at {held} or later, "
            f"it ends at {end}"
            for log, (end, held) in sorted(self.missing.items())
        )
        super().__init__(
            f"Cannot continue {table}: Kafka lost messages that the table has ({gaps}), so new ones come under offsets that "
            "are taken, and would be left out. Stop the producers, then roll the table back to a snapshot whose ledger ends "
            "no later than the log, or declare a new table."
        )


class OffsetsExpiredError(SourceError):
    """Kafka's retention dropped messages before the table had them."""

    def __init__(self, table: str, missing: Mapping[TopicPartition, tuple[int, int]]) -> None:
        self.table, self.missing = table, dict(missing)
        gaps = "; ".join(
            f"{log} offsets {start} to {stop - 1} ({stop - start} offsets): "
            f"expected to begin at {start}, oldest held is {stop}"
            for log, (start, stop) in sorted(self.missing.items())
        )
        super().__init__(
            f"Cannot continue {table}: Kafka dropped messages that the table does not have yet: {gaps}. "
            f"Restore them in the topic; or say that they are lost: lakehouse accept-loss {table} --reason '...'."
        )


class SliceIncompleteError(SourceError):
    """A slice can't be replaced: Kafka holds only a part of what the table has of it."""

    def __init__(self, table: str, partition_key: str, missing: Mapping[TopicPartition, tuple[int, int]]) -> None:
        self.table, self.partition_key, self.missing = table, partition_key, dict(missing)
        gaps = "; ".join(
            f"{log}: the table has rows from offset {first} on, Kafka still has all of them only from {stop} on, "
            f"so those of {first} to {stop - 1} would be lost"
            for log, (first, stop) in sorted(self.missing.items())
        )
        super().__init__(
            f"Cannot replace {partition_key} of {table}: {gaps}. Nothing was deleted. "
            "Choose hours that Kafka still holds whole, or keep the rows as they are."
        )


class ReplayImpossibleError(SourceError):
    """An hour of an upsert table can't be replayed: Kafka dropped changes that belong to it.

    `missing`: of each such log, the offset from which changes are wanted, and the oldest that Kafka still has.
    """

    def __init__(self, table: str, partition_key: str, missing: Mapping[TopicPartition, tuple[int, int]]) -> None:
        self.table, self.partition_key, self.missing = table, partition_key, dict(missing)
        gaps = "; ".join(
            f"{log}: wanted from offset {wanted} on, the oldest that is held is {available}"
            for log, (wanted, available) in sorted(self.missing.items())
        )
        super().__init__(
            f"Cannot replay {partition_key} of {table}: the log no longer reaches back to its start ({gaps}), so an older row "
            "could win over a change that is gone. Nothing was changed. Take a new snapshot of the source, which brings every "
            "row again, or choose a later partition."
        )


class QuarantineOrderError(SourceError):
    """Messages in the quarantine of an upsert table can't be moved alone: newer changes of their rows may have come since."""

    def __init__(self, table: str) -> None:
        self.table = table
        super().__init__(
            f"Cannot move messages from the quarantine into {table}: it is an upsert table, where no old change may win over a "
            "newer one. Materialize the hours of the messages instead, which folds the log again from there; if "
            "Kafka no longer has them, take a new snapshot of the source."
        )


class NothingToDraftError(SourceError):
    """No message from which columns could be guessed."""

    def __init__(
        self, table: str, topic: str, readable: int, unreadable: Mapping[str, int], left_out: Mapping[str, str]
    ) -> None:
        self.table, self.topic, self.readable = table, topic, readable
        self.unreadable, self.left_out = dict(unreadable), dict(left_out)
        bad = f" and {sum(unreadable.values()):,} that are none ({', '.join(unreadable)})" if unreadable else ""
        fields = "".join(f"; field {place!r}: {reason}" for place, reason in list(left_out.items())[:3])
        super().__init__(
            f"Cannot draft a declaration of {table}: expected messages with fields in topic {topic!r}, found {readable:,} JSON "
            f"objects{bad}{fields}. Wait for messages, or write the declaration by hand."
        )


class NothingLostError(SourceError):
    """There is no loss to accept."""

    def __init__(self, table: str, fact: str) -> None:
        self.table, self.fact = table, fact
        super().__init__(f"Cannot accept a loss for {table}: {fact}. Nothing was recorded, and nothing has to be.")


class BadRecordError(SourceError):
    """One record can't become a row, and the table stops at it."""

    def __init__(self, table: str, log: TopicPartition, offset: int, reason: str) -> None:
        self.table, self.log, self.offset, self.reason = table, log, offset, reason
        self.finding = f"the record at {log} offset {offset} can't become a row: {reason}"
        super().__init__(
            f"Cannot ingest {table}: {self.finding}. "
            "Nothing at or after it was written. Correct the declaration or the producer, then run again."
        )


class SeveralTablesError(SourceError):
    """A topic has the changes of several tables of its database, and the declaration does not say which are meant."""

    def __init__(self, table: str, found: Sequence[str]) -> None:
        self.table, self.found = table, tuple(found)
        super().__init__(
            f"Cannot read changes for {table}: expected those of one table, found those of {', '.join(self.found[:5])}"
            f"{' and more' if len(self.found) > 5 else ''}. Nothing of them was written. Name the tables that are meant, as "
            f"source: {{tables: [{self.found[0]}]}}; where all of them belong in, name all, or use *."
        )


class TooManyBadRecordsError(SourceError):
    """So many records can't become rows that the declaration is wrong, not they."""

    def __init__(self, table: str, bad: int, read: int, max_share: float, example: str) -> None:
        self.table, self.bad, self.read, self.max_share = table, bad, read, max_share
        super().__init__(
            f"Cannot ingest {table}: {bad:,} of {read:,} records can't become rows, expected at most "
            f"{max_share:.0%} ({example}). Nothing of them was written, nor quarantined. Correct the declaration, or raise "
            "'max_bad_share' if they are bad indeed."
        )


class UnaccountedRecordsError(SourceError):
    """What was read is not what was written, quarantined and skipped: a defect of this platform."""

    def __init__(self, table: str, read: int, written: int, skipped: int) -> None:
        self.table, self.read, self.written, self.skipped = table, read, written, skipped
        super().__init__(
            f"Cannot ingest {table}: {read:,} records were read, expected as many written, quarantined or skipped, found "
            f"{written:,} in files and {skipped:,} skipped. Nothing of them was published. This is a defect: please report it."
        )


class RegistryError(LakehouseError):
    """The schema registry keeps messages from being decoded. Nothing is said of the messages."""


class RegistryUnavailableError(RegistryError):
    """The registry can't be reached, did not answer in time, or failed by itself."""

    retryable = True

    def __init__(self, url: str, action: str, reason: str) -> None:
        self.url, self.action, self.reason = url, action, reason
        super().__init__(
            f"Cannot {action}: the schema registry at {url} did not answer ({reason}). "
            "Check that it runs and that SCHEMA_REGISTRY_URL names it; the run tries again by itself."
        )


class RegistryAccessError(RegistryError):
    """The registry refused the credentials or the right to read, or its certificate is not trusted."""

    def __init__(self, url: str, action: str, reason: str) -> None:
        self.url, self.action, self.reason = url, action, reason
        super().__init__(
            f"Cannot {action}: authentication at the schema registry at {url} failed ({reason}). "
            "Check SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO (user:password), the other SCHEMA_REGISTRY_ settings, and the rights "
            "of this user."
        )


class SubjectMissingError(RegistryError):
    """No schema is registered under the subject's name."""

    def __init__(self, url: str, subject: str) -> None:
        self.url, self.subject = url, subject
        super().__init__(
            f"Cannot read the latest schema of {subject!r}: the schema registry at {url} has no such subject. "
            "Register a schema under this name, or declare the columns with 'schema'."
        )


class SchemaMovedError(RegistryError):
    """A subject that gives a table its columns has a newer version than the run began with."""

    retryable = True

    def __init__(self, subject: str, began_with: int, found: int) -> None:
        self.subject, self.began_with, self.found = subject, began_with, found
        super().__init__(
            f"Cannot go on with version {began_with} of {subject!r}: the schema registry has version {found} now, with columns "
            "of its own. Nothing of this batch was written; the run begins again by itself with them."
        )


class BrokenSchemaError(LakehouseError):
    """A schema of messages can't be used; `place` says which."""

    def __init__(self, place: str, reason: str) -> None:
        self.place, self.reason = place, reason
        super().__init__(f"Cannot use the schema {place}: {reason}. Correct it, or declare the table's columns with 'schema'.")


class TableError(LakehouseError):
    """The Iceberg table keeps a run from going on."""


class TableMissingError(TableError):
    """The table is gone, though a run relied on it."""

    def __init__(self, table: str) -> None:
        self.table = table
        super().__init__(
            f"Cannot write {table}: the table was dropped while a run worked on it. "
            "Nothing was written. The next run creates it anew if the declaration still stands."
        )


class TableReplacedError(TableError):
    """The table was dropped and created again under its name."""

    def __init__(self, table: str, expected_uuid: str, found_uuid: str) -> None:
        self.table, self.expected_uuid, self.found_uuid = table, expected_uuid, found_uuid
        super().__init__(
            f"Cannot write {table}: it was dropped and created again (expected uuid {expected_uuid}, "
            f"found {found_uuid}). Nothing was written. Run again to start from what the new table holds."
        )


class TableDiffersError(TableError):
    """The table is not what its declaration says, and nothing safe makes it so, or nothing may.

    `evolution` is what `on_schema_change: evolve` would do, where that is what the declaration forbids.
    """

    def __init__(self, table: str, differences: Sequence[str], evolution: str = "") -> None:
        self.table, self.differences, self.evolution = table, tuple(differences), evolution
        would = f"With 'on_schema_change: evolve' a run would change {evolution}. " if evolution else ""
        super().__init__(
            f"Cannot write {table}: the table differs from its declaration: {'; '.join(differences)}. Nothing was changed. "
            f"{would}Make the declaration say what the table is, or declare a new table."
        )


class NoEventTimeError(TableError):
    """A slice of event time is asked of a table that does not say when its rows happened; `found` says what it says."""

    def __init__(self, table: str, found: str) -> None:
        self.table, self.found = table, found
        super().__init__(
            f"Cannot read a slice of event time of {table}: found {found}, expected the name of a timestamp or timestamptz "
            f"column. Declare it for this table (event_time: {{column: ...}}), or read the table whole."
        )


class SnapshotMissingError(TableError):
    """A table has no snapshot that a tag, an id or a time means; `reason` says why."""

    def __init__(self, table: str, as_of: str, reason: str, refs: Sequence[str], suggestion: str | None) -> None:
        self.table, self.as_of, self.reason, self.refs, self.suggestion = table, as_of, reason, tuple(refs), suggestion
        more = f" and {len(refs) - _NAMED} more" if len(refs) > _NAMED else ""
        hint = f" Did you mean {suggestion!r}?" if suggestion else ""
        super().__init__(
            f"Cannot find {table} as of {as_of!r}: {reason}. Expected one of its branches and tags "
            f"({', '.join(refs[:_NAMED]) or 'none'}{more}), the id of a snapshot, or a time in UTC as 2026-11-01T14:00.{hint}"
        )


class PinTakenError(TableError):
    """A branch, or the tag of another snapshot, bears the name that a tag is to get."""

    def __init__(self, table: str, name: str, snapshot_id: int, wanted_id: int, *, is_branch: bool) -> None:
        self.table, self.name, self.snapshot_id, self.wanted_id, self.is_branch = table, name, snapshot_id, wanted_id, is_branch
        is_there = "a branch bears this name" if is_branch else f"the tag is there and means snapshot {snapshot_id}"
        remedy = "" if is_branch else f", or remove it first: lakehouse unpin {table} {name}"
        super().__init__(
            f"Cannot pin snapshot {wanted_id} of {table} as {name!r}: {is_there}. Nothing was changed. "
            f"Choose another name{remedy}."
        )


class ResultTypeError(TableError):
    """A column of rows that are computed can't be one of a table."""

    def __init__(self, table: str, column: str, found: str, remedy: str) -> None:
        self.table, self.column, self.found = table, column, found
        super().__init__(
            f"Cannot write {table}: the column {column!r} of the computed rows is {found}. Nothing was written. Give it "
            f"another type or name: {remedy}."
        )


class RowsOutsideSliceError(TableError):
    """Rows that were computed for a slice did not happen in it; written, they would stay when it is computed again."""

    def __init__(self, table: str, column: str, value: str, within: str, count: int) -> None:
        self.table, self.column, self.value, self.within, self.count = table, column, value, within, count
        super().__init__(
            f"Cannot write the slice {within} of {table}: found {column} = {value} (of {count:,} such rows so far), expected "
            f"times in the slice. Such a row would stay when the slice is computed again. Compute {column} from the event time "
            "of the input, and leave out what lies elsewhere."
        )


class DropImpossibleError(TableError):
    """The table can't be dropped in a way that can be undone."""

    def __init__(self, table: str, reason: str) -> None:
        self.table, self.reason = table, reason
        super().__init__(
            f"Cannot drop {table} so that it can be had back: {reason}. Nothing was changed. If it may go for good: "
            f"lakehouse drop {table} --purge."
        )


class UndoImpossibleError(TableError):
    """No dropped table can be had back under this name."""

    def __init__(self, table: str, reason: str, what_to_do: str) -> None:
        self.table, self.reason = table, reason
        super().__init__(f"Cannot have {table} back: {reason}. Nothing was changed. {what_to_do}.")


class PurgeRefusedError(TableError):
    """The files of a dropped table can't be deleted without a risk for others."""

    def __init__(self, table: str, reason: str, what_to_do: str) -> None:
        self.table, self.reason = table, reason
        super().__init__(f"Cannot delete the files of {table}: {reason}. Nothing was deleted. {what_to_do}.")


class LedgerMissingError(TableError):
    """The table has rows, but nothing says which offsets they are."""

    def __init__(self, table: str, row_count: int) -> None:
        self.table, self.row_count = table, row_count
        super().__init__(
            f"Cannot ingest {table}: it has {row_count} rows but no ledger of offsets, so it was filled by something "
            "else. Declare another table name, or empty this table if its rows may go."
        )


class LedgerLostError(TableError):
    """History was cut so that which ledger counts can't be proved."""

    def __init__(self, table: str, reason: str) -> None:
        self.table, self.reason = table, reason
        super().__init__(
            f"Cannot ingest {table}: which offsets it holds can't be proved: {reason}. "
            "Roll the table back to a snapshot that still carries a ledger, or declare a new table."
        )


class RefLostError(TableError):
    """A branch or tag was made of a snapshot in the moment in which that expired, and the catalog dropped both.

    `metadata_location` is the state of the table that still has it.
    """

    def __init__(self, table: str, names: Sequence[str], metadata_location: str) -> None:
        self.table, self.names, self.metadata_location = table, tuple(names), metadata_location
        super().__init__(
            f"Cannot expire snapshots of {table}: {', '.join(names)} came to name one of them in the same moment, and the "
            f"catalog dropped both. No file was deleted. What it named can be read from {metadata_location} until orphans are "
            "removed: copy it from there if it is wanted, or set the branch or tag on a snapshot that is left."
        )


class ListingIncompleteError(TableError):
    """Files without which a table can't be read are not among those that its places hold; so neither is the rest believed."""

    def __init__(self, table: str, folders: Sequence[str], missing: int, listed: int, example: str) -> None:
        self.table, self.folders, self.missing, self.listed, self.example = table, tuple(folders), missing, listed, example
        super().__init__(
            f"Cannot look for orphans of {table}: expected every file that it needs in {' and '.join(folders)}, found "
            f"{listed:,} files there and {missing:,} of those it needs not among them, as {example}. Nothing was deleted. "
            "Either the listing is not whole, or the table names its storage in another way than its location does, or these "
            "files are lost: see whether they can be read."
        )


class SharedLocationError(TableError):
    """Files can't be deleted by their place, because another table has files there."""

    def __init__(self, action: str, table: str, location: str, other: str, other_location: str) -> None:
        self.table, self.location, self.other, self.other_location = table, location, other, other_location
        super().__init__(
            f"Cannot {action} {table}: its files lie in {location}, and those of {other} in {other_location}, so files of one "
            "could be taken for the other's. Nothing was deleted. Write one of the tables anew, into a place of its own."
        )


class TooManyOrphansError(TableError):
    """A larger share of a table's files than is plausible is known to none of its snapshots."""

    def __init__(self, table: str, orphans: int, listed: int, max_share: float, example: str) -> None:
        self.table, self.orphans, self.listed, self.max_share = table, orphans, listed, max_share
        self.share = orphans / listed
        super().__init__(
            f"Cannot remove orphans of {table}: {orphans:,} of the {listed:,} files in its place, {self.share:.0%}, are known "
            f"to no snapshot, expected at most {max_share:.0%} (as {example}). Nothing was deleted. Look at them with "
            "--dry-run; if they may go, run again with --yes."
        )


class CommitError(LakehouseError):
    """A commit did not end as planned."""


class CommitConflictError(CommitError):
    """Certainly not landed: the table moved under the commit."""

    retryable = True

    def __init__(self, table: str, reason: str) -> None:
        self.table, self.reason = table, reason
        super().__init__(f"Cannot publish to {table}: {reason}. Nothing was written; the run plans again by itself.")


class StaleOffsetsError(CommitError):
    """Certainly not landed: the table already holds offsets that this commit would add."""

    retryable = True

    def __init__(self, table: str, overlap: str) -> None:
        self.table, self.overlap = table, overlap
        super().__init__(
            f"Cannot publish to {table}: it already holds {overlap}; another run was first. "
            "Nothing was written twice; the run plans again by itself."
        )


class CommitOutcomeUnknownError(CommitError):
    """May or may not have landed. Every file is kept; a new plan starts from the ledger, so trying again is safe."""

    retryable = True

    def __init__(self, table: str, commit_id: str, reason: str) -> None:
        self.table, self.commit_id, self.reason = table, commit_id, reason
        super().__init__(
            f"Cannot tell whether commit {commit_id} to {table} landed: {reason.rstrip('.')}. Every file was kept. "
            "The ledger in the table decides what is still to be read, so run again when the catalog answers."
        )


class WorkerLostError(LakehouseError):
    """A staging process ended without saying why; most likely the system killed it for its memory."""

    retryable = True

    def __init__(self, table: str, exit_code: int | None) -> None:
        self.table, self.exit_code = table, exit_code
        super().__init__(
            f"Cannot ingest {table}: a staging process ended by itself (exit code {exit_code}). Nothing of it was published. "
            "If this repeats, give the run more memory or lower 'buffer_size' or 'workers'; the run tries again by itself."
        )


class RowsDifferError(LakehouseError):
    """Files that were written again do not hold the rows that were read: a defect, or a storage that loses what it gets."""

    def __init__(self, table: str, files: int, expected: str, found: str) -> None:
        self.table, self.files, self.expected, self.found = table, files, expected, found
        super().__init__(
            f"Cannot replace {files} files of {table}: {expected} were read of them, the files written instead hold {found}. "
            "Nothing was published. Run again; if it repeats, report it with this message, and set "
            "'leave_out: [compact]' in the table's maintenance meanwhile."
        )
class SparkError(LakehouseError):
    """Spark, to which a table was handed for maintenance, failed, or changed what it must not change."""

    def __init__(self, table: str, reason: str, remedy: str) -> None:
        self.table, self.reason = table, reason
        super().__init__(f"Cannot compact {table} in Spark: {reason}. {remedy}.")


class StorageError(LakehouseError):
    """Files could not be read or written."""

    retryable = True

    def __init__(self, action: str, location: str, reason: str) -> None:
        self.action, self.location, self.reason = action, location, reason
        super().__init__(
            f"Cannot {action} {location}: {reason}. Nothing was published. Check free space and access rights, then run again."
        )


class MetadataUnreadableError(StorageError):
    """The file that the catalog names, and that says what a table is, is gone or broken."""

    def __init__(self, location: str, reason: str) -> None:
        super().__init__("read what a table is from", location, reason)


class CatalogUnavailableError(LakehouseError):
    """The catalog did not answer."""

    retryable = True

    def __init__(self, catalog: str, action: str, reason: str) -> None:
        self.catalog, self.action, self.reason = catalog, action, reason
        super().__init__(
            f"Cannot {action}: the catalog {catalog!r} did not answer ({reason}). "
            "Check that it runs; the run tries again by itself."
        )


class CatalogAccessError(LakehouseError):
    """The catalog refused credentials or rights."""

    def __init__(self, catalog: str, action: str, reason: str) -> None:
        self.catalog, self.action, self.reason = catalog, action, reason
        super().__init__(
            f"Cannot {action}: the catalog {catalog!r} refused it ({reason}). "
            "Check its credentials in PyIceberg's configuration and the rights that go with them, then run again."
        )
