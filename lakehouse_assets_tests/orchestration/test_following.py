"""Runs that follow a table: who takes over from whom, who gives way, who is dead."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from lakehouse_assets.declarations.loading import load_declarations
from lakehouse_assets.environment import Environment
from lakehouse_assets.local.kafka import LocalKafka
from lakehouse_assets.operations.following import run_follow
from lakehouse_assets.orchestration.following import (
    HAND_OVER_AFTER,
    Relay,
    bury_silent,
    digest,
    list_giving_way,
    needs_successor,
)
from lakehouse_assets.orchestration.resources import LakehouseResource
from lakehouse_assets.orchestration.sensors import build_ingest_request
from lakehouse_assets.reading import load_table
from lakehouse_assets_tests.broker import Broker
from lakehouse_assets_tests.builders import FOLLOWED, make_message, make_spec
from lakehouse_assets_tests.conftest import TopicFactory
from lakehouse_assets_tests.orchestration.test_runs import Platform
from lakehouse_assets_tests.waiting import wait_until

SPEC = make_spec(follow=True)


@dg.job
def empty_job() -> None:
    pass


@contextmanager
def instance_of(max_concurrent_runs: int = 10) -> Iterator[dg.DagsterInstance]:
    coordinator = {
        "module": "dagster.core.run_coordinator",
        "class": "QueuedRunCoordinator",
        "config": {"max_concurrent_runs": max_concurrent_runs},
    }
    with dg.instance_for_test(overrides={"run_coordinator": coordinator}) as instance:
        yield instance


def add_run(instance: dg.DagsterInstance, status: str, **tags: str) -> dg.DagsterRun:
    """A run in a state; one that works began now."""
    named = {f"lakehouse/{name.replace('_', '-')}": value for name, value in tags.items()}
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("somewhere"), "repository"), "empty_job")
    run = instance.create_run_for_job(empty_job, tags=named, remote_job_origin=origin)
    event_type = {"QUEUED": dg.DagsterEventType.RUN_ENQUEUED, "STARTED": dg.DagsterEventType.RUN_START}[status]
    instance.report_dagster_event(dg.DagsterEvent(event_type_value=event_type.value, job_name=run.job_name), run.run_id)
    return run


def records(instance: dg.DagsterInstance) -> list[dg.RunRecord]:
    return list(instance.get_run_records())


def test_a_run_that_followed_for_an_hour_gets_one_successor_and_no_second() -> None:
    with instance_of() as instance:
        add_run(instance, "STARTED", ingest="ods.clicks", follow=digest(SPEC))
        later = datetime.now(UTC) + HAND_OVER_AFTER

        assert not needs_successor(records(instance), SPEC, datetime.now(UTC))
        assert needs_successor(records(instance), SPEC, later)

        request = build_ingest_request(SPEC, succeeds=True)
        assert request.tags["lakehouse/ingest"] == "ods.clicks:next"
        add_run(instance, "QUEUED", ingest="ods.clicks:next")
        assert not needs_successor(records(instance), SPEC, later)


@pytest.mark.parametrize(
    ("tags", "due"),
    [
        ({"follow": digest(SPEC)}, False),
        ({"follow": digest(make_spec(follow=True, commit_interval="5s", description="another one"))}, True),
        ({}, False),
    ],
    ids=["the declaration that there is", "another declaration", "a run that does not follow"],
)
def test_a_run_that_follows_by_another_declaration_is_succeeded_at_once(tags: dict[str, str], due: bool) -> None:
    with instance_of() as instance:
        add_run(instance, "STARTED", ingest="ods.clicks", **tags)

        assert needs_successor(records(instance), SPEC, datetime.now(UTC)) is due


def test_a_table_that_is_followed_no_longer_gets_an_ordinary_run() -> None:
    request = build_ingest_request(make_spec(follow=False), succeeds=True)

    assert request.run_config == {"ops": {"ods__clicks__table": {"config": {"mode": "continue"}}}}
    assert "lakehouse/follow" not in request.tags


def test_the_oldest_runs_that_follow_give_way_to_as_many_as_wait_when_every_slot_is_taken() -> None:
    with instance_of(max_concurrent_runs=3) as instance:
        oldest = add_run(instance, "STARTED", ingest="ods.a", follow="1")
        add_run(instance, "STARTED", ingest="ods.b", follow="1")
        add_run(instance, "QUEUED", maintenance="maintain")
        assert list_giving_way(instance) == []

        ordinary = add_run(instance, "STARTED", ingest="ods.c")

        assert list_giving_way(instance) == [oldest.run_id]
        assert ordinary.run_id not in list_giving_way(instance)


def test_a_run_that_gives_no_sign_for_long_is_failed_in_words_and_any_other_is_left() -> None:
    with instance_of() as instance:
        began = int(time.time())
        silent = add_run(instance, "STARTED", ingest="ods.clicks", follow="1", sign_of_life=str(began))
        alive = add_run(instance, "STARTED", ingest="ods.clicks", follow="1", sign_of_life=str(began + 500))
        ordinary = add_run(instance, "STARTED", ingest="ods.clicks")

        bury_silent(instance, SPEC, datetime.fromtimestamp(began + 600, UTC))

        failed = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
        assert [run.run_id for run in failed] == [silent.run_id]
        said = [str(entry.dagster_event.message) for entry in instance.all_logs(silent.run_id) if entry.dagster_event]
        assert any("The run has given no sign for" in message for message in said)
        assert not any(instance.get_run_by_id(run.run_id).is_finished for run in (alive, ordinary))  # type: ignore[union-attr]


@pytest.fixture
def clicks(topic: TopicFactory) -> str:
    return topic()


@pytest.fixture
def platform(kafka: LocalKafka, clicks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "clicks.yaml").write_text(FOLLOWED.format(topic=clicks))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_TABLES_DIR", str(tables))
    with dg.instance_for_test() as instance:
        yield Platform(instance)


@pytest.mark.kafka
def test_the_next_run_goes_on_where_the_one_before_it_made_its_last_commit_and_every_row_is_there_once(
    platform: Platform, broker: Broker, clicks: str
) -> None:
    broker.produce(clicks, [make_message(i) for i in range(3)])
    (request,) = platform.tick().run_requests or ()

    def rows() -> list[int]:
        return sorted(load_table("ods.clicks").scan().to_arrow()["id"].to_pylist())

    def runs(value: str) -> list[dg.DagsterRun]:
        return list(platform.instance.get_runs(dg.RunsFilter(tags={"lakehouse/ingest": value})))

    def end(run: dg.DagsterRun) -> None:
        platform.instance.report_run_canceled(run)

    (spec,) = load_declarations(Environment.read().tables_dir).specs
    with ThreadPoolExecutor() as background, ExitStack() as ending:
        first = background.submit(platform.run_requested, request)
        ending.callback(lambda: [end(run) for run in platform.instance.get_runs() if not run.is_finished])
        wait_until(lambda: platform.rows_by_partition())
        broker.produce(clicks, [make_message(3)])
        assert not platform.tick().run_requests

        # The successor without Dagster around it: of two runs in one process, Python's logging locks both out.
        tags = dict(build_ingest_request(spec, succeeds=True).tags or {})
        second = platform.instance.create_run_for_job(platform.job, status=dg.DagsterRunStatus.STARTED, tags=tags)
        relay = Relay(platform.instance, second, spec, lambda: False, follows=True)
        relay.begin()
        assert runs("ods.clicks:next") == runs("ods.clicks:ready") == []
        assert first.result(60).success
        following = background.submit(
            run_follow,
            LakehouseResource().systems(),
            spec,
            find_reason_to_end=relay.find_reason_to_end,
            on_commit=lambda _: None,
            on_retry=lambda _error, _seconds: None,
            now_ms=lambda: int(time.time() * 1000),
        )
        broker.produce(clicks, [make_message(4)])
        wait_until(lambda: len(rows()) == 5)
        end(second)
        assert following.result(60).ended == "Dagster takes this run for ended"

    assert rows() == [0, 1, 2, 3, 4]
    said = [entry.user_message for entry in platform.instance.all_logs(first.result().run_id)]
    assert any(f"run {second.run_id[:8]} takes over: " in message for message in said)
