"""Somebody who reads the tables all the time, in a process of his own, and never knows what is going on."""

import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

from pyiceberg.catalog import Catalog
from sqlalchemy.exc import SQLAlchemyError

from lakehouse_assets.model.errors import CatalogUnavailableError
from lakehouse_assets.systems.catalog import load_table, open_catalog
from lakehouse_assets_tests.soak.changes import read_places
from lakehouse_assets_tests.soak.judging import judge_snapshot
from lakehouse_assets_tests.soak.timed import Looks
from lakehouse_assets_tests.soak.world import World

_PAUSE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Reader:
    """What he saw so far: a line for each look, and the last one says what was wrong, if anything was."""

    notes: Path

    def judge(self) -> int:
        """How often he looked.

        Raises:
            AssertionError: he saw what must never be seen.
        """
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        wrong = [line for line in lines if line != "good"]
        assert not wrong, f"a reader saw: {wrong[0]}"
        return len(lines)


@contextmanager
def watching(world: World) -> Iterator[Reader]:
    """He reads until the block ends, through a connection of his own that nobody disturbs."""
    context = multiprocessing.get_context("spawn")
    over, notes = context.Event(), world.folder / "reader"
    names = (world.table_name, world.topic, world.changing.calm.spec.table, world.timed.calm.spec.table)
    arguments = (dict(world.calm_catalog), *names, notes, over, os.getpid())
    process = context.Process(target=_read_on, args=arguments)
    process.start()
    try:
        yield Reader(notes)
    finally:
        over.set()
        process.join(30)
        process.kill()


def _read_on(
    properties: Mapping[str, str],
    name: str,
    topic: str,
    changing_name: str,
    timed_name: str,
    notes: Path,
    over: Event,
    parent: int,
) -> None:
    catalog: Catalog | None = None
    looks = Looks()
    with notes.open("w", buffering=1) as out:
        while not over.is_set() and os.getppid() == parent:
            try:
                catalog = catalog or open_catalog("lakehouse", properties)
                table = load_table(catalog, name)
                if table is not None and table.current_snapshot() is not None:
                    judge_snapshot(table, topic)
                    out.write("good\n")
                changing = load_table(catalog, changing_name)
                if changing is not None and changing.current_snapshot() is not None:
                    read_places(changing)
                    out.write("good\n")
                timed = load_table(catalog, timed_name)
                if timed is not None and timed.current_snapshot() is not None:
                    looks.look(timed)
                    out.write("good\n")
            except (CatalogUnavailableError, SQLAlchemyError):
                pass  # the catalog is killed now and then
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not be
                out.write(f"{type(error).__name__}: {error}".replace("\n", " ") + "\n")
            time.sleep(_PAUSE_SECONDS)
