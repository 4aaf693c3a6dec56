"""Reads from a computed slice what a small picture of it shows: the first number by the first name, or over time."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final

import pyarrow as pa
from pyiceberg.catalog import Catalog

from lakehouse_assets.operations.slice_writing import SliceReport
from lakehouse_assets.systems.catalog import require_table
from lakehouse_assets.systems.scanning import TableDataset

MOST_ROWS: Final = 10_000  # of a roll-up; what has more is none, and is not read again for a picture
MOST_BARS: Final = 24
_is = pa.types


@dataclass(frozen=True, slots=True)
class Bars:
    """Sums of `value` by `label`: over time in its order, else the largest first."""

    value: str
    label: str
    bars: Sequence[tuple[str, float]]
    left_out: int = 0


def read_bars(catalog: Catalog, report: SliceReport, time_column: str | None) -> Bars | None:
    """What a picture of a slice that has just landed shows; None where it has no number, or nothing to tell rows apart.

    Raises:
        StorageError, CatalogUnavailableError: the table could not be read.
    """
    if report.snapshot_id is None or report.is_addition or not 0 < report.row_count <= MOST_ROWS:
        return None
    dataset = TableDataset(require_table(catalog, report.table), report.snapshot_id, report.within)
    numbers = [field.name for field in dataset.schema if _is_number(field.type)]
    names = [field.name for field in dataset.schema if _is.is_string(field.type) or _is.is_large_string(field.type)]
    labels = [*([time_column] if time_column is not None else []), *names[:1]]
    if not numbers or not labels:
        return None
    rows = dataset.scanner([*labels, numbers[0]]).to_reader().read_all().to_pylist()
    by_label = [_sum_by(rows, label, numbers[0]) for label in labels]
    label, sums = next(((label, sums) for label, sums in zip(labels, by_label, strict=True) if len(sums) > 1), (None, {}))
    if label is None:
        return None
    is_time = label == time_column
    ordered = sorted(sums.items()) if is_time else sorted(sums.items(), key=lambda pair: -pair[1])
    shown = ordered[-MOST_BARS:] if is_time else ordered[:MOST_BARS]
    texts = [(f"{key.astimezone(UTC) if key.tzinfo else key:%H:%M}" if is_time else str(key), sum_) for key, sum_ in shown]
    return Bars(numbers[0], label, texts, len(ordered) - len(shown))


def _is_number(kind: pa.DataType) -> bool:
    return bool(_is.is_integer(kind) or _is.is_floating(kind) or _is.is_decimal(kind))


def _sum_by(rows: Sequence[dict[str, Any]], label: str, value: str) -> dict[Any, float]:
    sums: dict[Any, float] = defaultdict(float)
    for row in rows:
        if row[label] is not None and row[value] is not None:
            sums[row[label]] += float(row[value])
    return dict(sums)
