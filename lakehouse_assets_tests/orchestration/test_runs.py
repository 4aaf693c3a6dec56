"""Runs and ticks as Dagster makes them, against a real broker: what lands, what is reported, what a person reads."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.environment import Environment
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.orchestration.checks import evaluate_check
from lakehouse_assets.orchestration.resources import LakehouseResource
from lakehouse_assets.reading import load_table
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.conftest import TopicFactory
from lakehouse_assets_tests.waiting import wait_until

HOUR_MS = 3_600_000
KEY = dg.AssetKey(["ods", "clicks"])
DECLARATION = """
table: ods.clicks
source: {{topic: {topic}}}
commit_interval: 1s
schedule: "0 6 * * *"
on_bad_record: {on_bad_record}
schema:
  - {{name: id, type: long, required: true}}
"""


class Platform:
    """One Dagster instance over one folder of declarations."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.defs = build_definitions(Environment.read())

    def materialize(self, *keys: str) -> dg.ExecuteInProcessResult:
        tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
        return self.job.execute_in_process(
            instance=self.instance,
            asset_selection=[KEY],
            raise_on_error=False,
            **({"partition_key": keys[0]} if len(keys) == 1 else {"tags": tags}),
        )

    def tick(self, cursor: str | None = None) -> dg.SensorResult:
        sensor = next(s for s in self.defs.sensors or () if s.name == "ods__clicks__offsets")
        context = dg.build_sensor_context(instance=self.instance, cursor=cursor)
        result = sensor(context, lakehouse=LakehouseResource())
        assert isinstance(result, dg.SensorResult)
        return result

    def run_schedule(self) -> object:
        schedule = next(one for one in self.defs.schedules or () if one.name == "ods__clicks__schedule")
        assert isinstance(schedule, dg.ScheduleDefinition)
        return schedule(dg.build_schedule_context(instance=self.instance))

    def add_run(self, status: dg.DagsterRunStatus) -> dg.DagsterRun:
        """An ingestion run of the table in a certain state."""
        tags = {"lakehouse/ingest": "ods.clicks"}
        return self.instance.create_run_for_job(self.job, status=status, tags=tags)

    def run_requested(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        return self.job.execute_in_process(
            instance=self.instance,
            asset_selection=[KEY],
            partition_key=request.partition_key,
            run_config=request.run_config,
            tags=request.tags,
            raise_on_error=False,
        )

    def rows_by_partition(self) -> dict[str | None, int]:
        """The newest reported row count of each partition."""
        records = self.instance.fetch_materializations(KEY, limit=100).records
        newest: dict[str | None, int] = {}
        for record in reversed(records):
            assert record.asset_materialization is not None
            metadata = record.asset_materialization.metadata
            count = metadata.get("dagster/partition_row_count", metadata.get("slice_rows_committed")).value  # type: ignore[union-attr]
            assert isinstance(count, int)
            newest[record.partition_key] = count
        return newest

    @property
    def job(self) -> dg.JobDefinition:
        return self.defs.resolve_implicit_global_asset_job_def()


@pytest.fixture
def on_bad_record() -> str:
    return "quarantine"


@pytest.fixture
def clicks(topic: TopicFactory) -> str:
    return topic(partitions=2)


@pytest.fixture
def platform(kafka: LocalKafka, clicks: str, on_bad_record: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "clicks.yaml").write_text(DECLARATION.format(topic=clicks, on_bad_record=on_bad_record))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_TABLES_DIR", str(tables))
    with dg.instance_for_test() as instance:
        yield Platform(instance)


def _hour(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d-%H:00")


def _table_ids() -> list[int]:
    return sorted(load_table("ods.clicks").scan().to_arrow()["id"].to_pylist())


def test_a_tick_over_new_messages_starts_a_run_that_reports_each_hour_it_wrote(
    platform: Platform, broker: Broker, clicks: str
) -> None:
    now = int(time.time() * 1000)
    broker.produce(clicks, ['{"id": 1}', '{"id": 2}'], timestamp_ms=now - HOUR_MS)
    broker.produce(clicks, ['{"id": 3}'], partition=1, timestamp_ms=now)

    (request,) = platform.tick().run_requests or ()
    result = platform.run_requested(request)

    assert result.success
    assert _table_ids() == [1, 2, 3]
    assert platform.rows_by_partition() == {_hour(now - HOUR_MS): 2, _hour(now): 1}
    assert platform.tick().skip_reason is not None
    assert "has everything" in str(platform.tick().skip_reason.skip_message)


def test_ticks_that_come_twice_get_lost_or_forget_their_cursor_change_nothing_in_the_table(
    platform: Platform, broker: Broker, clicks: str
) -> None:
    broker.produce(clicks, ['{"id": 1}', '{"id": 2}'])
    twice = [request for _ in range(2) for request in platform.tick().run_requests or ()]
    for request in twice:
        assert platform.run_requested(request).success
    broker.produce(clicks, ['{"id": 3}'])
    lost = platform.tick()
    assert lost.run_requests

    (request,) = platform.tick(cursor=None).run_requests or ()
    assert platform.run_requested(request).success

    assert len(twice) == 2
    assert _table_ids() == [1, 2, 3]


def test_the_run_answers_every_check(platform: Platform, broker: Broker, clicks: str) -> None:
    broker.produce(clicks, ['{"id": 1}'])

    platform.run_requested((platform.tick().run_requests or ())[0])

    for check in ("lag", "freshness", "continuity", "unique_offsets", "quarantine", "unknown_fields", "timestamps", "debt"):
        (record,) = platform.instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(KEY, check), limit=1
        )
        assert record.status.value == "SUCCEEDED", check


def test_checks_name_the_hour_to_materialize_and_are_content_after_it(platform: Platform, broker: Broker, clicks: str) -> None:
    now = int(time.time() * 1000)
    broker.produce(clicks, ['{"id": 1}', '{"id": 2}', '{"id": 3}'], timestamp_ms=now - HOUR_MS)
    platform.run_requested((platform.tick().run_requests or ())[0])
    table = load_table("ods.clicks")
    table.append(table.scan("id = 3").to_arrow())
    load_table("ods.clicks").delete("id = 1")

    spec, lakehouse = _spec(platform), LakehouseResource()
    hour = _hour(now - HOUR_MS)
    continuity, unique = (evaluate_check(name, spec, lakehouse.systems) for name in ("continuity", "unique_offsets"))
    assert continuity.description == f"lost: {clicks}-0 offsets 0..0; materialize {hour}"
    assert unique.description == f"twice in the table: {clicks}-0 offsets 2..2; materialize {hour}"

    assert platform.materialize(hour).success
    assert _table_ids() == [1, 2, 3]
    assert all(evaluate_check(name, spec, lakehouse.systems).passed for name in ("continuity", "unique_offsets"))


def test_materializing_an_hour_replaces_exactly_it_and_reports_its_rows(
    platform: Platform, broker: Broker, clicks: str
) -> None:
    now = int(time.time() * 1000)
    broker.produce(clicks, ['{"id": 1}', '{"id": 2}'], timestamp_ms=now - HOUR_MS)
    broker.produce(clicks, ['{"id": 3}'], timestamp_ms=now)
    platform.run_requested((platform.tick().run_requests or ())[0])

    assert platform.materialize(_hour(now - HOUR_MS)).success

    assert _table_ids() == [1, 2, 3]
    assert platform.rows_by_partition()[_hour(now - HOUR_MS)] == 2


def test_a_backfill_of_several_hours_is_one_run_that_reports_each(platform: Platform, broker: Broker, clicks: str) -> None:
    now = int(time.time() * 1000)
    hours = [_hour(now - HOUR_MS * back) for back in (2, 1, 0)]
    for back, count in ((2, 3), (0, 2)):
        broker.produce(clicks, [json.dumps({"id": back * 10 + i}) for i in range(count)], timestamp_ms=now - HOUR_MS * back)

    assert platform.materialize(hours[0], hours[-1]).success

    assert platform.rows_by_partition() == {hours[0]: 3, hours[1]: 0, hours[2]: 2}
    assert len(_table_ids()) == 5


def test_a_bad_message_is_shown_on_both_assets_and_by_a_check_that_names_its_hour(
    platform: Platform, broker: Broker, clicks: str
) -> None:
    now = int(time.time() * 1000)
    broker.produce(clicks, ['{"id": 1}', '{"id": "x"}', '{"id": 3}'], timestamp_ms=now)

    assert platform.run_requested((platform.tick().run_requests or ())[0]).success

    assert _table_ids() == [1, 3]
    (event,) = platform.instance.fetch_materializations(dg.AssetKey(["ods", "clicks__quarantine"]), limit=5).records
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["records_quarantined"].value == 1
    (newest,) = platform.instance.fetch_materializations(KEY, limit=1).records
    assert newest.asset_materialization is not None
    counts = {name: newest.asset_materialization.metadata[name].value for name in ("records_read", "records_quarantined")}
    assert counts == {"records_read": 3, "records_quarantined": 1}

    check = evaluate_check("quarantine", _spec(platform), LakehouseResource().systems)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "1 messages are in ods.clicks__quarantine, among them partition 0 offset 1: " in str(check.description)
    assert f"materialize {_hour(now)} once that is corrected" in str(check.description)


def test_a_changed_declaration_shows_the_change_of_columns_with_the_rows_it_came_with(
    platform: Platform, broker: Broker, clicks: str, tmp_path: Path
) -> None:
    now = int(time.time() * 1000)
    broker.produce(clicks, ['{"id": 1, "price": 0.5}'], timestamp_ms=now)
    assert platform.materialize(_hour(now)).success

    with (tmp_path / "tables/clicks.yaml").open("a") as declaration:
        declaration.write("  - {name: price, type: double, doc: In euros.}\n")
    reloaded = Platform(platform.instance)
    assert reloaded.materialize(_hour(now)).success

    (newest,) = platform.instance.fetch_materializations(KEY, limit=1).records
    assert newest.asset_materialization is not None
    metadata = newest.asset_materialization.metadata
    assert [record.data for record in metadata["schema_change"].records] == [  # type: ignore[union-attr]
        {"column": "price", "before": "no such column", "after": "double"}
    ]
    columns = metadata["dagster/column_schema"].value.columns  # type: ignore[union-attr]
    assert [(c.name, c.type, c.description) for c in columns][-1] == ("price", "double", "In euros.")


def test_fields_without_a_column_are_shown_with_the_line_to_add_and_by_a_check(
    platform: Platform, broker: Broker, clicks: str
) -> None:
    now = int(time.time() * 1000)
    broker.produce(clicks, ['{"id": 1, "price": 0.5}', '{"id": 2}'], timestamp_ms=now)

    assert platform.materialize(_hour(now)).success

    (newest,) = platform.instance.fetch_materializations(KEY, limit=1).records
    assert newest.asset_materialization is not None
    metadata = newest.asset_materialization.metadata
    assert metadata["unknown_field_count"].value == 1
    assert [record.data for record in metadata["unknown_fields"].records] == [  # type: ignore[union-attr]
        {"field": "price", "share": 0.5, "type": "double", "declare": "- {name: price, type: double}"}
    ]
    check = evaluate_check("unknown_fields", _spec(platform), LakehouseResource().systems)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.description == "of the newest 2 messages: fields without a column: price (50.0%)"


@pytest.mark.parametrize("on_bad_record", ["fail"])
def test_a_bad_record_fails_the_run_with_one_sentence_and_the_sensor_waits_ever_longer(
    platform: Platform, broker: Broker, clicks: str
) -> None:
    broker.produce(clicks, ['{"id": 1}', '{"id": "x"}', '{"id": 3}'])

    result = platform.run_requested((platform.tick().run_requests or ())[0])

    assert not result.success
    (failure,) = result.get_step_failure_events()
    assert failure.step_failure_data.user_failure_data is not None
    sentence = str(failure.step_failure_data.user_failure_data.description)
    assert f"{clicks}-0 offset 1" in sentence
    assert _table_ids() == [1]
    waiting = platform.tick()
    assert not waiting.run_requests
    assert "failed, its page says why" in str(waiting.skip_reason.skip_message)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("statuses", "doing"),
    [
        (["STARTED"], "working on it"),
        (["NOT_STARTED"], "waiting for its turn"),
        (["CANCELING"], "working on it"),
        (["STARTED", "NOT_STARTED"], "working on it"),
        (["STARTED", "CANCELED"], "working on it"),
    ],
    ids=["works", "waits", "is stopped", "works beside one that waits", "works beside one that ended"],
)
def test_while_a_run_works_or_waits_neither_sensor_nor_schedule_starts_another(
    platform: Platform, broker: Broker, clicks: str, statuses: list[str], doing: str
) -> None:
    broker.produce(clicks, ['{"id": 1}', '{"id": 2}'])
    runs = [platform.add_run(dg.DagsterRunStatus(status)) for status in statuses]

    tick = platform.tick()

    assert not tick.run_requests
    message = f"run {runs[0].run_id[:8]} is {doing}."
    assert f"2 messages behind {clicks!r}; {message}" in str(tick.skip_reason.skip_message)  # type: ignore[union-attr]
    scheduled = platform.run_schedule()
    assert isinstance(scheduled, dg.SkipReason)
    assert f"{runs[0].run_id[:8]} of ods.clicks is {doing}" in str(scheduled.skip_message)


