"""The table of a soak whose rows say when they happened, what is computed from it by the hour, and what is true of both."""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.process import BaseProcess
from pathlib import Path

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from lakehouse_assets.model.completeness import DAY_MS
from lakehouse_assets.model.errors import CatalogUnavailableError, CommitConflictError
from lakehouse_assets.model.sql_table_spec import SqlTableSpec
from lakehouse_assets.operations.deriving_slices import run_sql
from lakehouse_assets.systems.catalog import load_table
from lakehouse_assets.systems.pins import pin
from lakehouse_assets.systems.table_times import read_table_times
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import HOUR_MS, make_spec
from lakehouse_assets_tests.operations.lake import Lake, clock_ms, hours_ago, never
from lakehouse_assets_tests.soak.changes import SHORT_LIVED
from lakehouse_assets_tests.soak.judging import judge_against_topic, judge_snapshot

PARTITIONS = 3
MAX_PINS = 5
_BUSY, _QUIET = (0, 1), 2  # topic partitions; the last is idle whenever the table has all of it
_NAME = "ods.rides"
_DISORDER_MS = 300_000
_COLUMNS = [{"name": "happened", "type": "timestamptz"}, {"name": "n", "type": "long"}]
_SQL = f"""
SELECT date_trunc('hour', happened) AS hour, _kafka_partition AS place, count(*) AS rides, sum(n) AS n
FROM {_NAME}
GROUP BY ALL
"""
_BY_HOUR = f"SELECT epoch_ms(happened) // {HOUR_MS} * {HOUR_MS}, count(*) FROM {{table}} GROUP BY ALL"

Counts = dict[int, int]  # rows by the beginning of the hour in which they happened, ms since 1970


