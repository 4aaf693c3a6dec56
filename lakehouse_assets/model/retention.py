"""Which snapshots of a table may go: Iceberg's own rules (Iceberg spec, "Snapshot Retention Policy"), and one of ours.

A branch keeps its newest snapshots, as many as it must and as long as they are young, a tag its one. A branch or tag that is
older than its own age goes, but for `main`. What no branch leads to, after a rollback, stays while it is young.

Ours: a snapshot is young as long as somebody may read it who began when it was the newest, however long that was so. And below
each snapshot that stays, on whatever branch, the nearest one stays that carries what this platform knows of a table, with all
in between: what the table holds is found by walking back from its head, which may be any of them after a rollback.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import takewhile

MAIN = "main"


@dataclass(frozen=True, slots=True)
class Version:
    """A snapshot as far as it matters here; `carries` names what only a walk through history finds in it.

    `read_until_ms`: when another one took its place as the newest of `main`, which is when the last reader may have begun; None
    where that is not known.
    """

    snapshot_id: int
    parent_id: int | None
    at_ms: int
    carries: frozenset[str] = frozenset()
    read_until_ms: int | None = None

    def is_young(self, age_ms: int, now_ms: int) -> bool:
        """Whether readers may count on it."""
        return now_ms - max(self.at_ms, self.read_until_ms or 0) <= age_ms


@dataclass(frozen=True, slots=True)
class Ref:
    """A branch or a tag; what is None is said by the table's rules."""

    name: str
    snapshot_id: int
    is_branch: bool = True
    min_snapshots: int | None = None
    max_snapshot_age_ms: int | None = None
    max_ref_age_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """What a table says of its snapshots; the values are those that Iceberg has where it says nothing.

    `max_ref_age_ms` None: branches and tags have no age of their own.
    """

    max_snapshot_age_ms: int = 5 * 24 * 3600 * 1000
    min_snapshots: int = 1
    max_ref_age_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Retention:
    """What may go: snapshots, oldest first, and branches and tags.

    `held` are snapshots that stay only for what they, or older ones, carry.
    """

    expired: Sequence[int]
    expired_refs: Sequence[str]
    held: Mapping[int, frozenset[str]] = field(default_factory=dict)


def plan_retention(versions: Sequence[Version], refs: Sequence[Ref], rules: RetentionRules, now_ms: int) -> Retention:
    """Decide what may go at this time. A branch or tag without its snapshot is left alone: it says nothing of others."""
    known = {version.snapshot_id: version for version in versions}
    there = [ref for ref in refs if ref.snapshot_id in known]
    gone = [ref.name for ref in there if _is_over(ref, known[ref.snapshot_id], rules, now_ms)]
    staying = [ref for ref in there if ref.name not in gone]
    kept = {ref.snapshot_id for ref in staying}
    led_to = set(kept)
    for ref in staying:
        if ref.is_branch:
            led_to.update(version.snapshot_id for version in _walk(known, ref.snapshot_id))
            kept.update(_kept_by(ref, known, rules, now_ms))
    strays = (one for one in versions if one.snapshot_id not in led_to)
    kept.update(one.snapshot_id for one in strays if one.is_young(rules.max_snapshot_age_ms, now_ms))
    held = _held(known, kept)
    free = (one for one in versions if one.snapshot_id not in kept and one.snapshot_id not in held)
    return Retention([one.snapshot_id for one in sorted(free, key=lambda one: one.at_ms)], gone, held)


def _walk(known: Mapping[int, Version], newest: int) -> Iterator[Version]:
    """A snapshot, its parent, and so on, as far as they are known."""
    version = known.get(newest)
    while version is not None:
        yield version
        version = known.get(version.parent_id) if version.parent_id is not None else None


def _is_over(ref: Ref, head: Version, rules: RetentionRules, now_ms: int) -> bool:
    age_ms = ref.max_ref_age_ms if ref.max_ref_age_ms is not None else rules.max_ref_age_ms
    return ref.name != MAIN and age_ms is not None and now_ms - head.at_ms > age_ms


def _kept_by(branch: Ref, known: Mapping[int, Version], rules: RetentionRules, now_ms: int) -> Iterator[int]:
    least = branch.min_snapshots if branch.min_snapshots is not None else rules.min_snapshots
    age_ms = branch.max_snapshot_age_ms if branch.max_snapshot_age_ms is not None else rules.max_snapshot_age_ms
    for number, version in enumerate(_walk(known, branch.snapshot_id)):
        if number >= least and not version.is_young(age_ms, now_ms):
            return
        yield version.snapshot_id


def _held(known: Mapping[int, Version], kept: Set[int]) -> dict[int, frozenset[str]]:
    """Snapshots that only lead from one that is kept to what it needs, each with what that is."""
    held: dict[int, frozenset[str]] = {}
    below, wanted = (defaultdict[int | None, frozenset[str]](frozenset) for _ in range(2))
    upwards = _parents_first(known)
    for version in upwards:
        below[version.snapshot_id] = version.carries | below[version.parent_id]
    for version in reversed(upwards):
        if version.snapshot_id in kept:
            wanted[version.snapshot_id] = below[version.snapshot_id]
        elif wanted[version.snapshot_id]:
            held[version.snapshot_id] = wanted[version.snapshot_id]
        wanted[version.parent_id] |= wanted[version.snapshot_id] - version.carries
    return held


def _parents_first(known: Mapping[int, Version]) -> list[Version]:
    order: dict[int, Version] = {}
    for snapshot_id in known:
        fresh = takewhile(lambda version: version.snapshot_id not in order, _walk(known, snapshot_id))
        order.update((version.snapshot_id, version) for version in reversed([*fresh]))
    return list(order.values())
