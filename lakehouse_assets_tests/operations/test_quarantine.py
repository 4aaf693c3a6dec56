"""Messages that can't become rows: each is in the quarantine once, as it came, and never in neither table."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse_assets.model.column_spec import ColumnSpec
from lakehouse_assets.model.errors import StaleOffsetsError, TableDiffersError, TooManyBadRecordsError
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.replay import ReplayResult, run_replay
from lakehouse_assets_tests import faults, judge
from lakehouse_assets_tests.builders import make_message
from lakehouse_assets_tests.faults import EFFECTS, Crash, Fault
from lakehouse_assets_tests.operations.lake import Lake, clock_ms, hours_ago

pytestmark = pytest.mark.kafka

MakeLake = Callable[..., Lake]

BAD = b'{"id": "no number"}'


def make_mixed(good: int, *bad: bytes) -> list[bytes]:
    """Good messages, then bad ones, then one good."""
    return [*(make_message(i) for i in range(good)), *bad, make_message(good)]


def with_text_ids(spec: TableSpec) -> TableSpec:
    """The declaration of somebody who reads `id` from another field, in which only BAD messages have a number."""
    columns = (ColumnSpec(name="id", type="long", required=True, **{"from": "number"}), spec.columns[1])
    return spec.model_copy(update={"columns": columns})


def test_a_bad_message_is_kept_as_it_came_with_the_reason(lake: MakeLake) -> None:
    table = lake()
    table.produce(2)
    table.broker.produce(
        table.topic, [b"\xff nonsense"], key=b"k\x00", headers=[("a", b"1"), ("a", b"\xfe")], timestamp_ms=1_790_000_000_123
    )
    table.produce(1)

    report = table.ingest()

    assert report.row_count == 3
    table.assert_holds({0: [0, 1, 3]}, bad={0: [2]})
    assert table.quarantine is not None
    (row,) = judge.query(
        table.quarantine,
        'SELECT topic, "partition", "offset", epoch_ms("timestamp"), "key", "value", headers, error_code, error FROM {table}',
    )
    assert row[:7] == (
        table.topic, 0, 2, 1_790_000_000_123, b"k\x00", b"\xff nonsense",
        [{"key": "a", "value": b"1"}, {"key": "a", "value": b"\xfe"}],
    )  # fmt: skip
    assert row[7] == "invalid_utf8"
    assert "UTF-8" in str(row[8])


def test_every_message_is_counted_once_as_written_quarantined_or_skipped(lake: MakeLake) -> None:
    table = lake(topic_partitions=2)
    table.broker.produce(table.topic, [make_message(1), None, BAD, b"", make_message(2)])
    table.broker.produce(table.topic, [None, b"[]", BAD], partition=1)

    table.ingest()

    assert sum(r.read_count for r in table.reports) == 8
    assert sum(r.row_count for r in table.reports) == 2
    assert sum(r.skipped_count for r in table.reports) == 2
    assert sum(sum(r.bad_codes.values()) for r in table.reports) == 4
    table.assert_holds({0: [0, 4]}, bad={0: [2, 3], 1: [1, 2]})


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_bad_messages_alone_are_settled_so_that_the_table_is_not_behind(lake: MakeLake, workers: int) -> None:
    table = lake(topic_partitions=2, workers=workers)
    for p in (0, 1):
        table.broker.produce(table.topic, [BAD, BAD], partition=p)

    table.ingest()
    table.assert_holds({}, bad={0: [0, 1], 1: [0, 1]})
    snapshots = len(table.table.snapshots())

    assert table.reopened().ingest().commits == 0
    assert len(table.table.snapshots()) == snapshots


def test_a_table_without_bad_messages_has_no_quarantine(lake: MakeLake) -> None:
    table = lake()
    table.produce(3)

    table.ingest()
    table.replace(table.key(hours_ago(0)))

    assert table.quarantine is None


def test_many_bad_messages_are_a_wrong_declaration_and_nothing_of_them_lands(lake: MakeLake) -> None:
    table = lake()
    table.broker.produce(table.topic, make_mixed(499, *[BAD] * 501))

    with pytest.raises(TooManyBadRecordsError, match=r"501 of 1,001 .* at most 50% .*offset 499 can't become a row"):
        table.ingest()

    assert table.positions() == []
    assert table.quarantine is None or not judge.count_rows(table.quarantine)
    with pytest.raises(TooManyBadRecordsError):
        table.reopened().replace(table.key(hours_ago(0)))
    assert table.positions() == []


def test_a_share_of_bad_messages_that_is_allowed_is_quarantined(lake: MakeLake) -> None:
    table = lake(max_bad_share=0.6)
    table.broker.produce(table.topic, make_mixed(499, *[BAD] * 501))

    table.ingest()

    table.assert_holds({0: [*range(499), 1000]}, bad={0: list(range(499, 1000))})


def test_a_trickle_of_bad_messages_alone_stops_the_table_once_it_is_a_thousand(lake: MakeLake) -> None:
    table = lake()
    table.broker.produce(table.topic, [BAD] * 600)

    def more(_: object) -> None:
        table.broker.produce(table.topic, [BAD] * 600)

    with pytest.raises(TooManyBadRecordsError, match="1,200 of 1,200"):
        table.ingest(on_commit=more)

    table.assert_holds({}, bad={0: list(range(600))}, lag=600)


def test_the_share_of_bad_messages_is_that_of_all_processes_together(lake: MakeLake) -> None:
    table = lake(topic_partitions=2, workers=2)
    for p in (0, 1):
        table.broker.produce(table.topic, [BAD] * 600, partition=p)

    with pytest.raises(TooManyBadRecordsError, match=r"1,200 of 1,200 .*offset 0 can't become a row"):
        table.ingest()

    assert table.lag() >= 600  # where one process was late, the other's may have landed before it


def list_crashes(commits: int, every: bool) -> list[int]:
    """Which of the effects just seen to crash before: all, or the first commit and what follows each."""
    effects = [seen.split()[0] for seen in EFFECTS.seen]
    at = [i for i, kind in enumerate(effects) if kind == "commit"]
    assert len(at) == commits
    return list(range(len(effects))) if every else [at[0], *(c + 1 for c in at if c + 1 < len(effects))]


EACH_OR_EVERY = pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["commits", "every"])


@EACH_OR_EVERY
def test_a_crash_between_any_effects_leaves_each_message_in_one_table_after_the_next_run(
    lake: MakeLake, tmp_path: Path, every: bool
) -> None:
    model = lake()
    model.broker.produce(model.topic, make_mixed(5, BAD, b"nonsense"))
    EFFECTS.arm(None)
    model.ingest()

    for at in list_crashes(2, every):
        table = Lake.open(tmp_path / f"crash{at}", model.broker, model.topic)
        EFFECTS.arm(Fault(at, "before", faults.crash))
        with pytest.raises(Crash):
            table.ingest()
        EFFECTS.arm(None)

        table.reopened().ingest()

        table.assert_holds({0: [0, 1, 2, 3, 4, 7]}, bad={0: [5, 6]})


def test_two_runs_at_once_quarantine_a_message_once(lake: MakeLake) -> None:
    table = lake()
    table.broker.produce(table.topic, make_mixed(5, BAD))
    table.systems.catalog.before_commit = [lambda: table.reopened().ingest()]  # type: ignore[attr-defined]

    table.ingest()

    assert [type(error) for error in table.retries] in ([], [StaleOffsetsError])
    table.assert_holds({0: [0, 1, 2, 3, 4, 6]}, bad={0: [5]})


def test_after_a_rollback_and_a_fix_messages_leave_the_quarantine(lake: MakeLake) -> None:
    table = lake()
    table.produce(3)
    table.ingest()
    before = table.table.current_snapshot()
    assert before is not None
    table.broker.produce(table.topic, [b'{"id": "x", "number": 1}', make_message(1)])
    table.ingest()
    table.assert_holds({0: [0, 1, 2, 4]}, bad={0: [3]})

    table.table.manage_snapshots().rollback_to_snapshot(before.snapshot_id).commit()
    fixed = table.reopened()
    fixed.spec = with_text_ids(table.spec)
    fixed.ingest()

    fixed.assert_holds({0: [0, 1, 2, 3]}, bad={0: [4]})


def test_materialising_an_hour_moves_messages_between_both_tables_as_the_declaration_says_now(lake: MakeLake) -> None:
    table = lake()
    hours = [hours_ago(h) for h in (2, 1)]
    for hour in hours:
        values = [make_message(1), b'{"id": "x", "number": 1}', b'{"id": 2, "number": 2}', BAD]
        table.broker.produce(table.topic, values, timestamp_ms=hour)
    table.ingest()
    table.assert_holds({0: [0, 2, 4, 6]}, bad={0: [1, 3, 5, 7]})

    changed = table.reopened()
    changed.spec = with_text_ids(table.spec)
    changed.replace(table.key(hours[1]))

    changed.assert_holds({0: [0, 2, 5, 6]}, bad={0: [1, 3, 4, 7]})


def test_a_message_that_is_bad_for_another_reason_now_says_so(lake: MakeLake) -> None:
    table = lake()
    table.broker.produce(table.topic, [make_message(1), BAD])
    table.ingest()

    changed = table.reopened()
    changed.spec = with_text_ids(table.spec)
    changed.replace(table.key(hours_ago(0)))

    assert changed.quarantine is not None
    rows = judge.query(changed.quarantine, 'SELECT "offset", error FROM {table} ORDER BY ALL')
    assert [offset for offset, _ in rows] == [0, 1]
    assert all("'number'" in str(error) for _, error in rows)


@EACH_OR_EVERY
def test_a_replace_that_crashes_between_any_effects_leaves_no_message_in_neither_table(
    lake: MakeLake, tmp_path: Path, every: bool
) -> None:
    model = lake()
    values = [make_message(1), b'{"id": "x", "number": 1}', b'{"id": 2, "number": 2}', BAD]
    model.broker.produce(model.topic, values)
    key = model.key(hours_ago(0))
    model.ingest()
    model.spec = with_text_ids(model.spec)
    EFFECTS.arm(None)
    model.replace(key)

    for at in list_crashes(3, every):
        table = Lake.open(tmp_path / f"crash{at}", model.broker, model.topic)
        table.ingest()
        table.spec = model.spec
        EFFECTS.arm(Fault(at, "before", faults.crash))
        with pytest.raises(Crash):
            table.replace(key)
        EFFECTS.arm(None)
        there = {offset for _, offset in [*table.positions(), *table.quarantined()]}
        assert there == {0, 1, 2, 3}, at

        table.reopened().replace(key)
        again = table.reopened()
        again.spec = model.spec
        again.replace(key)

        again.assert_holds({0: [1, 2]}, bad={0: [0, 3]})


def test_a_message_that_kafka_dropped_stays_in_the_quarantine(lake: MakeLake) -> None:
    table = lake()
    hours = [hours_ago(1), hours_ago(0)]
    table.broker.produce(table.topic, [BAD], timestamp_ms=hours[0])
    table.broker.produce(table.topic, [make_message(1), json.dumps({"id": 2}).encode()], timestamp_ms=hours[0])
    table.ingest()
    table.broker.delete_records(table.topic, {0: 1})

    table.replace(table.key(hours[0]))

    table.assert_holds({0: [1, 2]}, bad={0: [0]})


def test_a_replay_moves_what_can_be_a_row_now_also_where_kafka_has_it_no_more(lake: MakeLake) -> None:
    table = lake(topic_partitions=2)
    for p in (0, 1):
        table.broker.produce(
            table.topic, [make_message(1), b'{"id": "x", "number": 7}', BAD], partition=p, timestamp_ms=hours_ago(1)
        )
    table.ingest()
    table.broker.delete_records(table.topic, {0: 3, 1: 3})
    table.spec = with_text_ids(table.spec)

    assert run_replay(table.systems, table.spec, clock_ms) == ReplayResult(moved=2, still_bad=2)
    table.assert_holds({0: [0, 1], 1: [0, 1]}, bad={0: [2], 1: [2]})
    rows = judge.query(table.table, "SELECT id, epoch_ms(_kafka_timestamp) FROM {table} WHERE _kafka_offset = 1")
    assert rows == [(7, hours_ago(1))] * 2

    assert run_replay(table.systems, table.spec, clock_ms) == ReplayResult(moved=0, still_bad=2)
    table.produce(1)
    table.reopened().ingest()
    table.assert_holds({0: [0, 1], 1: [0, 1]}, bad={0: [2, 3], 1: [2]})


def test_a_replay_that_crashes_between_any_effects_is_mended_by_the_next(lake: MakeLake, tmp_path: Path) -> None:
    model = lake()
    model.broker.produce(model.topic, [make_message(1), b'{"id": "x", "number": 1}', BAD])
    model.ingest()
    fixed = with_text_ids(model.spec)
    EFFECTS.arm(None)
    run_replay(model.systems, fixed, clock_ms)

    for at in list_crashes(2, every=False):
        table = Lake.open(tmp_path / f"crash{at}", model.broker, model.topic)
        table.ingest()
        EFFECTS.arm(Fault(at, "before", faults.crash))
        with pytest.raises(Crash):
            run_replay(table.systems, fixed, clock_ms)
        EFFECTS.arm(None)
        assert {offset for _, offset in [*table.positions(), *table.quarantined()]} == {0, 1, 2}

        again = table.reopened()
        run_replay(again.systems, fixed, clock_ms)

        again.assert_holds({0: [0, 1]}, bad={0: [2]})


def test_a_replay_by_a_declaration_that_does_not_fit_the_table_is_refused(lake: MakeLake) -> None:
    table = lake()
    table.broker.produce(table.topic, make_mixed(1, BAD))
    table.ingest()
    other = table.spec.model_copy(update={"key": ("id",)})

    with pytest.raises(TableDiffersError):
        run_replay(table.systems, other, clock_ms)

    table.assert_holds({0: [0, 2]}, bad={0: [1]})


def test_a_replay_of_a_table_without_quarantine_does_nothing(lake: MakeLake) -> None:
    table = lake()
    assert run_replay(table.systems, table.spec, clock_ms) == ReplayResult(0, 0)
    table.produce(2)
    table.ingest()

    assert run_replay(table.systems, table.spec, clock_ms) == ReplayResult(0, 0)
    assert len(table.table.snapshots()) == 1
