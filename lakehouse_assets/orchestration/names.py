"""Names that Dagster shows and that must agree between assets, sensors, checks and schedules."""

from dagster import AssetKey

from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.model.sql_table_spec import SqlTableSpec

INGEST_TAG = "lakehouse/ingest"  # at most one run per value: `dagster.yaml` limits it, the sensor looks for it
FOLLOW_TAG = "lakehouse/follow"  # of a run that stays while its topic is hot: which declaration it goes by
SIGN_TAG = "lakehouse/sign-of-life"  # of such a run, about twice a minute: seconds since 1970
ROWLESS_TAG = "lakehouse/rowless"  # JSON: offsets that the run read and that held no row
MAINTENANCE_TAG = "lakehouse/maintenance"  # the name of the job; `dagster.yaml` keeps slots free for ingestion
TABLE_TAG = "lakehouse/table"
COMPLETE_SUFFIX = "__complete"
IO_MANAGER = "lakehouse_io"  # the resource by which Python assets read and write tables
SLICES_TAG = "lakehouse/slices"  # of an asset: by which time it is partitioned
KAFKA_TIME = "kafka"


def next_up(spec: TableSpec) -> str:
    """The value of INGEST_TAG of a run that is to take the table over from one that follows it."""
    return f"{spec.table}:next"


def ready(spec: TableSpec) -> str:
    """The value of INGEST_TAG of the same run once it has started, and only waits for the last commit of the other one."""
    return f"{spec.table}:ready"


def table_key(spec: TableSpec | SqlTableSpec) -> AssetKey:
    """`namespace/name`."""
    return AssetKey([spec.namespace, spec.name])


def complete_key(table: str) -> AssetKey:
    """`namespace/name__complete`: the slices of event time of which a table has all rows. What comes after it depends on it."""
    namespace, name = table.split(".")
    return AssetKey([namespace, f"{name}{COMPLETE_SUFFIX}"])


def quarantine_key(spec: TableSpec) -> AssetKey:
    """The table of the messages that can't become rows of this one."""
    return AssetKey(spec.quarantine_table.split("."))


def topic_key(topic: str) -> AssetKey:
    """`kafka/<topic>`; characters that a key can't have become underscores."""
    return AssetKey(["kafka", "".join(c if c.isalnum() or c in "_-" else "_" for c in topic)])


def topic_keys(spec: TableSpec) -> list[AssetKey]:
    """What the table is downstream of: each topic that it names, or its pattern."""
    pattern = spec.source.topic_pattern
    return [topic_key(topic) for topic in (spec.source.named_topics if pattern is None else (pattern,))]


def definition_name(spec: TableSpec | SqlTableSpec, suffix: str) -> str:
    """A name for an op, sensor or schedule of the table."""
    return f"{spec.namespace}__{spec.name}__{suffix}"
