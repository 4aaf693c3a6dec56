"""Writes manifests again, sorted by partition, into files that nobody sees until a snapshot takes them in.

Hides what the manifest list says of a partition's bounds, and how entries are put in order. Every entry keeps the snapshot that
added it and both sequence numbers. What is staged stays good while the manifests that it stands for are in the table, whatever
else is committed. Memory grows with the number of entries that are written again.
"""

import math
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntry, ManifestFile, PartitionFieldSummary
from pyiceberg.table import Table
from pyiceberg.types import IcebergType, PrimitiveType

from lakehouse_assets.model.manifest_plan import Kind, ManifestFacts, ManifestGroup, Value, plan_manifests
from lakehouse_assets.systems.manifests import EntryWriter
from lakehouse_assets.systems.snapshots import Change, manifest_target_bytes

_CONTENTS: dict[Kind, ManifestContent] = {"data": ManifestContent.DATA, "deletes": ManifestContent.DELETES}
_KINDS = {content: kind for kind, content in _CONTENTS.items()}
_NULL: Value = (0, 0)
_NO_SNAPSHOT = -1  # the one that takes a manifest in puts its own id there


def list_manifests(table: Table) -> list[ManifestFile]:
    """Those of the current snapshot."""
    current = table.metadata.current_snapshot()
    return current.manifests(table.io) if current is not None else []


def plan_regrouping(table: Table) -> list[ManifestGroup]:
    """The manifests that it pays to write again. Reads the manifest list."""
    return plan_manifests((_facts(table, one) for one in list_manifests(table)), manifest_target_bytes(table))


def _facts(table: Table, manifest: ManifestFile) -> ManifestFacts:
    fields = table.metadata.specs()[manifest.partition_spec_id].partition_type(table.schema()).fields
    return ManifestFacts(
        path=manifest.manifest_path,
        kind=_KINDS[manifest.content],
        spec_id=manifest.partition_spec_id,
        file_count=(manifest.added_files_count or 0) + (manifest.existing_files_count or 0),
        size_bytes=manifest.manifest_length,
        bounds=tuple(
            _bounds(one.field_type, summary) for one, summary in zip(fields, manifest.partitions or (), strict=False)
        ),
    )


def _bounds(kind: IcebergType, summary: PartitionFieldSummary) -> tuple[Value, Value]:
    assert isinstance(kind, PrimitiveType)  # noqa: S101 - Iceberg spec, "Partitioning": values of fields are primitive
    low, high = (
        _value(from_bytes(kind, bound)) if bound is not None else _NULL
        for bound in (summary.lower_bound, summary.upper_bound)
    )
    return (_NULL if summary.contains_null else low), high


def _value(of: object) -> Value:
    """A value of a partition field that has a place beside every other of its type: nulls first, NaN last."""
    if of is None:
        return _NULL
    return (2, 0) if isinstance(of, float) and math.isnan(of) else (1, of)


@dataclass(slots=True)
class Regrouping:
    """Manifests of one state of a table, and staged ones that stand for them."""

    table: Table
    replaced: frozenset[str] = frozenset()
    staged: list[ManifestFile] = field(default_factory=list)
    locations: list[str] = field(default_factory=list)
    entry_count: int = 0

    def stage(self, groups: Sequence[ManifestGroup]) -> None:
        """Write the groups anew. After an error `locations` are what is to be deleted."""
        self.replaced = frozenset(one.path for group in groups for one in group.manifests)
        manifests = [one for one in list_manifests(self.table) if one.manifest_path in self.replaced]
        for group in groups:
            content = _CONTENTS[group.kind]
            mine = [one for one in manifests if (one.content, one.partition_spec_id) == (content, group.spec_id)]
            # Not through the cache: each is read once, and what commits keep there would have to go.
            entries = [entry for one in mine for entry in one.fetch_manifest_entry(self.table.io, discard_deleted=True)]
            entries.sort(key=lambda entry: _partition(entry.data_file))
            self.entry_count += len(entries)
            self._write(content, group.spec_id, entries)

    def _write(self, content: ManifestContent, spec_id: int, entries: Iterable[ManifestEntry]) -> None:
        target, rest = manifest_target_bytes(self.table), iter(entries)
        first = next(rest, None)
        while first is not None:
            with self._open(content, spec_id) as writer:
                writer.existing(first)
                while (first := next(rest, None)) is not None and writer.tell() < target:
                    writer.existing(first)
            self.staged.append(writer.to_manifest_file())

    def _open(self, content: ManifestContent, spec_id: int) -> EntryWriter:
        location = self.table.location_provider().new_metadata_location(f"{uuid.uuid4().hex}-m{len(self.staged)}.avro")
        self.locations.append(location)
        metadata, output = self.table.metadata, self.table.io.new_output(location)
        return EntryWriter(content, metadata.specs()[spec_id], metadata.schema(), output, _NO_SNAPSHOT)

    def fits(self, head: Table) -> bool:
        """Whether every manifest that is replaced is in `head`."""
        return self.replaced <= {one.manifest_path for one in list_manifests(head)}

    def change(self, head: Table) -> Change:
        """What the snapshot is that puts them into `head`, which they fit."""
        notes = {  # the words that Iceberg's own rewrite of manifests uses
            "manifests-created": len(self.staged),
            "manifests-replaced": len(self.replaced),
            "manifests-kept": len(list_manifests(head)) - len(self.replaced),
            "entries-processed": self.entry_count,
        }
        return Change(
            added=(),
            notes={name: str(count) for name, count in notes.items()},
            keeps_rows=True,
            manifests=tuple(self.staged),
            replaced_manifests=self.replaced,
        )


def _partition(file: DataFile) -> tuple[Value, ...]:
    values = file.partition
    return tuple(_value(values[i]) for i in range(len(values)))
