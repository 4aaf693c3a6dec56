"""Tables that are computed by SQL are assets: downstream of complete hours, a snapshot and an event for each that lands."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pyiceberg.catalog import Catalog

from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.environment import Environment
from lakehouse_assets.operations.systems import open_environment
from lakehouse_assets.orchestration.names import complete_key
from lakehouse_assets_tests.operations.flights import DELAYS, FLIGHTS, fly, key, make_flights, read_delays
from lakehouse_assets_tests.slices import START

KEY = dg.AssetKey(["dm", "delays"])
FILLED = """
table: ods.flights
source: {topic: flights}
event_time: {column: happened, start: 2026-11-01T00:00}
schema:
  - {name: happened, type: timestamptz}
  - {name: carrier, type: string}
  - {name: delay, type: long}
"""
CARRIERS = "table: ods.carriers\nsource: {topic: carriers}\nschema: [{name: carrier, type: string}]\n"
COMPUTED = """
table: dm.delays
description: How late carriers were.
owners: [team:ops]
event_time: {column: hour}
partitions: {every: hour, start: 2026-11-01T00:00}
sql: |
  SELECT date_trunc('hour', happened) AS hour, carrier, count(*) AS flights, sum(delay) AS delay
  FROM ods.flights
  GROUP BY ALL
"""


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with both declarations, and an environment that names it."""
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "flights.yaml").write_text(FILLED)
    (folder / "delays.yaml").write_text(COMPUTED)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_TABLES_DIR", str(folder))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    return folder


@pytest.fixture
def catalog(tables: Path) -> Catalog:
    """Two complete hours of flights, and one that is not."""
    opened = open_environment(Environment.read()).catalog
    make_flights(opened)
    fly(opened, [(0.1, "AB", 5), (0.5, "AB", 7), (0.9, "CD", 2), (1.2, "AB", 1), (2.5, "CD", 9)], complete_hours=2)
    return opened


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def load() -> dg.Definitions:
    return build_definitions(Environment.read())


def materialize(instance: dg.DagsterInstance, *hours: int) -> dg.ExecuteInProcessResult:
    job = load().resolve_implicit_global_asset_job_def()
    span = {"dagster/asset_partition_range_start": key(min(hours)), "dagster/asset_partition_range_end": key(max(hours))}
    chosen: dict[str, Any] = {"partition_key": key(hours[0])} if len(hours) == 1 else {"tags": span}
    return job.execute_in_process(instance=instance, asset_selection=[KEY], **chosen)


def read_events(instance: dg.DagsterInstance) -> Mapping[str | None, Mapping[str, dg.MetadataValue[Any]]]:
    records: Sequence[Any] = instance.fetch_materializations(KEY, limit=100).records
    found = [record.asset_materialization for record in reversed(records)]
    return {event.partition: event.metadata for event in found if event is not None}


def test_it_is_downstream_of_complete_hours_and_runs_by_itself(tables: Path) -> None:
    graph = load().resolve_asset_graph()
    node = graph.get(KEY)
    spec = next(spec for spec in load().resolve_all_asset_specs() if spec.key == KEY)

    assert node.parent_keys == {complete_key("ods.flights")}
    assert node.automation_condition is not None
    assert (node.owners, node.group_name, node.kinds) == (["team:ops"], "dm", {"iceberg", "duckdb"})
    assert isinstance(node.partitions_def, dg.HourlyPartitionsDefinition)
    assert node.backfill_policy == dg.BackfillPolicy.single_run()
    assert "FROM ods.flights" in str(spec.metadata["sql"].value)
    assert spec.description is not None
    assert spec.description.startswith("How late carriers were.")


