"""Decides what becomes of each data file of a table when rows are put under their keys. Pure, and printable: the dry run.

Merge-on-read writes new rows beside the old ones and marks those as deleted; copy-on-write writes touched files again. Either
way small files are written again together with new rows that are not much fewer, as a log-structured merge does: after any
number of commits a partition has few small files, and each row was written again a few times only. A file of which every commit
marks some rows is written again earlier, as soon as that costs each commit no more than marking does, so that readers meet few
files with deletes and few deleted rows; about one such file with each commit, so that no commit takes much longer than others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

SMALL_FILE_BYTES: Final = 8 * 1024 * 1024  # larger files are left to maintenance: a commit would wait for them
FEW_ROWS: Final = 4 * 1024  # measured: so many are written again in the time that it takes to mark some of them as deleted
_GROWTH: Final = 4  # a file of more rows is written again with at least a quarter as many

Place = tuple[object, ...]  # the id of a partition spec and the values of its fields


class Fate(Enum):
    """What becomes of a data file."""

    KEEP = "keep"
    MARK = "mark rows as deleted"
    REWRITE = "write again"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class FileState:
    """A data file: its rows, those of them that still live, and how many of these the changes take out."""

    path: str
    place: Place
    rows: int
    live_rows: int
    size_bytes: int
    taken_rows: int = 0

    @property
    def left_rows(self) -> int:
        """Rows that live after the changes."""
        return self.live_rows - self.taken_rows


@dataclass(frozen=True, slots=True)
class MergePlan:
    """The fate of every file, by its path; and the sum of it."""

    fates: Mapping[str, Fate]
    new_rows: int
    marked_rows: int
    rewritten_rows: int

    def paths(self, fate: Fate) -> list[str]:
        """Files of this fate."""
        return [path for path, mine in self.fates.items() if mine is fate]

    def __str__(self) -> str:
        rows = f"{self.new_rows} rows new, {self.marked_rows} marked as deleted, {self.rewritten_rows} written again"
        files = ", ".join(f"{len(paths)} {fate.value}" for fate in Fate if (paths := self.paths(fate)))
        return f"{rows}; files: {files or 'none'}"


def plan_merge(
    files: Sequence[FileState],
    new_rows: Mapping[Place, int],
    *,
    copy_on_write: bool,
    small_file_bytes: int = SMALL_FILE_BYTES,
) -> MergePlan:
    """Plan it. `new_rows` are those that come into each place; only files of the same place are written again with them."""
    fates = {file.path: _fate_alone(file, copy_on_write) for file in files}
    small: dict[Place, list[FileState]] = {}
    for file in files:
        if file.place in new_rows and file.size_bytes <= small_file_bytes and fates[file.path] is not Fate.DROP:
            small.setdefault(file.place, []).append(file)
    early: list[tuple[float, FileState]] = []
    for place, members in small.items():
        written = new_rows[place] + sum(file.left_rows for file in members if fates[file.path] is Fate.REWRITE)
        for file in sorted(members, key=lambda file: file.left_rows):
            if fates[file.path] is Fate.REWRITE:
                continue
            if file.left_rows > max(_GROWTH * written, FEW_ROWS):
                # What this commit writes gathered in so many commits like it, each of which marked rows of the file.
                if fates[file.path] is Fate.MARK:
                    early.append((file.left_rows * new_rows[place] / written, file))
                break
            fates[file.path] = Fate.REWRITE
            written += file.left_rows
    fates |= dict.fromkeys(_choose_early(early, FEW_ROWS * len(new_rows)), Fate.REWRITE)
    return MergePlan(
        fates,
        new_rows=sum(new_rows.values()),
        marked_rows=sum(file.taken_rows for file in files if fates[file.path] is Fate.MARK),
        rewritten_rows=sum(file.left_rows for file in files if fates[file.path] is Fate.REWRITE),
    )


def _choose_early(candidates: Sequence[tuple[float, FileState]], budget_rows: int) -> list[str]:
    """Files that are worth it, by the rows that writing them again costs each commit; the cheapest first, at least one."""
    chosen: list[str] = []
    for cost_rows, file in sorted(candidates, key=lambda candidate: candidate[0]):
        if cost_rows > FEW_ROWS or (chosen and file.left_rows > budget_rows):
            break
        chosen.append(file.path)
        budget_rows -= file.left_rows
    return chosen


def _fate_alone(file: FileState, copy_on_write: bool) -> Fate:
    if not file.taken_rows:
        return Fate.KEEP
    if not file.left_rows:
        return Fate.DROP
    return Fate.REWRITE if copy_on_write else Fate.MARK
