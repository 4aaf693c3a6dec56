"""The ledger's arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.model.ledger import Ledger, TopicLedger
from lakehouse_assets.model.offsets import NO_OFFSETS, TopicRanges

PAIRS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=4)
RANGES = st.dictionaries(st.integers(0, 3), PAIRS, max_size=3).map(TopicRanges.of)
NUMBERS = st.dictionaries(st.integers(0, 3), st.integers(0, 2**60), max_size=3)
ENTRIES = st.builds(
    TopicLedger,
    topic_id=st.text(max_size=8),
    start=NUMBERS,
    held=RANGES,
    last_row=NUMBERS,
    newest_ms=NUMBERS,
    in_order=st.booleans(),
)
LEDGERS = st.builds(
    Ledger,
    st.dictionaries(st.text(max_size=8), ENTRIES, max_size=3),
    st.none() | st.uuids().map(str),
    st.none() | st.integers(1, 2**63 - 1),
    st.none() | st.integers(1, 2**31),
)


def in_order(**steps: tuple[int, int]) -> TopicLedger:
    """A ledger of topic partition 0 that was filled range by range."""
    entry = TopicLedger("id")
    for start, stop in steps.values():
        entry = entry.with_rows(TopicRanges.of({0: [(start, stop)]}), {0: stop - 1}, {0: stop})
    return entry


@given(LEDGERS)
def test_a_ledger_survives_its_json(ledger: Ledger) -> None:
    assert Ledger.from_json(ledger.to_json()) == ledger


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"version":2}', '{"version":"1"}', "nonsense"])
def test_a_text_that_is_no_ledger_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"ledger|Expecting"):
        Ledger.from_json(text)


@given(ENTRIES, NUMBERS.map(lambda stops: {p: stop % 60 for p, stop in stops.items()}))
def test_missing_and_held_are_disjoint_and_together_reach_the_stops(
    entry: TopicLedger, stops: dict[int, int]
) -> None:
    missing = entry.missing(stops)

    assert missing & entry.held == NO_OFFSETS
    assert missing | entry.held == entry.held | TopicRanges.of(
        {p: [(entry.start_of(p), s)] for p, s in stops.items()}
    )
    assert entry.lag(stops) == missing.span


@given(ENTRIES, RANGES, NUMBERS, NUMBERS)
def test_added_rows_are_held_and_maxima_only_grow(
    entry: TopicLedger, added: TopicRanges, last_row: dict[int, int], newest_ms: dict[int, int]
) -> None:
    moved = entry.with_rows(added, last_row, newest_ms)

    assert moved.held == entry.held | added
    assert dict(moved.last_row) == {
        p: max(m[p] for m in (entry.last_row, last_row) if p in m)
        for p in entry.last_row.keys() | last_row.keys()
    }
    assert all(moved.newest_ms[p] >= ms for p, ms in newest_ms.items())


def test_a_topic_partition_without_a_start_begins_at_zero() -> None:
    entry = TopicLedger("id", start={0: 100})

    assert entry.missing({0: 150, 1: 50}) == TopicRanges.of({0: [(100, 150)], 1: [(0, 50)]})


def test_a_ledger_is_cut_to_the_last_row_that_is_there() -> None:
    entry = in_order(first=(0, 10), second=(10, 30))

    cut = entry.cut_to({0: 9})

    assert cut is not None
    assert cut.held == TopicRanges.of({0: [(0, 10)]})
    assert dict(cut.last_row) == {0: 9}


def test_offsets_without_rows_behind_the_last_row_stay_held() -> None:
    entry = TopicLedger("id").with_rows(TopicRanges.of({0: [(0, 10)]}), {0: 7}, {})

    cut = entry.cut_to({0: 7})

    assert cut is not None
    assert cut.held == entry.held


def test_a_topic_partition_whose_rows_are_gone_is_held_no_more() -> None:
    entry = TopicLedger("id").with_rows(TopicRanges.of({0: [(0, 10)], 1: [(0, 5)]}), {0: 9, 1: 4}, {})

    cut = entry.cut_to({0: 9})

    assert cut is not None
    assert cut.held == TopicRanges.of({0: [(0, 10)]})


def test_a_ledger_that_was_filled_out_of_order_cannot_be_cut_even_when_its_ranges_have_joined() -> None:
    entry = in_order(later_hour=(500, 600), the_rest=(0, 500))

    assert entry.held == TopicRanges.of({0: [(0, 600)]})
    assert entry.cut_to({0: 599}) is None


def test_replacing_what_is_held_leaves_the_order_provable() -> None:
    entry = in_order(first=(0, 10), second=(10, 30), again=(5, 15))

    assert entry.in_order
    assert in_order(first=(0, 10), beyond=(5, 15)).in_order
