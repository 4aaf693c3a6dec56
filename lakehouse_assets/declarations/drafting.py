"""A draft as the text of a declaration file, ready to edit.

What comes from a topic is data: names stand in quotes that YAML knows, and in comments nothing is left that could end one.
"""

import re
from collections.abc import Iterator, Mapping

import yaml

from lakehouse_assets.model.columns import REST_COLUMN
from lakehouse_assets.model.drafts import ColumnDraft, Draft, RowDraft
from lakehouse_assets.model.written import IDENTIFIER_PATTERN

_SHOWN_CHARACTERS = 40
_LISTED = 50
_LONGEST_SUBJECT = 300  # a topic has up to 249 characters


def render_draft(table: str, topic: str, draft: Draft) -> str:
    """The file. It is valid as it stands if the draft has a column."""
    lines = [
        *_head(topic, draft),
        "",
        f"table: {table}",
        'description: ""                     # what a row is, for those who find the table',
        "owners: []                          # who answers for it: team:name, or an e-mail address",
        "",
        "source:",
        f"  topic: {_scalar(topic)}",
        *([] if draft.format == "json" else [f"  format: {draft.format}"]),
        *_tables(draft.changes),
        "  start: earliest                   # a new table begins with the oldest message; or latest, or a time",
        "",
        *_about_columns(draft),
        "schema:",
        *map(_column, draft.columns),
        *_left_out(draft.left_out, keeps_rest=draft.format == "json"),
        "",
        *(_mode_of_rows() if draft.changes is None else _mode_of_changes(draft.changes)),
        *(_layout_by_time(draft) if draft.changes is None else _layout_by_key(draft.changes)),
    ]
    return "\n".join(lines) + "\n"


def _head(topic: str, draft: Draft) -> Iterator[str]:
    kind = "messages" if draft.changes is None else f"changes ({draft.format})"
    messages = f"{draft.message_count:,} {kind} of the topic {topic}, old and new ones"
    source = messages if draft.subject is None else _safe(draft.subject, _LONGEST_SUBJECT)
    yield f"# A draft, from {source}. Look at each line, then:"
    yield "#   lakehouse validate        what is wrong, with file and line"
    yield "#   lakehouse peek TABLE      the newest messages as this file reads them"
    if draft.unreadable:
        codes = ", ".join(f"{count:,} {_safe(code)}" for code, count in sorted(draft.unreadable.items()))
        yield f"# Beside them, {sum(draft.unreadable.values()):,} can't become rows under any declaration: {codes}."


def _tables(changes: RowDraft | None) -> Iterator[str]:
    if changes is not None and changes.table is not None:
        yield "  # The topic has changes of several tables. This is the one that has the most; those of the others are skipped."
        yield f"  tables: [{_scalar(changes.table)}]"


def _about_columns(draft: Draft) -> Iterator[str]:
    if draft.changes is not None:
        yield "# required: a change that lacks it goes to the quarantine, so only the key is."
        if draft.format == "debezium-json" and not draft.changes.says_types:
            yield "# These messages have no schema. Dates, times, decimals and bytes look like numbers or base64 text; say what"
            yield "# they are, as type: date; type: timestamp, epoch: microseconds; type: decimal(12,2), encoding: base64."
    if draft.subject is not None and not draft.left_out:
        yield "# Without `schema:` and its lines, the columns are those of the newest version, and the table follows it."
    elif draft.subject is None and draft.changes is None:
        yield "# required: every message that was looked at has it. A message without it goes to the quarantine."


def _column(column: ColumnDraft) -> str:
    parts = {"name": column.name, "type": str(column.type)}
    text = ", ".join(f"{key}: {_scalar(value)}" for key, value in parts.items())
    if column.path != (column.name,):
        text += f", from: [{', '.join(map(_scalar, column.path))}]"
    text += ", required: true" if column.required else ""
    text += f", doc: {_scalar(column.doc)}" if column.doc else ""
    remarks = [
        "" if column.required or column.share in (None, 1) else f"{_percent(column.share)} of messages have it",
        f'as "{_safe(column.example)}"' if column.example else "",
        _safe(column.hint, _SHOWN_CHARACTERS * 4),
    ]
    remark = "; ".join(filter(None, remarks))
    return f"  - {{{text}}}" + (f"  # {remark}" if remark else "")


def _left_out(left_out: Mapping[str, str], *, keeps_rest: bool) -> Iterator[str]:
    if left_out and keeps_rest:
        yield f"  # Left out. A column {{name: {REST_COLUMN}, type: string}} would keep whole fields of these, as JSON:"
    if left_out and not keeps_rest:
        yield "  # Left out:"
    for place, reason in list(left_out.items())[:_LISTED]:
        yield f'  #   "{_safe(place)}": {_safe(reason, _SHOWN_CHARACTERS * 4)}'
    if len(left_out) > _LISTED:
        yield f"  #   and {len(left_out) - _LISTED:,} more"


def _mode_of_rows() -> Iterator[str]:
    yield "mode: append                        # one message, one row"


def _mode_of_changes(changes: RowDraft) -> Iterator[str]:
    yield "mode: upsert                        # one row per key, which each change replaces or takes out"
    if changes.key:
        yield f"key: [{', '.join(map(_scalar, changes.key))}]"
    else:
        yield "key: []                             # no message says it: name required columns that no two rows share"


def _layout_by_key(changes: RowDraft) -> Iterator[str]:
    rows = f"At most about {changes.count:,} rows, of {changes.size_bytes / 2**20:,.0f} MiB in files"
    if changes.spread is None:
        return
    if changes.buckets == 1:
        yield f"# {rows}: few files hold them. Partition by the key once there are more than 512 MiB:"
        yield f'# partition_by: ["bucket(4, {changes.spread})"]'
    else:
        yield f"# {rows}: in buckets of 256 to 512 MiB, so that a commit looks only into those of its keys."
        yield f'partition_by: ["bucket({changes.buckets}, {changes.spread})"]'


def _layout_by_time(draft: Draft) -> Iterator[str]:
    times = sorted((c for c in draft.columns if c.event_time), key=lambda c: (-c.event_time, not c.required))
    yield "# How the files are laid out: by the time of the event, if most queries ask for one."
    for column in times[:3]:
        yield f'# partition_by: ["day({column.name})"]'
    if not times:
        yield '# partition_by: ["day(_kafka_timestamp)"]'


def _percent(share: float) -> str:
    """Never rounded up to all, nor down to none."""
    return f"{min(max(share * 100, 0.1), 99.9):.1f} %"


def _scalar(text: str) -> str:
    """Text as YAML reads it back, on one line."""
    if re.fullmatch(IDENTIFIER_PATTERN, text) and yaml.safe_load(text) == text:
        return text
    return yaml.safe_dump(text, default_style='"', width=float("inf"), allow_unicode=False).rstrip("\n")


def _safe(text: str, longest: int = _SHOWN_CHARACTERS) -> str:
    """Text for a comment: one line of printable ASCII."""
    escaped = text[:longest].encode("unicode_escape").decode()
    return escaped + ("…" if len(text) > longest else "")
