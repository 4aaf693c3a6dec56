"""What every operation of maintenance says of itself: what it would do, what it did, and what it kept back.

Plain values: a terminal prints them, Dagster shows them, scripts read them as JSON.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Cell = str | int | float


@dataclass(frozen=True, slots=True)
class PlannedWork:
    """What an operation would do, as a table: what the dry run prints. No rows: there is nothing to do.

    Attributes:
        titles: Of the columns, in words that are names in JSON too, as `partition` or `size_bytes`.
        rows: A step each.
        figures: The sum of it, by name and unit, as `size_bytes`.
    """

    titles: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    figures: Mapping[str, int | float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.rows)


@dataclass(frozen=True, slots=True)
class KeptBack:
    """Something that was not done, or not yet, and why: a group that others changed, a snapshot that a tag holds."""

    what: str
    reason: str

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"


@dataclass(frozen=True, slots=True)
class MaintenanceReport:
    """One operation on one table, ended.

    Attributes:
        table: namespace.name.
        operation: Our word for it, as in the snapshots' summary: `compact`, `expire`, `rewrite_manifests`, `remove_orphans`,
            `drop`.
        is_dry_run: Whether nothing was done.
        planned: What was to be done.
        figures: What was done, by name and unit: `files_before`, `files_after`, `size_bytes_before`, `files_deleted`, ...
        kept_back: What was not.
        snapshot_ids: The snapshots that it made, oldest first.
        seconds: How long it took.
    """

    table: str
    operation: str
    is_dry_run: bool
    planned: PlannedWork
    figures: Mapping[str, int | float] = field(default_factory=dict)
    kept_back: Sequence[KeptBack] = ()
    snapshot_ids: Sequence[int] = ()
    seconds: float = 0.0
