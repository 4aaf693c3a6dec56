"""What the UI shows of a table and of each commit. Numbers are numbers, so that Dagster plots them; ids are text."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from lakehouse_assets.model.changes import NO_COLUMN, SchemaChange, join_changes
from lakehouse_assets.model.column_spec import ColumnSpec
from lakehouse_assets.model.columns import QUARANTINE_COLUMNS
from lakehouse_assets.model.debt import Debt
from lakehouse_assets.model.maintenance import MaintenanceReport
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.types import DataType
from lakehouse_assets.model.unknown import UnknownFields

if TYPE_CHECKING:
    from lakehouse_assets.operations.ingest import CommitReport
    from lakehouse_assets.systems.merging import MergeFigures

_UNKNOWN_SHOWN, _UNKNOWN_NAMED = 20, 3
_PLANNED_SHOWN = 50
_HELD = ("data_files", "delete_files", "size_bytes", "dead_rows", "snapshots")  # what a table holds, of which no limit speaks

Metadata = Mapping[str, dg.MetadataValue[Any]]


def describe_table(spec: TableSpec) -> str:
    """Markdown for the asset's description: what it is, and what the buttons do."""
    layout = ", ".join(f"`{field}`" for field in spec.partition_by) or "none"
    where = [f"**Where** `{' '.join(spec.where.split())}`; other messages are skipped and counted."] if spec.where else []
    return "\n".join(
        [
            spec.description or f"Messages of the Kafka topic `{spec.source.label}`.",
            "",
            f"**Source** topic `{spec.source.label}`, {spec.source.format}, from {spec.source.start}.{_column_origin(spec)}",
            *([_describe_upsert(spec)] if spec.is_upsert else []),
            *where,
            f"**Layout** {layout}. **Commits** about every {spec.commit_interval.total_seconds():g} s while messages arrive.",
            "",
            f"{_describe_materializing(spec)} The sensor brings new messages; pausing it loses nothing.",
        ]
    )


def _describe_upsert(spec: TableSpec) -> str:
    key = ", ".join(f"`{name}`" for name in spec.key)
    deleted = "stays, marked in `_is_deleted`" if spec.on_delete == "mark" else "goes"
    log = f" Every change is kept in `{spec.change_log.table}`." if spec.change_log is not None else ""
    return f"**Upsert** one row per {key}; one that is deleted {deleted}. Written by {write_mode(spec)}.{log}"


def _describe_materializing(spec: TableSpec) -> str:
    every = spec.partitions.every
    if not spec.is_upsert:
        return (
            f"*Materialize* replaces the rows of exactly the {every}s you choose with what Kafka holds of them; "
            "it is safe to repeat and beside live ingestion."
        )
    return (
        f"*Materialize* replays the changes since the start of the {every} you choose, up to where the table stands or to the "
        f"end of the {every}, whichever is later. An older change never wins, and what was deleted in the source does not come "
        "back; what somebody else changed in the table does, where the log has a change of its key. It is safe to repeat and "
        "beside live ingestion."
    )


def write_mode(spec: TableSpec) -> str:
    """How a commit of an upsert table is written, in Iceberg's words."""
    return "copy-on-write" if spec.copy_on_write else "merge-on-read"


def _column_origin(spec: TableSpec) -> str:
    if spec.columns:
        return ""
    place = spec.source.schema_file or f"newest version of `{spec.source.topic}-value` in the schema registry"
    return f" **Columns** from the {place}."


def _column_schema(declared: Sequence[ColumnSpec], added: Mapping[str, tuple[DataType, str]]) -> dg.TableSchema:
    columns = [
        dg.TableColumn(
            column.name,
            str(column.type),
            description=column.doc or (f"= {' '.join(column.expr.split())}" if column.expr else None),
            constraints=dg.TableColumnConstraints(nullable=not column.required, unique=False),
        )
        for column in declared
    ]
    columns += [dg.TableColumn(name, str(kind), description=doc) for name, (kind, doc) in added.items()]
    return dg.TableSchema(columns)


def table_metadata(spec: TableSpec) -> dict[str, object]:
    """Schema and name, known before the first run."""
    return {
        "dagster/column_schema": _column_schema(spec.columns, spec.metadata_columns),
        "dagster/table_name": spec.table,
        "topic": spec.source.label,
        "mode": spec.mode,
        "key": ", ".join(spec.key) or "none",
        **({"write_mode": write_mode(spec), "on_delete": spec.on_delete} if spec.is_upsert else {}),
    }


