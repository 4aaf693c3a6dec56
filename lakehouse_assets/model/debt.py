"""What a table owes to its readers and to its next commits, in numbers, and from which number on something is done about it.

Every limit stands here. At its soft limit a measure starts the operation that pays it; at the next one the check on the asset
warns that it is not paid; at its hard limit ingestion commits less often, so that the debt grows more slowly.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lakehouse_assets.model.compaction_plan import DEAD_SHARE, MANY_DELETE_FILES
from lakehouse_assets.model.maintenance_spec import MaintenanceOperation, MaintenanceSpec

MOST_SMALL_FILES: Final = 500  # of one partition: so many commits went by without compaction
SLOWEST: Final = 8  # times as long between commits, at most

# In which order they help each other: what is merged needs fewer manifests, what was replaced can go when its snapshots do.
ORDER: Final[tuple[MaintenanceOperation, ...]] = ("compact", "rewrite_manifests", "expire", "remove_orphans")


@dataclass(frozen=True, slots=True)
class Measure:
    """One kind of debt beside its limits; None where there is no such limit.

    Attributes:
        name: As metadata and JSON name it.
        value: What was counted, in `words`.
        operation: What pays it.
        soft: From here on `operation` is due.
        late: From here on somebody should look why it is not paid.
        hard: From here on ingestion commits less often.
    """

    name: str
    value: float
    words: str
    operation: MaintenanceOperation
    soft: float | None
    late: float
    hard: float | None

    @property
    def is_due(self) -> bool:
        """Whether it has come to its soft limit."""
        return self.soft is not None and self.value >= self.soft

    @property
    def is_late(self) -> bool:
        """Whether it has come to the limit at which the check warns."""
        return self.value >= self.late

    @property
    def is_over_hard_limit(self) -> bool:
        """Whether it has come to its hard limit."""
        return self.hard is not None and self.value >= self.hard

    @property
    def figures(self) -> Mapping[str, float]:
        """The value by name, and beside it its limits."""
        limits = {"limit": self.soft, "late_limit": self.late, "hard_limit": self.hard}
        return {self.name: self.value} | {f"{self.name}_{kind}": at for kind, at in limits.items() if at is not None}

    def __str__(self) -> str:
        due = f"{self.operation} is due from {self.soft:,g} on" if self.soft is not None else ""
        slow = f"ingestion commits less often from {self.hard:,g} on" if self.is_over_hard_limit or not due else ""
        return f"{self.value:,g} {self.words}; {', '.join(filter(None, (due, slow)))}"


@dataclass(frozen=True, slots=True)
class Debt:
    """The debt of one table at one moment.

    Attributes:
        rows: In data files; `dead_rows` of them are marked as deleted.
        dead_rows: By position deletes.
        dead_percent: Of the rows of that partition which has the largest share of them.
        equality_deletes: Rows of equality deletes, which other engines left.
        data_files: All of them; `size_bytes` is theirs.
        small_files: Of the partition that has most of those which compaction would write again for their size.
        waiting_files: Small ones of every partition that has enough of them for compaction.
        untidy_deletes: Delete files of a whole partition, or more of them than one for each data file.
        manifests: Files that planning a scan opens; it pays to write `untidy_manifests` of them again.
        snapshots: That the metadata lists; by the table's properties `expired_snapshots` of them may go.
        metadata_files: The current one and those in its log.
        oldest_ms: When the oldest file that waits for compaction came, ms since 1970; None: none does.
    """

    rows: int = 0
    dead_rows: int = 0
    dead_percent: float = 0.0
    equality_deletes: int = 0
    data_files: int = 0
    delete_files: int = 0
    untidy_deletes: int = 0
    size_bytes: int = 0
    small_files: int = 0
    waiting_files: int = 0
    manifests: int = 0
    untidy_manifests: int = 0
    snapshots: int = 0
    expired_snapshots: int = 0
    metadata_files: int = 0
    oldest_ms: int | None = None

    def measures(self, policy: MaintenanceSpec) -> tuple[Measure, ...]:
        """Every kind of debt that has a limit."""
        small = policy.small_files
        return (
            Measure(
                "small_files", self.small_files, "small files in one partition", "compact",
                soft=small, late=max(60, 2 * small), hard=max(MOST_SMALL_FILES, 4 * small),
            ),
            Measure(
                # Planning a scan takes about a second then: 11,000 files/s were measured.
                "waiting_files", self.waiting_files, "small files in all partitions", "compact",
                soft=None, late=5_000, hard=10_000,
            ),
            Measure(
                "dead_percent", self.dead_percent, "% of the rows of one partition are deleted", "compact",
                soft=100 * DEAD_SHARE, late=50, hard=None,
            ),
            Measure(
                # Some readers refuse such a table, others take minutes for it.
                "equality_deletes", self.equality_deletes, "equality deletes of another engine", "compact",
                soft=1, late=1, hard=None,
            ),
            Measure(
                "untidy_deletes", self.untidy_deletes, "delete files beside one for each data file", "compact",
                soft=MANY_DELETE_FILES, late=100, hard=None,
            ),
            Measure(
                "untidy_manifests", self.untidy_manifests, "manifests that it pays to write again", "rewrite_manifests",
                soft=1, late=200, hard=None,
            ),
            Measure(
                # Our own commits keep fewer than 50.
                "manifests", self.manifests, "manifests to open for a scan", "rewrite_manifests",
                soft=None, late=500, hard=1_000,
            ),
            Measure(
                # Metadata is written whole with each commit, about 1 KB for each snapshot.
                "expired_snapshots", self.expired_snapshots, "snapshots that may go", "expire",
                soft=100, late=500, hard=5_000,
            ),
        )  # fmt: skip

    def due(self, policy: MaintenanceSpec) -> tuple[MaintenanceOperation, ...]:
        """What should be done now, in the order in which it is done. Orphans leave no trace in metadata: never these."""
        asked = {measure.operation for measure in self.measures(policy) if measure.is_due}
        return tuple(operation for operation in ORDER if operation in asked and operation not in policy.leave_out)

    def heat(self, policy: MaintenanceSpec) -> float:
        """How often the worst measure has its soft limit; the hottest table is looked after first."""
        return max(measure.value / measure.soft for measure in self.measures(policy) if measure.soft)

    def over_hard_limit(self, policy: MaintenanceSpec) -> tuple[Measure, ...]:
        """Why ingestion should commit less often; empty if it should not."""
        return tuple(measure for measure in self.measures(policy) if measure.is_over_hard_limit)

    def slowdown(self, policy: MaintenanceSpec) -> int:
        """How many times as long ingestion waits between commits: 2 from a hard limit on, 4 from its double on, 8 at most."""
        over = [measure.value / measure.hard for measure in self.over_hard_limit(policy) if measure.hard]
        return min(SLOWEST, 2 ** (1 + int(math.log2(max(over))))) if over else 1

    def figures(self, policy: MaintenanceSpec) -> dict[str, float]:
        """Every number by name; beside those that have limits `<name>_limit`, `<name>_late_limit`, `<name>_hard_limit`."""
        limited = {name: number for measure in self.measures(policy) for name, number in measure.figures.items()}
        others = ("data_files", "delete_files", "size_bytes", "rows", "dead_rows", "snapshots", "metadata_files")
        return limited | {name: getattr(self, name) for name in others}
