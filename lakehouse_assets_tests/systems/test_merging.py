"""Rows are put under their keys: at most one row per key in every snapshot, whoever else writes."""

import pytest

from lakehouse_assets.model.errors import CommitConflictError
from lakehouse_assets.model.transforms import TRANSFORM_NAMES, is_fitting
from lakehouse_assets.model.types import parse_type
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.builders import append_foreign_rows
from lakehouse_assets_tests.faults import FaultyCatalog
from lakehouse_assets_tests.foreign_deletes import delete_rows
from lakehouse_assets_tests.systems.keys import KEYS
from lakehouse_assets_tests.systems.merges import (
    IN_EVERY_MODE,
    NAME,
    Merger,
    Mode,
    make_changes,
    make_upsert_spec,
)

LAYOUTS = pytest.mark.parametrize("partition_by", [[], ["bucket(4, id)"], ["truncate(1, text)"]], ids=["none", "key", "other"])


@IN_EVERY_MODE
@LAYOUTS
def test_a_key_has_its_last_row_or_none(catalog: FaultyCatalog, mode: Mode, partition_by: list[str]) -> None:
    merger = Merger(catalog, make_upsert_spec(partition_by=partition_by), mode)
    model: dict[int, str | None] = {}
    for commit in range(12):
        batch = {k: None if (k + commit) % 5 == 0 else f"{k % 3} of commit {commit}" for k in range(commit, 60, commit + 1)}
        figures = merger.put(batch).figures

        before = {k for k, text in model.items() if text is not None}
        assert figures.updated == len([k for k, text in batch.items() if text is not None and k in before])
        assert figures.deleted == len([k for k, text in batch.items() if text is None and k in before])
        assert figures.inserted + figures.updated + figures.deleted + figures.absent == len(batch)
        model |= batch
        assert merger.read() == {k: text for k, text in model.items() if text is not None}


def _layouts(key_type: str) -> list[list[str]]:
    kind = parse_type(key_type)
    written = [f"{t}(3, id)" if t in ("bucket", "truncate") else f"{t}(id)" for t in TRANSFORM_NAMES if is_fitting(t, kind)]
    return [[], *[[transform] for transform in written]]


@pytest.mark.parametrize("key_type", KEYS)
def test_keys_of_every_type_are_found_whatever_partitions_them(catalog: FaultyCatalog, key_type: str) -> None:
    keys = KEYS[key_type]
    for partition_by in _layouts(key_type):
        spec = make_upsert_spec(key_type, partition_by=partition_by)
        merger = Merger(catalog, spec)
        kind = merger.table.schema().as_arrow().field("id").type
        for text in ("first", "second"):
            for half in (keys[::2], keys[1::2]):
                merger.merge(make_changes(dict.fromkeys(half, text), kind))
        figures = merger.merge(make_changes({keys[0]: None, keys[-1]: "third"}, kind)).figures

        assert (figures.deleted, figures.updated) == (1, 1)
        assert judge.query(merger.table, "SELECT count(*), count(DISTINCT id), min(text) FROM {table}") == [
            (len(keys) - 1, len(keys) - 1, "second" if len(keys) > 2 else "third")
        ]
        catalog.drop_table(NAME)


@IN_EVERY_MODE
@LAYOUTS
def test_rows_that_others_deleted_do_not_come_back(catalog: FaultyCatalog, mode: Mode, partition_by: list[str]) -> None:
    merger = Merger(catalog, make_upsert_spec(partition_by=partition_by), mode)
    merger.put(dict.fromkeys(range(40), "a"))
    delete_rows(catalog, NAME, "id", range(20))

    figures = merger.put(dict.fromkeys(range(10, 30), "b") | {5: None}).figures

    assert (figures.inserted, figures.updated, figures.deleted, figures.absent) == (10, 10, 0, 1)
    assert merger.read() == {k: "b" if k < 30 else "a" for k in range(10, 40)}


@IN_EVERY_MODE
def test_what_others_commit_between_prepare_and_publish_is_a_conflict_and_is_respected(
    catalog: FaultyCatalog, mode: Mode
) -> None:
    merger = Merger(catalog, mode=mode)
    merger.put(dict.fromkeys(range(10), "a"))
    foreign = [
        lambda: delete_rows(catalog, NAME, "id", [1, 2]),
        lambda: append_foreign_rows(merger.table, 2, first_id=20),
        lambda: merger.table.overwrite(merger.table.scan().to_arrow()),
        lambda: Merger.put(merger, {3: None, 4: "other"}),
    ]
    for meanwhile in foreign:
        merge = merger.plan(make_changes({1: "b", 3: "b", 20: "b", 30: "b"}))
        merge.prepare(merger.table)
        meanwhile()
        with pytest.raises(CommitConflictError):
            merger.publish(merge)

        merge.prepare(merger.table)
        merger.publish(merge)

        assert {k: text for k, text in merger.read().items() if text == "b"} == {1: "b", 3: "b", 20: "b", 30: "b"}

    assert merger.read() == dict.fromkeys([0, 5, 6, 7, 8, 9], "a") | dict.fromkeys([1, 3, 20, 30], "b") | {4: "other", 21: None}
