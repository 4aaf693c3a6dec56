"""Runs that a killed session left behind do not hold their tables."""

import dagster as dg
import pytest
from dagster import DagsterInstance, DagsterRunStatus

from lakehouse_assets.local.runs import end_abandoned_runs


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
