"""Drafts a declaration from a sample of a topic's messages, or from the registry if they name its schemas. Writes nothing.

The sample are the oldest and the newest messages of each topic partition.
"""

from lakehouse_assets.decode.changes.decoded import ChangeMessages
from lakehouse_assets.decode.changes.drafting import draft_rows, infer_from_changes
from lakehouse_assets.decode.changes.sampling import find_changes, is_debezium_envelope, list_fields
from lakehouse_assets.decode.decoded import BrokenSchema
from lakehouse_assets.decode.decoder import derive_columns
from lakehouse_assets.decode.inference import event_time_score, infer_from_messages, name_columns
from lakehouse_assets.model.drafts import ColumnDraft, Draft
from lakehouse_assets.model.errors import BrokenSchemaError, NothingToDraftError, SubjectMissingError
from lakehouse_assets.model.offsets import Bounds
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.systems.messages import Ranges

_SCHEMA_FOLLOWS = b"\0"  # Confluent's first byte, before the id of a schema; no JSON begins so
_MOST_BYTES = 64 * 2**20


def draft_from_topic(systems: Systems, table: str, topic: str, count: int) -> Draft:
    """Look at about `count` messages, at least two of each topic partition.

    Raises:
        NothingToDraftError: there are no messages, or no field of theirs can be a column.
        BrokenSchemaError: the newest schema of the topic's subject gives no column.
        SourceError, RegistryError
    """
    messages, total = _sample(systems, table, topic, count)
    values = [value for value in messages.values if value is not None]
    if sum(value[:1] == _SCHEMA_FOLLOWS for value in values) * 2 > len(values):
        return _draft_from_registry(systems, topic, messages, total)
    changes = find_changes(messages)
    draft = infer_from_messages(values) if changes is None else infer_from_changes(changes, messages, total)
    if not draft.columns:
        raise NothingToDraftError(table, topic, draft.message_count, draft.unreadable, draft.left_out)
    return draft


def _draft_from_registry(systems: Systems, topic: str, messages: ChangeMessages, total: int) -> Draft:
    source = systems.registry.latest(f"{topic}-value")
    place = f"the registry's subject {source.subject}, version {source.version}"
    is_envelope = is_debezium_envelope(source.schema)
    kind = "debezium-avro" if is_envelope else source.schema.kind.lower()
    left_out: dict[str, str] = {}
    try:
        derived = derive_columns(kind, source.schema, left_out)
    except BrokenSchema as error:
        raise BrokenSchemaError(place, str(error)) from None
    names = name_columns(column.name for column in derived)
    key = _find_key_fields(systems, topic) if is_envelope else ()
    columns = tuple(
        ColumnDraft(
            name=names[column.name],
            path=(column.name,),
            type=column.type,
            required=column.name in key if is_envelope else column.required,
            doc=column.doc,
            event_time=event_time_score(column.name, column.type),
        )
        for column in derived
    )
    count = sum(value is not None for value in messages.values)
    changes = draft_rows(columns, key, messages, total) if is_envelope else None
    return Draft(columns, left_out, count, {}, kind, place, changes)


def _find_key_fields(systems: Systems, topic: str) -> tuple[str, ...]:
    """The fields of messages' keys; none where the registry does not know them."""
    try:
        return list_fields(systems.registry.latest(f"{topic}-key").schema)
    except SubjectMissingError:
        return ()


def _sample(systems: Systems, table: str, topic: str, count: int) -> tuple[ChangeMessages, int]:
    """Messages, and how many the topic has at most."""
    bounds = systems.source.read_bounds(table, systems.source.describe(table, [topic]).logs)
    share = max(1, count // max(1, 2 * len(bounds)))
    found = ChangeMessages([], [], [])
    for ranges in (_oldest(bounds, share), _newest(bounds, share)):
        size = 0
        with systems.source.reader(table, ranges) as reader:
            while not reader.is_finished and size < _MOST_BYTES // 2:
                batch = reader.read(1.0)
                found = ChangeMessages(
                    [*found.values, *batch.values], [*found.keys, *batch.keys], [*found.headers, *batch.headers]
                )
                size += sum(len(value) for value in batch.values if value is not None)
    return found, sum(b.stop - b.low for b in bounds.values())


def _oldest(bounds: Bounds, share: int) -> Ranges:
    return {log: (b.low, min(b.stop, b.low + share)) for log, b in bounds.items()}


def _newest(bounds: Bounds, share: int) -> Ranges:
    return {log: (max(min(b.stop, b.low + share), b.stop - share), b.stop) for log, b in bounds.items()}
