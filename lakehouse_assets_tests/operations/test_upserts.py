"""Upsert tables: in every snapshot one row per key, and the state is the fold of the log up to the ledger."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from lakehouse_assets.model.errors import QuarantineOrderError, ReplayImpossibleError, TableDiffersError
from lakehouse_assets.operations import refolding
from lakehouse_assets.operations.replay import run_replay
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import make_spec
from lakehouse_assets_tests.operations.lake import Lake, hours_ago

pytestmark = pytest.mark.kafka

MakeLake = Callable[..., Lake]
_UPSERT: dict[str, Any] = {"mode": "upsert", "key": ["id"]}


def _send(table: Lake, changes: list[tuple[int, str | None]], timestamp_ms: int | None = None, partition: int = 0) -> None:
    for key, text in changes:
        value = None if text is None else json.dumps({"id": key, "text": text}).encode()
        table.broker.produce(table.topic, [value], key=str(key), partition=partition, timestamp_ms=timestamp_ms)


def _rows(table: Lake) -> dict[int, str]:
    found = judge.query(table.table, "SELECT id, text FROM {table} ORDER BY ALL")
    assert len({key for key, _ in found}) == len(found)
    return dict(found)  # type: ignore[arg-type]


def test_lists_maps_and_structs_of_rows_that_stay_are_kept_when_their_file_is_written_again(lake: MakeLake) -> None:
    nested = {"items": "list<struct<a:int,b:list<string>>>", "counts": "map<string,long>", "point": "struct<x:double,y:double>"}
    columns = [{"name": "id", "type": "long", "required": True}, *({"name": n, "type": t} for n, t in nested.items())]
    table = lake(**_UPSERT, schema=columns, properties={"write.update.mode": "copy-on-write"})
    value = {"items": [{"a": 1, "b": ["x", None]}, None], "counts": {"k": 5}, "point": {"x": 1.5, "y": None}}
    for key in (1, 2):
        table.broker.produce(table.topic, [json.dumps({"id": key, **value})], key=str(key))
    table.ingest()
    table.broker.produce(table.topic, [json.dumps({"id": 1})], key="1")
    table.ingest()

    assert judge.query(table.table, "SELECT id, items, counts, point FROM {table} ORDER BY id") == [
        (1, None, None, None),
        (2, value["items"], value["counts"], value["point"]),
    ]


def test_values_take_the_place_of_rows_and_no_value_takes_them_out_within_and_across_commits(lake: MakeLake) -> None:
    table = lake(**_UPSERT)
    _send(table, [(1, "a"), (2, "b"), (1, "c"), (3, "d"), (3, None)])
    table.ingest()
    assert _rows(table) == {1: "c", 2: "b"}
    _send(table, [(1, None), (1, "e"), (2, None), (3, "f"), (4, None)])
    table.ingest()
    assert _rows(table) == {1: "e", 3: "f"}
    assert table.lag() == 0
    report = table.reports[-1]
    assert report.merge is not None
    assert (report.merge.inserted, report.merge.updated, report.merge.deleted, report.merge.absent) == (1, 1, 1, 1)
    assert report.total_rows == 2


def test_an_hour_folded_again_mends_what_others_did_and_lets_no_older_change_win_in_any_snapshot(lake: MakeLake) -> None:
    table = lake(**_UPSERT)
    earlier, later = hours_ago(3), hours_ago(2)
    _send(table, [(0, "untouched")], hours_ago(5))
    _send(table, [(1, "old"), (2, "old"), (3, "old"), (4, "old")], earlier)
    _send(table, [(1, "new"), (2, None), (4, "new")], later)
    table.ingest()
    state = {0: "untouched", 1: "new", 3: "old", 4: "new"}
    assert _rows(table) == state
    held = table.held()
    table.table.delete("id in (0, 3)")
    table.table.delete("id = 4")
    snapshots = len(table.table.metadata.snapshots)
    assert table.refold(table.key(earlier)) == [table.key(earlier)]
    # The row 0 has no change since the beginning of the hour, so it stays gone.
    assert _rows(table) == {1: "new", 3: "old", 4: "new"}
    assert table.held() == held
    for snapshot in table.table.metadata.snapshots[snapshots:]:
        rows = judge.query(table.table, "SELECT id, text FROM {table} ORDER BY ALL", snapshot.snapshot_id)
        assert rows == [(1, "new"), (3, "old"), (4, "new")]


def test_folding_an_hour_again_brings_a_table_forward_that_has_not_come_there_yet(lake: MakeLake) -> None:
    table = lake(**_UPSERT)
    _send(table, [(1, "a")], hours_ago(4))
    table.ingest()
    _send(table, [(1, "b"), (2, "b")], hours_ago(3))
    _send(table, [(1, "c")], hours_ago(2))
    _send(table, [(1, "d")], hours_ago(1))
    table.refold(table.key(hours_ago(2)))
    assert _rows(table) == {1: "c", 2: "b"}
    assert table.lag() == 1
    table.ingest()
    assert _rows(table) == {1: "d", 2: "b"}


def test_an_hour_that_kafka_no_longer_has_whole_is_refused_with_the_remedy_and_nothing_changes(lake: MakeLake) -> None:
    table = lake(**_UPSERT)
    _send(table, [(1, "a"), (2, "a")], hours_ago(3))
    _send(table, [(1, "b")], hours_ago(2))
    table.ingest()
    table.broker.delete_records(table.topic, {0: 1})
    snapshots = len(table.table.metadata.snapshots)
    with pytest.raises(ReplayImpossibleError, match="Take a new snapshot of the source"):
        table.refold(table.key(hours_ago(3)))
    assert len(table.table.metadata.snapshots) == snapshots
    table.refold(table.key(hours_ago(2)))
    assert _rows(table) == {1: "b", 2: "a"}


def test_who_waits_for_a_long_fold_hears_how_far_it_is(lake: MakeLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refolding, "_TELL_SECONDS", 0.0)
    table = lake(**_UPSERT)
    _send(table, [(key, "a") for key in range(50)], hours_ago(1))
    table.ingest()
    heard: list[tuple[int, int]] = []
    table.refold(table.key(hours_ago(1)), on_progress=lambda read, total: heard.append((read, total)))
    assert heard[0] == (0, 50)
    assert heard == sorted(heard)


def test_more_changes_than_memory_holds_are_folded_again_share_by_share_beside_live_ingestion(lake: MakeLake) -> None:
    table = lake(buffer_size="16MiB", **_UPSERT)
    wide = "x" * 20_000
    first = hours_ago(2)
    for start in range(0, 1200, 100):
        values = [json.dumps({"id": key, "text": f"{key} {wide}"}).encode() for key in range(start, start + 100)]
        table.broker.produce(table.topic, values, timestamp_ms=first)
    table.ingest()
    table.table.delete("id < 600")
    live = table.reopened()
    seen: list[int] = []

    def between(_report: object) -> None:
        if len(seen) < 2:
            seen.append(1)
            _send(table, [(5, None), (2000 + len(seen), "live")], hours_ago(0))
            live.ingest()

    table.refold(table.key(first), on_commit=between)
    assert len(seen) == 2
    rows = judge.query(table.table, "SELECT count(*), count(DISTINCT id), min(id), max(id) FROM {table}")
    assert rows == [(1201, 1201, 0, 2002)]
    assert not judge.query(table.table, "SELECT id FROM {table} WHERE id = 5")
    assert sum(1 for r in table.reports if r.merge is not None) > 3


def test_messages_in_quarantine_come_in_with_their_hour_and_never_over_a_newer_change(lake: MakeLake) -> None:
    table = lake(**_UPSERT)
    at = hours_ago(2)
    _send(table, [(1, "a")], at)
    table.broker.produce(table.topic, [b'{"id": 1, "text": 5}', b'{"id": 2, "text": 6}'], timestamp_ms=at)
    _send(table, [(1, "b")], at)
    table.ingest()
    assert _rows(table) == {1: "b"}
    assert table.quarantined() == [(0, 1), (0, 2)]
    with pytest.raises(QuarantineOrderError, match="Materialize the hours"):
        run_replay(table.systems, table.spec, table.now_ms)
    columns = [{"name": "id", "type": "long", "required": True}, {"name": "text", "type": "string", "from": "other"}]
    table.spec = table.spec.model_copy(update={"columns": make_spec(schema=columns).columns})
    table.refold(table.key(at))
    assert table.quarantined() == []
    assert judge.query(table.table, "SELECT id, text FROM {table} ORDER BY ALL") == [(1, None), (2, None)]


def test_a_table_with_rows_keeps_its_mode(lake: MakeLake) -> None:
    table = lake(key=["id"])
    _send(table, [(1, "a"), (1, "b")])
    table.ingest()
    table.spec = make_spec(table.topic, **_UPSERT)
    with pytest.raises(TableDiffersError, match="its rows came by mode append, and the declaration says upsert"):
        table.ingest()
    other = lake(**_UPSERT)
    _send(other, [(1, "a")])
    other.ingest()
    other.spec = make_spec(other.topic, key=["id"])
    with pytest.raises(TableDiffersError, match="its rows came by mode upsert, and the declaration says append"):
        other.ingest()


@pytest.mark.slow
def test_workers_collapse_their_shares_and_one_commit_takes_all(lake: MakeLake) -> None:
    table = lake(topic_partitions=3, workers=3, commit_interval="1s", **_UPSERT)
    for partition in range(3):
        keys = range(partition, 300, 3)
        _send(table, [(key, "old") for key in keys] + [(key, f"new {key}") for key in keys if key % 2], partition=partition)
    table.ingest()
    assert _rows(table) == {key: f"new {key}" if key % 2 else "old" for key in range(300)}
    assert table.lag() == 0


def test_hours_of_an_upsert_table_are_never_replaced_as_rows(lake: MakeLake) -> None:
    table = lake(**_UPSERT)
    _send(table, [(1, "a")])
    table.ingest()
    with pytest.raises(ValueError, match="upserts"):
        table.replace(table.key(table.now_ms()))
    assert _rows(table) == {1: "a"}
