"""A table over a topic of the real broker."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lakehouse_assets_tests import faults
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.change_streams import COLUMNS
from lakehouse_assets_tests.operations.lake import Lake
from lakehouse_assets_tests.operations.stream import MakeStream, Stream


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


@pytest.fixture
def open_stream(lake: Callable[..., Lake]) -> MakeStream:
    """`open_stream(topic_partitions=1, whole=True, mode="merge-on-read", **declaration)` opens a table of changes."""

    def make(partitions: int = 1, *, whole: bool = True, mode: str = "merge-on-read", **declared: Any) -> Stream:
        properties = {f"write.{verb}.mode": mode for verb in ("update", "delete", "merge")}
        parts = {"schema": COLUMNS, "mode": "upsert", "key": ["id"], "source": {"format": "debezium-json"}} | declared
        return Stream(lake(partitions, **parts, properties=properties), whole)

    return make
