"""Scheduled materialisation, for tables whose declaration asks for it."""

import dagster as dg

from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.orchestration.names import definition_name, table_key
from lakehouse_assets.orchestration.sensors import build_ingest_request, describe_progress, find_unfinished


def build_schedule(spec: TableSpec) -> dg.ScheduleDefinition | None:
    """A schedule that brings the table up to date at the declared times; None where none are declared."""
    if spec.schedule is None:
        return None

    @dg.schedule(
        name=definition_name(spec, "schedule"),
        cron_schedule=spec.schedule,
        target=dg.AssetSelection.assets(table_key(spec)),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Brings {spec.table} up to date at {spec.schedule} (UTC).",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        run = find_unfinished(context.instance, spec)
        if run is not None:
            return dg.SkipReason(f"Run {run.run_id[:8]} of {spec.table} is {describe_progress(run)}.")
        return build_ingest_request(spec)

    return schedule