def quarantine_table_metadata(spec: TableSpec) -> dict[str, object]:
    """Schema and name of the quarantine table, known before the first bad message."""
    columns = [dg.TableColumn(name, str(kind), description=doc) for name, (kind, doc) in QUARANTINE_COLUMNS.items()]
    return {"dagster/column_schema": dg.TableSchema(columns), "dagster/table_name": spec.quarantine_table}


def commit_metadata(spec: TableSpec, report: "CommitReport", slice_rows: int) -> Metadata:
    """One commit as the metadata of a materialization of one slice, of which it wrote `slice_rows` rows."""
    offsets = [
        dg.TableRecord({"topic partition": str(log), "first offset": held.ranges[0].start, "last offset": held.stop - 1})
        for log, held in report.ranges.partitions.items()
    ]
    return {
        **(_row_metadata(report, slice_rows) if report.merge is None else _merge_metadata(report, report.merge, slice_rows)),
        "dagster/row_count": dg.MetadataValue.int(report.total_rows),
        "records_read": dg.MetadataValue.int(report.read_count),
        "records_quarantined": dg.MetadataValue.int(sum(report.bad_codes.values())),
        "records_skipped": dg.MetadataValue.int(report.skipped_count),
        "records_filtered": dg.MetadataValue.int(report.filtered_count),
        "bytes_written": dg.MetadataValue.int(report.bytes_written),
        "data_file_count": dg.MetadataValue.int(report.data_file_count),
        "offset_lag_before": dg.MetadataValue.int(report.lag_before),
        "offset_lag_after": dg.MetadataValue.int(report.lag_after),
        "commit_seconds": dg.MetadataValue.float(round(report.commit_seconds, 4)),
        "commit_attempts": dg.MetadataValue.int(report.commit_attempts),
        "committed_at": dg.MetadataValue.timestamp(datetime.now(UTC)),
        "snapshot_id": dg.MetadataValue.text(str(report.snapshot_id)),
        "dagster/uri": dg.MetadataValue.text(report.location),
        "offsets": dg.MetadataValue.table(offsets) if offsets else dg.MetadataValue.text("none"),
        "query": dg.MetadataValue.md(f"```sql\n{rows_query(report)}\n```"),
        "commit_slowdown": dg.MetadataValue.int(report.pace.slowdown),
        **({"slowed_down_by": dg.MetadataValue.text(str(report.pace))} if report.pace.reasons else {}),
        **_event_time_metadata(spec, report),
        **_derived_metadata(spec, report),
        **_schema_metadata(report.schema_change),
        **unknown_metadata(report.unknown),
    }


def _row_metadata(report: "CommitReport", slice_rows: int) -> Metadata:
    return {
        "slice_rows_committed": dg.MetadataValue.int(slice_rows),
        "rows_committed": dg.MetadataValue.int(report.row_count),
    }


def _merge_metadata(report: "CommitReport", merge: "MergeFigures", slice_changes: int) -> Metadata:
    """What changes did to an upsert table. Of several changes of one key the last counts, so they are fewer than were read."""
    return {
        "slice_changes_read": dg.MetadataValue.int(slice_changes),
        "changes_read": dg.MetadataValue.int(report.row_count),
        "rows_inserted": dg.MetadataValue.int(merge.inserted),
        "rows_updated": dg.MetadataValue.int(merge.updated),
        "rows_deleted": dg.MetadataValue.int(merge.deleted),
        "deletes_without_a_row": dg.MetadataValue.int(merge.absent),
        "changes_older_than_the_row": dg.MetadataValue.int(merge.stale),
        "delete_file_count": dg.MetadataValue.int(report.delete_file_count),
        "dead_rows": dg.MetadataValue.int(report.dead_rows),
    }


def _event_time_metadata(spec: TableSpec, report: "CommitReport") -> Metadata:
    """How far the table is complete, and which rows came too late or say nothing of it."""
    if spec.event_time is None:
        return {}
    shown: dict[str, dg.MetadataValue[Any]] = {
        "rows_late": dg.MetadataValue.int(sum(report.late_rows.values())),
        "rows_too_far_ahead": dg.MetadataValue.int(report.event_times.ahead_count),
        "rows_without_event_time": dg.MetadataValue.int(report.event_times.null_count),
    }
    if report.late_rows:
        hours = [
            dg.TableRecord({"hour": f"{datetime.fromtimestamp(hour / 1000, UTC):%Y-%m-%d %H:%M}", "late rows": count})
            for hour, count in sorted(report.late_rows.items())
        ]
        shown["late_rows"] = dg.MetadataValue.table(hours)
    if report.watermark_ms is not None:
        shown["event_time_watermark"] = dg.MetadataValue.timestamp(report.watermark_ms / 1000)
    return shown


