"""A table over a topic of the real broker."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lakehouse_assets_tests import faults
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.operations.lake import Lake


@pytest.fixture
def lake(tmp_path: Path, broker: Broker, topic: Callable[..., str]) -> Iterator[Callable[..., Lake]]:
    """`lake(topic_partitions=1, settings=None, **declaration)` creates a topic and opens its table."""
    faults.EFFECTS.arm(None)
    opened: list[Lake] = []

    def open_lake(
        topic_partitions: int = 1, settings: dict[str, str] | None = None, **declaration: object
    ) -> Lake:
        opened.append(
            Lake.open(tmp_path / str(len(opened)), broker, topic(topic_partitions, settings), **declaration)
        )
        return opened[-1]

    yield open_lake
    faults.EFFECTS.arm(None)
