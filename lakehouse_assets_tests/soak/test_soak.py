"""A short soak in the default run: another seed every time, which is printed where it fails."""

import os
import random
from pathlib import Path

import pytest

from lakehouse_assets_tests import ports
from lakehouse_assets_tests.soak.run import draw_steps, run_soak

SECONDS = 20.0


@pytest.mark.kafka
@pytest.mark.slow
def test_twenty_seconds_of_random_faults_lose_and_double_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED") or random.randrange(2**32))
    print(f"SEED={seed}")  # noqa: T201 - pytest shows it where the test fails

    said = run_soak(tmp_path, ports.port_of(ports.SOAK), seed, SECONDS, print)

    assert said.startswith("every one of ")


def test_a_seed_gives_the_same_faults_again() -> None:
    first, second, other = (draw_steps(seed) for seed in (7, 7, 8))

    drawn = [[next(steps) for _ in range(200)] for steps in (first, second, other)]

    assert drawn[0] == drawn[1] != drawn[2]