def test_a_schedule_brings_the_table_up_to_date(platform: Platform, broker: Broker, clicks: str) -> None:
    broker.produce(clicks, ['{"id": 1}', '{"id": 2}'])
    platform.add_run(dg.DagsterRunStatus.CANCELED)

    request = platform.run_schedule()

    assert isinstance(request, dg.RunRequest)
    assert platform.run_requested(request).success
    assert _table_ids() == [1, 2]


def test_a_missing_topic_fails_the_tick_and_the_check_with_the_same_sentence(
    platform: Platform, broker: Broker, clicks: str
) -> None:
    broker.delete_topic(clicks)

    with pytest.raises(dg.Failure, match="does not exist") as caught:
        platform.tick()

    (record,) = platform.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(KEY, "lag"), limit=1
    )
    assert record.status.value == "FAILED"
    assert record.evaluation is not None
    assert record.evaluation.description == caught.value.description


def test_control_records_at_the_end_are_no_lag(platform: Platform, broker: Broker, clicks: str) -> None:
    broker.produce(clicks, ['{"id": 1}'])
    broker.produce_in_transaction(clicks, ['{"id": 2}'], abort=True)

    platform.run_requested((platform.tick().run_requests or ())[0])

    tick = platform.tick()
    assert not tick.run_requests
    assert "0 messages behind" in str(tick.skip_reason.skip_message)  # type: ignore[union-attr]


