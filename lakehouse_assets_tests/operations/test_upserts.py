"""Upsert tables: in every snapshot one row per key, and the state is the fold of the log up to the ledger."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from lakehouse_assets_tests import judge
from lakehouse_assets_tests.operations.lake import Lake

pytestmark = pytest.mark.kafka

MakeLake = Callable[..., Lake]
_UPSERT: dict[str, Any] = {"mode": "upsert", "key": ["id"]}


def _put(table: Lake, key: int, text: str | None, partition: int = 0) -> None:
    value = None if text is None else json.dumps({"id": key, "text": text}).encode()
    table.broker.produce(table.topic, [value], key=str(key), partition=partition)


def _rows(table: Lake) -> dict[int, str]:
    found = judge.query(table.table, "SELECT id, text FROM {table} ORDER BY ALL")
    assert len({key for key, _ in found}) == len(found)
    return dict(found)  # type: ignore[arg-type]


def test_values_take_the_place_of_rows_and_no_value_takes_them_out_within_and_across_commits(lake: MakeLake) -> None:
    table = lake(**_UPSERT)
    for key, text in [(1, "a"), (2, "b"), (1, "c"), (3, "d"), (3, None)]:
        _put(table, key, text)
    table.ingest()
    assert _rows(table) == {1: "c", 2: "b"}
    for key, text in [(1, None), (1, "e"), (2, None), (3, "f"), (4, None)]:
        _put(table, key, text)
    table.ingest()
    assert _rows(table) == {1: "e", 3: "f"}
    assert table.lag() == 0
    report = table.reports[-1]
    assert report.merge is not None
    assert (report.merge.inserted, report.merge.updated, report.merge.deleted, report.merge.absent) == (1, 1, 1, 1)
    assert report.total_rows == 2
