"""What the UI shows of rows that were computed: of the slice, and of the table since then."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from lakehouse_assets.operations.slice_writing import SliceReport

_PARTITION_ROWS = "dagster/partition_row_count"


def slice_metadata(report: "SliceReport", partition_count: int = 1) -> dict[str, dg.MetadataValue[Any]]:
    """Numbers are numbers, so that Dagster plots them; ids are text.

    Of several partitions that were replaced as one, Dagster shows the same at each: then the rows are those of all.
    """
    inputs = [
        dg.TableRecord({"table": it.table, "snapshot": str(it.snapshot_id), "as of": "chosen" if it.is_chosen else "now"})
        for it in report.inputs
    ]
    shown: dict[str, dg.MetadataValue[Any]] = {
        "dagster/row_count": dg.MetadataValue.int(report.total_rows),
        "slice": dg.MetadataValue.text(str(report.within) if report.within is not None else "the whole table"),
        "complete": dg.MetadataValue.bool(report.is_complete),
        "dagster/uri": dg.MetadataValue.text(report.location),
    }
    if inputs:
        shown["inputs"] = dg.MetadataValue.table(inputs)
    if report.watermark_ms is not None:
        shown["watermark"] = dg.MetadataValue.timestamp(datetime.fromtimestamp(report.watermark_ms / 1000, UTC))
    if report.was_newer:
        return shown | {"written": dg.MetadataValue.text("nothing: the table holds rows that were computed from newer inputs")}
    return shown | {
        _PARTITION_ROWS if partition_count == 1 else "rows_of_the_slice": dg.MetadataValue.int(report.row_count),
        "snapshot_id": dg.MetadataValue.text(str(report.snapshot_id)),
        "data_files": dg.MetadataValue.int(report.data_file_count),
        "bytes_written": dg.MetadataValue.int(report.bytes_written),
        "commit_seconds": dg.MetadataValue.float(report.commit_seconds),
    }
