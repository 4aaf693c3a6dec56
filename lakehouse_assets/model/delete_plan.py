"""Decides which delete files of a table are written again, and which only go. Pure, and printable: the dry run.

What readers open beside a data file should be one small file that is for it alone. So equality deletes become position deletes,
files for a whole partition are split, several files of one data file are joined, and what applies to nothing goes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from lakehouse_assets.model.maintenance import PlannedWork


class DeleteKind(Enum):
    """What a delete file is; the value is what is done to it."""

    OWN = "join those of one data file"
    SHARED = "split those of a partition"
    EQUALITY = "turn equality deletes into position deletes"
    DANGLING = "remove those of nothing"


@dataclass(frozen=True, slots=True)
class DeleteState:
    """A delete file."""

    path: str
    kind: DeleteKind
    size_bytes: int


@dataclass(frozen=True, slots=True)
class DeletedFrom:
    """A data file from which something is deleted: by which files of position deletes, and whether by equality deletes too."""

    path: str
    deletes: tuple[str, ...]
    has_equality_deletes: bool


@dataclass(frozen=True, slots=True)
class DeletePlan:
    """What is to be done. `touched`: data files that get a delete file of their own; `leaving`: delete files that go."""

    touched: frozenset[str]
    leaving: Sequence[DeleteState]
    _files: Sequence[DeletedFrom]

    def __bool__(self) -> bool:
        return bool(self.leaving)

    def as_work(self) -> PlannedWork:
        """As a table: a row for each kind."""
        rows = []
        for kind in DeleteKind:
            if mine := [state for state in self.leaving if state.kind is kind]:
                rows.append((kind.value, len(mine), self._count_files(kind, mine), sum(state.size_bytes for state in mine)))
        figures = {"delete_files": len(self.leaving), "size_bytes": sum(state.size_bytes for state in self.leaving)}
        return PlannedWork(("step", "delete_files", "data_files", "size_bytes"), rows, figures)

    def _count_files(self, kind: DeleteKind, states: Sequence[DeleteState]) -> int:
        if kind is DeleteKind.EQUALITY:
            return sum(file.has_equality_deletes for file in self._files)
        paths = {state.path for state in states}
        return sum(not paths.isdisjoint(file.deletes) for file in self._files)


def plan_deletes(deletes: Sequence[DeleteState], files: Sequence[DeletedFrom]) -> DeletePlan:
    """Plan it. A data file that has one delete file, its own, and no equality deletes stays as it is."""
    kinds = {state.path: state.kind for state in deletes}
    touched = [
        file
        for file in files
        if file.has_equality_deletes or len(file.deletes) > 1 or any(kinds[path] is not DeleteKind.OWN for path in file.deletes)
    ]
    joined = {path for file in touched if len(file.deletes) > 1 for path in file.deletes}
    leaving = [state for state in deletes if state.kind is not DeleteKind.OWN or state.path in joined]
    return DeletePlan(frozenset(file.path for file in touched), leaving, touched)
