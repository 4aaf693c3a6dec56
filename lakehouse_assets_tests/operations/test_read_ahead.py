"""Batches that are decoded beside each other arrive in the order in which they were read."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from lakehouse_assets.operations.decoding import table_decoder
from lakehouse_assets.operations.ingest import open_table
from lakehouse_assets.operations.intake import Reading, RowIntake
from lakehouse_assets.operations.read_ahead import ReadAhead
from lakehouse_assets.systems.kafka_reader import RangeReader
from lakehouse_assets.systems.messages import MessageBatch
from lakehouse_assets_tests.operations.lake import Lake, clock_ms, never

pytestmark = pytest.mark.kafka

MESSAGES, AT_ONCE = 95, 10


class FewAtOnce:
    """A reader whose batches are small."""

    def __init__(self, reader: RangeReader) -> None:
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def read(self, seconds: float) -> MessageBatch:
        return self._reader.read(10 * seconds, AT_ONCE)


class OddOnesLater(RowIntake):
    """Decodes every other batch only when the one behind it is decoded."""

    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        self.threads: set[str] = set()
        self._done = [threading.Event() for _ in range(MESSAGES // AT_ONCE + 2)]

    def read(self, batch: MessageBatch) -> Reading:
        number = int(batch.offsets[0]) // AT_ONCE
        self.threads.add(threading.current_thread().name)
        if number % 2 == 0 and len(batch) == AT_ONCE:
            assert self._done[number + 1].wait(30), "no batch is decoded beside this one"
        reading = super().read(batch)
        self._done[number].set()
        return reading


def test_a_batch_waits_for_those_before_it_and_threads_share_no_decoder(
    lake: Callable[..., Lake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse_assets.systems.kafka_reader._POLL_MESSAGES", AT_ONCE)
    table = lake()
    table.produce(MESSAGES)
    opened, _ = open_table(table.systems, table.spec, clock_ms)
    built: list[str] = []

    def build() -> Any:
        built.append(threading.current_thread().name)
        return table_decoder(table.systems, table.spec, opened)

    intake = OddOnesLater(opened, build, 1 << 20)
    log = table.log()
    ranges = {log: (0, MESSAGES)}
    with (
        table.systems.source.reader("ods.clicks", ranges) as reader,
        ReadAhead(FewAtOnce(reader), intake) as ahead,  # type: ignore[arg-type]
    ):
        arrivals = [one for one in ahead.arrivals(never) if one.reading is not None]
    intake.abandon()

    assert [int(offset) for one in arrivals for offset in one.batch.offsets] == list(range(MESSAGES))
    assert [one.before[log] for one in arrivals] == list(range(0, MESSAGES, AT_ONCE))
    assert [one.after[log] for one in arrivals] == [*range(AT_ONCE, MESSAGES, AT_ONCE), MESSAGES]
    ids = [made for one in arrivals if one.reading is not None for made in one.reading.rows.column("id").to_pylist()]
    assert ids == sorted(ids)
    assert len(ids) == MESSAGES
    assert len(intake.threads) == 2
    assert sorted(built) == sorted([threading.current_thread().name, *intake.threads])


def test_of_large_messages_no_batch_is_read_before_the_last_one_was_taken(
    lake: Callable[..., Lake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse_assets.systems.kafka_reader._POLL_MESSAGES", AT_ONCE)
    monkeypatch.setattr("lakehouse_assets.operations.read_ahead._AHEAD_BYTES", 1)
    table = lake()
    table.produce(MESSAGES)
    opened, _ = open_table(table.systems, table.spec, clock_ms)
    intake = RowIntake(opened, lambda: table_decoder(table.systems, table.spec, opened), 1 << 20)
    with (
        table.systems.source.reader("ods.clicks", {table.log(): (0, MESSAGES)}) as reader,
        ReadAhead(FewAtOnce(reader), intake) as ahead,  # type: ignore[arg-type]
    ):
        standing = [(dict(one.after), dict(reader.next_offsets)) for one in ahead.arrivals(never)]
    intake.abandon()

    assert len(standing) > MESSAGES // AT_ONCE
    assert all(after == stands for after, stands in standing)
