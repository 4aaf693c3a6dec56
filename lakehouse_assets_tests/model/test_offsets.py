"""Ranges behave as the sets of integers that they stand for."""

from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.model.offsets import RangeSet, TopicPartition, TopicRanges

PAIRS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=6)
LOGS = st.builds(TopicPartition, st.sampled_from(["a", "b"]), st.integers(0, 3))
TOPICS = st.dictionaries(LOGS, PAIRS, max_size=4)


def as_set(held: RangeSet) -> set[int]:
    return {offset for start, stop in held for offset in range(start, stop)}


def as_pairs(topic: TopicRanges) -> set[tuple[TopicPartition, int]]:
    return {(p, offset) for p, held in topic.partitions.items() for offset in as_set(held)}


@given(PAIRS)
def test_a_range_set_holds_the_offsets_of_its_pairs(pairs: list[tuple[int, int]]) -> None:
    expected = {offset for start, stop in pairs for offset in range(start, stop)}

    assert as_set(RangeSet.of(pairs)) == expected


@given(PAIRS)
def test_ranges_are_sorted_disjoint_not_adjacent_and_not_empty(pairs: list[tuple[int, int]]) -> None:
    ranges = RangeSet.of(pairs).ranges

    assert all(r.start < r.stop for r in ranges)
    assert all(one.stop < other.start for one, other in zip(ranges, ranges[1:], strict=False))


@given(PAIRS, PAIRS)
def test_union_intersection_and_difference_are_those_of_sets(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    a, b = RangeSet.of(one), RangeSet.of(other)

    assert as_set(a | b) == as_set(a) | as_set(b)
    assert as_set(a & b) == as_set(a) & as_set(b)
    assert as_set(a - b) == as_set(a) - as_set(b)


@given(PAIRS, PAIRS)
def test_equal_sets_compare_equal(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    a, b = RangeSet.of(one), RangeSet.of(other)

    assert (a == b) == (as_set(a) == as_set(b))
    assert (a | b) - b == a - b
    assert (a - b) | (a & b) == a


@given(PAIRS, st.integers(-1, 41))
def test_membership_span_and_stop_are_those_of_the_set(pairs: list[tuple[int, int]], offset: int) -> None:
    held = RangeSet.of(pairs)

    assert (offset in held) == (offset in as_set(held))
    assert held.span == len(as_set(held))
    assert held.stop == max(as_set(held), default=-1) + 1
    assert bool(held) == bool(as_set(held))


@given(TOPICS, TOPICS)
def test_topic_ranges_are_sets_of_partition_and_offset(
    one: dict[TopicPartition, list[tuple[int, int]]], other: dict[TopicPartition, list[tuple[int, int]]]
) -> None:
    a, b = TopicRanges.of(one), TopicRanges.of(other)

    assert as_pairs(a | b) == as_pairs(a) | as_pairs(b)
    assert as_pairs(a & b) == as_pairs(a) & as_pairs(b)
    assert as_pairs(a - b) == as_pairs(a) - as_pairs(b)
    assert (a == b) == (as_pairs(a) == as_pairs(b))
    assert a.span == len(as_pairs(a))


@given(TOPICS)
def test_topic_ranges_survive_their_lists(topic: dict[TopicPartition, list[tuple[int, int]]]) -> None:
    ranges = TopicRanges.of(topic)

    assert TopicRanges.from_lists(ranges.to_lists()) == ranges


def test_a_range_reads_as_its_first_and_last_offset() -> None:
    assert str(TopicRanges.of({TopicPartition("a.b", 1): [(5, 8), (10, 11)]})) == "a.b-1 offsets 5..7, 10..10"
    assert str(TopicRanges.of({})) == "nothing"
