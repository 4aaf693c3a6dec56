"""Reads and writes the entries of single manifests.

Hides what PyIceberg 0.12 lacks: it writes manifests of data files only, spells the type of `equality_ids` as no Iceberg
specification does (readers in other languages refuse it), compresses each entry by itself, and parses a manifest anew each time
it is asked, though manifests never change.
"""

from types import TracebackType
from typing import Final

from pyiceberg.avro.file import AvroOutputFile
from pyiceberg.io import FileIO, OutputFile
from pyiceberg.manifest import (
    DEFAULT_READ_VERSION,
    MANIFEST_LIST_FILE_SCHEMAS,
    ManifestContent,
    ManifestEntry,
    ManifestFile,
    ManifestWriterV2,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.typedef import TableVersion
from pyiceberg.types import IntegerType, ListType, NestedField, StructType

from lakehouse_assets.systems.file_cache import FileCache

AVRO_CODEC: Final = "deflate"
_EQUALITY_IDS = 135  # Iceberg spec, "Data File Fields"
_DATA_FILE = 2
_BLOCK_ENTRIES = 100
_KEPT_BYTES = 64 * 1024 * 1024
_ENTRY_BYTES, _STATISTIC_BYTES = 2500, 45  # measured: what an entry takes in memory, and each statistic of a column

_cache = FileCache(_KEPT_BYTES)


def read_entries(io: FileIO, manifest: ManifestFile) -> list[ManifestEntry]:
    """The live entries of a manifest. They are shared, so nobody changes them."""
    return _cache.load(
        ("manifest", manifest.manifest_path),
        lambda: manifest.fetch_manifest_entry(io, discard_deleted=True),
        _size_bytes,
    )


def _size_bytes(entries: list[ManifestEntry]) -> int:
    if not entries:
        return _ENTRY_BYTES
    file = entries[0].data_file
    statistics = sum(len(of or ()) for of in (file.value_counts, file.null_value_counts, file.lower_bounds, file.upper_bounds))
    return len(entries) * (_ENTRY_BYTES + _STATISTIC_BYTES * statistics)


def signed_by(manifest: ManifestFile, snapshot_id: int) -> ManifestFile:
    """A manifest that was written before it was known which snapshot adds it."""
    fields = MANIFEST_LIST_FILE_SCHEMAS[DEFAULT_READ_VERSION].fields
    values = {field.name: manifest[i] for i, field in enumerate(fields)}
    return ManifestFile.from_args(**{**values, "added_snapshot_id": snapshot_id})


class _BlockFile(AvroOutputFile[ManifestEntry]):
    """Puts entries into blocks together: a fifth of the size that they have in blocks of their own."""

    def __enter__(self) -> "_BlockFile":
        self._waiting: list[ManifestEntry] = []
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        super().__exit__(kind, error, trace)

    def write_block(self, objects: list[ManifestEntry]) -> None:
        self._waiting += objects
        if len(self._waiting) >= _BLOCK_ENTRIES:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            super().write_block(self._waiting)
            self._waiting = []


class EntryWriter(ManifestWriterV2):
    """Writes a manifest of data files or of delete files."""

    def __init__(
        self, content: ManifestContent, spec: PartitionSpec, schema: Schema, output_file: OutputFile, snapshot_id: int
    ) -> None:
        super().__init__(spec, schema, output_file, snapshot_id, AVRO_CODEC)
        self._content = content

    def content(self) -> ManifestContent:
        """Which of both."""
        return self._content

    def new_writer(self) -> AvroOutputFile[ManifestEntry]:
        """Where the entries go."""
        return _BlockFile(
            output_file=self._output_file,
            file_schema=self._with_partition(self.version),
            record_schema=self._with_partition(DEFAULT_READ_VERSION),
            schema_name="manifest_entry",
            metadata=self._meta,
        )

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "data" if self._content == ManifestContent.DATA else "deletes"}

    def _with_partition(self, format_version: TableVersion) -> Schema:
        entry = super()._with_partition(format_version)
        return Schema(*[_with_type(f, _corrected(f.field_type)) if f.field_id == _DATA_FILE else f for f in entry.fields])


def _corrected(data_file: object) -> StructType:
    assert isinstance(data_file, StructType)  # noqa: S101 - Iceberg spec, "Manifest Entry Fields"
    ids = ListType(element_id=_EQUALITY_IDS + 1, element_type=IntegerType(), element_required=True)
    return StructType(*[_with_type(f, ids) if f.field_id == _EQUALITY_IDS else f for f in data_file.fields])


def _with_type(field: NestedField, kind: StructType | ListType) -> NestedField:
    return field.model_copy(update={"field_type": kind})
