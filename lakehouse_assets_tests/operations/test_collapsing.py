"""Of many changes of one key, the last, with every value that the ones before it hold."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.operations.collapsing import ChangeBuffer
from lakehouse_assets.systems.changes import Changes, Truncated

_MISSING = "?"  # a value that a change does not hold


@dataclass(frozen=True)
class Change:
    """One change as a test writes it: `a` and `b` may be missing; None for both is a deletion."""

    key: tuple[int, str]
    a: str | None = None
    b: str | None = None
    old_key: tuple[int, str] | None = None
    partition: int = 0
    position: int = 0

    @property
    def is_delete(self) -> bool:
        return self.a is None


def _changes(written: list[Change], truncated: Truncated | None = None) -> Changes:
    rows = pa.table(
        {
            "id": pa.array([one.key[0] for one in written], pa.int64()),
            "part": pa.array([one.key[1] for one in written], pa.string()),
            "a": pa.array([None if one.a == _MISSING else one.a for one in written], pa.string()),
            "b": pa.array([None if one.b == _MISSING else one.b for one in written], pa.string()),
            "_kafka_partition": pa.array([one.partition for one in written], pa.int32()),
            "_source_position": pa.array([one.position for one in written], pa.int64()),
        }
    )
    missing = {name: np.array([getattr(one, name) == _MISSING for one in written], np.bool_) for name in ("a", "b")}
    old = [{"id": one.old_key[0], "part": one.old_key[1]} if one.old_key else {"id": None, "part": None} for one in written]
    has_old = any(one.old_key for one in written)
    return Changes(
        rows,
        np.array([one.is_delete for one in written], np.bool_),
        {name: mask for name, mask in missing.items() if mask.any()},
        pa.Table.from_pylist(old, schema=rows.schema.remove(5).remove(4).remove(3).remove(2)) if has_old else None,
        truncated,
    )


def _found(changes: Changes | None) -> dict[tuple[int, str], tuple[str | None, str | None] | None]:
    if changes is None:
        return {}
    found: dict[tuple[int, str], tuple[str | None, str | None] | None] = {}
    for i, row in enumerate(changes.rows.to_pylist()):
        key = (row["id"], row["part"])
        assert key not in found
        values = [_MISSING if name in changes.unavailable and changes.unavailable[name][i] else row[name] for name in "ab"]
        found[key] = None if changes.deletes[i] else (values[0], values[1])
    return found


def _fold(written: list[Change]) -> dict[tuple[int, str], tuple[str | None, str | None] | None]:
    state: dict[tuple[int, str], tuple[str | None, str | None] | None] = {}
    for one in written:
        if one.is_delete:
            state[one.key] = None
            continue
        before = state.get(one.key) or (_MISSING, _MISSING)
        state[one.key] = (before[0] if one.a == _MISSING else one.a, before[1] if one.b == _MISSING else one.b)
    return state


_KEYS = st.tuples(st.integers(1, 3), st.sampled_from(["x", "y"]))
_VALUES = st.sampled_from(["1", "2", "3", _MISSING])
_WRITTEN = st.one_of(st.builds(Change, _KEYS, _VALUES, _VALUES), st.builds(Change, _KEYS))


@settings(deadline=None, max_examples=80)
@given(st.lists(st.lists(_WRITTEN, max_size=6), max_size=5), st.integers(1, 2000))
def test_what_is_left_is_the_fold_however_it_is_cut_and_however_often_it_collapses(
    pieces: list[list[Change]], limit: int
) -> None:
    buffer = ChangeBuffer(["id", "part"], limit)
    for piece in pieces:
        buffer.add(_changes(piece))
    assert _found(buffer.take()) == _fold([one for piece in pieces for one in piece])
    assert buffer.take() is None


def test_a_row_whose_key_changed_takes_what_it_lacks_from_the_row_of_the_key_before() -> None:
    buffer = ChangeBuffer(["id", "part"], 10_000)
    one, two, three = (1, "x"), (2, "x"), (3, "x")
    buffer.add(_changes([Change(one, "big", _MISSING), Change(one), Change(two, _MISSING, "n", old_key=one)]))
    buffer.add(_changes([Change(two), Change(three, _MISSING, _MISSING, old_key=two)]))
    changes = buffer.take()
    assert _found(changes) == {one: None, two: None, three: ("big", "n")}
    # What the first key's change did not hold either, stands in the table under that key.
    buffer.add(_changes([Change(one), Change(two, _MISSING, "n", old_key=one), Change(two), Change(three, "m", "o", old_key=two)]))
    assert _found(buffer.take()) == {one: None, two: None, three: ("m", "o")}
    buffer.add(_changes([Change(one), Change(two, _MISSING, "n", old_key=one), Change(two)]))
    buffer.add(_changes([Change(three, _MISSING, _MISSING, old_key=two)]))
    changes = buffer.take()
    assert _found(changes) == {one: None, two: None, three: (_MISSING, "n")}
    assert changes is not None
    assert changes.old_keys is not None
    assert changes.old_keys.to_pylist()[2] == {"id": 1, "part": "x"}


@st.composite
def _moves(draw: st.DrawFn) -> tuple[dict[int, tuple[str, str]], list[Change], dict[int, tuple[str, str]]]:
    """A table, changes of it as Debezium sends them, and what it is then. Values are named by where they come from."""
    before = {key: (f"a{key}", f"b{key}") for key in draw(st.sets(st.integers(1, 4)))}
    state, written = dict(before), list[Change]()
    for number in range(draw(st.integers(0, 12))):
        key, other = draw(st.integers(1, 4)), draw(st.integers(1, 4))
        values = state.get(key)
        if values is None:
            state[key] = (f"A{number}", f"B{number}")
            written.append(Change((key, "x"), *state[key]))
            continue
        kept = draw(st.tuples(st.booleans(), st.booleans()))
        fresh = [old if keep else f"{name}{number}" for name, keep, old in zip("AB", kept, values, strict=True)]
        sent = [_MISSING if keep else value for keep, value in zip(kept, fresh, strict=True)]
        if other == key:
            written.append(Change((key, "x"), *sent))
        elif other in state:
            del state[key]
            written += [Change((key, "x"))] * 2
            continue
        else:
            del state[key]
            written += [Change((key, "x")), Change((key, "x")), Change((other, "x"), *sent, old_key=(key, "x"))]
        state[other] = (fresh[0], fresh[1])
    return before, written, state


@settings(deadline=None, max_examples=100)
@given(_moves(), st.integers(1, 2000), st.integers(1, 5), st.booleans())
def test_rows_that_move_from_key_to_key_keep_their_values_however_they_are_cut_and_however_often_they_collapse(
    moves: tuple[dict[int, tuple[str, str]], list[Change], dict[int, tuple[str, str]]], limit: int, step: int, again: bool
) -> None:
    before, written, after = moves
    buffer = ChangeBuffer(["id", "part"], limit)
    for begin in range(0, len(written), step):
        buffer.add(_changes(written[begin : begin + step]))
    changes = buffer.take()
    if again and changes is not None:
        buffer.add(changes)
        changes = buffer.take()

    old_keys = changes.old_keys.to_pylist() if changes is not None and changes.old_keys is not None else []
    found = {key: values for (key, _), values in _found(changes).items()}
    state = {key: values for key, values in before.items() if key not in found}
    for at, (key, values) in enumerate(found.items()):
        if values is not None:
            of = (old_keys[at]["id"] if old_keys else None) or key
            filled = [before[of][i] if value == _MISSING else str(value) for i, value in enumerate(values)]
            state[key] = (filled[0], filled[1])
    assert state == after


def test_a_row_that_comes_under_the_key_of_one_that_is_marked_as_deleted_takes_nothing_from_that_one() -> None:
    first, second = (1, "x"), (2, "x")
    put = [Change(first, "1", "1"), Change(second, "2", "2")]
    mark = [Change(second, _MISSING, _MISSING), Change(second, _MISSING, _MISSING)]
    moved = [Change(first, _MISSING, _MISSING), Change(second, "3", _MISSING, old_key=first)]

    for cut in range(7):
        buffer = ChangeBuffer(["id", "part"], limit_bytes=1)
        for piece in (slice(None, cut), slice(cut, None)):
            changes = _changes([*put, *mark, *moved][piece])
            marks = np.array([False, False, True, True, True, False][piece], np.bool_)
            buffer.add(replace(changes, rows=changes.rows.append_column("_is_deleted", pa.array(marks))))

        assert _found(buffer.take()) == {first: ("1", "1"), second: ("3", "1")}, cut


def test_of_a_key_that_moved_to_another_topic_partition_the_change_that_is_newer_in_the_source_is_last() -> None:
    buffer = ChangeBuffer(["id", "part"], 10_000)
    key, still = (1, "x"), (2, "x")
    buffer.add(_changes([Change(key, "new", "new", partition=1, position=20), Change(still, "s", "s", position=90)]))
    buffer.add(_changes([Change(key, "old", "old", position=10), Change(still, "t", "t", position=5)]))
    assert _found(buffer.take()) == {key: ("new", "new"), still: ("t", "t")}
    buffer.add(_changes([Change(key, partition=1, position=20)]))
    buffer.add(_changes([Change(key, "old", "old", position=10)]))
    assert _found(buffer.take()) == {key: None}


def test_what_a_truncation_took_away_is_forgotten_and_what_the_source_made_after_it_stays() -> None:
    buffer = ChangeBuffer(["id", "part"], 10_000)
    buffer.add(_changes([Change((1, "x"), "a", "a", position=10), Change((2, "x"), "b", "b", position=30)]))
    buffer.add(_changes([Change((3, "x"), "c", "c", position=40)], Truncated(20)))
    changes = buffer.take()
    assert changes is not None
    assert _found(changes) == {(2, "x"): ("b", "b"), (3, "x"): ("c", "c")}
    assert changes.truncated == Truncated(20)
    buffer.add(_changes([Change((1, "x"), "a", "a")]))
    buffer.add(_changes([], Truncated()))
    changes = buffer.take()
    assert changes is not None
    assert not len(changes)
    assert changes.truncated == Truncated()


def test_it_is_full_when_different_keys_take_its_room_and_not_when_the_same_ones_come_again() -> None:
    buffer = ChangeBuffer(["id", "part"], 4_000)
    for _ in range(50):
        buffer.add(_changes([Change((key, "x"), "a", "a") for key in range(10)]))
        assert not buffer.is_full
    buffer.add(_changes([Change((key, "x"), "a", "a") for key in range(100)]))
    assert buffer.is_full
    assert len(_found(buffer.take())) == 100
    assert not buffer.is_full
