"""A catalog of its own for each test, with faults that wait to be caused."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse_assets_tests import faults
from lakehouse_assets_tests.builders import make_systems
from lakehouse_assets_tests.faults import FAULTY, FaultyCatalog


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[FaultyCatalog]:
    faults.EFFECTS.arm(None)
    opened = make_systems(tmp_path, **FAULTY).catalog
    assert isinstance(opened, FaultyCatalog)
    yield opened
    faults.EFFECTS.arm(None)
    opened.close()
