"""Whatever a table looks like, a plan of a merge loses no row, and small files stay few."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.model.merge_plan import FEW_ROWS, Fate, FileState, MergePlan, Place, plan_merge

PLACES: list[Place] = [(0, 1), (0, 2), (1, "x")]


@st.composite
def file_states(draw: st.DrawFn) -> FileState:
    rows = draw(st.integers(1, 100_000))
    live = draw(st.integers(0, rows))
    taken = draw(st.integers(0, live) | st.just(live) | st.just(0))
    return FileState(str(draw(st.uuids())), draw(st.sampled_from(PLACES)), rows, live, rows * 100, taken)


FILES = st.lists(file_states(), max_size=12)
NEW_ROWS = st.dictionaries(st.sampled_from(PLACES), st.integers(1, 50_000))


@given(files=FILES, new_rows=NEW_ROWS, copy_on_write=st.booleans(), small=st.integers(0, 10_000_000))
def test_rows_that_are_taken_go_and_all_others_stay(
    files: list[FileState], new_rows: dict[Place, int], copy_on_write: bool, small: int
) -> None:
    plan = plan_merge(files, new_rows, copy_on_write=copy_on_write, small_file_bytes=small)

    assert set(plan.fates) == {file.path for file in files}
    for file in files:
        fate = plan.fates[file.path]
        assert (fate is Fate.DROP) == (file.taken_rows > 0 and file.left_rows == 0)
        if fate is Fate.KEEP:
            assert not file.taken_rows
        if fate is Fate.MARK:
            assert file.taken_rows
            assert not copy_on_write
        if fate is Fate.REWRITE and not (copy_on_write and file.taken_rows):
            assert file.place in new_rows
            assert file.size_bytes <= small
    assert plan.rewritten_rows == sum(f.left_rows for f in files if plan.fates[f.path] is Fate.REWRITE)
    assert plan.new_rows == sum(new_rows.values())


@given(files=FILES, copy_on_write=st.booleans())
def test_a_plan_without_new_rows_writes_again_only_what_copy_on_write_must(
    files: list[FileState], copy_on_write: bool
) -> None:
    plan = plan_merge(files, {}, copy_on_write=copy_on_write)

    rewritten = {file.path for file in files if copy_on_write and file.taken_rows and file.left_rows}
    assert set(plan.paths(Fate.REWRITE)) == rewritten


@given(batch=st.integers(FEW_ROWS // 10, 20 * FEW_ROWS), commits=st.integers(1, 120))
def test_after_many_commits_a_partition_has_few_small_files_and_rows_were_written_a_few_times(
    batch: int, commits: int
) -> None:
    files: list[FileState] = []
    written = 0
    for commit in range(commits):
        plan = plan_merge(files, {PLACES[0]: batch}, copy_on_write=False)
        rows = batch + plan.rewritten_rows
        files = [file for file in files if plan.fates[file.path] is Fate.KEEP]
        files.append(FileState(str(commit), PLACES[0], rows, rows, 1))
        written += rows

    assert sum(file.rows for file in files) == batch * commits
    assert len(files) <= 2 + commits.bit_length()
    assert written <= batch * commits * 3 * (2 + commits.bit_length())


def test_files_that_every_commit_marks_are_written_again_one_at_a_time_and_keep_few_deleted_rows() -> None:
    rows, batch, places, commits = 60_000, 125, [(0, place) for place in range(16)], 100
    files = [FileState(f"first {place}", place, rows, rows, 1) for place in places]
    rewritten = 0
    for commit in range(commits):
        files = [replace(file, taken_rows=batch if file.rows >= rows else 0) for file in files]
        plan = plan_merge(files, dict.fromkeys(places, batch), copy_on_write=False)
        again = [file for file in files if plan.fates[file.path] is Fate.REWRITE]
        files = [replace(file, live_rows=file.left_rows) for file in files if file not in again]
        for place in places:
            written = batch + sum(file.left_rows for file in again if file.place == place)
            files.append(FileState(f"{commit} {place}", place, written, written, 1))
        rewritten += plan.rewritten_rows

        assert len(files) <= 2 * len(places)
        assert len([file for file in again if file.rows >= rows]) <= 1
        assert all(file.live_rows >= 0.92 * file.rows for file in files)

    assert sum(file.live_rows for file in files) == rows * len(places)
    assert rewritten <= commits * 2 * FEW_ROWS * len(places)


def test_a_plan_says_what_it_does() -> None:
    files = [
        FileState("dead", PLACES[0], 10, 10, 100, 10),
        FileState("small", PLACES[0], 20, 20, 100, 5),
        FileState("large", PLACES[0], 10**6, 10**6, 10**9, 7),
        FileState("elsewhere", PLACES[1], 10, 10, 100),
    ]

    plan = plan_merge(files, {PLACES[0]: 30}, copy_on_write=False)

    assert plan == MergePlan(
        {"dead": Fate.DROP, "small": Fate.REWRITE, "large": Fate.MARK, "elsewhere": Fate.KEEP}, 30, 7, 15
    )
    assert str(plan) == (
        "30 rows new, 7 marked as deleted, 15 written again; "
        "files: 1 keep, 1 mark rows as deleted, 1 write again, 1 drop"
    )
