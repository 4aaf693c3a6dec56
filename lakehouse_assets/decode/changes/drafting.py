"""Which columns and which key a table of changes would have, from a sample of them. The decoder has the last word."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from pydantic import ValidationError

from lakehouse_assets.decode.changes.building import build_change_decoder
from lakehouse_assets.decode.changes.decoded import ChangeMessages
from lakehouse_assets.decode.changes.sampling import ChangeSample
from lakehouse_assets.decode.decoded import BadValue
from lakehouse_assets.decode.inference import declare, draft_columns
from lakehouse_assets.model.drafts import ColumnDraft, Draft, RowDraft
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.types import DataType

_JSON_PER_PARQUET = 4  # how many times as long a row is as JSON as in a compressed file, about
_AVRO_PER_PARQUET = 3  # the same of an envelope in Avro, which may hold the row twice


def infer_from_changes(sample: ChangeSample, messages: ChangeMessages, message_total: int) -> Draft:
    """Draft a table of the rows that a sample's messages are changes of. `message_total`: how many the topic has."""
    left_out: dict[str, str] = {}
    drafts = [replace(one, required=one.path[0] in sample.key) for one in draft_columns(sample.rows, left_out, sample.types)]
    key = sorted((one for one in drafts if one.required), key=lambda one: sample.key.index(one.path[0]))
    unreadable: Counter[str] = Counter()
    if len(key) < len(sample.key) or not _can_name_rows(sample, key):
        key = []
    if key:
        # What is wrong with the messages themselves is wrong under any declaration.
        found = _find_bad(sample, messages, frozenset(), key)
        unreadable.update(one.code for one in found)
        hopeless = frozenset(one.index for one in found)
        drafts = list(_judge(drafts, key, partial(_find_bad, sample, messages, hopeless), sample.types, left_out))
    rows = round(message_total * sample.share_of_rows)
    known = RowDraft(
        key=tuple(one.name for one in key),
        count=rows,
        size_bytes=rows * sample.row_bytes // _JSON_PER_PARQUET,
        spread=max(key, key=lambda one: _count_values(sample, one)).name if key else None,
        says_types=bool(sample.types),
        table=sample.table,
    )
    return Draft(tuple(drafts), left_out, sample.change_count, unreadable, sample.format, changes=known)


def draft_rows(
    columns: Sequence[ColumnDraft], key: Sequence[str], messages: ChangeMessages, message_total: int
) -> RowDraft:
    """The rows of messages whose schema gave the columns. `key`: the fields of messages' keys."""
    by_field = {one.path[0]: one.name for one in columns}
    names = tuple(by_field[field] for field in key if field in by_field)
    sizes = [len(value) for value in messages.values if value is not None]
    distinct = len({one for one, value in zip(messages.keys, messages.values, strict=True) if value is not None})
    rows = round(message_total * min(1.0, distinct / max(1, len(sizes))))
    return RowDraft(
        key=names if len(names) == len(key) else (),
        count=rows,
        size_bytes=rows * sum(sizes) // max(1, len(sizes)) // _AVRO_PER_PARQUET,
        spread=names[0] if names else None,
        says_types=True,
    )


def _judge(
    drafts: Sequence[ColumnDraft],
    key: Sequence[ColumnDraft],
    find_bad: Callable[[Sequence[ColumnDraft]], Sequence[BadValue]],
    known: Mapping[str, DataType],
    left_out: dict[str, str],
) -> Iterator[ColumnDraft]:
    """Those by which no change is bad; of the others those whose type is known, with a hint."""
    are_all_good = not find_bad(drafts)
    for draft in drafts:
        bad = [] if are_all_good or draft in key else find_bad([*key, draft])
        if not bad:
            yield draft
        elif draft.path[0] in known:
            yield replace(draft, hint=f"{len(bad):,} changes are bad by it: {bad[0].reason}")
        else:
            left_out[draft.path[0]] = bad[0].reason


def _count_values(sample: ChangeSample, column: ColumnDraft) -> int:
    return len({json.dumps(row.get(column.path[0])) for row in sample.rows})


def _declare(sample: ChangeSample, columns: Sequence[ColumnDraft]) -> TableSpec:
    return TableSpec(
        table="a.draft",
        source={"topic": "sample", "format": sample.format, "tables": () if sample.table is None else (sample.table,)},
        mode="upsert",
        key=[one.name for one in columns if one.required],
        schema=[declare(one) for one in columns],
    )


def _can_name_rows(sample: ChangeSample, key: Sequence[ColumnDraft]) -> bool:
    try:
        return bool(key) and _declare(sample, key) is not None
    except ValidationError:
        return False


def _find_bad(
    sample: ChangeSample, messages: ChangeMessages, hopeless: frozenset[int], columns: Sequence[ColumnDraft]
) -> list[BadValue]:
    decoder = build_change_decoder(_declare(sample, columns), lambda _: None)
    return [one for one in decoder.decode(messages).bad if one.index not in hopeless]
