"""Something else happens to the table just before an operation has an effect: nothing is lost, doubled, or brought back."""

import os
import random
from collections.abc import Iterator

import pytest

from lakehouse_assets.model.errors import CommitConflictError, LakehouseError, TableMissingError
from lakehouse_assets.model.maintenance import MaintenanceReport
from lakehouse_assets_tests.faults import EFFECTS, Fault
from lakehouse_assets_tests.upkeep.ground import Backup, Ground
from lakehouse_assets_tests.upkeep.operations import OPERATIONS

# PyIceberg, who deletes as somebody else here, writes touched files again, whatever the table asks for.
pytestmark = pytest.mark.filterwarnings("ignore:Merge on read is not yet supported")

EVENTS = (
    "append", "put", "delete", "mark", "mark_and_append", "delete_by_key", "compact", "change_spec", "change_schema", "tag",
    "roll_back", "write_branch", "drop",
)  # fmt: skip
# What may be said of it, instead of doing the work; all else is done, or kept back in the report.
REFUSALS = {
    "change_spec": CommitConflictError,
    "change_schema": CommitConflictError,
    "drop": TableMissingError,
}
OTHER_MOMENTS = 3


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Backup:
    return Backup(Ground.trodden(tmp_path_factory.mktemp("races") / "ground"))


@pytest.fixture
def ground(backup: Backup) -> Iterator[Ground]:
    EFFECTS.arm(None)
    ground = backup.restore()
    yield ground
    EFFECTS.arm(None)
    ground.close()


def race(ground: Ground, operation: str, event: str, at: int | str) -> MaintenanceReport | LakehouseError:
    """Run an operation during which something happens, look at the table, run it again, and look again."""
    heard: list[str] = []

    def happen(effect: str) -> None:
        heard.append(effect)
        getattr(ground, event)()

    answer: MaintenanceReport | LakehouseError
    EFFECTS.arm(Fault(at, "before", happen))
    try:
        answer = ground.maintain(operation, ground.faulty())
    except REFUSALS.get(event, ()) as refusal:
        answer = refusal
    finally:
        EFFECTS.arm(None)
    assert heard, "it did nothing at which something else could happen"
    ground.note()
    if event == "drop":
        assert not ground.exists
        return answer
    ground.judge()
    ground.maintain(operation)
    ground.note()
    ground.judge()
    return answer


@pytest.mark.parametrize(
    ("operation", "event"),
    [
        ("compact", "mark_and_append"),
        ("compact", "delete_by_key"),
        ("tidy_deletes", "put"),
        ("rewrite_manifests", "put"),
        ("expire", "roll_back"),
    ],
)
def test_what_happens_just_before_an_operation_commits_is_kept_and_no_reason_to_give_up(
    ground: Ground, operation: str, event: str
) -> None:
    if operation == "compact":
        ground.maintain("tidy_deletes")  # else that would be its first commit
        ground.note()

    answer = race(ground, operation, event, "commit")

    assert isinstance(answer, MaintenanceReport)
    done = (
        answer.snapshot_ids or answer.figures.get("snapshots_deleted") or answer.figures.get("files_deleted")
    )
    assert done or event == "roll_back"  # to where nothing is to be done


@pytest.mark.slow
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_happens_at_any_moment_of_an_operation_is_kept(
    ground: Ground, backup: Backup, operation: str, event: str
) -> None:
    seed = int(os.environ.get("RACES_SEED", random.randrange(2**32)))
    print(f"RACES_SEED={seed}")  # noqa: T201 - pytest shows it where the test fails
    ground.maintain(operation, ground.faulty())
    commits = [at for at, effect in enumerate(EFFECTS.seen) if effect.startswith("commit")]
    others = [at for at in range(len(EFFECTS.seen)) if at not in commits]
    for at in sorted({*commits, *random.Random(seed).sample(others, min(OTHER_MOMENTS, len(others)))}):
        print(f"at effect {at}")  # noqa: T201
        race(backup.restore(), operation, event, at)
