"""The names that Iceberg gives to table properties, so that a misspelt one does not stay without effect.

From Iceberg's `TableProperties` and its page "Configuration", and the `TableProperties` of PyIceberg 0.12.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

from lakehouse_assets.model import written
from lakehouse_assets.model.mistakes import Mistake, nearest

RESERVED_PREFIX = "lakehouse."
_CHECKED_PREFIXES = ("write.", "read.", "commit.", "history.")
_SURELY_MEANT = (
    0.9  # ratio of difflib; outside Iceberg's own prefixes anything less alike may be another system's name
)

_PARQUET = (
    "row-group-size-bytes", "page-size-bytes", "page-row-limit", "dict-size-bytes", "compression-codec",
    "compression-level", "row-group-check-min-record-count", "row-group-check-max-record-count",
)  # fmt: skip
_AVRO = ("compression-codec", "compression-level")
_ORC = (
    "stripe-size-bytes",
    "block-size-bytes",
    "vectorized.batch-size",
    "compression-codec",
    "compression-strategy",
)

PROPERTY_NAMES = (
    "format-version",
    "gc.enabled",
    "schema.name-mapping.default",
    "compatibility.snapshot-id-inheritance.enabled",
    "engine.hive.enabled",
    "engine.hive.lock-enabled",
    *(f"{prefix}.parquet.{name}" for prefix in ("write", "write.delete") for name in _PARQUET),
    *(f"{prefix}.avro.{name}" for prefix in ("write", "write.delete") for name in _AVRO),
    *(f"{prefix}.orc.{name}" for prefix in ("write", "write.delete") for name in _ORC),
    *(
        f"write.{verb}.{name}"
        for verb in ("delete", "update", "merge")
        for name in ("mode", "isolation-level")
    ),
    *(f"write.{verb}distribution-mode" for verb in ("", "delete.", "update.", "merge.")),
    "write.format.default",
    "write.delete.format.default",
    "write.target-file-size-bytes",
    "write.delete.target-file-size-bytes",
    "write.delete.granularity",
    "write.parquet.row-group-limit",
    "write.parquet.bloom-filter-max-bytes",
    "write.orc.bloom.filter.columns",
    "write.orc.bloom.filter.fpp",
    "write.location-provider.impl",
    "write.py-location-provider.impl",
    "write.object-storage.enabled",
    "write.object-storage.partitioned-paths",
    "write.object-storage.path",
    "write.folder-storage.path",
    "write.data.path",
    "write.metadata.path",
    "write.metadata.compression-codec",
    "write.metadata.previous-versions-max",
    "write.metadata.delete-after-commit.enabled",
    "write.metadata.metrics.default",
    "write.metadata.metrics.max-inferred-column-defaults",
    "write.summary.partition-limit",
    "write.manifest-lists.enabled",
    "write.wap.enabled",
    "write.upsert.enabled",
    "write.spark.fanout.enabled",
    "write.spark.accept-any-schema",
    "write.spark.advisory-partition-size-bytes",
    "read.split.target-size",
    "read.split.metadata-target-size",
    "read.split.planning-lookback",
    "read.split.open-file-cost",
    "read.split.adaptive-size.enabled",
    "read.parquet.vectorization.enabled",
    "read.parquet.vectorization.batch-size",
    "read.orc.vectorization.enabled",
    "read.orc.vectorization.batch-size",
    "read.data-planning-mode",
    "read.delete-planning-mode",
    *(f"commit.retry.{name}" for name in ("num-retries", "min-wait-ms", "max-wait-ms", "total-timeout-ms")),
    *(
        f"commit.status-check.{name}"
        for name in ("num-retries", "min-wait-ms", "max-wait-ms", "total-timeout-ms")
    ),
    "commit.manifest.target-size-bytes",
    "commit.manifest.min-count-to-merge",
    "commit.manifest-merge.enabled",
    "history.expire.max-snapshot-age-ms",
    "history.expire.min-snapshots-to-keep",
    "history.expire.max-ref-age-ms",
)
COLUMN_PREFIXES = (
    "write.metadata.metrics.column.",
    "write.parquet.bloom-filter-enabled.column.",
    "write.parquet.bloom-filter-fpp.column.",
    "write.parquet.stats-enabled.column.",
)
ROW_CHANGE_MODES = ("copy-on-write", "merge-on-read")
ALLOWED_VALUES: Mapping[str, tuple[str, ...]] = {
    **{f"write.{verb}.mode": ROW_CHANGE_MODES for verb in ("update", "delete", "merge")},
    "format-version": ("2",),
    **dict.fromkeys(("gc.enabled", "write.metadata.delete-after-commit.enabled"), ("true", "false")),
    "write.format.default": ("parquet",),
    "write.parquet.compression-codec": ("zstd", "snappy", "gzip", "brotli", "lz4", "uncompressed"),
}
# What maintenance calculates with.
_WHOLE_NUMBERS = (
    "write.target-file-size-bytes", "write.delete.target-file-size-bytes", "write.metadata.previous-versions-max",
    "commit.manifest.target-size-bytes", "commit.manifest.min-count-to-merge", "history.expire.max-snapshot-age-ms",
    "history.expire.min-snapshots-to-keep", "history.expire.max-ref-age-ms",
)  # fmt: skip
_WHOLE_NUMBER = re.compile(r"[1-9][0-9]{0,17}")


def find_property_mistake(name: str, value: str) -> Mistake | None:
    """What is wrong with a property, or None. Names that end in a column's are checked up to the column."""
    if name.startswith(RESERVED_PREFIX):
        return Mistake(
            repr(name), f"names that do not begin with {RESERVED_PREFIX}, which are the platform's own"
        )
    if name in ALLOWED_VALUES and value not in ALLOWED_VALUES[name]:
        return Mistake(repr(value), ", ".join(ALLOWED_VALUES[name]), nearest(value, ALLOWED_VALUES[name]))
    if name in _WHOLE_NUMBERS and not _WHOLE_NUMBER.fullmatch(value):
        unit = " of milliseconds" if name.endswith("-ms") else " of bytes" if name.endswith("-bytes") else ""
        return Mistake(repr(value), f"a whole number{unit} from 1 on", _as_number(value))
    if name in PROPERTY_NAMES or any(
        name.startswith(prefix) and name != prefix for prefix in COLUMN_PREFIXES
    ):
        return None
    checked = name.startswith(_CHECKED_PREFIXES)
    suggestion = nearest(name, PROPERTY_NAMES, cutoff=0.6 if checked else _SURELY_MEANT)
    if not checked and suggestion is None:
        return None
    return Mistake(
        f"the property {name!r}", "Iceberg's own names, and other systems' under their own prefix", suggestion
    )


def _as_number(value: str) -> str | None:
    """A duration or a size as Iceberg has it: a number of milliseconds or bytes."""
    with suppress(ValueError):
        return str(written.read_size(value, 1))
    with suppress(ValueError):
        return str(written.read_duration(value, timedelta(milliseconds=1)) // timedelta(milliseconds=1))
    return None


def read_named_column(name: str) -> str | None:
    """The column whose name a property's name ends with, or None."""
    return next((name.removeprefix(prefix) for prefix in COLUMN_PREFIXES if name.startswith(prefix)), None)
