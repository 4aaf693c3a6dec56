"""SQL in declarations on a real topic: each message is a row, in quarantine, or filtered, and a changed declaration applies."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from lakehouse_assets.model.errors import BadRecordError, TooManyBadRecordsError
from lakehouse_assets.model.offsets import NO_OFFSETS, TopicRanges
from lakehouse_assets.operations import audit
from lakehouse_assets.operations.peek import peek_newest
from lakehouse_assets.operations.replay import ReplayResult, run_replay
from lakehouse_assets.operations.status import read_status
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.operations.lake import Lake, clock_ms, hours_ago

pytestmark = pytest.mark.kafka

MakeLake = Callable[..., Lake]

COLUMNS = [
    {"name": "id", "type": "long", "required": True},
    {"name": "text", "type": "string"},
    {"name": "number", "type": "int", "expr": "CAST(text AS INT)"},
]
SQL: dict[str, Any] = {"schema": COLUMNS, "where": "id % 2 = 0"}


def make_message(number: int, text: str | None = None) -> bytes:
    return json.dumps({"id": number, "text": str(number) if text is None else text}).encode()


def change(table: Lake, **parts: Any) -> Lake:
    """The same table by another process, whose declaration says something else."""
    changed = table.reopened()
    changed.spec = table.spec.model_copy(update=parts)
    return changed


def find_lost(table: Lake) -> TopicRanges:
    found = audit.audit_positions(table.table, table.ledger, table.quarantine)
    return audit.read_lost(table.systems, table.spec, found.gaps, read_status(table.systems, table.spec).bounds).offsets


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_every_message_is_a_row_or_in_quarantine_or_counted_as_skipped(lake: MakeLake, workers: int) -> None:
    table = lake(topic_partitions=2, workers=workers, **SQL)
    for p in (0, 1):
        values = [make_message(0), make_message(1), None, make_message(2, "x"), b"nonsense", make_message(3, "x"), make_message(4)]
        table.broker.produce(table.topic, values, partition=p)

    table.ingest()

    table.assert_holds({0: [0, 6], 1: [0, 6]}, bad={0: [3, 4], 1: [3, 4]})
    assert judge.query(table.table, "SELECT id, text, number FROM {table} ORDER BY ALL") == [(0, "0", 0)] * 2 + [(4, "4", 4)] * 2
    assert table.quarantine is not None
    codes = judge.query(table.quarantine, 'SELECT error_code, error FROM {table} WHERE "partition" = 0 ORDER BY "offset"')
    assert [code for code, _ in codes] == ["expression_failed", "invalid_json"]
    assert "column 'number' (CAST(text AS INT)): Conversion Error: Could not convert string 'x'" in str(codes[0][1])
    totals = [(r.read_count, r.row_count, r.skipped_count, r.filtered_count, sum(r.bad_codes.values())) for r in table.reports]
    assert [sum(column) for column in zip(*totals, strict=True)] == [14, 4, 2, 4, 4]


def test_filtered_messages_are_no_loss_and_no_lag_and_lost_rows_still_are(lake: MakeLake) -> None:
    table = lake(**SQL)
    table.broker.produce(table.topic, [make_message(i) for i in range(10)])
    table.ingest()
    table.assert_holds({0: [0, 2, 4, 6, 8]})
    assert find_lost(table) == NO_OFFSETS

    table.table.delete("_kafka_offset = 4")

    assert find_lost(table) == table.ranges({0: [(4, 5)]})
    assert find_lost(change(table, where="id % 3 = 0")) == table.ranges({0: [(3, 4), (9, 10)]})


def test_filtered_messages_alone_bring_the_table_forward(lake: MakeLake) -> None:
    table = lake(**SQL)
    table.broker.produce(table.topic, [make_message(1), make_message(3)])

    table.ingest()
    table.assert_holds({})

    assert table.reopened().ingest().commits == 0
    table.broker.produce(table.topic, [make_message(4)])
    table.reopened().ingest()
    table.assert_holds({0: [2]})


def test_materialising_an_hour_applies_the_declaration_as_it_is_now(lake: MakeLake) -> None:
    table = lake(**SQL)
    hours = [hours_ago(2), hours_ago(1)]
    for hour in hours:
        values = [*(make_message(i) for i in range(4)), make_message(5, "x"), make_message(6, "x")]
        table.broker.produce(table.topic, values, timestamp_ms=hour)
    table.ingest()
    table.assert_holds({0: [0, 2, 6, 8]}, bad={0: [5, 11]})

    changed = change(table, where="id % 2 = 1")
    report = changed.replace(table.key(hours[1]))[table.key(hours[1])]

    assert report is not None
    assert (report.read_count, report.row_count, report.filtered_count) == (6, 2, 3)
    changed.assert_holds({0: [0, 2, 7, 9]}, bad={0: [5, 10]})

    nothing = change(table, where="id > 100")
    nothing.replace(table.key(hours[1]))
    nothing.assert_holds({0: [0, 2]}, bad={0: [5]})

    columns = (*table.spec.columns[:2], table.spec.columns[2].model_copy(update={"expr": "length(text) * 10"}))
    longer = change(table, columns=columns)
    longer.replace(table.key(hours[0]))
    longer.assert_holds({0: [0, 2, 5]})
    assert judge.query(longer.table, "SELECT number FROM {table}") == [(10,)] * 3


def test_a_replay_takes_what_is_filtered_now_out_of_the_quarantine(lake: MakeLake) -> None:
    table = lake(**SQL)
    table.broker.produce(table.topic, [make_message(0, "x"), make_message(2, "y"), make_message(4, "7"), make_message(6, "z")])
    table.ingest()
    table.broker.delete_records(table.topic, {0: 4})
    table.assert_holds({0: [2]}, bad={0: [0, 1, 3]})

    changed = change(table, where="text <> 'x' AND text <> 'y'")
    assert run_replay(changed.systems, changed.spec, clock_ms) == ReplayResult(moved=0, still_bad=1, filtered=2)
    changed.assert_holds({0: [2]}, bad={0: [3]})

    columns = (*table.spec.columns[:2], table.spec.columns[2].model_copy(update={"expr": "TRY_CAST(text AS INT)"}))
    changed = change(table, columns=columns)
    assert run_replay(changed.systems, changed.spec, clock_ms) == ReplayResult(moved=1, still_bad=0)
    changed.assert_holds({0: [2, 3]})


def test_a_table_that_stops_at_bad_messages_stops_at_a_failing_expression(lake: MakeLake) -> None:
    table = lake(on_bad_record="fail", **SQL)
    table.broker.produce(table.topic, [make_message(0), make_message(1, "x"), make_message(2, "x"), make_message(4)])

    with pytest.raises(BadRecordError, match="offset 2 can't become a row: column 'number'"):
        table.ingest()

    table.assert_holds({0: [0]}, lag=2)


def test_an_expression_that_fails_for_most_rows_is_a_wrong_declaration_whatever_is_filtered(lake: MakeLake) -> None:
    table = lake(**SQL)
    table.broker.produce(table.topic, [make_message(i, "x" if i % 4 else "5") for i in range(2200)] + [make_message(1)] * 1000)

    table.spec = table.spec.model_copy(update={"max_bad_share": 0.4})
    with pytest.raises(TooManyBadRecordsError, match="550 of 1,100 "):
        table.ingest()

    assert table.positions() == []


def test_a_derived_column_can_be_key_and_partition(lake: MakeLake) -> None:
    day = {"name": "bucket", "type": "string", "required": True, "expr": "CASE WHEN id < 3 THEN 'low' ELSE 'high' END"}
    table = lake(schema=[*COLUMNS[:2], day], key=["bucket"], partition_by=["bucket"])
    table.broker.produce(table.topic, [make_message(i) for i in range(6)])

    table.ingest()

    table.assert_holds({0: list(range(6))})
    partitions = table.table.inspect.partitions().to_pylist()
    assert {row["partition"]["bucket"]: row["record_count"] for row in partitions} == {"low": 3, "high": 3}
    assert judge.query(table.table, "SELECT bucket, count(*) FROM {table} WHERE bucket = 'low' GROUP BY ALL") == [("low", 3)]


def test_peek_says_what_is_filtered(lake: MakeLake) -> None:
    table = lake(**SQL)
    table.broker.produce(table.topic, [make_message(0), make_message(1), None, make_message(2, "x")])

    peeked = list(peek_newest(table.systems, table.spec, 4))

    assert [one.reading.skipped for one in peeked] == [None, "filtered", "tombstone", None]
    assert peeked[0].reading.row == {"id": 0, "text": "0", "number": 0}
    assert peeked[3].reading.error is not None
