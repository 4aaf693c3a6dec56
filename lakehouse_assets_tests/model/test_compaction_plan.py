"""Which files are written again together, and that it ends."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from lakehouse_assets.model.compaction_plan import CompactionPlan, FileDebt, plan_compaction

MIB = 2**20
TARGET = 128 * MIB


def make_files(*sizes: float, place: tuple[object, ...] = (0,), **facts: int) -> list[FileDebt]:
    """Files of so many MiB."""
    return [FileDebt(f"{place}-{n}", place, 1000, int(size * MIB), n, **facts) for n, size in enumerate(sizes)]


def plan(files: Sequence[FileDebt], **limits: int) -> CompactionPlan:
    return plan_compaction(files, **({"target_bytes": TARGET, "small_files": 6, "max_bytes": 2**50} | limits))


def sizes(done: CompactionPlan) -> list[list[int]]:
    return [sorted(file.size_bytes // MIB for file in group.files) for group in done.groups]


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ([1] * 5, []),
        ([1] * 6, [[1] * 6]),
        ([90, 60], [[60, 90]]),  # enough for a file
        ([90, 30], []),
        ([97, 127, 200], []),  # of a good size
        ([240], [[240]]),  # too large
        ([97] * 10, []),
    ],
)
def test_files_are_taken_by_size_and_number(given: list[float], taken: list[list[int]]) -> None:
    assert sizes(plan(make_files(*given))) == taken


def test_a_file_of_many_deleted_rows_is_written_again_whatever_its_size() -> None:
    assert sizes(plan(make_files(100, 100, dead_rows=200, delete_files=1))) == [[100, 100]]
    assert sizes(plan(make_files(100, dead_rows=4, delete_files=4))) == [[100]]
    assert sizes(plan(make_files(100, dead_rows=199, delete_files=3))) == []


def test_partitions_are_apart_and_the_oldest_comes_first() -> None:
    young = [replace(file, sequence_number=50) for file in make_files(*[1] * 6, place=(0, "young"))]
    old = make_files(*[2] * 7, place=(0, "old"))
    assert [group.place for group in plan([*young, *old]).groups] == [(0, "old"), (0, "young")]


def test_a_run_takes_what_it_may_but_one_group_at_least() -> None:
    files = [file for place in range(4) for file in make_files(*[10] * 6, place=(0, place))]
    done = plan(files, max_bytes=130 * MIB)
    assert (len(done.groups), len(done.postponed)) == (2, 2)
    assert len(plan(files, max_bytes=1).groups) == 1


def test_a_large_partition_is_cut_into_groups_of_about_one_size() -> None:
    groups = plan(make_files(*[10] * 1000), group_bytes=2048 * MIB).groups
    assert [len(group.files) for group in groups] == [200] * 5
    assert [file.sequence_number for group in groups for file in group.files] == list(range(1000))


def test_a_larger_file_waits_while_tiny_ones_come() -> None:
    assert sizes(plan(make_files(60, *[1] * 6))) == [[1] * 6]
    assert sizes(plan(make_files(20, *[1] * 6))) == [[1] * 6 + [20]]


@pytest.mark.parametrize("seed", range(30))
def test_a_run_right_after_a_run_finds_nothing(seed: int) -> None:
    """Whatever stands in a partition, and however well the rows are packed the second time."""
    rng = random.Random(seed)
    files = make_files(*(rng.choice([rng.uniform(0.1, 5), rng.uniform(1, 400)]) for _ in range(rng.randrange(1, 60))))
    files = [replace(f, dead_rows=rng.choice([0, 0, 0, 300]), delete_files=rng.choice([0, 0, 1])) for f in files]
    small_files, packed = rng.randrange(2, 12), rng.uniform(0.6, 1.1)
    done = plan(files, small_files=small_files)
    taken = {file.path for group in done.groups for file in group.files}
    outputs = [
        size
        for group in done.groups
        for size in write(sum(f.size_bytes * (f.rows - f.dead_rows) / f.rows for f in group.files) * packed / MIB)
    ]

    assert not plan([*(f for f in files if f.path not in taken), *make_files(*outputs)], small_files=small_files).groups


def write(size: float) -> list[float]:
    """The sizes of the files that the writer makes of so many MiB: none begins that would stay small."""
    target, made = TARGET / MIB, []
    while size - target >= 0.75 * target:
        made.append(target)
        size -= target
    return [*made, size]
