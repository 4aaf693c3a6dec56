"""What a table owes to its readers and to its next commits, in numbers, and from which number on something is done about it.

Every limit stands here. At its soft limit a measure starts the operation that pays it; at its hard limit ingestion commits less
often, so that the debt grows more slowly than it is paid.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from lakehouse_assets.model.maintenance_spec import MaintenanceOperation, MaintenanceSpec

MOST_SMALL_FILES: Final = 500  # of one partition: so many commits went by without compaction
MOST_WAITING_FILES: Final = 10_000  # of all partitions: planning a scan takes about a second then (measured: 11,000 files/s)
DEAD_PERCENT: Final = 20  # Amoro rewrites from 10 % on, Spark from 30 %
MANY_MANIFESTS, MOST_MANIFESTS = 100, 1_000  # our own commits keep fewer than 50; each is a file that planning opens
MANY_EXPIRED, MOST_EXPIRED = 100, 5_000  # snapshots; metadata is written whole with each commit, about 1 KB for each of them
SLOWEST: Final = 10.0  # times as long between commits, at most

# In which order they help each other: what is merged needs fewer manifests, what was replaced can go when its snapshots do.
ORDER: Final[tuple[MaintenanceOperation, ...]] = ("compact", "rewrite_manifests", "expire", "remove_orphans")


@dataclass(frozen=True, slots=True)
class Measure:
    """One kind of debt beside its limits; None where there is no such limit.

    Attributes:
        name: As metadata and JSON name it.
        value: What was counted.
        soft: From here on `operation` is due.
        hard: From here on ingestion commits less often.
        operation: What pays it.
        words: What is counted.
    """

    name: str
    value: float
    soft: float | None
    hard: float | None
    operation: MaintenanceOperation
    words: str

    @property
    def limit(self) -> float:
        """The limit that comes first."""
        return self.soft if self.soft is not None else self.hard or 0.0

    @property
    def is_due(self) -> bool:
        """Whether it has come to its soft limit."""
        return self.soft is not None and self.value >= self.soft

    @property
    def is_over_hard_limit(self) -> bool:
        """Whether it has come to its hard limit."""
        return self.hard is not None and self.value >= self.hard

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
        manifests: Files that planning a scan opens.
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
    size_bytes: int = 0
    small_files: int = 0
    waiting_files: int = 0
    manifests: int = 0
    snapshots: int = 0
    expired_snapshots: int = 0
    metadata_files: int = 0
    oldest_ms: int | None = None

    def measures(self, policy: MaintenanceSpec) -> tuple[Measure, ...]:
        """Every kind of debt that has a limit."""
        return (
            Measure(
                "small_files", self.small_files, policy.small_files, MOST_SMALL_FILES, "compact", "small files in one partition"
            ),
            Measure("waiting_files", self.waiting_files, None, MOST_WAITING_FILES, "compact", "small files in all partitions"),
            Measure(
                "dead_percent", self.dead_percent, DEAD_PERCENT, None, "compact", "% of the rows of one partition are deleted"
            ),
            Measure("equality_deletes", self.equality_deletes, 1, None, "compact", "equality deletes of another engine"),
            Measure(
                "manifests", self.manifests, MANY_MANIFESTS, MOST_MANIFESTS, "rewrite_manifests", "manifests to open for a scan"
            ),
            Measure(
                "expired_snapshots", self.expired_snapshots, MANY_EXPIRED, MOST_EXPIRED, "expire", "snapshots that may go"
            ),
        )

    def due(self, policy: MaintenanceSpec) -> tuple[MaintenanceOperation, ...]:
        """What should be done now, in the order in which it is done. Orphans leave no trace in metadata: never these."""
        asked = {measure.operation for measure in self.measures(policy) if measure.is_due}
        return tuple(operation for operation in ORDER if operation in asked and operation not in policy.leave_out)

    def heat(self, policy: MaintenanceSpec) -> float:
        """How often the worst measure has its soft limit; the hottest table is looked after first."""
        return max(measure.value / measure.soft for measure in self.measures(policy) if measure.soft is not None)

    def exceeded(self, policy: MaintenanceSpec) -> tuple[Measure, ...]:
        """Measures at one of their limits."""
        return tuple(one for one in self.measures(policy) if one.is_due or one.is_over_hard_limit)

    @property
    def is_over_hard_limit(self) -> bool:
        """Whether ingestion should commit less often."""
        return self.slowdown > 1

    @property
    def slowdown(self) -> float:
        """How many times as long ingestion waits between commits: twice at the hard limit, more above it, within bounds."""
        over = [one.value / one.hard for one in self._with_hard_limit() if one.hard and one.is_over_hard_limit]
        return min(SLOWEST, 2 * max(over)) if over else 1.0

    def _with_hard_limit(self) -> Iterator[Measure]:
        # No hard limit depends on the policy.
        return (one for one in self.measures(MaintenanceSpec()) if one.hard is not None)

    def figures(self, policy: MaintenanceSpec) -> Mapping[str, int | float]:
        """Every number by name; beside those that have limits `<name>_limit` and `<name>_hard_limit`."""
        limits: dict[str, int | float] = {}
        for one in self.measures(policy):
            limits[one.name] = one.value
            limits[f"{one.name}_limit"] = one.limit
            if one.soft is not None and one.hard is not None:
                limits[f"{one.name}_hard_limit"] = one.hard
        others = {
            "data_files": self.data_files,
            "delete_files": self.delete_files,
            "size_bytes": self.size_bytes,
            "rows": self.rows,
            "dead_rows": self.dead_rows,
            "snapshots": self.snapshots,
            "metadata_files": self.metadata_files,
        }
        return limits | others
