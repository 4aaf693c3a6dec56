"""Which snapshots may go."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.model.retention import Ref, Retention, RetentionRules, Version, plan_retention

DAY = 24 * 3600 * 1000
NOW = 100 * DAY
LEDGER, DELETIONS = frozenset({"ledger"}), frozenset({"deletions"})


def history(*ages: float, carries: dict[int, frozenset[str]] | None = None) -> list[Version]:
    """Snapshots 1, 2, ... one after the other; ages in days."""
    said = carries or {}
    return [
        Version(number, number - 1 or None, NOW - int(age * DAY), said.get(number, frozenset()))
        for number, age in enumerate(ages, start=1)
    ]


def plan(versions: list[Version], *refs: Ref, days: float = 5, least: int = 1, ref_days: float | None = None) -> Retention:
    rules = RetentionRules(int(days * DAY), least, None if ref_days is None else int(ref_days * DAY))
    return plan_retention(versions, refs or [Ref("main", versions[-1].snapshot_id)], rules, NOW)


def test_an_empty_table_has_nothing_to_expire() -> None:
    assert plan_retention([], [], RetentionRules(), NOW) == Retention([], [])


def test_icebergs_values_count_where_a_table_says_nothing() -> None:
    versions = history(6, 5.001, 5, 0)
    assert plan_retention(versions, [Ref("main", 4)], RetentionRules(), NOW).expired == [1, 2]


def test_the_head_stays_however_old() -> None:
    assert plan(history(90, 80)).expired == [1]


def test_as_many_stay_as_must_and_as_are_young() -> None:
    assert plan(history(9, 8, 7, 6), least=3).expired == [1]
    assert plan(history(9, 8, 2, 1), least=1).expired == [1, 2]


def test_history_stays_contiguous_where_clocks_went_back() -> None:
    assert set(plan(history(9, 1, 8, 2)).expired) == {1, 2, 3}


def test_a_branch_follows_its_own_rules_and_main_too() -> None:
    versions = [*history(9, 8, 7), Version(11, 1, NOW - 8 * DAY), Version(12, 11, NOW - 7 * DAY)]
    refs = [Ref("main", 3, min_snapshots=2), Ref("audit", 12, max_snapshot_age_ms=10 * DAY)]

    assert plan(versions, *refs).expired == []
    assert plan(versions, refs[0], Ref("audit", 12)).expired == [1, 11]


def test_a_tag_keeps_its_snapshot_and_none_before() -> None:
    assert plan(history(9, 8, 7, 6), Ref("main", 4), Ref("v1", 2, is_branch=False)).expired == [1, 3]


def test_tags_and_branches_over_their_age_go_with_what_only_they_kept_and_main_never() -> None:
    versions = history(9, 8, 7, 6)
    tags = [Ref("old", 2, is_branch=False, max_ref_age_ms=7 * DAY), Ref("new", 3, is_branch=False, max_ref_age_ms=7 * DAY)]

    assert plan(versions, Ref("main", 4, max_ref_age_ms=DAY), *tags) == Retention([1, 2], ["old"])
    assert plan(versions, Ref("main", 4), Ref("audit", 2), ref_days=7) == Retention([1, 2, 3], ["audit"])


def test_what_no_branch_leads_to_stays_while_it_is_young() -> None:
    """After a rollback."""
    versions = [*history(9, 8), Version(11, 2, NOW - 7 * DAY), Version(12, 11, NOW - DAY)]

    assert plan(versions, Ref("main", 2)).expired == [1, 11]


def test_what_led_to_an_expired_branch_only_stays_while_it_is_young() -> None:
    versions = [*history(9, 1), Version(11, 1, NOW - 8 * DAY), Version(12, 11, NOW - DAY)]

    assert plan(versions, Ref("main", 2), Ref("audit", 12), ref_days=0.5) == Retention([1, 11], ["audit"])


def test_a_ref_without_its_snapshot_is_left_alone() -> None:
    assert plan(history(9, 8), Ref("main", 2), Ref("broken", 77), ref_days=1) == Retention([1], [])


def test_the_last_place_where_something_of_ours_stands_stays_with_all_that_came_since() -> None:
    versions = history(9, 8, 7, 6, 1, carries={1: LEDGER, 2: LEDGER | DELETIONS, 3: LEDGER})

    found = plan(versions)

    assert found.expired == [1]
    assert found.held == {4: LEDGER | DELETIONS, 3: LEDGER | DELETIONS, 2: DELETIONS}


def test_nothing_is_held_where_the_head_carries_all_or_nobody_anything() -> None:
    assert plan(history(9, 8, 7, carries={1: LEDGER, 3: LEDGER})) == Retention([1, 2], [])
    assert plan(history(9, 8, 7)) == Retention([1, 2], [])


def test_what_one_that_stays_would_need_after_a_rollback_stays_too() -> None:
    versions = history(9, 8, 7, 3, 1, carries={1: LEDGER, 2: LEDGER, 5: LEDGER})

    assert plan(versions) == Retention([1], [], {3: LEDGER, 2: LEDGER})


def test_a_snapshot_stays_while_one_may_read_it_who_began_when_it_was_the_newest() -> None:
    versions = [replace(one, read_until_ms=NOW - day * DAY) for one, day in zip(history(99, 98, 3), (98, 3, 0), strict=True)]

    assert plan(versions).expired == [1]
    assert plan([versions[0], *versions[1:]], days=2).expired == [1, 2]
    assert plan(versions, Ref("main", 1)).expired == []


def test_what_was_rolled_back_holds_nothing() -> None:
    versions = [*history(9, 8, carries={1: LEDGER}), Version(3, 2, NOW - 7 * DAY, LEDGER)]

    assert plan(versions, Ref("main", 2)) == Retention([3], [], {1: LEDGER})


def test_a_tag_or_a_branch_beside_main_is_not_cut_off_from_what_it_needs() -> None:
    """A catalog forgets the parent of a snapshot when that goes, so that a tag stands alone from the second time on."""
    versions = history(9, 8, 7, 1, carries={1: LEDGER, 4: LEDGER})
    forgotten = replace(versions[3], parent_id=None)
    branch = Version(11, 2, NOW - 7 * DAY)

    for ref in (Ref("v1", 2, is_branch=False), Ref("audit", 2), Ref("audit", 11)):
        assert plan([*versions, branch], Ref("main", 4), ref).held.keys() >= {1}
        assert plan([*versions[:2], forgotten, branch], Ref("main", 4), ref).held.keys() >= {1}


def test_long_histories_are_judged_in_no_time() -> None:
    count = 20_000
    versions = history(*(9 for _ in range(count)), carries={1: LEDGER})
    tags = [Ref(f"tag-{number}", number, is_branch=False) for number in range(1, count, 2)]

    assert len(plan(versions, Ref("main", count), *tags).held) == count // 2 - 1


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Version], list[Ref], RetentionRules]:
    """Trees of up to twelve snapshots, with parents that are gone, and clocks that go back."""
    versions = []
    for number in range(1, draw(st.integers(1, 12)) + 1):
        parent = draw(st.one_of(st.none(), st.integers(1, number - 1) if number > 1 else st.none(), st.just(99)))
        carries = draw(st.frozensets(st.sampled_from(["ledger", "deletions"]), max_size=2))
        at_ms = NOW - draw(st.integers(0, 12)) * DAY
        versions.append(Version(number, parent, at_ms, carries, draw(st.none() | st.integers(0, 12).map(lambda age: NOW - age * DAY))))
    days = st.one_of(st.none(), st.integers(1, 12).map(lambda one: one * DAY))
    ids = st.integers(1, len(versions) + 1)
    refs = [Ref("main", draw(ids), True, draw(st.one_of(st.none(), st.integers(1, 4))), draw(days), draw(days))]
    for name in ("a", "b"):
        refs.append(Ref(name, draw(ids), True, draw(st.one_of(st.none(), st.integers(1, 4))), draw(days), draw(days)))
        refs.append(Ref(f"tag-{name}", draw(ids), False, max_ref_age_ms=draw(days)))
    return versions, refs, RetentionRules(draw(st.integers(0, 12)) * DAY, draw(st.integers(1, 4)), draw(days))


def must_stay(versions: list[Version], refs: list[Ref], rules: RetentionRules) -> tuple[set[int], set[str]]:
    """The rules again, as a question to each snapshot: does anybody want it? And the refs that stay."""
    by_id = {one.snapshot_id: one for one in versions}

    def line(snapshot_id: int) -> list[Version]:
        first = by_id[snapshot_id]
        return [first, *(line(first.parent_id) if first.parent_id in by_id else [])]  # type: ignore[arg-type]

    def stays(ref: Ref) -> bool:
        limit = ref.max_ref_age_ms or rules.max_ref_age_ms or 10**18
        return ref.name == "main" or NOW - by_id[ref.snapshot_id].at_ms <= limit

    def wants(ref: Ref, one: Version) -> bool:
        if not ref.is_branch:
            return ref.snapshot_id == one.snapshot_id
        above = [other.snapshot_id for other in line(ref.snapshot_id)]
        if one.snapshot_id not in above:
            return False
        place = above.index(one.snapshot_id)
        age = ref.max_snapshot_age_ms or rules.max_snapshot_age_ms
        least = ref.min_snapshots or rules.min_snapshots
        return place < least or all(is_young(by_id[other], age) for other in above[least : place + 1])

    def is_young(one: Version, age: int) -> bool:
        return NOW - one.at_ms <= age or (one.read_until_ms is not None and NOW - one.read_until_ms <= age)

    def is_carried(place: int, above: list[Version]) -> bool:
        """Whether one that is kept finds something here or below that it finds nowhere before."""
        return any(
            above[start].snapshot_id in kept
            and not any(what in other.carries for other in above[start:place])
            and any(what in low.carries for low in above[place:])
            for what in ("ledger", "deletions")
            for start in range(place + 1)
        )

    alive = [ref for ref in refs if ref.snapshot_id in by_id and stays(ref)]
    referenced = {one.snapshot_id for ref in alive for one in (line(ref.snapshot_id) if ref.is_branch else [by_id[ref.snapshot_id]])}
    kept = {one.snapshot_id for one in versions if any(wants(ref, one) for ref in alive)}
    kept |= {one.snapshot_id for one in versions if one.snapshot_id not in referenced and is_young(one, rules.max_snapshot_age_ms)}
    lines = [line(snapshot_id) for snapshot_id in kept]
    kept |= {one.snapshot_id for above in lines for place, one in enumerate(above) if is_carried(place, above)}
    return kept, {ref.name for ref in alive} | {ref.name for ref in refs if ref.snapshot_id not in by_id}


@given(tables())
def test_any_table_keeps_exactly_what_somebody_wants(table: tuple[list[Version], list[Ref], RetentionRules]) -> None:
    versions, refs, rules = table
    kept, names = must_stay(versions, refs, rules)

    found = plan_retention(versions, refs, rules, NOW)

    assert set(found.expired) == {one.snapshot_id for one in versions} - kept
    assert set(found.expired_refs) == {ref.name for ref in refs} - names
    assert set(found.held) <= kept
    times = {one.snapshot_id: one.at_ms for one in versions}
    assert [times[one] for one in found.expired] == sorted(times[one] for one in found.expired)


@given(tables())
def test_what_stays_stays_again_at_once(table: tuple[list[Version], list[Ref], RetentionRules]) -> None:
    """As a catalog leaves it: parents that went are forgotten."""
    versions, refs, rules = table
    found = plan_retention(versions, refs, rules, NOW)
    left = [
        replace(one, parent_id=None if one.parent_id in found.expired else one.parent_id)
        for one in versions
        if one.snapshot_id not in found.expired
    ]
    heads = {one.snapshot_id for one in left}

    again = plan_retention(left, [ref for ref in refs if ref.name not in found.expired_refs and ref.snapshot_id in heads], rules, NOW)

    assert (again.expired, again.expired_refs) == ([], [])
