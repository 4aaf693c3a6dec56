"""Whatever batches of changes come, and whatever others do to the table meanwhile: it is the fold of the changes."""

from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.transforms import BucketTransform

from lakehouse_assets.model.errors import CommitConflictError
from lakehouse_assets.systems.changes import Changes
from lakehouse_assets.systems.key_audit import audit_keys
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import make_systems
from lakehouse_assets_tests.foreign_deletes import delete_rows
from lakehouse_assets_tests.systems.merges import MODES, NAME, Merger, make_changes, make_upsert_spec

KEYS = st.sampled_from(range(12))
TEXTS = st.none() | st.sampled_from(["a", "b", "c"])
BATCHES = st.dictionaries(KEYS, TEXTS, min_size=1)
EVENTS = st.one_of(
    st.tuples(st.just("merge"), st.sampled_from(list(MODES)), BATCHES),
    st.tuples(st.just("lose a race"), st.sampled_from(list(MODES)), BATCHES),
    st.tuples(st.just("delete"), st.none(), st.sets(KEYS, min_size=1)),
    st.tuples(st.just("rewrite"), st.none(), st.none()),
    st.tuples(st.just("repartition"), st.integers(0, 3), st.none()),
)
LAYOUTS = st.sampled_from([[], ["bucket(2, id)"], ["text"], ["truncate(5, id)", "text"]])


class Merging:
    """A table and its model."""

    def __init__(self, partition_by: list[str]) -> None:
        self.catalog = make_systems(Path(mkdtemp(prefix="merging-"))).catalog
        self.merger = Merger(self.catalog, make_upsert_spec(partition_by=partition_by))
        self.rows: dict[int, str] = {}

    def step(self, event: str, how: Any, what: Any) -> None:
        match event:
            case "merge":
                self._fold(what)
                self.merger.merge(make_changes(what), **MODES[how])
            case "lose a race":
                merge = self.merger.plan(make_changes(what), **MODES[how])
                merge.prepare(self.merger.table)
                self.step("merge", "marking", {0: "first", 1: None})
                with pytest.raises(CommitConflictError):
                    self.merger.publish(merge)
                self._fold(what)
                merge.prepare(self.merger.table)
                self.merger.publish(merge)
            case "delete" if self.rows:
                delete_rows(self.catalog, NAME, "id", what)
                self.rows = {key: text for key, text in self.rows.items() if key not in what}
            case "rewrite" if self.rows:
                self.merger.table.overwrite(self.merger.table.scan().to_arrow())
            case "repartition":
                with self.merger.table.update_spec() as update:
                    for field in self.merger.table.spec().fields:
                        update.remove_field(field.name)
                    if how:
                        update.add_field("id", BucketTransform(how), f"id_{how}")

    def check(self) -> None:
        if self.merger.table.current_snapshot() is None:
            return
        assert judge.query(self.merger.table, "SELECT id, text FROM {table} ORDER BY ALL") == sorted(self.rows.items())
        audit = audit_keys(self.merger.table, ["id"])
        assert (audit.row_count, audit.duplicate_keys) == (len(self.rows), 0)

    def _fold(self, batch: dict[int, str | None]) -> None:
        self.rows = {key: text for key, text in (self.rows | batch).items() if text is not None}


def _run(layout: list[str], events: list[tuple[str, Any, Any]]) -> None:
    merging = Merging(layout)
    for event in events:
        merging.step(*event)
        merging.check()
    for snapshot in merging.merger.table.metadata.snapshots:
        counted = judge.query(merging.merger.table, "SELECT count(*), count(DISTINCT id) FROM {table}", snapshot.snapshot_id)
        assert counted[0][0] == counted[0][1]
    assert isinstance(merging.merger.table.scan().to_arrow(), pa.Table)
    merging.catalog.close()


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(layout=LAYOUTS, events=st.lists(EVENTS, min_size=3, max_size=8))
def test_a_table_is_the_fold_of_its_changes(layout: list[str], events: list[tuple[str, Any, Any]]) -> None:
    _run(layout, events)


HISTORIES = st.lists(st.tuples(st.sampled_from(range(5)), TEXTS, st.sampled_from([0, 1])), min_size=4, max_size=24)
READS = st.lists(st.tuples(st.sampled_from(list(MODES)), st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=8)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(history=HISTORIES, reads=READS)
def test_of_two_logs_that_are_read_at_any_pace_the_newest_change_of_each_key_counts(
    history: list[tuple[int, str | None, int]], reads: list[tuple[str, int, int]]
) -> None:
    """The source's position is the place in `history`; each change stands in one of two logs, in that order."""
    catalog = make_systems(Path(mkdtemp(prefix="merging-"))).catalog
    merger = Merger(catalog, make_upsert_spec(source={"topic": "clicks", "format": "debezium-json"}))
    logs = [[(at, key, text) for at, (key, text, log) in enumerate(history) if log == one] for one in (0, 1)]
    newest: dict[int, tuple[int, str | None, int]] = {}
    for mode, *counts in [*reads, ("marking", len(history), len(history))]:
        batch: dict[int, tuple[int, str | None, int]] = {}
        for one, count in enumerate(counts):
            taken, logs[one] = logs[one][:count], logs[one][count:]
            for at, key, text in taken:
                batch[key] = max(batch.get(key, (-1, None, 0)), (at, text, one), key=lambda change: change[0])
        if batch:
            merger.merge(_place(batch), has_several_logs=True, **MODES[mode])
        for key, change in batch.items():
            newest[key] = max(newest.get(key, change), change, key=lambda change: change[0])
        expected = {key: text for key, (_, text, _) in newest.items() if text is not None}
        if merger.table.current_snapshot() is not None:
            assert judge.query(merger.table, "SELECT id, text FROM {table} ORDER BY ALL") == sorted(expected.items())
    catalog.close()


def _place(batch: dict[int, tuple[int, str | None, int]]) -> Changes:
    """Changes by key, as (source position, text, topic partition)."""
    positions, texts, partitions = zip(*batch.values(), strict=True)
    return make_changes(
        dict(zip(batch, texts, strict=True)),
        _source_position=pa.array(positions, pa.int64()),
        _kafka_partition=pa.array(partitions, pa.int32()),
        _kafka_offset=pa.array(positions, pa.int64()),
        _kafka_timestamp=pa.array([0] * len(batch), pa.timestamp("us", tz="UTC")),
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(layout=LAYOUTS, events=st.lists(EVENTS, min_size=3, max_size=20))
def test_a_table_is_the_fold_of_many_changes(layout: list[str], events: list[tuple[str, Any, Any]]) -> None:
    _run(layout, events)
