"""What Dagster loads: the demo and any folder of declarations, fast and without heavy imports."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.environment import Environment
from lakehouse_assets.orchestration.names import complete_key, topic_key

GOOD = """
table: ods.{name}
source: {{topic: clicks}}
schedule: "*/10 * * * *"
schema:
  - {{name: id, type: long, required: true}}
"""
UPSERT = """
table: shop.orders
source: {topic: shop.public.orders, format: debezium-json}
mode: upsert
key: [shop, id]
on_delete: mark
schema:
  - {name: id, type: long, required: true}
  - {name: shop, type: string, required: true}
properties: {write.sink.mode: copy-on-write}
"""
BROKEN = """
table: ods.broken
source: {topik: clicks}
schema:
  - {name: id, type: lon}
"""


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    (tmp_path / "clicks.yaml").write_text(GOOD.format(name="clicks"))
    (tmp_path / "broken.yaml").write_text(BROKEN)
    return tmp_path


def _load(tables: Path) -> dg.Definitions:
    return build_definitions(Environment.read({"LAKEHOUSE_TABLES_DIR": str(tables), "LAKEHOUSE_HOME": str(tables / "home")}))


def test_a_table_is_an_asset_downstream_of_its_topic_with_checks_sensor_and_schedule(tables: Path) -> None:
    defs = _load(tables)
    dg.Definitions.validate_loadable(defs)
    graph = defs.resolve_asset_graph()
    key = dg.AssetKey(["ods", "clicks"])

    assert graph.get(key).parent_keys == {topic_key("clicks")}
    assert not graph.get(topic_key("clicks")).is_materializable
    assert {check.name for check in graph.get_check_keys_for_assets({key})} == {
        "lag", "freshness", "continuity", "unique_offsets", "quarantine", "unknown_fields", "timestamps", "debt",
    }  # fmt: skip
    assert {s.name for s in defs.sensors or ()} == {"ods__clicks__offsets", "broken_declarations", "debt", "downstream"}
    assert {s.name for s in defs.schedules or ()} >= {"ods__clicks__schedule", "compact_all"}


def test_an_upsert_table_says_what_a_row_is_and_what_materializing_does(tmp_path: Path) -> None:
    (tmp_path / "orders.yaml").write_text(UPSERT)
    graph = _load(tmp_path).resolve_asset_graph()
    key = dg.AssetKey(["shop", "orders"])
    node = graph.get(key)

    assert {check.name for check in graph.get_check_keys_for_assets({key})} == {
        "lag", "freshness", "continuity", "key_uniqueness", "quarantine", "unknown_fields", "timestamps", "debt",
    }  # fmt: skip
    assert node.kinds == {"iceberg", "upsert"}
    assert node.description is not None
    assert (
        "**Upsert** one row per `shop`, `id`; one that is deleted stays, marked in `_is_deleted`. Written by copy-on-write."
        in node.description
    )
    assert "*Materialize* replays the changes since the start of the hour you choose" in node.description
    assert {name: node.metadata[name] for name in ("mode", "key", "write_mode", "on_delete")} == {
        "mode": "upsert", "key": "shop, id", "write_mode": "copy-on-write", "on_delete": "mark",
    }  # fmt: skip
    columns = [column.name for column in node.metadata["dagster/column_schema"].columns]
    assert columns[2:] == ["_kafka_partition", "_kafka_offset", "_kafka_timestamp", "_source_position", "_is_deleted"]


def test_the_log_of_changes_is_an_asset_of_its_own_with_sensor_and_checks(tmp_path: Path) -> None:
    (tmp_path / "orders.yaml").write_text(UPSERT + "keep_change_log: true\n")
    defs = _load(tmp_path)
    dg.Definitions.validate_loadable(defs)
    graph = defs.resolve_asset_graph()
    key = dg.AssetKey(["shop", "orders__changes"])

    assert {sensor.name for sensor in defs.sensors or ()} == {"shop__orders__offsets", "shop__orders__changes__offsets", "debt", "downstream"}
    assert graph.get(key).parent_keys == {topic_key("shop.public.orders")}
    assert "unique_offsets" not in {check.name for check in graph.get_check_keys_for_assets({key})}
    columns = [column.name for column in graph.get(key).metadata["dagster/column_schema"].columns]
    assert columns == ["id", "shop", "_kafka_partition", "_kafka_offset", "_kafka_timestamp", "_source_position", "_operation"]
    assert "in `shop.orders__changes`" in str(graph.get(dg.AssetKey(["shop", "orders"])).description)


def test_a_table_with_event_times_has_an_asset_of_its_complete_slices(tmp_path: Path) -> None:
    declared = "event_time: {column: at, every: day, start: 2026-11-01}"
    (tmp_path / "clicks.yaml").write_text(GOOD.format(name="clicks") + f"  - {{name: at, type: timestamptz}}\n{declared}\n")
    defs = _load(tmp_path)
    dg.Definitions.validate_loadable(defs)
    graph = defs.resolve_asset_graph()
    node = graph.get(complete_key("ods.clicks"))

    assert "complete" in {check.name for check in graph.get_check_keys_for_assets({dg.AssetKey(["ods", "clicks"])})}
    assert "complete" in {sensor.name for sensor in defs.sensors or ()}

    assert (node.parent_keys, node.is_materializable) == ({dg.AssetKey(["ods", "clicks"])}, False)
    assert node.partitions_def is not None
    keys = node.partitions_def.get_partition_keys()
    assert (keys[0], keys[-1]) == ("2026-11-01", datetime.now(UTC).strftime("%Y-%m-%d"))


def test_the_current_hour_is_a_partition(tables: Path) -> None:
    partitions = _load(tables).resolve_asset_graph().get(dg.AssetKey(["ods", "clicks"])).partitions_def
    assert partitions is not None
    assert partitions.get_last_partition_key() == datetime.now(UTC).strftime("%Y-%m-%d-%H:00")


def test_a_broken_file_takes_only_its_own_table_out_and_is_shown_as_a_failed_check(tables: Path) -> None:
    defs = _load(tables)
    sensor = next(s for s in defs.sensors or () if s.name == "broken_declarations")

    result = sensor(dg.build_sensor_context())

    assert isinstance(result, dg.SensorResult)
    (evaluation,) = result.asset_events
    assert isinstance(evaluation, dg.AssetCheckEvaluation)
    assert (evaluation.asset_key, evaluation.passed) == (dg.AssetKey(["ods", "broken"]), False)
    assert "broken.yaml:3: source.topik" in str(evaluation.description)
    assert "Did you mean 'topic'?" in str(evaluation.description)
    assert "broken.yaml:5: schema[0].type" in str(evaluation.description)


def test_loading_imports_no_arrow_no_iceberg_and_no_kafka_client(tables: Path) -> None:
    code = (
        "import sys, lakehouse_assets.definitions; "
        "print(sorted({'pyarrow', 'pyiceberg', 'confluent_kafka', 'pandas', 'polars'} & sys.modules.keys()))"
    )
    variables = {**os.environ, "LAKEHOUSE_TABLES_DIR": str(tables)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=variables)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_two_hundred_tables_load(tmp_path: Path) -> None:
    for i in range(200):
        (tmp_path / f"t{i}.yaml").write_text(GOOD.format(name=f"t{i}"))

    defs = _load(tmp_path)

    assert len(defs.sensors or ()) == 202
    dg.Definitions.validate_loadable(defs)


ASSETS = """
import dagster as dg
from lakehouse_assets.downstream import complete_slices, hour_is_complete