def _to_text(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat()


@dataclass
class Looks:
    """What somebody has seen of the event time of a table of which nothing is taken back: rows that came in time, by hour."""

    watermark_ms: int | None = None
    in_time: Counts = field(default_factory=dict)

    def look(self, table: Table) -> None:
        """All from one load of the table.

        Raises:
            AssertionError: the watermark went back, or a row of an hour came after it was complete and was not counted as late.
        """
        times, before = read_table_times(table), self.watermark_ms
        if times.watermark_ms is None:
            assert before is None, f"the watermark {before} is gone"
            return
        assert before is None or times.watermark_ms >= before, f"the watermark went back from {before} to {times.watermark_ms}"
        rows: Counts = dict(judge.query(table, _BY_HOUR))  # type: ignore[arg-type]
        in_time = {hour: count - times.late_rows.get(hour, 0) for hour, count in rows.items()}
        early = [hour for hour in times.late_rows if hour + HOUR_MS > times.watermark_ms]
        assert not early, f"late rows of hours that are not complete: {early}"
        wrong = {
            hour: (self.in_time.get(hour, 0), count)
            for hour, count in in_time.items()
            if before is not None and hour + HOUR_MS <= before and count != self.in_time.get(hour, 0)
        }
        assert not wrong, f"rows in time (before, now) of hours that were complete: {wrong}"
        self.watermark_ms, self.in_time = times.watermark_ms, in_time


@dataclass
class RollUp:
    """A table that is computed from the other one.

    `computed`: of each hour, how many late rows were known when a run was started that computed it. `runs`: those that may yet.
    """

    spec: SqlTableSpec
    computed: Counts = field(default_factory=dict)
    runs: list[tuple[BaseProcess, Counts]] = field(default_factory=list)

    @classmethod
    def declared(cls, name: str, start_ms: int, *, incremental: bool) -> "RollUp":
        """None is there yet."""
        partitions = {"start": datetime.fromtimestamp(start_ms / 1000, UTC)}
        event_time = {"column": "hour", "late_horizon": "90d"}
        parts = {"partitions": partitions, "event_time": event_time, "properties": SHORT_LIVED}
        return cls(SqlTableSpec(table=name, sql=_SQL, incremental=incremental, **parts))

    def list_due(self, complete: Counts) -> Counts:
        """What no run that went well has computed of complete hours, whose late rows are given."""
        for run, hours in self.runs:
            if run.exitcode == 0:
                self._note(hours)
        self.runs = [(run, hours) for run, hours in self.runs if run.exitcode is None]
        return {hour: late for hour, late in complete.items() if self.computed.get(hour) != late}

    def _note(self, hours: Counts) -> None:
        self.computed |= {hour: max(late, self.computed.get(hour, 0)) for hour, late in hours.items()}

    def list_keys(self, hours: Counts) -> list[str]:
        """Dagster's names of hours."""
        assert self.spec.clock is not None
        return [self.spec.clock.key(hour) for hour in hours]

    def compute(self, catalog: Catalog, hours: Counts) -> None:
        """In this process."""
        hear = {"on_slice": lambda _key, _report: None, "on_retry": lambda _error, _seconds: None}
        run_sql(catalog, self.spec, self.list_keys(hours), run_id="calm", stop=never, **hear)
        self._note(hours)

    def judge(self, catalog: Catalog, rides: Table, complete: Counts) -> int:
        """Once all is computed; how many rows it has.

        Raises:
            AssertionError: it is not its SQL over the complete hours of the table, or does not say that they are complete.
        """
        table = load_table(catalog, self.spec.table)
        if table is None:
            assert not complete
            return 0
        stop = max(complete) + HOUR_MS
        sql = _SQL.replace(_NAME, "{table}")
        expected = judge.query(rides, f"SELECT epoch_ms(hour) AS ms, * EXCLUDE hour FROM ({sql}) WHERE ms < {stop}")
        found = judge.query(table, "SELECT epoch_ms(hour), * EXCLUDE hour FROM {table}")
        wrong = set(found) ^ set(expected)
        assert not wrong, f"{self.spec.table} is not its SQL: {sorted(wrong)[:5]}"
        assert len(set(found)) == len(found)
        assert read_table_times(table).watermark_ms == stop
        return len(found)


@dataclass
class TimedTable:
    """`lake` is reached through faults, `calm` is not.

    `sent`: by topic partition and offset, when it happened, and whether it was sent to a busy topic partition within the
    disorder. `heads_ms`: up to when each busy one is by now. `pins`: by name the snapshot, and its rows.
    """

    lake: Lake
    calm: Lake
    began_ms: int
    roll_ups: tuple[RollUp, ...]
    heads_ms: dict[int, int]
    sent: dict[tuple[int, int], tuple[int, bool]] = field(default_factory=dict)
    pins: dict[str, tuple[int, list[judge.Position]]] = field(default_factory=dict)
    looks: Looks = field(default_factory=Looks)

    @classmethod
    def open(cls, folder: Path, broker: Broker, lake: Lake, calm: Lake) -> "TimedTable":
        """A topic with a row in each topic partition, and no table yet; in the catalogs of these two. A day will end soon."""
        began_ms = clock_ms() // DAY_MS * DAY_MS - 60 * DAY_MS - 2 * HOUR_MS
        start = datetime.fromtimestamp(began_ms / 1000, UTC)
        event_time = {
            "column": "happened", "max_disorder": "5m", "idle_after": "1h", "late_horizon": "90d", "start": start,
            "complete_for": "day",
        }  # fmt: skip
        topic = broker.create_topic("rides", PARTITIONS)
        spec = make_spec(topic, table=_NAME, schema=_COLUMNS, event_time=event_time, properties=SHORT_LIVED)
        lakes = [Lake(folder, broker, spec, one.systems, one.catalog) for one in (lake, calm)]
        roll_ups = tuple(RollUp.declared(f"dm.rides_{i}", began_ms, incremental=bool(i)) for i in range(2))
        table = cls(*lakes, began_ms, roll_ups, dict.fromkeys(_BUSY, began_ms))
        for p in range(PARTITIONS):
            table._send(p, [(began_ms, False)])
        return table

    @property
    def table(self) -> Table | None:
        """As it is now, once it has a snapshot."""
        table = load_table(self.calm.systems.catalog, _NAME)
        return table if table is not None and table.current_snapshot() is not None else None

    @property
    def tables(self) -> list[Table | None]:
        """Those that are computed, too."""
        return [self.table, *(load_table(self.calm.systems.catalog, one.spec.table) for one in self.roll_ups)]

    def produce(self, rng: random.Random) -> str:
        """Rows in some disorder, of which a few are late; now and then a few of any time to the quiet topic partition."""
        behind = min(self.heads_ms, key=lambda p: self.heads_ms[p])
        p, count = rng.choice((behind, behind, behind, *_BUSY, _QUIET)), rng.choice([1, 10, 100])
        rows = []
        for _ in range(3 if p == _QUIET else count):
            if p == _QUIET:
                rows.append((max(self.heads_ms.values()) - rng.randrange(3 * HOUR_MS), False))
                continue
            self.heads_ms[p] += rng.randrange(4 * HOUR_MS // count)
            in_time = rng.random() > 0.5 / count
            rows.append((self.heads_ms[p] - rng.randrange(_DISORDER_MS if in_time else 3 * HOUR_MS), in_time))
        self._send(p, rows)
        return f"{len(rows)} to {p}"

    def _send(self, p: int, rows: list[tuple[int, bool]]) -> None:
        rows = [(max(at, self.began_ms), in_time) for at, in_time in rows]
        values = [json.dumps({"happened": _to_text(at), "n": i}).encode() for i, (at, _) in enumerate(rows)]
        stamp = hours_ago(3) if p == _QUIET else clock_ms()
        offsets = self.lake.broker.produce(self.lake.topic, values, partition=p, timestamp_ms=stamp)
        self.sent |= {(p, offset): row for offset, row in zip(offsets, rows, strict=True)}

    def list_complete(self) -> Counts:
        """Complete hours, and how many late rows each has."""
        table = self.table
        times = read_table_times(table) if table is not None else None
        if times is None or times.watermark_ms is None:
            return {}
        return {hour: times.late_rows.get(hour, 0) for hour in range(self.began_ms, times.watermark_ms - HOUR_MS + 1, HOUR_MS)}

    def pin(self) -> str | None:
        """The table as it is now."""
        table, name = self.table, f"pin-{len(self.pins)}"
        if table is None or len(self.pins) >= MAX_PINS:
            return None
        try:
            made = pin(self.calm.systems.catalog, _NAME, name, None, None, clock_ms)
        except (CommitConflictError, CatalogUnavailableError):
            return "refused: a run was first"
        self.pins[name] = made.snapshot_id, judge.read_positions(self.calm.table, made.snapshot_id)
        return f"{made.snapshot_id} as {name}"

    def judge(self) -> None:
        """Look at the table as it is now, whatever is going on.

        Raises:
            AssertionError: it has not what the topic has, or the watermark is ahead of a row that will come in time.
        """
        table = self.table
        if table is None:
            return
        seen = judge_snapshot(table, self.lake.topic)
        judge_against_topic(seen, set(self.sent))
        self.looks.look(table)
        watermark_ms = self.looks.watermark_ms
        early = [
            (place, at)
            for place, (at, in_time) in self.sent.items()
            if in_time and place not in seen.rows and watermark_ms is not None and at < watermark_ms
        ]
        assert not early, f"the watermark {watermark_ms} is ahead of rows to come: {sorted(early)[:5]}"

    def come_to_rest(self) -> str:
        """Bring it to the end of its topic, and compute what is due; what there is then.

        Raises:
            AssertionError
        """
        self.calm.ingest()
        assert self.calm.lag() == 0
        for one in self.roll_ups:
            one.compute(self.calm.systems.catalog, one.list_due(self.list_complete()))
        rows = self.judge_rest()
        complete = self.list_complete()
        return f"{len(complete)} hours complete, {sum(complete.values())} rows late, {rows} rows computed, {len(self.pins)} pins"

    def judge_rest(self) -> int:
        """How many rows were computed.

        Raises:
            AssertionError: of what is computed, or a tag does not mean what it meant.
        """
        self.judge()
        table, complete = self.calm.table, self.list_complete()
        late: Mapping[int, int] = read_table_times(table).late_rows
        sent_late = [at // HOUR_MS * HOUR_MS for at, in_time in self.sent.values() if not in_time]
        wrong = [hour for hour, count in late.items() if count > sent_late.count(hour)]
        assert not wrong, f"rows that came in time are counted as late, of {wrong}"
        tags = {name: ref.snapshot_id for name, ref in table.refs().items()}
        for name, (snapshot_id, positions) in self.pins.items():
            assert tags.get(name) == snapshot_id, f"{name} is gone, or means something else"
            assert judge.read_positions(table, snapshot_id) == positions
        for begin in range(self.began_ms // DAY_MS * DAY_MS, (self.looks.watermark_ms or 0) - DAY_MS + 1, DAY_MS):
            tag, hours = tags[f"complete-{_to_text(begin)[:10]}"], range(begin, begin + DAY_MS, HOUR_MS)
            within = f"SELECT count(*) FROM {{table}} WHERE epoch_ms(happened) BETWEEN {begin} AND {begin + DAY_MS - 1}"
            (tagged,), (now,) = (judge.query(table, within, one)[0] for one in (tag, None))
            assert now - sum(late.get(hour, 0) for hour in hours) <= tagged <= now  # type: ignore[operator]
        return sum(one.judge(table.catalog, table, complete) for one in self.roll_ups)
