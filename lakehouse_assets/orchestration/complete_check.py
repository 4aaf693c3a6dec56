"""The check `complete` of a table: up to when its event times are complete, and what holds them back."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from lakehouse_assets.model.slices import TimeSlice
from lakehouse_assets.model.spec import TableSpec

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from lakehouse_assets.model.offsets import TopicPartition

DESCRIPTION = (
    "Every hour or day of event time is complete soon after it has ended: within event_time.max_disorder and "
    "checks.complete_within. Otherwise: see whether the topic partition that holds it back receives messages, and whether they "
    "are ingested; with event_time.idle_after one without messages holds nothing back."
)
_LOGS_SHOWN = 3


def judge_slices(spec: TableSpec, table: "Table", now_ms: int) -> tuple[bool, str, Mapping[str, dg.MetadataValue[Any]]]:
    """Whether those slices are complete that should be by now, in words and in numbers."""
    from lakehouse_assets.operations.completeness import judge_completeness

    clock, event_time = spec.event_slices, spec.event_time
    assert clock is not None  # noqa: S101 - other tables lack the check
    assert event_time is not None  # noqa: S101
    patience = event_time.max_disorder + (spec.checks.complete_within or spec.checks.max_age)
    due_ms = clock.begin_ms(now_ms - patience // timedelta(milliseconds=1))
    found = judge_completeness(table, TimeSlice(due_ms - clock.length_ms, due_ms), spec, now_ms)
    until_ms = clock.start_ms if found.watermark_ms is None else clock.begin_ms(found.watermark_ms)
    missing = max(0, due_ms - until_ms) // clock.length_ms
    said = f"complete up to {_name(until_ms)}" if until_ms > clock.start_ms else "nothing is complete yet"
    if missing:
        said += f", though {missing:,} {clock.every}s after that should be{_describe_holding(found.holding)}"
    metadata: dict[str, dg.MetadataValue[Any]] = {"incomplete_slices": dg.MetadataValue.int(missing)}
    if found.watermark_ms is not None:
        metadata["watermark"] = dg.MetadataValue.timestamp(found.watermark_ms / 1000)
        metadata["watermark_behind_seconds"] = dg.MetadataValue.float(round((now_ms - found.watermark_ms) / 1000, 1))
    return not missing, said, {**metadata, **_late_metadata(table)}


def _late_metadata(table: "Table") -> Mapping[str, dg.MetadataValue[Any]]:
    from lakehouse_assets.systems.table_times import read_table_times

    late = read_table_times(table).late_rows
    records = [dg.TableRecord({"hour": _name(hour_ms), "rows": count}) for hour_ms, count in sorted(late.items())]
    shown = {"late_hours": dg.MetadataValue.table(records)} if records else {}
    return {"late_rows": dg.MetadataValue.int(sum(late.values())), **shown}


def _describe_holding(holding: "Mapping[TopicPartition, int | None]") -> str:
    shown = [
        f"{log} " + ("has no row that says a time, or a hole" if ms is None else f"is at {_name(ms)}")
        for log, ms in list(holding.items())[:_LOGS_SHOWN]
    ]
    rest = len(holding) - len(shown)
    return f"; {', '.join(shown)}" + (f", and {rest:,} more are behind" if rest else "") if shown else ""


def _name(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
