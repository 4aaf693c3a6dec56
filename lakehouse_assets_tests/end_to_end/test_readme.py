"""The lines that README shows for reading a table, run as they stand, in every engine it names."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse_assets.cli import main
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.conftest import TopicFactory

README = (Path(__file__).parents[2] / "README.md").read_text()
DECLARATION = """
table: demo.flights
source: {{topic: {topic}}}
commit_interval: 1s
schema:
  - {{name: carrier, type: string, required: true}}
  - {{name: origin, type: string, required: true}}
  - {{name: arr_delay, type: int}}
"""
FLIGHTS = [
    {"carrier": "UA", "origin": "EWR", "arr_delay": 11},
    {"carrier": "UA", "origin": "JFK", "arr_delay": 21},
    {"carrier": "B6", "origin": "JFK"},
]


@pytest.fixture
def flights(
    kafka: LocalKafka, broker: Broker, topic: TopicFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic()
    broker.produce(name, [json.dumps(flight) for flight in FLIGHTS])
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "flights.yaml").write_text(DECLARATION.format(topic=name))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_TABLES_DIR", str(tmp_path / "tables"))
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")  # else Polars warns that its own planner is not installed


def _find_readme_block(marker: str) -> str:
    block = re.search(rf"<!-- tested: {marker} -->\n```python\n(.*?)```", README, re.DOTALL)
    assert block is not None
    return block[1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pandas_pyarrow_polars_and_duckdb_read_the_table_as_the_readme_says(
    flights: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ingest", "demo.flights"]) == 0
    assert "committed 3 rows" in capsys.readouterr().out

    names: dict[str, object] = {}
    exec(_find_readme_block("read"), names)  # noqa: S102 - it is our own document

    assert sorted(names["flights"]["carrier"]) == ["B6", "UA", "UA"]  # type: ignore[index]
    assert names["arrow"].num_rows == 2  # type: ignore[attr-defined]
    assert dict(names["delays"].iter_rows()) == {"UA": 16.0, "B6": None}  # type: ignore[attr-defined]
    assert sorted(names["counts"].fetchall()) == [("B6", 1), ("UA", 1)]  # type: ignore[attr-defined]


def test_the_platform_merges_into_the_definitions_of_another_project(flights: None, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(_find_readme_block("merge"))

    # A process of its own: definitions are made when the module is imported.
    program = "import mine; print(sorted(k.to_user_string() for k in mine.defs.resolve_asset_graph().get_all_asset_keys()))"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert "'delay_report', 'demo/flights', 'demo/flights__quarantine', 'kafka/" in done.stdout, done.stderr