def _derived_metadata(spec: TableSpec, report: "CommitReport") -> Metadata:
    """Where the columns come from, and which they are, of a table that declares none."""
    source = report.column_source
    if source is None:
        return {}
    found: dict[str, dg.MetadataValue[Any]] = {
        "registry_schema": dg.MetadataValue.text(source.subject),
        "dagster/column_schema": dg.MetadataValue.table_schema(
            _column_schema(report.derived_columns, spec.metadata_columns)
        ),
    }
    return {**found, "registry_schema_version": dg.MetadataValue.int(source.version)} if source.version else found


def unknown_metadata(unknown: UnknownFields) -> Metadata:
    """The fields of messages that no column reads, the most frequent first."""
    found = {"unknown_field_count": dg.MetadataValue.int(len(unknown.fields) + unknown.other_names)}
    if not unknown.fields:
        return found
    records = [
        dg.TableRecord(
            {"field": it.name, "share": round(unknown.share(it), 4), "type": it.kind or "no one type", "declare": it.line}
        )
        for it in unknown.ranked[:_UNKNOWN_SHOWN]
    ]
    return {
        **found,
        "unknown_fields": dg.MetadataValue.table(records),
        "unknown_fields_of": dg.MetadataValue.text(describe_sample(unknown)),
    }


def describe_sample(unknown: UnknownFields) -> str:
    """Of how many messages it is told."""
    if unknown.looked_at == unknown.messages:
        return f"{unknown.messages:,} messages"
    return f"a sample of {unknown.looked_at:,} of {unknown.messages:,} messages"


def _schema_metadata(change: SchemaChange | None) -> Metadata:
    """What became of the columns with a commit, and what they are since."""
    if change is None:
        return {}
    columns = [
        dg.TableColumn(
            column.name,
            column.type,
            description=column.doc or None,
            constraints=dg.TableColumnConstraints(nullable=not column.required, unique=False),
        )
        for column in change.columns
    ]
    changes = [
        dg.TableRecord({"column": it.column, "before": it.before or NO_COLUMN, "after": it.after or NO_COLUMN})
        for it in change.changes
    ]
    return {
        "schema_change": dg.MetadataValue.table(changes),
        "dagster/column_schema": dg.MetadataValue.table_schema(dg.TableSchema(columns)),
    }


def quarantine_metadata(report: "CommitReport") -> Metadata:
    """The messages that one commit put into the quarantine, by the code of what is wrong with them."""
    counts = {f"{code}_count": dg.MetadataValue.int(count) for code, count in sorted(report.bad_codes.items())}
    return {"records_quarantined": dg.MetadataValue.int(sum(report.bad_codes.values())), **counts}


def debt_metadata(debt: Debt, policy: MaintenanceSpec, now_ms: int) -> Metadata:
    """What a table owes: each number beside the limit that comes first, so that their plots stand side by side; all limits."""
    measures = debt.measures(policy)
    numbers: dict[str, float] = {name: getattr(debt, name) for name in _HELD}
    for one in measures:
        numbers |= {one.name: one.value, f"{one.name}_limit": one.late if one.soft is None else one.soft}
    if debt.oldest_ms is not None:
        numbers["oldest_debt_seconds"] = (now_ms - debt.oldest_ms) / 1000
    limits = [
        dg.TableRecord(
            {"debt": one.words, "now": f"{one.value:,g}"}
            | {
                kind: "" if limit is None else f"{limit:,g}"
                for kind, limit in (("due from", one.soft), ("late from", one.late), ("slows ingestion from", one.hard))
            }
        )
        for one in measures
    ]
    return {"limits": dg.MetadataValue.table(limits), **{name: number_value(number) for name, number in numbers.items()}}


