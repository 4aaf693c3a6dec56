"""One topic and its table, as a test drives and judges them."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyiceberg.table import Table

from lakehouse_assets.model.errors import LakehouseError
from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.offsets import NO_OFFSETS, RangeSet, TopicPartition, TopicRanges
from lakehouse_assets.model.slices import SliceClock
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.audit import audit_positions
from lakehouse_assets.operations.ingest import CommitReport, IngestResult, run_ingest
from lakehouse_assets.operations.quarantine import load_quarantine
from lakehouse_assets.operations.refolding import run_refold
from lakehouse_assets.operations.replace import run_replace
from lakehouse_assets.operations.status import read_status
from lakehouse_assets.operations.systems import Systems
from lakehouse_assets.systems.history import read_ledger
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import HOUR_MS, make_message, make_ranges, make_spec, make_systems
from lakehouse_assets_tests.faults import FAULTY

Position = tuple[int | None, int | None]


def clock_ms() -> int:
    """Now, ms since 1970."""
    return int(time.time() * 1000)


def never() -> bool:
    """A run that nobody stops."""
    return False


@dataclass
class Lake:
    """Runs of one table. Everything is opened anew by `reopened`, as another machine would."""

    folder: Path
    broker: Broker
    spec: TableSpec
    systems: Systems
    catalog: Mapping[str, str] = field(default_factory=lambda: FAULTY)
    now_ms: Callable[[], int] = clock_ms
    reports: list[CommitReport] = field(default_factory=list)
    retries: list[LakehouseError] = field(default_factory=list)

    @classmethod
    def open(
        cls, folder: Path, broker: Broker, topic: str, catalog: Mapping[str, str] = FAULTY, **parts: Any
    ) -> "Lake":
        """A table of a topic; `catalog` as in `make_settings`, `parts` go into its declaration."""
        systems = make_systems(folder, broker.bootstrap_servers, **catalog)
        return cls(folder, broker, make_spec(topic, **parts), systems, catalog)

    def reopened(self) -> "Lake":
        """The same table through other clients."""
        systems = make_systems(self.folder, self.broker.bootstrap_servers, **self.catalog)
        return Lake(self.folder, self.broker, self.spec, systems, self.catalog)

    @property
    def topic(self) -> str:
        (topic,) = self.spec.source.named_topics
        return topic

    def log(self, partition: int = 0) -> TopicPartition:
        """A topic partition of the table's only topic."""
        return TopicPartition(self.topic, partition)

    def ranges(self, ranges: Mapping[int, Iterable[tuple[int, int]]]) -> TopicRanges:
        """Offsets of the table's only topic."""
        return make_ranges(ranges, self.topic)

    def held(self, partition: int = 0) -> RangeSet:
        """What the ledger holds of a topic partition of the table's only topic."""
        return self.ledger.held[self.log(partition)]

    def produce(self, count: int, partition: int = 0, **how: Any) -> list[int]:
        """Good messages; their offsets."""
        return self.broker.produce(
            self.topic, [make_message(i) for i in range(count)], partition=partition, **how
        )

    def ingest(
        self, stop: Callable[[], bool] = never, on_commit: Callable[[CommitReport], None] | None = None
    ) -> IngestResult:
        """One run."""

        def hear(report: CommitReport) -> None:
            self.reports.append(report)
            if on_commit is not None:
                on_commit(report)

        return run_ingest(
            self.systems,
            self.spec,
            stop=stop,
            on_commit=hear,
            on_retry=lambda e, _: self.retries.append(e),
            now_ms=self.now_ms,
        )

    def around_first_commit(
        self, before: Callable[[], object] = lambda: None, after: Callable[[], object] = lambda: None
    ) -> None:
        """Something else happens just before or just after the catalog takes the first commit from now on, whichever it is."""
        commit = self.systems.catalog.commit_table

        def commit_table(*arguments: Any) -> Any:
            self.systems.catalog.commit_table = commit  # type: ignore[method-assign]
            before()
            answer = commit(*arguments)
            after()
            return answer

        self.systems.catalog.commit_table = commit_table  # type: ignore[method-assign]

    def replace(self, *keys: str, stop: Callable[[], bool] = never) -> dict[str, CommitReport | None]:
        """Replace slices; the report of each one done."""
        heard: dict[str, CommitReport | None] = {}
        run_replace(
            self.systems,
            self.spec,
            keys,
            stop=stop,
            on_slice=heard.__setitem__,
            on_retry=lambda e, _: self.retries.append(e),
            now_ms=self.now_ms,
        )
        return heard

    def refold(
        self,
        *keys: str,
        stop: Callable[[], bool] = never,
        on_commit: Callable[[CommitReport], None] = lambda _: None,
        on_progress: Callable[[int, int], None] = lambda _read, _total: None,
    ) -> list[str]:
        """Fold slices of an upsert table again; those that were done."""

        def hear(report: CommitReport) -> None:
            self.reports.append(report)
            on_commit(report)

        done = run_refold(
            self.systems,
            self.spec,
            keys,
            stop=stop,
            on_commit=hear,
            on_retry=lambda e, _: self.retries.append(e),
            now_ms=self.now_ms,
            on_progress=on_progress,
        )
        return list(keys) if done else []

    def materialize(self, *keys: str) -> None:
        """What the UI does with hours, in the mode of the table."""
        if self.spec.mode == "upsert":
            self.refold(*keys)
        else:
            self.replace(*keys)

    def key(self, time_ms: int) -> str:
        """Partition key of a time."""
        return SliceClock(self.spec.partitions.every, self.spec.partitions.start).key(time_ms)

    @property
    def table(self) -> Table:
        return self.systems.catalog.load_table(self.spec.table)

    @property
    def quarantine(self) -> Table | None:
        return load_quarantine(self.systems, self.spec)

    @property
    def ledger(self) -> Ledger:
        ledger = read_ledger(self.table)
        assert ledger is not None
        return ledger

    def positions(self) -> list[Position]:
        """What DuckDB finds in the files."""
        return judge.read_positions(self.table)

    def lag(self, rowless: TopicRanges = NO_OFFSETS) -> int:
        """Offsets that the table lacks."""
        return read_status(self.systems, self.spec, rowless).lag

    def quarantined(self) -> list[Position]:
        """What DuckDB finds in the quarantine."""
        table = self.quarantine
        if table is None or table.metadata.current_snapshot() is None:
            return []
        rows = judge.query(table, 'SELECT "partition", "offset" FROM {table} ORDER BY ALL')
        return [(partition, offset) for partition, offset in rows]  # type: ignore[misc]

    def assert_holds(
        self, rows: Mapping[int, list[int]], foreign: int = 0, lag: int = 0, bad: Mapping[int, list[int]] | None = None
    ) -> None:
        """The rows are exactly these, once each; ledger, audit and lag agree with them; every snapshot can be read.

        So are the messages in quarantine, which are `bad`.
        """
        assert self.quarantined() == sorted((p, offset) for p, offsets in (bad or {}).items() for offset in offsets)
        expected = sorted((p, offset) for p, offsets in rows.items() for offset in offsets)
        ledger = self.ledger
        assert self.positions() == [*expected, *[(None, None)] * foreign]
        assert all(offset in ledger.held[self.log(p)] for p, offset in expected)
        if ledger.held:
            audit = audit_positions(self.table, ledger, self.quarantine)
            assert not audit.duplicates
            assert not audit.unledgered
        assert self.lag() == lag
        counts = judge.read_every_snapshot(self.table)
        assert counts[-1] == len(expected) + foreign if counts else not (expected or foreign)


def hours_ago(hours: int) -> int:
    """Beginning of the hour so long ago, ms since 1970."""
    return (clock_ms() // HOUR_MS - hours) * HOUR_MS
