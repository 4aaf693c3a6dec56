"""Draws small charts that Dagster shows in the metadata of an event: an image in Markdown, with nothing to be fetched."""

import math
from base64 import b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import dagster as dg

if TYPE_CHECKING:
    from lakehouse_assets.operations.picturing import Bars

_WIDTH, _LINE, _LABEL, _VALUE = 480, 18, 120, 70
_LABEL_CHARACTERS = 16
_COLOUR, _INK = "#4f6bed", "#666"


def draw_bars(shown: "Bars") -> dg.MarkdownMetadataValue:
    """A bar for each label, with its number; those below zero are pale."""
    finite = [value for _, value in shown.bars if math.isfinite(value)]
    widest = max((abs(value) for value in finite), default=0.0) or 1.0
    room = _WIDTH - _LABEL - _VALUE
    parts = []
    for i, (label, value) in enumerate(shown.bars):
        width = round(room * abs(value) / widest, 1) if math.isfinite(value) else 0
        top = i * _LINE
        opacity = 1 if value >= 0 else 0.4
        parts += [
            f'<text x="{_LABEL - 6}" y="{top + 13}" text-anchor="end">{escape(_shorten(label))}</text>',
            f'<rect x="{_LABEL}" y="{top + 3}" width="{width}" height="{_LINE - 6}" fill="{_COLOUR}" opacity="{opacity}"/>',
            f'<text x="{_LABEL + width + 4}" y="{top + 13}">{value:,.6g}</text>',
        ]
    more = f", the largest {len(shown.bars)} of {len(shown.bars) + shown.left_out:,}" if shown.left_out else ""
    title = f"`{shown.value}` by `{shown.label}`{more}"
    return dg.MetadataValue.md(f"{title}\n\n![{shown.value} by {shown.label}]({_data_uri(parts, len(shown.bars) * _LINE)})")


def _data_uri(parts: Sequence[str], height: int) -> str:
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="11" '
        f'fill="{_INK}">{"".join(parts)}</svg>'
    )
    return f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"


def _shorten(label: str) -> str:
    return label if len(label) <= _LABEL_CHARACTERS else f"{label[: _LABEL_CHARACTERS - 1]}…"
