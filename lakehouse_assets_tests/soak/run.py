"""One soak: draws steps from the seed, has the world do them, and looks at the table after each."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets_tests.postgres import PostgresServer
from lakehouse_assets_tests.proxy import FaultyProxy
from lakehouse_assets_tests.soak.reader import watching
from lakehouse_assets_tests.soak.world import STEPS, World


@dataclass(frozen=True, slots=True)
class Step:
    """What happens next; `seed` decides everything in it that is left to chance."""

    number: int
    name: str
    seed: int

    def __str__(self) -> str:
        return f"{self.number:5} {self.name}"


def draw_steps(seed: int) -> Iterator[Step]:
    """The same steps for the same seed, without end, however fast the machine is and whatever comes of them."""
    rng = random.Random(seed)
    number = 0
    while True:
        number += 1
        yield Step(number, rng.choices(list(STEPS), list(STEPS.values()))[0], rng.getrandbits(32))


def run_soak(folder: Path, port: int, seed: int, seconds: float, say: Callable[[str], None]) -> str:
    """Faults for so long, then calm until the table has everything; what happened, in one line.

    Raises:
        AssertionError: something was lost, came twice, or could not be read.
    """
    began, counts = time.monotonic(), Counter[str]()
    with (
        LocalKafka(folder / "kafka", port=port) as kafka,
        PostgresServer(folder / "postgres", port=port + 10) as postgres,
        FaultyProxy(postgres.port) as proxy,
    ):
        world = World.open(folder, kafka, postgres, proxy)
        with closing(world), watching(world) as reader:
            for step in draw_steps(seed):
                if time.monotonic() - began > seconds:
                    break
                did = world.do(step.name, random.Random(step.seed))
                counts[step.name] += did is not None
                say(f"{step} {did or '(not now)'}")
                world.judge()
                reader.judge()
            say("calm")
            rest = world.come_to_rest()
            looks = reader.judge()
    done = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    return f"{rest}, {looks} looks of a reader; {done}"