def test_what_is_read_as_a_whole_is_shown_and_holds_nothing_back(tables: Path) -> None:
    (tables / "carriers.yaml").write_text(CARRIERS)
    text = COMPUTED.replace("FROM ods.flights", "FROM ods.flights JOIN ods.carriers USING (carrier) JOIN dim.days USING (carrier)")
    (tables / "delays.yaml").write_text(f"{text}inputs: [{{table: dim.days}}]\n")
    (tables / "totals.yaml").write_text(
        "table: dm.totals\nevent_time: {column: hour}\nsql: SELECT hour, sum(delay) AS delay FROM dm.delays GROUP BY ALL\n"
    )
    definitions = load()
    graph = definitions.resolve_asset_graph()

    dg.Definitions.validate_loadable(definitions)
    assert graph.get(KEY).parent_keys == {
        complete_key("ods.flights"), dg.AssetKey(["ods", "carriers"]), dg.AssetKey(["dim", "days"])
    }  # fmt: skip
    assert graph.get(dg.AssetKey(["dm", "totals"])).parent_keys == {KEY}


@pytest.mark.parametrize("said", ["automation: manual", "inputs: [{table: ods.flights, whole: true}]"])
def test_it_waits_for_somebody_where_the_declaration_says_so_or_nothing_is_read_by_slices(tables: Path, said: str) -> None:
    (tables / "delays.yaml").write_text(f"{COMPUTED}{said}\n")

    assert load().resolve_asset_graph().get(KEY).automation_condition is None


def test_each_hour_is_a_snapshot_and_an_event_with_what_it_was_computed_from(
    catalog: Catalog, instance: dg.DagsterInstance
) -> None:
    result = materialize(instance, 0, 1)

    events = read_events(instance)
    head = catalog.load_table(FLIGHTS).metadata.current_snapshot_id
    assert result.success
    assert read_delays(catalog) == [(0, "AB", 2, 12), (0, "CD", 1, 2), (1, "AB", 1, 1)]
    assert list(events) == [key(0), key(1)]
    assert len(catalog.load_table(DELAYS).metadata.snapshots) == 2
    assert events[key(0)]["dagster/partition_row_count"].value == 2
    assert events[key(1)]["dagster/row_count"].value == 3
    assert events[key(0)]["inputs_complete"].value is True
    inputs = events[key(1)]["inputs"]
    assert isinstance(inputs, dg.TableMetadataValue)
    assert [record.data for record in inputs.records] == [{"table": FLIGHTS, "snapshot": str(head)}]
    assert events[key(1)]["event_time_watermark"].value == (START + timedelta(hours=2)).timestamp()
    assert "![flights by carrier](data:image/svg+xml;base64," in str(events[key(0)]["picture"].value)


def test_one_hour_is_reported_once_and_an_incomplete_one_says_so(catalog: Catalog, instance: dg.DagsterInstance) -> None:
    materialize(instance, 2)

    records = instance.fetch_materializations(KEY, limit=10).records
    assert len(records) == 1
    assert read_events(instance)[key(2)]["inputs_complete"].value is False


def test_a_table_without_event_time_has_no_partitions(
    catalog: Catalog, tables: Path, instance: dg.DagsterInstance
) -> None:
    (tables / "delays.yaml").write_text("table: dm.delays\nsql: SELECT carrier, count(*) AS flights FROM ods.flights GROUP BY ALL\n")
    job = load().resolve_implicit_global_asset_job_def()

    assert job.execute_in_process(instance=instance, asset_selection=[KEY]).success

    assert list(read_events(instance)) == [None]
    assert load().resolve_asset_graph().get(KEY).partitions_def is None


def test_a_failure_says_what_is_wrong_and_hours_that_landed_stay(catalog: Catalog, tables: Path, instance: dg.DagsterInstance) -> None:
    failing = COMPUTED.replace("sum(delay)", "CASE WHEN min(hour(happened)) = 1 THEN error('hour one') ELSE sum(delay) END")
    (tables / "delays.yaml").write_text(failing)

    with pytest.raises(dg.Failure, match="hour one"):
        materialize(instance, 0, 1)

    assert list(read_events(instance)) == [key(0)]


def test_it_is_looked_after_as_other_tables_are(catalog: Catalog, instance: dg.DagsterInstance) -> None:
    materialize(instance, 0, 1)
    job = load().resolve_job_def("expire")

    result = job.execute_in_process(
        instance=instance, run_config={"ops": {"run_expire": {"config": {"tables": [DELAYS]}}}}
    )

    assert result.success