def maintenance_metadata(report: MaintenanceReport) -> Metadata:
    """What an operation did; each number under the operation's name, so that each has a plot of its own."""
    figures = {**report.figures, "seconds": report.seconds} if not report.is_dry_run else report.planned.figures
    numbers = {f"{report.operation}_{name}": number_value(number) for name, number in figures.items()}
    kept_back = [dg.TableRecord({"what": one.what, "why": one.reason}) for one in report.kept_back]
    planned = [
        dg.TableRecord(dict(zip(report.planned.titles, row, strict=True))) for row in report.planned.rows[:_PLANNED_SHOWN]
    ]
    return {
        **numbers,
        "operation": dg.MetadataValue.text(f"dry run of {report.operation}" if report.is_dry_run else report.operation),
        **({"planned": dg.MetadataValue.table(planned)} if planned else {}),
        **({"kept_back": dg.MetadataValue.table(kept_back)} if kept_back else {}),
        **({"snapshot_ids": dg.MetadataValue.text(", ".join(map(str, report.snapshot_ids)))} if report.snapshot_ids else {}),
    }


def maintenance_line(report: MaintenanceReport) -> str:
    """One log line."""
    name, figures = f"{report.operation} {report.table}", report.figures
    if report.is_dry_run:
        name, figures = f"dry run of {name}", report.planned.figures
    done = ", ".join(_describe_figures(figures)) if report.planned else "nothing to do"
    kept_back = "".join(f"; kept back: {one}" for one in report.kept_back)
    return f"{name}: {done}, {report.seconds:.1f} s{kept_back}"


def _describe_figures(figures: Mapping[str, float]) -> Iterator[str]:
    """What was before and what is after stand together."""
    for name, number in figures.items():
        what = name.removesuffix("_before")
        if f"{what}_after" in figures and what != name:
            yield f"{what} {number:,} -> {figures[f'{what}_after']:,}"
        elif f"{name.removesuffix('_after')}_before" not in figures:
            yield f"{name} {number:,}"


def number_value(number: float) -> dg.MetadataValue[Any]:
    """A number as Dagster plots it."""
    return dg.MetadataValue.int(number) if isinstance(number, int) else dg.MetadataValue.float(round(number, 3))


def rows_query(report: "CommitReport") -> str:
    """SQL that shows the rows of a commit, in any engine."""
    ranges = [
        (f"_kafka_topic = '{log.topic}' AND " if report.says_topic else "")
        + f"_kafka_partition = {log.partition} AND _kafka_offset BETWEEN {held.ranges[0].start} AND {held.stop - 1}"
        for log, held in report.ranges.partitions.items()
    ]
    return f"SELECT * FROM {report.table} WHERE {' OR '.join(f'({one})' for one in ranges) or 'false'}"


def describe_unknown(unknown: UnknownFields) -> str:
    """The most frequent unknown fields in a clause."""
    named = ", ".join(f"{it.name} ({unknown.share(it):.1%})" for it in unknown.ranked[:_UNKNOWN_NAMED])
    more = len(unknown.fields) + unknown.other_names - _UNKNOWN_NAMED
    return f"fields without a column: {named}" + (f" and {more:,} more" if more > 0 else "")


def commit_line(report: "CommitReport") -> str:
    """One log line."""
    others = f", quarantined {sum(report.bad_codes.values()):,} messages" if report.bad_codes else ""
    others += f", filtered {report.filtered_count:,}" if report.filtered_count else ""
    unknown = f", {describe_unknown(report.unknown)}" if report.unknown.fields else ""
    change = f", columns changed: {join_changes(report.schema_change.changes)}" if report.schema_change else ""
    pace = f"; {report.pace}" if report.pace.reasons else ""
    rows = f"{report.row_count:,} rows" if report.merge is None else _describe_merge(report.row_count, report.merge)
    return (
        f"committed {rows} in {report.data_file_count} files ({report.bytes_written / 1e6:.1f} MB){others}, "
        f"offsets {report.ranges}, {report.commit_seconds:.2f} s, lag {report.lag_before:,} -> {report.lag_after:,}"
        f"{unknown}{change}{pace}"
    )


def _describe_merge(changes: int, merge: "MergeFigures") -> str:
    parts = {
        "inserted": merge.inserted,
        "updated": merge.updated,
        "deleted": merge.deleted,
        "without a row to delete": merge.absent,
        "older than the row": merge.stale,
    }
    return f"{changes:,} changes ({', '.join(f'{count:,} {what}' for what, count in parts.items() if count) or 'none left'})"
