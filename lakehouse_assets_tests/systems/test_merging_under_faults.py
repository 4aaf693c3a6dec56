"""A merge that fails at any effect leaves nothing behind, and can be prepared again."""

from pathlib import Path

import pytest

from lakehouse_assets.model.errors import CommitConflictError, StorageError
from lakehouse_assets_tests.faults import EFFECTS, Fault, FaultyCatalog, When, fill_disk
from lakehouse_assets_tests.systems.merges import IN_EVERY_MODE, Merger, Mode, make_changes, make_upsert_spec


def list_files(merger: Merger) -> set[Path]:
    folder = Path(merger.table.location().removeprefix("file://"))
    return {path for path in folder.rglob("*") if path.is_file()}


@IN_EVERY_MODE
@pytest.mark.parametrize("when", ["before", "half", "after"])
def test_a_disk_that_is_full_at_any_moment_leaves_no_file_of_a_merge(catalog: FaultyCatalog, mode: Mode, when: When) -> None:
    merger = Merger(catalog, make_upsert_spec(partition_by=["bucket(2, id)"]), mode)
    merger.put(dict.fromkeys(range(20), "a"))
    merger.put(dict.fromkeys(range(5), "b"))
    before = list_files(merger)
    merge = merger.plan(make_changes(dict.fromkeys(range(3, 8), "c") | {9: None}), has_several_logs=True)
    EFFECTS.arm(None)
    merge.prepare(merger.table)
    effects = [effect for effect in EFFECTS.seen if not effect.startswith("delete")]
    assert {effect.partition(" ")[0] for effect in effects} == {"create", "write", "close"}
    for location in merge.written_locations:
        merger.table.io.delete(location)

    for at in range(0, len(effects), 2):
        EFFECTS.arm(Fault(at, when, fill_disk))
        with pytest.raises(StorageError):
            merge.prepare(merger.table)
        EFFECTS.arm(None)
        assert list_files(merger) == before
        assert merge.written_locations == []
        with pytest.raises(CommitConflictError):
            merge.swap(merger.table)

    merge.prepare(merger.table)
    merger.publish(merge)
    model = dict.fromkeys(range(20), "a") | dict.fromkeys(range(5), "b") | dict.fromkeys(range(3, 8), "c")
    assert merger.read() == {key: text for key, text in model.items() if key != 9}


def test_deletes_of_rows_that_are_not_there_change_nothing(catalog: FaultyCatalog) -> None:
    merger = Merger(catalog)
    merger.put({1: "a"})
    merge = merger.plan(make_changes({7: None, 8: None}))

    merge.prepare(merger.table)

    assert merge.is_untouched
    assert merge.written_locations == []
    assert merge.figures.absent == 2
