"""An upsert table in Dagster: what its runs report, what its checks say, what materializing an hour does."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lakehouse_assets.declarations.loading import load_declarations
from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.environment import Environment
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.orchestration.checks import describe_checks, evaluate_check
from lakehouse_assets.orchestration.resources import LakehouseResource
from lakehouse_assets.reading import load_table
from lakehouse_assets_tests import judge
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.conftest import TopicFactory

pytestmark = pytest.mark.kafka

KEY = dg.AssetKey(["shop", "orders"])
DECLARATION = """
table: shop.orders
source: {{topic: {topic}}}
mode: upsert
key: [id]
commit_interval: 1s
schema:
  - {{name: id, type: long, required: true}}
  - {{name: state, type: string}}
"""


class Shop:
    """The table, its topic, and Dagster."""

    def __init__(self, topic: str, broker: Broker, instance: dg.DagsterInstance) -> None:
        self.topic, self.broker, self.instance = topic, broker, instance
        self.defs = build_definitions(Environment.read())
        self.hour = datetime.now(UTC).strftime("%Y-%m-%d-%H:00")

    def put(self, **states: str | None) -> None:
        """States of orders, `_1="new"`; None takes the order out."""
        for name, state in states.items():
            key = name.removeprefix("_")
            value = None if state is None else json.dumps({"id": int(key), "state": state})
            self.broker.produce(self.topic, [value], key=key)

    def run(self, mode: str = "continue") -> None:
        """A run of the sensor; with `replace`, one by hand. Of the hour in which the test began."""
        result = self.defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[KEY],
            partition_key=self.hour,
            run_config={"ops": {"shop__orders__table": {"config": {"mode": mode}}}},
        )
        assert result.success

    def newest(self) -> dict[str, Any]:
        """Metadata of the newest materialization."""
        (record,) = self.instance.fetch_materializations(KEY, limit=1).records
        assert record.asset_materialization is not None
        return {name: value.value for name, value in record.asset_materialization.metadata.items()}

    def check(self, name: str) -> dg.AssetCheckEvaluation:
        return evaluate_check(name, self.spec, LakehouseResource().systems)

    @property
    def spec(self) -> TableSpec:
        return load_declarations(Environment.read().tables_dir).specs[0]

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        return judge.query(load_table("shop.orders"), "SELECT id, state FROM {table} ORDER BY ALL")


@pytest.fixture
def shop(kafka: LocalKafka, topic: TopicFactory, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    name = topic()
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "orders.yaml").write_text(DECLARATION.format(topic=name))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_TABLES_DIR", str(tmp_path / "tables"))
    with dg.instance_for_test() as instance:
        yield Shop(name, broker, instance)


def test_a_run_reports_what_became_of_the_changes_and_every_check_passes(shop: Shop) -> None:
    shop.put(_1="new", _2="new", _3="new")
    shop.run()
    shop.put(_1="paid", _2=None, _4="new", _5=None)
    shop.run()

    assert shop.rows == [(1, "paid"), (3, "new"), (4, "new")]
    shown = shop.newest()
    assert {name: shown[name] for name in ("changes_read", "rows_inserted", "rows_updated", "rows_deleted")} == {
        "changes_read": 4, "rows_inserted": 1, "rows_updated": 1, "rows_deleted": 1,
    }  # fmt: skip
    assert (shown["deletes_without_a_row"], shown["slice_changes_read"], shown["dagster/row_count"]) == (1, 4, 3)
    assert "rows_committed" not in shown
    for name in describe_checks(shop.spec):
        evaluation = shop.check(name)
        assert evaluation.passed, (name, evaluation.description)
    assert shop.check("continuity").description == f"the ledger has every offset of {shop.topic}-0 offsets 0..6"


def test_a_key_that_somebody_added_again_is_found_and_materializing_the_hour_heals_it(shop: Shop) -> None:
    shop.put(_1="new", _2="new")
    shop.run()
    table = load_table("shop.orders")
    table.append(table.scan("id = 2").to_arrow())

    found = shop.check("key_uniqueness")

    assert not found.passed
    assert found.description == "1 keys stand more than once, among them id 2"
    assert (found.metadata["rows_looked_at"].value, found.metadata["duplicate_keys"].value) == (3, 1)

    shop.run("replace")

    assert shop.rows == [(1, "new"), (2, "new")]
    assert shop.check("key_uniqueness").passed
