"""What the UI shows of rows that were computed: of the slice, and of the table since then."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from lakehouse_assets.operations.slice_writing import SliceReport

PARTITION_ROWS = "dagster/partition_row_count"  # Dagster's own word; only a replaced slice is known as a whole


def slice_metadata(report: "SliceReport", partition_count: int = 1) -> Mapping[str, dg.MetadataValue[Any]]:
    """Numbers are numbers, so that Dagster plots them; ids are text.

    Of several partitions that were replaced as one, Dagster shows the same at each: then the rows are those of all.
    """
    inputs = [dg.TableRecord({"table": one.table, "snapshot": str(one.snapshot_id)}) for one in report.inputs]
    found: dict[str, dg.MetadataValue[Any]] = {
        "dagster/row_count": dg.MetadataValue.int(report.total_rows),
        "inputs": dg.MetadataValue.table(inputs) if inputs else dg.MetadataValue.text("none"),
        "inputs_complete": dg.MetadataValue.bool(report.is_complete),
    }
    if report.watermark_ms is not None:
        found["event_time_watermark"] = dg.MetadataValue.timestamp(report.watermark_ms / 1000)
    if report.was_newer:
        return {**found, "left_as_it_was": dg.MetadataValue.text("it had been computed from newer inputs")}
    rows = "rows_added" if report.is_addition else PARTITION_ROWS if partition_count == 1 else "rows_of_all_partitions"
    return {
        **found,
        rows: dg.MetadataValue.int(report.row_count),
        **({"computed": dg.MetadataValue.text(report.folding)} if report.folding else {}),
        "data_file_count": dg.MetadataValue.int(report.data_file_count),
        "bytes_written": dg.MetadataValue.int(report.bytes_written),
        "commit_seconds": dg.MetadataValue.float(round(report.commit_seconds, 4)),
        "commit_attempts": dg.MetadataValue.int(report.commit_attempts),
        "snapshot_id": dg.MetadataValue.text(str(report.snapshot_id)),
        "dagster/uri": dg.MetadataValue.text(report.location),
    }


def slice_line(report: "SliceReport") -> str:
    """One log line."""
    what = str(report.within) if report.within is not None else "the whole table"
    if report.was_newer:
        return f"{what}: left as it was, for it had been computed from newer inputs"
    incomplete = "" if report.is_complete or report.within is None else ", of inputs that are not complete yet"
    how = f", {report.folding}" if report.folding else ""
    return (
        f"{what}: {report.row_count:,} rows in {report.data_file_count} files ({report.bytes_written / 1e6:.1f} MB), "
        f"{report.commit_seconds:.2f} s{how}{incomplete}"
    )
