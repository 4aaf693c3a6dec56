"""Builds the metadata of one snapshot: manifests, manifest list, summary.

Knows Iceberg's format version 2 and nothing of offsets or retries. PyIceberg's own producers retry a conflicting append
unchecked and copy all metadata many times per commit, so a snapshot is put together here from its writers instead.
Nothing is visible to readers until the updates are committed by `systems.commit`.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    write_manifest_list,
)
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import (
    Operation,
    Snapshot,
    SnapshotSummaryCollector,
    Summary,
    update_snapshot_summaries,
)
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate, TableUpdate

from lakehouse_assets.model.manifest_plan import DEFAULT_TARGET_BYTES, TARGET_KEY, is_settled
from lakehouse_assets.systems.manifests import AVRO_CODEC, EntryWriter, read_entries, signed_by
from lakehouse_assets.systems.schema import FORMAT_VERSION

MERGE_WIDTH = 16  # manifests of about one size that are joined into one; keeps the list short and a join small


def table_name(table: Table) -> str:
    """The table's name as people write it: `namespace.name`."""
    return ".".join(table.name())


def ancestors(table: Table, newest: Snapshot | None) -> Iterator[Snapshot]:
    """`newest`, its parent, and so on, as far as the metadata still has them."""
    snapshot = newest
    while snapshot is not None:
        yield snapshot
        parent = snapshot.parent_snapshot_id
        snapshot = table.metadata.snapshot_by_id(parent) if parent is not None else None


def tag_snapshot(name: str, snapshot_id: int, keep_ms: int | None) -> SetSnapshotRefUpdate:
    """A tag on a snapshot; expiry keeps both for `keep_ms` from when the snapshot was made, with None as the table says."""
    return SetSnapshotRefUpdate.model_validate(
        {"ref-name": name, "type": SnapshotRefType.TAG, "snapshot-id": snapshot_id, "max-ref-age-ms": keep_ms}
    )


@dataclass(frozen=True, slots=True)
class Totals:
    """What a snapshot holds by its summary, from which writers may leave it out: 0 then.

    `dead_rows` stand in data files, and position deletes take them out.
    """

    live_rows: int
    dead_rows: int
    delete_files: int


def read_totals(snapshot: Snapshot | None) -> Totals:
    """What a snapshot holds; nothing, where there is none."""
    words = snapshot.summary.additional_properties if snapshot is not None and snapshot.summary is not None else {}
    rows, dead, files = (int(words.get(f"total-{what}", "0")) for what in ("records", "position-deletes", "delete-files"))
    return Totals(rows - dead, dead, files)


def list_live_files(table: Table, content: ManifestContent = ManifestContent.DATA) -> Iterator[ManifestEntry]:
    """Entries of every data (or delete) file that the table's current snapshot reads."""
    current = table.metadata.current_snapshot()
    for manifest in current.manifests(table.io) if current is not None else ():
        if manifest.content == content:
            yield from read_entries(table.io, manifest)


def manifest_target_bytes(table: Table) -> int:
    """About how large its manifests are to be. What others wrote there may be no number: no reason to stop a commit."""
    text = table.properties.get(TARGET_KEY, "")
    return int(text) if text.isdecimal() else DEFAULT_TARGET_BYTES


@dataclass(frozen=True, slots=True)
class Change:
    """What one snapshot does to a table: files it adds, and paths of files it removes; data and delete files alike.

    `manifests`, which are staged, stand for those at `replaced_manifests`: they hold the same live entries. `notes` are put
    into its summary. With `keeps_rows` the table's rows are the same after it. `data_sequence_number` is that
    of the data files added, where it is not the snapshot's own: deletes that were committed after it apply to them.
    """

    added: Sequence[DataFile]
    removed_paths: frozenset[str] = frozenset()
    notes: Mapping[str, str] = field(default_factory=dict)
    keeps_rows: bool = False
    data_sequence_number: int | None = None
    manifests: Sequence[ManifestFile] = ()
    replaced_manifests: frozenset[str] = frozenset()

    @property
    def operation(self) -> Operation:
        """Iceberg's word for it (Iceberg spec, "Snapshots")."""
        if self.keeps_rows:
            return Operation.REPLACE
        adds_rows = any(file.content == DataFileContent.DATA for file in self.added)
        takes_rows = bool(self.removed_paths) or any(file.content != DataFileContent.DATA for file in self.added)
        if not takes_rows:
            return Operation.APPEND
        return Operation.OVERWRITE if adds_rows else Operation.DELETE


