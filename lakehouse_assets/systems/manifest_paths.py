"""Reads nothing but paths of manifest lists and manifests, for those who ask about thousands of them.

Hides how PyIceberg 0.12 reads Avro: it works out anew for each file how that file's schema is read, which takes longer than
reading a manifest of a few entries, and makes an object of every field. Here that is worked out once per schema, and what
nobody asks for is skipped.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final, Self

from pyiceberg.avro.decoder import new_decoder
from pyiceberg.avro.file import META_SCHEMA, AvroFile, AvroFileHeader
from pyiceberg.avro.reader import Reader, StructReader
from pyiceberg.avro.resolver import construct_reader, resolve_reader
from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DEFAULT_READ_VERSION,
    MANIFEST_ENTRY_SCHEMAS,
    MANIFEST_LIST_FILE_SCHEMAS,
    DataFileContent,
    ManifestEntryStatus,
)
from pyiceberg.typedef import Record

# What is read of a structure: field ids (Iceberg spec, "Manifest Lists", "Manifest Entry Fields" and "Data File Fields").
Wanted = Mapping[int, "Wanted | None"]
_MANIFEST_LIST: Final[Wanted] = {500: None}  # manifest_path
# status; data_file: content, file_path, and partition, only because PyIceberg 0.12 skips too few bytes of a decimal.
_MANIFEST: Final[Wanted] = {0: None, 2: {134: None, 100: None, 102: None}}

_header = construct_reader(META_SCHEMA, {-1: AvroFileHeader})


def read_manifest_paths(io: FileIO, manifest_list: str) -> list[str]:
    """The manifests that a manifest list names."""
    return [record[0] for record in _PathFile(io, manifest_list, is_manifest=False).read()]


def read_file_paths(io: FileIO, manifest: str) -> Iterator[tuple[str, bool]]:
    """Each live file of a manifest, and whether it is a data file; else it has deletes."""
    for record in _PathFile(io, manifest, is_manifest=True).read():
        status, file = record[0], record[1]
        if status != ManifestEntryStatus.DELETED:
            yield file[1], file[0] == DataFileContent.DATA


class _PathFile(AvroFile[Record]):
    """A manifest or a manifest list, of which paths are read."""

    __slots__ = ("is_manifest",)

    def __init__(self, io: FileIO, location: str, *, is_manifest: bool) -> None:
        super().__init__(io.new_input(location))
        self.is_manifest = is_manifest

    def read(self) -> Iterator[Record]:
        with self as records:
            yield from records

    def __enter__(self) -> Self:
        with self.input_file.open() as stream:
            self.decoder = new_decoder(stream.read())
        self.header = _header.read(self.decoder)
        self.reader = _path_reader(self.header.meta["avro.schema"], self.is_manifest)
        return self


@lru_cache(maxsize=64)
def _path_reader(avro_schema: str, is_manifest: bool) -> Reader:
    schema = (MANIFEST_ENTRY_SCHEMAS if is_manifest else MANIFEST_LIST_FILE_SCHEMAS)[DEFAULT_READ_VERSION]
    written = AvroFileHeader(b"", {"avro.schema": avro_schema}, b"").get_schema()
    return _only(resolve_reader(written, schema), _MANIFEST if is_manifest else _MANIFEST_LIST)


def _only(reader: Reader, wanted: Wanted | None) -> Reader:
    """The same reader, which skips what is not wanted; the fields of what it makes are in the order of `wanted`."""
    if wanted is None:
        return reader
    assert isinstance(reader, StructReader)  # noqa: S101 - only structures have parts that are wanted
    places = {number: place for place, number in enumerate(wanted)}
    fields: list[tuple[int | None, Reader]] = []
    for position, field in reader.field_readers:
        number = reader.struct.fields[position].field_id if position is not None else -1
        fields.append((places[number], _only(field, wanted[number])) if number in places else (None, field))
    return StructReader(tuple(fields), Record, reader.struct)
