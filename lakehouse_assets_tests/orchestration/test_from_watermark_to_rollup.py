"""A watermark moves, its hours are told to be complete, and a roll-up in SQL follows: with the definitions that Dagster loads."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pyiceberg.catalog import Catalog

from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.environment import Environment
from lakehouse_assets.model.ledger import LEDGER_KEY, Ledger
from lakehouse_assets.model.slices import to_ms
from lakehouse_assets.operations.systems import open_environment
from lakehouse_assets.orchestration.resources import LakehouseResource
from lakehouse_assets_tests.operations.flights import FLIGHTS, ROLL_UP, fly, key, make_flights, read_delays
from lakehouse_assets_tests.slices import START

_FILLED = """
table: ods.flights
source: {topic: flights}
event_time: {column: happened, start: 2026-11-01T00:00}
schema: [{name: happened, type: timestamptz}, {name: carrier, type: string}, {name: delay, type: long}]
"""
_COMPUTED = f"""
table: dm.delays
event_time: {{column: hour}}
partitions: {{start: 2026-11-01T00:00}}
on_late: rerun
sql: {" ".join(ROLL_UP.split())}
"""
_DELAYS = dg.AssetKey(["dm", "delays"])


class Platform:
    """What the daemon does, a tick at a time."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.catalog: Catalog = open_environment(Environment.read()).catalog
        self._instance = instance
        self._defs = build_definitions(Environment.read())
        self._told: str | None = None
        self._evaluated: Any = None

    def tell(self) -> list[str | None]:
        """The slices that the sensor reports."""
        sensor = next(one for one in self._defs.sensors or () if one.name == "complete")
        with dg.build_sensor_context(instance=self._instance, cursor=self._told) as context:
            result = sensor(context, lakehouse=LakehouseResource())
        assert isinstance(result, dg.SensorResult)
        self._told = result.cursor
        for event in result.asset_events:
            self._instance.report_runless_asset_event(event)
        return [event.partition for event in result.asset_events if isinstance(event, dg.AssetMaterialization)]

    def follow(self) -> set[str | None]:
        """The hours that are asked for, and computed."""
        found = dg.evaluate_automation_conditions(defs=self._defs, instance=self._instance, cursor=self._evaluated)
        self._evaluated = found.cursor
        asked = set(found.get_requested_partitions(_DELAYS))
        for partition in asked:
            self._defs.resolve_implicit_global_asset_job_def().execute_in_process(
                instance=self._instance, asset_selection=[_DELAYS], partition_key=partition
            )
        return asked


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    (tmp_path / "flights.yaml").write_text(_FILLED)
    (tmp_path / "delays.yaml").write_text(_COMPUTED)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_TABLES_DIR", str(tmp_path))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    with dg.DagsterInstance.ephemeral() as instance:
        yield Platform(instance)


def test_a_rollup_follows_the_watermark_hour_by_hour_and_late_rows_too(platform: Platform) -> None:
    make_flights(platform.catalog)
    fly(platform.catalog, [(0.1, "AB", 5), (1.2, "AB", 1), (2.5, "CD", 9)], complete_hours=2)
    assert platform.tell() == [key(0), key(1)]
    assert platform.follow() == {key(0), key(1)}
    assert read_delays(platform.catalog) == [(0, "AB", 1, 5), (1, "AB", 1, 1)]
    assert (platform.tell(), platform.follow()) == ([], set())

    fly(platform.catalog, [(0.2, "AB", 7)])
    late = Ledger({"flights": "id"}, late_rows={to_ms(START): 1})
    with platform.catalog.load_table(FLIGHTS).transaction() as change:
        change.set_properties({LEDGER_KEY: late.to_json()})
    assert platform.tell() == [key(0)]
    assert platform.follow() == {key(0)}
    assert read_delays(platform.catalog) == [(0, "AB", 2, 12), (1, "AB", 1, 1)]

    fly(platform.catalog, [], complete_hours=3)
    assert (platform.tell(), platform.follow()) == ([key(2)], {key(2)})
    assert (platform.tell(), platform.follow()) == ([], set())
    assert read_delays(platform.catalog) == [(0, "AB", 2, 12), (1, "AB", 1, 1), (2, "CD", 1, 9)]