HOURS = dg.HourlyPartitionsDefinition("2026-11-01-00:00")


@dg.asset(
    key=["dm", "delays"], ins={"rows": complete_slices("ods.clicks")}, partitions_def=HOURS,
    automation_condition=hour_is_complete(), metadata={"event_time": "at"}, io_manager_key="lakehouse_io",
)
def delays(rows): ...


@dg.asset_check(asset=delays)
def is_there(): return dg.AssetCheckResult(passed=True)


@dg.asset(key=["ods", "clicks"])
def twice(): ...


@dg.asset(required_resource_keys={"nobody"})
def wants(): ...


ASSETS = [delays, is_there%s]
"""
EVENT_TIMES = "  - {name: at, type: timestamptz}\nevent_time: {column: at, start: 2026-11-01}\n"
WORST = 'table: dm.worst\nsql: SELECT max("at") AS "at" FROM dm.delays\nevent_time: {column: at}\npartitions: {every: day, start: 2026-11-01}\n'


def test_assets_of_python_files_stand_beside_tables_and_what_comes_after_them_waits_for_their_partitions(tmp_path: Path) -> None:
    (tmp_path / "clicks.yaml").write_text(GOOD.format(name="clicks") + EVENT_TIMES)
    (tmp_path / "assets.py").write_text(ASSETS % "")
    (tmp_path / "worst.yaml").write_text(WORST)
    defs = _load(tmp_path)
    dg.Definitions.validate_loadable(defs)
    graph = defs.resolve_asset_graph()
    key = dg.AssetKey(["dm", "delays"])

    assert graph.get(key).parent_keys == {complete_key("ods.clicks")}
    assert [check.name for check in graph.get_check_keys_for_assets({key})] == ["is_there"]
    assert graph.get(dg.AssetKey(["dm", "worst"])).parent_keys == {key}
    assert graph.get(dg.AssetKey(["dm", "worst"])).automation_condition is not None


@pytest.mark.parametrize(
    ("wrong", "said"), [(", twice", "Duplicate asset key"), (", wants", "resource with key 'nobody'"), (", dg.define_asset_job('nightly')", "UnresolvedAssetJobDefinition")], ids=str
)
def test_an_asset_that_dagster_does_not_take_leaves_the_others_and_is_shown_with_its_reason(
    tmp_path: Path, wrong: str, said: str
) -> None:
    (tmp_path / "clicks.yaml").write_text(GOOD.format(name="clicks") + EVENT_TIMES)
    (tmp_path / "assets.py").write_text(ASSETS % wrong)

    defs = _load(tmp_path)

    dg.Definitions.validate_loadable(defs)
    graph = defs.resolve_asset_graph()
    broken = graph.get(dg.AssetKey(["assets"]))
    assert {dg.AssetKey(["dm", "delays"]), dg.AssetKey(["ods", "clicks"])} <= graph.get_all_asset_keys()
    assert "ASSETS[2]" in str(broken.description)
    assert said in str(broken.description)
