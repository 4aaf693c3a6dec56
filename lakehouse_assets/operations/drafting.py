"""Drafts a declaration from a sample of a topic: the oldest and the newest messages of each topic partition. Writes nothing."""

from lakehouse_assets.decode.inference import infer_from_messages
from lakehouse_assets.model.drafts import Draft
from lakehouse_assets.model.errors import NothingToDraftError
from lakehouse_assets.model.offsets import Bounds
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.systems.messages import Ranges

_MOST_BYTES = 64 * 2**20


def draft_from_topic(systems: Systems, table: str, topic: str, count: int) -> Draft:
    """Look at about `count` messages, at least two of each topic partition.

    Raises:
        NothingToDraftError: there are no messages, or no field of theirs can be a column.
        SourceError
    """
    draft = infer_from_messages(_sample(systems, table, topic, count))
    if not draft.columns:
        raise NothingToDraftError(table, topic, draft.message_count, draft.unreadable, draft.left_out)
    return draft


def _sample(systems: Systems, table: str, topic: str, count: int) -> list[bytes]:
    bounds = systems.source.read_bounds(table, systems.source.describe(table, [topic]).logs)
    share = max(1, count // max(1, 2 * len(bounds)))
    values: list[bytes] = []
    for ranges in (_oldest(bounds, share), _newest(bounds, share)):
        size = 0
        with systems.source.reader(table, ranges) as reader:
            while not reader.is_finished and size < _MOST_BYTES // 2:
                found = [value for value in reader.read(1.0).values if value is not None]
                values += found
                size += sum(map(len, found))
    return values


def _oldest(bounds: Bounds, share: int) -> Ranges:
    return {log: (b.low, min(b.stop, b.low + share)) for log, b in bounds.items()}


def _newest(bounds: Bounds, share: int) -> Ranges:
    return {log: (max(min(b.stop, b.low + share), b.stop - share), b.stop) for log, b in bounds.items()}
