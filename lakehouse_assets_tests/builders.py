"""Makes what tests begin with. Every argument has a default."""

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.update import SetSnapshotRefUpdate

from lakehouse_assets.model.ledger import Ledger
from lakehouse_assets.model.offsets import TopicPartition, TopicRanges
from lakehouse_assets.model.spec import TableSpec
from lakehouse_assets.operations.systems import Systems, SystemSettings, open_systems
from lakehouse_assets.systems.catalog import ensure_table
from lakehouse_assets.systems.commit import Delivery, Landed, publish
from lakehouse_assets.systems.datafiles import build_data_files
from lakehouse_assets.systems.parquet import build_writer
from lakehouse_assets.systems.schema import Base, TableShape
from lakehouse_assets.systems.slice_files import SliceFiles

HOUR_MS = 3_600_000
TOPIC_ID = "topic-id-1"

# A declaration of a table that is followed, but for its topic.
FOLLOWED = """
table: ods.clicks
source: {{topic: {topic}}}
commit_interval: 1s
follow: true
schema:
  - {{name: id, type: long, required: true}}
"""


def make_spec(topic: str = "clicks", **parts: Any) -> TableSpec:
    """A declaration of `ods.clicks` with a long and a string. It commits sooner than people may ask for, so tests wait less.

    A part that is None is left out.
    """
    columns = [{"name": "id", "type": "long", "required": True}, {"name": "text", "type": "string"}]
    source = {"topic": topic, **parts.pop("source", {})}
    parts = {"table": "ods.clicks", "source": source, "schema": columns} | parts
    spec = TableSpec(**{name: part for name, part in parts.items() if part is not None})
    return spec.model_copy(update={"commit_interval": timedelta(milliseconds=200)})


def make_message(number: int = 1) -> bytes:
    """A message that fits `make_spec`."""
    return json.dumps({"id": number, "text": f"text {number}"}).encode()


def make_settings(folder: Path, servers: str = "127.0.0.1:1", registry: str = "", **catalog: str) -> SystemSettings:
    """A SQLite catalog and a warehouse in `folder`; `registry` is the address of the schema registry."""
    folder.mkdir(parents=True, exist_ok=True)
    place = {"uri": f"sqlite:///{folder}/catalog.db?timeout=30", "warehouse": f"file://{folder}/warehouse"}
    return SystemSettings(
        {"bootstrap.servers": servers},
        "lakehouse",
        ({} if "py-catalog-impl" in catalog else {"type": "sql"}) | place | catalog,
        {"url": registry} if registry else {},
    )


def make_systems(folder: Path, servers: str = "127.0.0.1:1", registry: str = "", **catalog: str) -> Systems:
    """Both systems, opened anew: nothing is shared with an earlier call but what stands in `folder`."""
    return open_systems(make_settings(folder, servers, registry, **catalog))


def make_table(catalog: Catalog, spec: TableSpec | None = None, topic_id: str = TOPIC_ID) -> Table:
    """The table of `spec`, created or loaded; a new one begins with an empty ledger."""
    spec = spec or make_spec()
    return ensure_table(catalog, TableShape.declared(spec), lambda: Ledger({spec.source.label: topic_id}))[0]


def make_ranges(ranges: Mapping[int, Iterable[tuple[int, int]]], topic: str = "clicks") -> TopicRanges:
    """Offsets `(start, stop)` per number of a topic partition of one topic."""
    return TopicRanges.of({TopicPartition(topic, p): pairs for p, pairs in ranges.items()})


def stage_rows(table: Table, positions: Mapping[int, Iterable[int]]) -> list[DataFile]:
    """Data files with one row per topic partition and offset; column `id` is the offset."""
    writer = build_writer(table, 2**24)
    writer.add(make_rows(positions))
    return build_data_files(table, writer.finish())


def make_rows(positions: Mapping[int, Iterable[int]]) -> pa.Table:
    """One row per topic partition and offset, with the columns of the table; column `id` is the offset."""
    pairs = [(p, offset) for p, offsets in positions.items() for offset in offsets]
    return pa.table(
        {
            "id": pa.array([offset for _, offset in pairs], pa.int64()),
            "text": pa.array([f"text {offset}" for _, offset in pairs], pa.string()),
            "_kafka_partition": pa.array([p for p, _ in pairs], pa.int32()),
            "_kafka_offset": pa.array([offset for _, offset in pairs], pa.int64()),
            "_kafka_timestamp": pa.array([offset * 1_000_000 for _, offset in pairs], pa.timestamp("us", tz="UTC")),
        }
    )


def make_delivery(
    table: Table,
    positions: Mapping[int, range],
    topic: str = "clicks",
    topic_id: str = TOPIC_ID,
    files: list[DataFile] | None = None,
    **parts: Any,
) -> Delivery:
    """Staged rows of the given offsets, ready to be published."""
    return Delivery(
        topic_ids={topic: topic_id},
        ranges=make_ranges({p: [(offsets.start, offsets.stop)] for p, offsets in positions.items()}, topic),
        files=stage_rows(table, positions) if files is None else files,
        last_row={TopicPartition(topic, p): offsets.stop - 1 for p, offsets in positions.items()},
        newest_ms={TopicPartition(topic, p): 1_000 for p in positions},
        base=Base.of(table),
        **parts,
    )


def append_foreign_rows(table: Table, count: int = 1, first_id: int = 1_000_000, branch: str = MAIN_BRANCH) -> None:
    """What another writer does: PyIceberg's own append, without Kafka positions."""
    rows = {"id": pa.array(range(first_id, first_id + count), pa.int64())}
    table.append(pa.table(rows, schema=pa.schema([pa.field("id", pa.int64(), nullable=False)])), branch=branch)


def publish_replace(catalog: Catalog, positions: Mapping[int, range], **topic: str) -> Landed:
    """Replace the rows of the given offsets by themselves; `topic` and `topic_id` as in `make_delivery`."""
    name = "ods.clicks"
    table = catalog.load_table(name)
    taken = SliceFiles(make_ranges({p: [(offsets.start, offsets.stop)] for p, offsets in positions.items()}), "clicks")
    taken.prepare(table, build_writer(table, 2**24))
    return publish(catalog, name, make_delivery(table, positions, replaces=taken.swap, again=True, **topic))


def expire(table: Table, snapshot_ids: Iterable[int]) -> None:
    """What somebody else's maintenance does: PyIceberg's own expiry."""
    expired = table.maintenance.expire_snapshots()
    for snapshot_id in snapshot_ids:
        expired = expired.by_id(snapshot_id)
    expired.commit()


def roll_back(table: Table, snapshot_id: int) -> None:
    """Make an older snapshot the current one."""
    update = SetSnapshotRefUpdate(ref_name="main", type=SnapshotRefType.BRANCH, snapshot_id=snapshot_id)
    table.catalog.commit_table(table, (), (update,))
