"""Decides which data files of a table are written again together. Pure, and printable: the dry run.

Files of one partition go together, until they are of about the target size. A run right after a run finds nothing: what is
left of a partition is fewer small files than it acts on, and no file of deleted rows. Where many tiny files come beside a
larger one, the larger one waits until they are not much smaller than it is, as in a log-structured merge: each row is written
again a few times only, however often new files come.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from lakehouse_assets.model.maintenance import PlannedWork
from lakehouse_assets.model.merge_plan import Place

SMALL_SHARE: Final = 0.75  # of the target size; what is smaller is a small file
LARGE_SHARE: Final = 1.8  # what is larger is cut
DEAD_SHARE: Final = 0.2  # of a file's rows; with more of them deleted it is written again whatever its size
MANY_DELETE_FILES: Final = 4
GROUP_BYTES: Final = 2 * 1024**3
_LEAST_TO_CUT_BYTES = 1024 * 1024  # a smaller file may be one row group, or mostly its footer
_GROWTH = 4  # a file that is larger than so many times all smaller ones together waits


@dataclass(frozen=True, slots=True)
class FileDebt:
    """A data file, and what is owed on it: `delete_files` that are for this file alone, `dead_rows` that they take out.

    `partition` says its place as people read it.
    """

    path: str
    place: Place
    rows: int
    size_bytes: int
    sequence_number: int
    dead_rows: int = 0
    delete_files: int = 0
    partition: str = "all"

    @property
    def is_delete_heavy(self) -> bool:
        """Readers pay more for the rows that are not there than a rewrite costs."""
        return self.delete_files >= MANY_DELETE_FILES or 0 < self.rows * DEAD_SHARE <= self.dead_rows


@dataclass(frozen=True, slots=True)
class FileGroup:
    """Files of one partition that are written again together, in the order of their commits."""

    place: Place
    files: Sequence[FileDebt]

    @property
    def partition(self) -> str:
        """As people read it."""
        return self.files[0].partition

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def rows(self) -> int:
        """How many rows live in it."""
        return sum(max(file.rows - file.dead_rows, 0) for file in self.files)

    @property
    def delete_files(self) -> int:
        """That go with it."""
        return sum(file.delete_files for file in self.files)

    @property
    def oldest(self) -> int:
        """Sequence number of its first file."""
        return min(file.sequence_number for file in self.files)

    def __str__(self) -> str:
        return f"{len(self.files)} files of partition {self.partition}"


@dataclass(frozen=True, slots=True)
class CompactionPlan:
    """Groups in the order in which they are written, and those that are left to the next run."""

    groups: Sequence[FileGroup]
    postponed: Sequence[FileGroup] = ()

    @property
    def size_bytes(self) -> int:
        """What is read."""
        return sum(group.size_bytes for group in self.groups)

    @property
    def work(self) -> PlannedWork:
        """As a table for people: a row for each group."""
        rows = [
            ("write again", group.partition, len(group.files), group.size_bytes, group.delete_files, group.rows)
            for group in self.groups
        ]
        figures = {
            "groups": len(self.groups),
            "files": sum(len(group.files) for group in self.groups),
            "size_bytes": self.size_bytes,
            "delete_files": sum(group.delete_files for group in self.groups),
            "rows": sum(group.rows for group in self.groups),
        }
        return PlannedWork(("step", "partition", "files", "size_bytes", "delete_files", "rows"), rows, figures)


def plan_compaction(
    files: Iterable[FileDebt],
    *,
    target_bytes: int,
    small_files: int,
    max_bytes: int,
    group_bytes: int = GROUP_BYTES,
) -> CompactionPlan:
    """Plan it: the oldest groups first, as many as `max_bytes` allows, but one at least."""
    by_place: dict[Place, list[FileDebt]] = {}
    for file in files:
        by_place.setdefault(file.place, []).append(file)
    groups: list[FileGroup] = []
    for members in by_place.values():
        groups += _cut(_choose(members, target_bytes, small_files), max(group_bytes, 4 * target_bytes))
    groups.sort(key=lambda group: (group.oldest, -len(group.files), repr(group.place)))
    taken, spent = 0, 0
    for group in groups:
        if taken and spent + group.size_bytes > max_bytes:
            break
        taken, spent = taken + 1, spent + group.size_bytes
    return CompactionPlan(groups[:taken], groups[taken:])


def _is_due(file: FileDebt, target_bytes: int) -> bool:
    """Whether it is written again even alone."""
    return file.is_delete_heavy or file.size_bytes > max(LARGE_SHARE * target_bytes, _LEAST_TO_CUT_BYTES)


def _choose(files: Sequence[FileDebt], target_bytes: int, small_files: int) -> list[FileDebt]:
    """The files of one partition that are written again; none where it is not worth it."""
    due = [file for file in files if _is_due(file, target_bytes)]
    small = [file for file in files if file.size_bytes < SMALL_SHARE * target_bytes and not _is_due(file, target_bytes)]
    if due or (len(small) > 1 and sum(file.size_bytes for file in small) >= target_bytes):
        return due + small
    if len(small) < small_files:
        return []
    small.sort(key=lambda file: file.size_bytes)
    # What waits is small still, so fewer may wait than would make the next run begin.
    for _ in range(small_files - 2):
        if small[-1].size_bytes <= _GROWTH * sum(file.size_bytes for file in small[:-1]):
            break
        small.pop()
    return small


def _cut(files: list[FileDebt], group_bytes: int) -> list[FileGroup]:
    """Groups of about one size, none of which is much larger than `group_bytes`, so that none leaves a small file behind."""
    total = sum(file.size_bytes for file in files)
    share = total / max(ceil(total / group_bytes), 1)
    groups: list[list[FileDebt]] = []
    gathered = 0.0
    for file in sorted(files, key=lambda file: (file.sequence_number, file.path)):
        if not groups or gathered >= share * len(groups):
            groups.append([])
        groups[-1].append(file)
        gathered += file.size_bytes
    return [FileGroup(group[0].place, group) for group in groups]