@dataclass(slots=True)
class SnapshotBuilder:
    """Writes the metadata files of one attempt at a snapshot on top of `table`'s current one.

    `written` lists every file made, so that an attempt that certainly did not land can be cleaned up.
    """

    table: Table
    snapshot_id: int
    written: list[str] = field(default_factory=list)
    manifest_list: str = ""
    added_paths: frozenset[str] = frozenset()
    _attempt: str = field(default_factory=lambda: uuid.uuid4().hex)

    def build(self, change: Change, properties: Mapping[str, str]) -> tuple[TableUpdate, ...]:
        """Write manifests and manifest list; return the updates that make the snapshot current on `main`."""
        metadata = self.table.metadata
        parent = metadata.current_snapshot()
        self.added_paths = frozenset(file.file_path for file in change.added)
        manifests, removed = self._keep_or_rewrite(parent, change)
        staged = [signed_by(manifest, self.snapshot_id) for manifest in change.manifests]
        manifests = self._merge_small([*self._write_added(change), *staged, *manifests])
        summary = self._summary(change, removed, properties, parent)
        self.manifest_list = self._write_list(manifests, parent)
        snapshot = Snapshot.model_validate(
            {
                "snapshot-id": self.snapshot_id,
                "parent-snapshot-id": parent.snapshot_id if parent is not None else None,
                "manifest-list": self.manifest_list,
                "sequence-number": metadata.next_sequence_number(),
                "summary": summary,
                "schema-id": metadata.current_schema_id,
            }
        )
        return AddSnapshotUpdate(snapshot=snapshot), self._move_main()

    def _move_main(self) -> SetSnapshotRefUpdate:
        # The branch's own retention settings are sent again, because a set-ref replaces the whole ref.
        ref = self.table.metadata.refs.get(MAIN_BRANCH)
        return SetSnapshotRefUpdate.model_validate(
            {
                "ref-name": MAIN_BRANCH,
                "type": SnapshotRefType.BRANCH,
                "snapshot-id": self.snapshot_id,
                "max-ref-age-ms": ref.max_ref_age_ms if ref else None,
                "max-snapshot-age-ms": ref.max_snapshot_age_ms if ref else None,
                "min-snapshots-to-keep": ref.min_snapshots_to_keep if ref else None,
            }
        )

    def _keep_or_rewrite(
        self, parent: Snapshot | None, change: Change
    ) -> tuple[list[ManifestFile], list[DataFile]]:
        """The parent's manifests that are not replaced, without the entries of removed files, and these files.

        Manifests that have any are written again, those of about one size as one: where each commit removes files of many
        earlier ones, there would be ever more of them. Settled ones stay apart, for they are sorted by partition.
        """
        kept: list[ManifestFile] = []
        removed: list[DataFile] = []
        touched: dict[tuple[ManifestContent, int, int | str], list[ManifestEntry]] = {}
        removed_paths = change.removed_paths
        for manifest in parent.manifests(self.table.io) if parent is not None else ():
            if manifest.manifest_path in change.replaced_manifests:
                continue
            entries = read_entries(self.table.io, manifest) if removed_paths else []
            gone = [entry.data_file for entry in entries if entry.data_file.file_path in removed_paths]
            if gone:
                removed.extend(gone)
                is_settled = self._is_settled(manifest)
                tier = manifest.manifest_path if is_settled else _tier(len(entries) - len(gone))
                touched.setdefault((manifest.content, manifest.partition_spec_id, tier), []).extend(entries)
            elif manifest.has_added_files() or manifest.has_existing_files():
                kept.append(manifest)
        rewritten = [
            self._write_entries(content, spec_id, entries, removed_paths)
            for (content, spec_id, _), entries in touched.items()
        ]
        return [*rewritten, *kept], removed

    def _write_entries(
        self,
        content: ManifestContent,
        spec_id: int,
        entries: Sequence[ManifestEntry],
        removed_paths: frozenset[str] = frozenset(),
    ) -> ManifestFile:
        with self._manifest_writer(content, spec_id) as writer:
            for entry in entries:
                if entry.data_file.file_path in removed_paths:
                    writer.delete(entry)
                else:
                    writer.existing(entry)
        return writer.to_manifest_file()

    def _write_added(self, change: Change) -> list[ManifestFile]:
        """Manifests of new files: a manifest holds either data or delete files, of one partition spec."""
        groups: dict[tuple[ManifestContent, int], list[DataFile]] = {}
        for file in change.added:
            is_data = file.content == DataFileContent.DATA
            content = ManifestContent.DATA if is_data else ManifestContent.DELETES
            groups.setdefault((content, file.spec_id), []).append(file)
        manifests = []
        for (content, spec_id), members in groups.items():
            number = change.data_sequence_number if content == ManifestContent.DATA else None
            with self._manifest_writer(content, spec_id) as writer:
                for file in members:
                    writer.add_entry(
                        ManifestEntry.from_args(
                            status=ManifestEntryStatus.ADDED,
                            snapshot_id=self.snapshot_id,
                            sequence_number=number,
                            file_sequence_number=None,
                            data_file=file,
                        )
                    )
            manifests.append(writer.to_manifest_file())
        return manifests

    def _merge_small(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        """Join manifests tier by tier, as a log-structured merge does.

        A tier holds manifests of about the same number of files; when MERGE_WIDTH of one tier have gathered they become one
        of the next. The list stays short, so a commit costs the same after a thousand commits as after ten, and readers
        open few manifests. Manifests of this very snapshot stay as they are, and so do settled ones, which are large enough and
        perhaps sorted by partition: joining them would undo that.
        """
        tiers: dict[tuple[ManifestContent, int, int], list[ManifestFile]] = {}
        for manifest in manifests:
            if manifest.added_snapshot_id != self.snapshot_id and not self._is_settled(manifest):
                files = (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)
                tiers.setdefault((manifest.content, manifest.partition_spec_id, _tier(files)), []).append(manifest)
        for (content, spec_id, _), members in tiers.items():
            if len(members) >= MERGE_WIDTH:
                entries = [entry for member in members for entry in read_entries(self.table.io, member)]
                paths = {m.manifest_path for m in members}
                manifests = [m for m in manifests if m.manifest_path not in paths]
                if entries:
                    manifests.append(self._write_entries(content, spec_id, entries))
        return manifests

    def _is_settled(self, manifest: ManifestFile) -> bool:
        return is_settled(manifest.manifest_length, manifest_target_bytes(self.table))

    def _manifest_writer(self, content: ManifestContent, spec_id: int) -> EntryWriter:
        metadata = self.table.metadata
        location = self._new_location(f"{self._attempt}-m{len(self.written)}.avro")
        output = self.table.io.new_output(location)
        return EntryWriter(content, metadata.specs()[spec_id], metadata.schema(), output, self.snapshot_id)

    def _write_list(self, manifests: list[ManifestFile], parent: Snapshot | None) -> str:
        location = self._new_location(f"snap-{self.snapshot_id}-0-{self._attempt}.avro")
        with write_manifest_list(
            format_version=FORMAT_VERSION,
            output_file=self.table.io.new_output(location),
            snapshot_id=self.snapshot_id,
            parent_snapshot_id=parent.snapshot_id if parent is not None else None,
            sequence_number=self.table.metadata.next_sequence_number(),
            avro_compression=AVRO_CODEC,
        ) as writer:
            writer.add_manifests(manifests)
        return location

    def _new_location(self, name: str) -> str:
        location = self.table.location_provider().new_metadata_location(name)
        self.written.append(location)
        return location

    def _summary(
        self, change: Change, removed: Sequence[DataFile], properties: Mapping[str, str], parent: Snapshot | None
    ) -> Summary:
        metadata = self.table.metadata
        collector = SnapshotSummaryCollector()
        specs, schema = metadata.specs(), metadata.schema()
        for file in change.added:
            collector.add_file(file, schema, specs[file.spec_id])
        for file in removed:
            collector.remove_file(file, schema, specs[file.spec_id])
        # PyIceberg 0.12 refuses to sum up a snapshot that replaces files; what is counted is the same.
        counted = Operation.OVERWRITE if change.keeps_rows else change.operation
        summary = update_snapshot_summaries(
            Summary(operation=counted, **collector.build(), **change.notes, **properties),
            parent.summary.additional_properties if parent is not None and parent.summary else None,
        )
        return Summary(operation=change.operation, **summary.additional_properties)


def _tier(files: int) -> int:
    tier = 0
    while files >= MERGE_WIDTH:
        files //= MERGE_WIDTH
        tier += 1
    return tier
