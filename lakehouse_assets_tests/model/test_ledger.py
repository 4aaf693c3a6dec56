"""The ledger's arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.model.ledger import AcceptedLoss, Ledger
from lakehouse_assets.model.offsets import NO_OFFSETS, TopicPartition, TopicRanges

PAIRS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=4)
TOPICS = st.sampled_from(["a", "b.c", "ü"])
LOGS = st.builds(TopicPartition, TOPICS, st.integers(0, 3))
RANGES = st.dictionaries(LOGS, PAIRS, max_size=3).map(TopicRanges.of)
NUMBERS = st.dictionaries(LOGS, st.integers(0, 2**60), max_size=3)
LOSSES = st.builds(AcceptedLoss, st.text(max_size=8), st.text(max_size=8), RANGES, st.tuples(TOPICS))


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    """Any ledger that speaks of topics that it knows."""
    return Ledger(
        topic_ids={topic: draw(st.text(max_size=8)) for topic in ("a", "b.c", "ü")},
        start=draw(NUMBERS),
        held=draw(RANGES),
        last_row=draw(NUMBERS),
        newest_ms=draw(NUMBERS),
        out_of_order=draw(st.frozensets(TOPICS)),
        losses=tuple(draw(st.lists(LOSSES, max_size=2))),
        watermark_ms=draw(st.none() | st.integers(-(2**40), 2**60)),
        late_rows=draw(st.dictionaries(st.integers(-(2**40), 2**50), st.integers(1, 2**40), max_size=3)),
        table_uuid=draw(st.none() | st.uuids().map(str)),
        snapshot_id=draw(st.none() | st.integers(1, 2**63 - 1)),
        sequence_number=draw(st.none() | st.integers(1, 2**31)),
    )


LEDGERS = ledgers()
FIRST, SECOND = TopicPartition("a", 0), TopicPartition("a", 1)


def in_order(**steps: tuple[int, int]) -> Ledger:
    """A ledger of one topic partition that was filled range by range."""
    ledger = Ledger({"a": "id"})
    for start, stop in steps.values():
        ledger = ledger.with_rows(TopicRanges.of({FIRST: [(start, stop)]}), {FIRST: stop - 1}, {FIRST: stop})
    return ledger


@given(LEDGERS)
def test_a_ledger_survives_its_json(ledger: Ledger) -> None:
    assert Ledger.from_json(ledger.to_json()) == ledger


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"version":2}', '{"version":"1"}', "nonsense"])
def test_a_text_that_is_no_ledger_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"ledger|Expecting"):
        Ledger.from_json(text)


@given(LEDGERS, NUMBERS.map(lambda stops: {p: stop % 60 for p, stop in stops.items()}))
def test_missing_and_held_are_disjoint_and_together_reach_the_stops(
    ledger: Ledger, stops: dict[TopicPartition, int]
) -> None:
    missing = ledger.missing(stops)

    assert missing & ledger.held == NO_OFFSETS
    assert missing | ledger.held == ledger.held | TopicRanges.of(
        {p: [(ledger.start_of(p), s)] for p, s in stops.items()}
    )
    assert ledger.lag(stops) == missing.span


@given(LEDGERS, RANGES, NUMBERS, NUMBERS)
def test_added_rows_are_held_and_maxima_only_grow(
    ledger: Ledger, added: TopicRanges, last_row: dict[TopicPartition, int], newest_ms: dict[TopicPartition, int]
) -> None:
    moved = ledger.with_rows(added, last_row, newest_ms)

    assert moved.held == ledger.held | added
    assert dict(moved.last_row) == {
        p: max(m[p] for m in (ledger.last_row, last_row) if p in m)
        for p in ledger.last_row.keys() | last_row.keys()
    }
    assert all(moved.newest_ms[p] >= ms for p, ms in newest_ms.items())


def test_a_topic_partition_without_a_start_begins_at_zero() -> None:
    ledger = Ledger({"a": "id"}, start={FIRST: 100})

    assert ledger.missing({FIRST: 150, SECOND: 50}) == TopicRanges.of({FIRST: [(100, 150)], SECOND: [(0, 50)]})


def test_a_ledger_is_cut_to_the_last_row_that_is_there() -> None:
    ledger = in_order(first=(0, 10), second=(10, 30))

    cut = ledger.cut_to({FIRST: 9})

    assert cut is not None
    assert cut.held == TopicRanges.of({FIRST: [(0, 10)]})
    assert dict(cut.last_row) == {FIRST: 9}


def test_offsets_without_rows_behind_the_last_row_stay_held() -> None:
    ledger = Ledger({"a": "id"}).with_rows(TopicRanges.of({FIRST: [(0, 10)]}), {FIRST: 7}, {})

    cut = ledger.cut_to({FIRST: 7})

    assert cut is not None
    assert cut.held == ledger.held


def test_a_topic_partition_whose_rows_are_gone_is_held_no_more() -> None:
    ledger = Ledger({"a": "id"}).with_rows(TopicRanges.of({FIRST: [(0, 10)], SECOND: [(0, 5)]}), {FIRST: 9, SECOND: 4}, {})

    cut = ledger.cut_to({FIRST: 9})

    assert cut is not None
    assert cut.held == TopicRanges.of({FIRST: [(0, 10)]})


def test_a_ledger_that_was_filled_out_of_order_cannot_be_cut_even_when_its_ranges_have_joined() -> None:
    ledger = in_order(later_hour=(500, 600), the_rest=(0, 500))

    assert ledger.held == TopicRanges.of({FIRST: [(0, 600)]})
    assert ledger.cut_to({FIRST: 599}) is None


def test_replacing_what_is_held_leaves_the_order_provable() -> None:
    ledger = in_order(first=(0, 10), second=(10, 30), again=(5, 15))

    assert not ledger.out_of_order
    assert not in_order(first=(0, 10), beyond=(5, 15)).out_of_order


def test_a_topic_that_joins_later_begins_where_it_is_said_and_changes_nothing_of_the_others() -> None:
    ledger = in_order(first=(0, 10))
    other = TopicPartition("b", 0)

    joined = ledger.with_topics({"b": "other id", "a": "another"}, {other: 7, FIRST: 5})

    assert joined.topic_ids == {"a": "id", "b": "other id"}
    assert joined.missing({FIRST: 12, other: 9}) == TopicRanges.of({FIRST: [(10, 12)], other: [(7, 9)]})
    assert joined.first_topic == "a"


def test_an_accepted_loss_is_held_and_remembered() -> None:
    loss = AcceptedLoss("retention", "2026-11-27T00:00:00+00:00", TopicRanges.of({FIRST: [(10, 20)]}))

    ledger = in_order(first=(0, 10)).with_loss(loss)

    assert ledger.missing({FIRST: 25}) == TopicRanges.of({FIRST: [(20, 25)]})
    assert ledger.losses == (loss,)
    assert dict(ledger.last_row) == {FIRST: 9}
    assert not ledger.out_of_order


def test_a_ledger_of_the_first_release_is_read() -> None:
    text = (
        '{"version":1,"table-uuid":"u","snapshot-id":7,"sequence-number":3,"topics":{"a":{"id":"id","start":{"0":2},'
        '"held":{"0":[[2,9]]},"last-row":{"0":8},"newest-ms":{"0":5},"in-order":true}}}'
    )

    assert Ledger.from_json(text) == Ledger(
        {"a": "id"}, {FIRST: 2}, TopicRanges.of({FIRST: [(2, 9)]}), {FIRST: 8}, {FIRST: 5}, table_uuid="u", snapshot_id=7,
        sequence_number=3,
    )  # fmt: skip