def _spec(platform: Platform):  # type: ignore[no-untyped-def]
    from lakehouse_assets.declarations.loading import load_declarations

    return load_declarations(Environment.read().tables_dir).specs[0]


def test_pausing_the_sensor_loses_nothing(platform: Platform, broker: Broker, clicks: str) -> None:
    for i in range(3):  # three batches come while nobody ticks
        broker.produce(clicks, [json.dumps({"id": i})])

    platform.run_requested((platform.tick(cursor=None).run_requests or ())[0])

    assert _table_ids() == [0, 1, 2]




def test_ticks_over_silent_topics_let_the_watermark_follow_the_clock(platform: Platform, clicks: str, tmp_path: Path) -> None:
    event_time = "event_time: {column: at, max_disorder: 0s, idle_after: 1s, follow_clock: true}"
    properties = "properties: {flink.max-continuous-empty-commits: 1}"
    declaration = DECLARATION.format(topic=clicks, on_bad_record="quarantine") + "  - {name: at, type: timestamptz}\n"
    (tmp_path / "tables" / "clicks.yaml").write_text(f"{declaration}{event_time}\n{properties}\n")
    platform.defs = build_definitions(Environment.read())

    (request,) = platform.tick().run_requests or ()
    assert platform.run_requested(request).success
    wait_until(lambda: platform.tick() and "lakehouse.event-time-watermark" in load_table("ods.clicks").properties, 30)

    watermark_ms = int(load_table("ods.clicks").properties["lakehouse.event-time-watermark"])
    assert time.time() * 1000 - 60_000 < watermark_ms < time.time() * 1000 - 1_000
    assert "has everything" in str(platform.tick().skip_reason)
    assert len(load_table("ods.clicks").metadata.snapshots) == 1
