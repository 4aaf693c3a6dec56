"""An operation dies at any of its effects: at most files are left that nothing reaches, and it can be run again at once."""

from collections.abc import Callable, Iterator

import pytest

from lakehouse_assets_tests import faults
from lakehouse_assets_tests.faults import EFFECTS, Crash, Fault
from lakehouse_assets_tests.upkeep.ground import Backup, Ground
from lakehouse_assets_tests.upkeep.operations import OPERATIONS

pytestmark = pytest.mark.filterwarnings("ignore:Merge on read is not yet supported")


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Backup:
    return Backup(Ground.trodden(tmp_path_factory.mktemp("crashes") / "ground"))


@pytest.fixture(autouse=True)
def _no_fault_is_left() -> Iterator[None]:
    EFFECTS.arm(None)
    yield
    EFFECTS.arm(None)


def list_effects(ground: Ground, operation: str) -> list[str]:
    """What the operation does when nothing disturbs it."""
    EFFECTS.arm(None)
    ground.maintain(operation, ground.faulty())
    ground.judge()
    return list(EFFECTS.seen)


def end_in_the_middle(ground: Ground, operation: str, fault: Fault) -> None:
    """End early, look at the table, run the operation again, and look again."""
    EFFECTS.arm(fault)
    with pytest.raises(Crash):
        ground.maintain(operation, ground.faulty())
    EFFECTS.arm(None)
    ground.note()
    ground.judge()
    ground.maintain(operation)
    ground.note()
    ground.judge()
    ground.close()


WAYS = {"killed": faults.die, "interrupted": faults.crash}


@pytest.mark.parametrize(
    ("operation", "effect", "when", "way"),
    [
        ("compact", "commit", "after", "killed"),
        ("compact", "commit", "after", "interrupted"),
        ("tidy_deletes", "commit", "after", "interrupted"),
        ("expire", "commit", "after", "killed"),
        ("expire", "delete", "after", "interrupted"),
        ("remove_orphans", "delete", "before", "killed"),
    ],
)
def test_an_operation_that_ends_in_the_middle_loses_nothing_and_is_run_again(
    backup: Backup, operation: str, effect: str, when: faults.When, way: str
) -> None:
    ground = backup.restore()
    if operation == "compact":
        ground.maintain("tidy_deletes")  # else that would be its first commit
        ground.note()
    end_in_the_middle(ground, operation, Fault(effect, when, WAYS[way]))


@pytest.mark.slow
@pytest.mark.parametrize("act", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_that_ends_at_any_effect_loses_nothing_and_is_run_again(
    backup: Backup, operation: str, act: Callable[[str], None]
) -> None:
    effects = list_effects(backup.restore(), operation)
    cases = [(number, "before") for number in range(len(effects))]
    cases += [(number, "half") for number, effect in enumerate(effects) if effect.startswith("write")]
    cases += [
        (number, "after") for number, effect in enumerate(effects) if effect.startswith(("commit", "delete"))
    ]
    assert len(cases) > 1
    for number, when in cases:
        print(number, when, effects[number])  # noqa: T201 - pytest shows it where the test fails
        end_in_the_middle(backup.restore(), operation, Fault(number, when, act))
