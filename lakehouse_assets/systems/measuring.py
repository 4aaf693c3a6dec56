"""Measures what a table owes, from its metadata alone.

Hides what has to be read for that: the manifest list of the newest snapshot, once; of manifests, which never change, those that
this process has not seen yet. A few numbers of each are kept, so a table that did not move costs nothing but its loading.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pyiceberg.manifest import DataFile, DataFileContent, ManifestEntry, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from lakehouse_assets.model.compaction_plan import SMALL_SHARE
from lakehouse_assets.model.debt import Debt
from lakehouse_assets.model.maintenance_spec import MaintenanceSpec
from lakehouse_assets.model.merge_plan import Place
from lakehouse_assets.systems.catalog import catalog_errors
from lakehouse_assets.systems.expiry import judge_retention
from lakehouse_assets.systems.file_cache import FileCache
from lakehouse_assets.systems.live_files import LiveFile
from lakehouse_assets.systems.manifests import read_entries
from lakehouse_assets.systems.parquet import WriteSettings
from lakehouse_assets.systems.position_deletes import is_of_one_file
from lakehouse_assets.systems.regrouping import plan_regrouping
from lakehouse_assets.systems.snapshots import manifest_target_bytes, table_name

_KEPT_BYTES: Final = 32 * 1024 * 1024
_PLACE_BYTES: Final = 500  # the figures of one partition in memory

_cache = FileCache(_KEPT_BYTES)


@dataclass(frozen=True, slots=True)
class _Figures:
    """Sums over files. `oldest` is the sequence number of the oldest small one."""

    rows: int = 0
    dead_rows: int = 0
    equality_deletes: int = 0
    data_files: int = 0
    delete_files: int = 0
    shared_deletes: int = 0
    size_bytes: int = 0
    small_files: int = 0
    oldest: int = 2**63

    @classmethod
    def of_entry(cls, entry: ManifestEntry, small_bytes: float) -> "_Figures":
        file: DataFile = entry.data_file
        rows, size = file.record_count, file.file_size_in_bytes
        if file.content == DataFileContent.POSITION_DELETES:
            return cls(dead_rows=rows, delete_files=1, shared_deletes=int(not is_of_one_file(file)), size_bytes=size)
        if file.content == DataFileContent.EQUALITY_DELETES:
            return cls(equality_deletes=rows, delete_files=1, size_bytes=size)
        if size >= small_bytes:
            return cls(rows=rows, data_files=1, size_bytes=size)
        return cls(rows=rows, data_files=1, size_bytes=size, small_files=1, oldest=entry.sequence_number or 0)

    def __add__(self, other: "_Figures") -> "_Figures":
        return _Figures(
            self.rows + other.rows,
            self.dead_rows + other.dead_rows,
            self.equality_deletes + other.equality_deletes,
            self.data_files + other.data_files,
            self.delete_files + other.delete_files,
            self.shared_deletes + other.shared_deletes,
            self.size_bytes + other.size_bytes,
            self.small_files + other.small_files,
            min(self.oldest, other.oldest),
        )

    @property
    def dead_percent(self) -> float:
        return min(100.0, 100 * self.dead_rows / self.rows) if self.rows else 0.0

    @property
    def untidy_deletes(self) -> int:
        """Delete files that are not the only one of one data file, as far as numbers tell."""
        return self.shared_deletes + max(0, self.delete_files - self.shared_deletes - self.data_files)


@dataclass(frozen=True, slots=True)
class _Content:
    """What the manifests of one snapshot say, in numbers."""

    manifests: int = 0
    untidy_manifests: int = 0
    whole: _Figures = _Figures()
    untidy_deletes: int = 0
    dead_percent: float = 0.0
    small_files: int = 0
    waiting_files: int = 0
    oldest: int | None = None


def measure_debt(table: Table, policy: MaintenanceSpec, now_ms: int) -> Debt:
    """What a table owes, as it was loaded. Read-only.

    Raises:
        StorageError, CatalogUnavailableError: its metadata can't be read.
        ConfigurationError: one of its properties is no number.
    """
    metadata = table.metadata
    with catalog_errors(table_name(table), f"measure the debt of {table_name(table)}"):
        content = _read_content(table, metadata.current_snapshot(), policy.small_files)
    return Debt(
        rows=content.whole.rows,
        dead_rows=content.whole.dead_rows,
        dead_percent=content.dead_percent,
        equality_deletes=content.whole.equality_deletes,
        data_files=content.whole.data_files,
        delete_files=content.whole.delete_files,
        untidy_deletes=content.untidy_deletes,
        size_bytes=content.whole.size_bytes,
        small_files=content.small_files,
        waiting_files=content.waiting_files,
        manifests=content.manifests,
        untidy_manifests=content.untidy_manifests,
        snapshots=len(metadata.snapshots),
        expired_snapshots=len(judge_retention(table, now_ms).expired),
        metadata_files=len(metadata.metadata_log) + 1,
        oldest_ms=_time_of(metadata, content.oldest) if content.oldest is not None else None,
    )


def may_be_over_hard_limit(metadata: TableMetadata, policy: MaintenanceSpec) -> bool:
    """Whether the newest snapshot's summary leaves it open that the table owes more than a hard limit. Reads no file.

    There are no more small files and manifests than files. A writer may leave totals out.
    """
    snapshot = metadata.current_snapshot()
    words = snapshot.summary.additional_properties if snapshot is not None and snapshot.summary is not None else {}
    files = sum(int(words.get(f"total-{kind}-files", "0")) for kind in ("data", "delete"))
    most = Debt(
        small_files=files, waiting_files=files, manifests=files, expired_snapshots=len(metadata.snapshots)
    )
    return bool(most.over_hard_limit(policy)) or (snapshot is not None and "total-data-files" not in words)


def _read_content(table: Table, snapshot: Snapshot | None, crowd: int) -> _Content:
    """Of a snapshot; partitions of at least `crowd` small files have files that wait."""
    if snapshot is None:
        return _Content()
    target = WriteSettings.of(table.properties, 0).target_file_bytes

    def read() -> _Content:
        manifests = snapshot.manifests(table.io)
        places: dict[Place, _Figures] = defaultdict(_Figures)
        for manifest in manifests:
            for place, figures in _sum_up(table, manifest, target).items():
                places[place] += figures
        crowded = [place for place in places.values() if place.small_files >= crowd]
        return _Content(
            manifests=len(manifests),
            untidy_manifests=sum(len(group.manifests) for group in plan_regrouping(table)),
            untidy_deletes=sum(place.untidy_deletes for place in places.values()),
            whole=sum(places.values(), _Figures()),
            dead_percent=round(max((place.dead_percent for place in places.values()), default=0.0), 1),
            small_files=max((place.small_files for place in places.values()), default=0),
            waiting_files=sum(place.small_files for place in crowded),
            oldest=min((place.oldest for place in crowded), default=None),
        )

    limits = (str(target), str(crowd), str(manifest_target_bytes(table)))
    return _cache.load(("snapshot", snapshot.manifest_list, *limits), read, lambda _: _PLACE_BYTES)


def _sum_up(table: Table, manifest: ManifestFile, target_bytes: int) -> Mapping[Place, _Figures]:
    def read() -> Mapping[Place, _Figures]:
        places: dict[Place, _Figures] = defaultdict(_Figures)
        for entry in read_entries(table.io, manifest):
            places[LiveFile(entry.data_file, ()).place] += _Figures.of_entry(entry, SMALL_SHARE * target_bytes)
        return dict(places)

    name = ("manifest", manifest.manifest_path, str(target_bytes))
    return _cache.load(name, read, lambda places: _PLACE_BYTES * (1 + len(places)))


def _time_of(metadata: TableMetadata, sequence_number: int) -> int:
    """When the snapshot of this number was made; where it has gone, when the oldest was that is there."""
    found = (one.timestamp_ms for one in metadata.snapshots if one.sequence_number == sequence_number)
    return next(found, min(one.timestamp_ms for one in metadata.snapshots))
