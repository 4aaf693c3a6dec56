"""A draft as the text of a declaration file, ready to edit.

What comes from a topic is data: names stand in quotes that YAML knows, and in comments nothing is left that could end one.
"""

import re
from collections.abc import Iterator, Mapping

import yaml

from lakehouse_assets.model.columns import REST_COLUMN
from lakehouse_assets.model.drafts import ColumnDraft, Draft
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
        "  start: earliest                   # a new table begins with the oldest message; or latest, or a time",
        "",
        _about_columns(draft),
        "schema:",
        *map(_column, draft.columns),
        *_left_out(draft.left_out),
        "",
        "mode: append                        # one message, one row",
        *_layout(draft),
    ]
    return "\n".join(lines) + "\n"


def _head(topic: str, draft: Draft) -> Iterator[str]:
    messages = f"{draft.message_count:,} messages of the topic {topic}, old and new ones"
    source = messages if draft.subject is None else _safe(draft.subject, _LONGEST_SUBJECT)
    yield f"# A draft, from {source}. Look at each line, then:"
    yield "#   lakehouse validate        what is wrong, with file and line"
    yield "#   lakehouse peek TABLE      the newest messages as this file reads them"
    if draft.unreadable:
        codes = ", ".join(f"{count:,} {_safe(code)}" for code, count in sorted(draft.unreadable.items()))
        yield f"# Beside them, {sum(draft.unreadable.values()):,} can't become rows under any declaration: {codes}."


def _about_columns(draft: Draft) -> str:
    if draft.subject is not None:
        return "# Without `schema:` and its lines, the columns are those of the newest version, and the table follows it."
    return "# required: every message that was looked at has it. A message without it goes to the quarantine."


def _column(column: ColumnDraft) -> str:
    parts = {"name": column.name, "type": str(column.type)}
    text = ", ".join(f"{key}: {_scalar(value)}" for key, value in parts.items())
    if column.path != (column.name,):
        text += f", from: [{', '.join(map(_scalar, column.path))}]"
    text += ", required: true" if column.required else ""
    text += f", doc: {_scalar(column.doc)}" if column.doc else ""
    remarks = [
        "" if column.required or column.share is None else f"{_percent(column.share)} of messages have it",
        f'as "{_safe(column.example)}"' if column.example else "",
        column.hint,
    ]
    remark = "; ".join(filter(None, remarks))
    return f"  - {{{text}}}" + (f"  # {remark}" if remark else "")


def _left_out(left_out: Mapping[str, str]) -> Iterator[str]:
    if left_out:
        yield f"  # Left out. A column {{name: {REST_COLUMN}, type: string}} would keep whole fields of these, as JSON:"
    for place, reason in list(left_out.items())[:_LISTED]:
        yield f'  #   "{_safe(place)}": {_safe(reason, _SHOWN_CHARACTERS * 4)}'
    if len(left_out) > _LISTED:
        yield f"  #   and {len(left_out) - _LISTED:,} more"


def _layout(draft: Draft) -> Iterator[str]:
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
