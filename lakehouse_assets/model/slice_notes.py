"""What a derived table says of its slices: from which inputs each was computed, and whether these were complete.

It stands in one table property, signed by the snapshot that wrote it, and counts only while that snapshot is part of the
table's history: after a rollback nothing is known, and everything may be computed anew. Pure.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Self

from lakehouse_assets.model.slices import SliceClock, TimeSlice
from lakehouse_assets.model.watermark import later_of_both

SLICES_KEY: Final = "lakehouse.slices"  # table property
INPUTS_KEY: Final = "lakehouse.inputs"  # summary: JSON of table and snapshot id
SLICE_KEY: Final = "lakehouse.slice"  # summary: the slice that was replaced
RUN_KEY: Final = "lakehouse.run-id"  # summary: the run that did it
_WHOLE: Final = "whole"

Order = Literal["same or older", "newer", "neither"]


@dataclass(frozen=True, slots=True)
class InputState:
    """The state in which an input was read.

    Attributes:
        table: Its name.
        table_uuid: Which table it was that bore it.
        snapshot_id: The snapshot that was read; None before the first one.
        sequence_number: The table's last one when it was read. It grows with every commit and is not taken back by a rollback,
            so of two states that were read as heads it says which is newer.
        is_chosen: Somebody asked for this very state, by a tag, a snapshot or a time: it is neither old nor new.
    """

    table: str
    table_uuid: str
    snapshot_id: int | None
    sequence_number: int
    is_chosen: bool = False


@dataclass(frozen=True, slots=True)
class SliceNote:
    """One slice: the inputs that it was computed from, whether they were complete up to its end, and by which code."""

    inputs: tuple[InputState, ...]
    is_complete: bool
    code: str = ""

    def compare(self, inputs: Iterable[InputState]) -> Order:
        """What this slice's inputs are beside those of a run that wants to replace it."""
        own = {it.table: it for it in self.inputs}
        pairs = [
            (own[it.table].sequence_number, it.sequence_number)
            for it in inputs
            if not it.is_chosen and it.table in own and own[it.table].table_uuid == it.table_uuid
        ]
        if all(mine <= other for mine, other in pairs):
            return "same or older"
        return "newer" if all(mine >= other for mine, other in pairs) else "neither"


@dataclass(frozen=True, slots=True)
class SliceNotes:
    """What is known of slices, by their beginning in ms since 1970; a table that is replaced as a whole has one, None."""

    slices: Mapping[int | None, SliceNote] = field(default_factory=dict)

    def within(self, within: TimeSlice | None) -> list[SliceNote]:
        """Those of a part of event time, or of the whole table."""
        return [note for start_ms, note in self.slices.items() if _is_in(start_ms, within)]

    def replaced(self, within: TimeSlice | None, note: SliceNote) -> Self:
        """With `note` in the place of those of a part of event time, or of the whole table."""
        others = {start_ms: other for start_ms, other in self.slices.items() if not _is_in(start_ms, within)}
        return type(self)({**others, within.start_ms if within is not None else None: note})

    def complete_until(self, clock: SliceClock, watermark_ms: int | None) -> int | None:
        """Up to where slices are complete one after the other, which was `watermark_ms`. None: not even the first is."""
        known = clock.start_ms if watermark_ms is None else clock.begin_ms(watermark_ms)
        at = known
        while (note := self.slices.get(at)) is not None and note.is_complete:
            at += clock.length_ms
        return at if at > known else watermark_ms

    def pruned(self, length_ms: int, horizon_ms: int, watermark_ms: int | None, *, waits: bool) -> Self:
        """Without slices that ended so long before the watermark.

        Complete ones after it stay, where it `waits` for one before them. Others, with which it will never go on, are kept as
        long as the newest slice is that near: a table without a watermark would remember them for ever else.
        """
        newest_ms = max((start_ms for start_ms in self.slices if start_ms is not None), default=0)

        def is_kept(start_ms: int, note: SliceNote) -> bool:
            until_ms = watermark_ms if waits and note.is_complete else later_of_both(watermark_ms, newest_ms)
            return until_ms is None or start_ms + length_ms > until_ms - horizon_ms

        return type(self)({at: note for at, note in self.slices.items() if at is None or is_kept(at, note)})

    def to_json(self, snapshot_id: int) -> str:
        """The text of the property, signed by the snapshot that writes it."""
        slices = {
            _WHOLE if start_ms is None else str(start_ms): {
                "inputs": {it.table: [it.snapshot_id, it.sequence_number, it.table_uuid] for it in note.inputs},
                "complete": note.is_complete,
                **({"code": note.code} if note.code else {}),
            }
            for start_ms, note in sorted(self.slices.items(), key=lambda pair: pair[0] or 0)
        }
        return json.dumps({"snapshot": snapshot_id, "slices": slices}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> tuple[int | None, Self]:
        """The snapshot that signed, and what it said. What nobody can read says nothing, signed by none."""
        try:
            body = json.loads(text)
            slices = {
                None if start == _WHOLE else int(start): SliceNote(
                    tuple(InputState(name, uuid, *state) for name, (*state, uuid) in note["inputs"].items()),
                    bool(note["complete"]),
                    str(note.get("code", "")),
                )
                for start, note in body["slices"].items()
            }
            return int(body["snapshot"]), cls(slices)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None, cls()


def _is_in(start_ms: int | None, within: TimeSlice | None) -> bool:
    if within is None:
        return True
    return start_ms is None or within.start_ms <= start_ms < within.stop_ms
