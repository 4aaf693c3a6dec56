"""Frees the tables of runs that an earlier session left in progress: `python -m lakehouse_assets.local.runs`.

Run it with DAGSTER_HOME set, after the processes of that session have ended and before a daemon starts. It also creates the
instance's storage where there is none, so that the processes that start next don't do it at the same time.
"""

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from lakehouse_assets.local.dagster_services import INGEST_TAG

# QUEUED is not here: those runs never began, and the daemon starts them.
_CUT_OFF = (
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
)
_REASON = (
    "The session of `make dev` that this run belonged to has ended, and the run's process with it. "
    "What it had committed is kept, what it had not is read again; its table is free for the next run."
)


def end_abandoned_runs(instance: DagsterInstance) -> list[str]:
    """Mark every run in progress as ended; returns their ids. Safe to repeat.

    An ingestion run counts as canceled, because its sensor asks for a new one and need not hold back as after an error. Any
    other counts as failed, so that Dagster starts it again: a backfill goes on.

    The caller knows that no process of the instance lives: a run that still works would be marked too.
    """
    runs = instance.get_runs(RunsFilter(statuses=list(_CUT_OFF)))
    for run in runs:
        if run.status == DagsterRunStatus.CANCELING or INGEST_TAG in run.tags:
            instance.report_run_canceled(run, _REASON)
        else:
            instance.report_run_failed(run, _REASON)
    return [run.run_id for run in runs]


def main() -> None:
    """Do it for the instance of DAGSTER_HOME and say how many runs it were."""
    with DagsterInstance.get() as instance:
        print(len(end_abandoned_runs(instance)))


if __name__ == "__main__":
    main()
