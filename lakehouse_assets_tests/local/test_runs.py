"""Runs that a killed session left behind do not hold their tables."""

import dagster as dg
import pytest
from dagster import DagsterInstance, DagsterRunStatus

from lakehouse_assets.local.dagster_services import INGEST_TAG
from lakehouse_assets.local.runs import end_abandoned_runs
from lakehouse_assets.orchestration import names


@dg.job
def nothing() -> None:
    pass


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (DagsterRunStatus.NOT_STARTED, DagsterRunStatus.FAILURE),
        (DagsterRunStatus.STARTING, DagsterRunStatus.FAILURE),
        (DagsterRunStatus.STARTED, DagsterRunStatus.FAILURE),
        (DagsterRunStatus.CANCELING, DagsterRunStatus.CANCELED),
        (DagsterRunStatus.SUCCESS, DagsterRunStatus.SUCCESS),
    ],
)
def test_only_runs_in_progress_are_ended(before: DagsterRunStatus, after: DagsterRunStatus) -> None:
    with DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(nothing, status=before)

        ended = end_abandoned_runs(instance)

        found = instance.get_run_by_id(run.run_id)
        assert found
        assert found.status == after
        assert ended == ([run.run_id] if before != after else [])
        assert end_abandoned_runs(instance) == []


def test_the_run_says_why_it_was_ended() -> None:
    with DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(nothing, status=DagsterRunStatus.STARTED)

        end_abandoned_runs(instance)

        messages = [entry.user_message or entry.message for entry in instance.all_logs(run.run_id)]
        assert any("`make dev`" in message for message in messages)


def test_an_ingestion_run_counts_as_canceled_so_that_its_sensor_asks_again_at_once() -> None:
    with DagsterInstance.ephemeral() as instance:
        tags = {names.INGEST_TAG: "demo.flights"}
        run = instance.create_run_for_job(nothing, status=DagsterRunStatus.STARTED, tags=tags)

        end_abandoned_runs(instance)

        found = instance.get_run_by_id(run.run_id)
        assert found
        assert found.status == DagsterRunStatus.CANCELED


def test_supervisor_and_assets_mean_the_same_tag() -> None:
    assert INGEST_TAG == names.INGEST_TAG
