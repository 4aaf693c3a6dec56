"""Which manifests of a snapshot are written again, sorted by partition. Pure.

A reader opens each manifest whose bounds of the partition can have what it looks for. It pays to write manifests again where
there are many small ones, or where large ones overlap so that a filter leaves too many. What was written so is neither small
nor overlapping: a second look finds nothing to do.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil
from typing import Final, Literal

TARGET_KEY: Final = "commit.manifest.target-size-bytes"  # Iceberg documentation, "Configuration"
DEFAULT_TARGET_BYTES: Final = 8 * 2**20

MANY_SMALL: Final = 20  # commits join small ones tier by tier, and leave some of each size; more than these are too many
_LARGEST = 2  # times the target
_OVERLAPPING = 3  # large ones that a filter on one value of the partition may leave, whatever their number
_OVERLAPPING_SHARE = 4  # and one in so many of them: who writes all again for a few new ones does little else

Value = tuple[int, object]  # of a partition field, so that nulls have an order too
Kind = Literal["data", "deletes"]


@dataclass(frozen=True, slots=True)
class ManifestFacts:
    """A manifest as its list shows it.

    `bounds` are the smallest and the largest value of each partition field.
    """

    path: str
    kind: Kind
    spec_id: int
    file_count: int
    size_bytes: int
    bounds: tuple[tuple[Value, Value], ...]


@dataclass(frozen=True, slots=True)
class ManifestGroup:
    """Manifests of one kind and one partition spec that are written again together, and why."""

    kind: Kind
    spec_id: int
    manifests: tuple[ManifestFacts, ...]
    reason: str

    @property
    def size_bytes(self) -> int:
        """Of all of them."""
        return sum(one.size_bytes for one in self.manifests)

    @property
    def file_count(self) -> int:
        """Entries that are written again."""
        return sum(one.file_count for one in self.manifests)

    def count_after(self, target_bytes: int) -> int:
        """About how many they become; fewer, where it is the number of files that made them large."""
        return max(1, ceil(self.size_bytes / target_bytes))


def is_settled(size_bytes: int, target_bytes: int) -> bool:
    """Whether a manifest is large enough to stay what it is while others are joined."""
    return size_bytes * 2 >= target_bytes


def plan_manifests(manifests: Iterable[ManifestFacts], target_bytes: int) -> list[ManifestGroup]:
    """The groups that it pays to write again; none, where the manifests are as they should be."""
    ordered = sorted(manifests, key=lambda one: (one.kind, one.spec_id))
    groups = [list(members) for _, members in groupby(ordered, key=lambda one: (one.kind, one.spec_id))]
    return [group for members in groups if (group := _plan_group(members, target_bytes)) is not None]


def _plan_group(members: Sequence[ManifestFacts], target_bytes: int) -> ManifestGroup | None:
    settled = [one for one in members if is_settled(one.size_bytes, target_bytes)]
    small = [one for one in members if not is_settled(one.size_bytes, target_bytes)]
    large = [one for one in settled if one.size_bytes > _LARGEST * target_bytes and one.file_count > 1]
    overlap = mean_overlap(settled)
    kind, spec_id = members[0].kind, members[0].spec_id
    if overlap > max(_OVERLAPPING, len(settled) / _OVERLAPPING_SHARE):
        return ManifestGroup(kind, spec_id, tuple(members), f"a filter on one partition leaves {overlap:.1f} large ones")
    if large:
        return ManifestGroup(kind, spec_id, (*large, *small), f"{len(large)} are larger than twice the target")
    if len(small) > MANY_SMALL:
        return ManifestGroup(kind, spec_id, tuple(small), f"{len(small)} are smaller than half the target")
    return None


def mean_overlap(manifests: Sequence[ManifestFacts]) -> float:
    """How many of them hold values between the bounds of one, itself included, on average; 1 where they are sorted.

    The first field counts in which they differ. Those that share only a value at their edges don't overlap: such a value has
    more files than one manifest holds.
    """
    columns = zip(*[one.bounds for one in manifests], strict=True)
    bounds = next((column for column in columns if len({value for pair in column for value in pair}) > 1), None)
    if bounds is None:
        return 1.0 if manifests else 0.0
    ranges = [pair for pair in bounds if pair[0] < pair[1]]
    lowers, uppers = sorted(low for low, _ in ranges), sorted(high for _, high in ranges)
    points = sorted(low for low, high in bounds if low == high)
    found = 0
    for low, high in bounds:
        found += bisect_left(lowers, high) - bisect_right(uppers, low)
        found += 1 if low == high else bisect_left(points, high) - bisect_right(points, low)
    return found / len(bounds)
