"""Keeps the cost of a commit from growing with the number of snapshots.

PyIceberg 0.12 parses the whole metadata file at every load, copies it whole, object by object, at every commit, and looks for
each snapshot from the oldest on: 18 ms at 10 snapshots, 172 ms at 1,000. Metadata files never change once written, and the
models in them are frozen and changed only by making new lists, so a parsed file can be kept by its location, and a deep copy
can share its parts; and of what grows with the snapshots, all of which stands in every file that is written, the JSON is made
once. Remove this module when PyIceberg does so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import is_
from typing import Any, Final

from pyiceberg.io import FileIO, InputFile
from pyiceberg.serializers import FromInputFile
from pyiceberg.table.metadata import TableMetadata, TableMetadataV1, TableMetadataV2
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.typedef import IcebergBaseModel

from lakehouse_assets.model.errors import MetadataUnreadableError
from lakehouse_assets.systems.file_cache import FileCache

_KEPT_BYTES: Final = 64 * 1024 * 1024  # of metadata JSON; parsed objects take a few times as much
_KEPT_JSON_BYTES: Final = 32 * 1024 * 1024
_LISTS: Final = {"snapshot_log": "snapshot-log", "snapshots": "snapshots"}  # that grow, by the names of model and JSON

_parsed, _texts = FileCache(_KEPT_BYTES), FileCache(_KEPT_JSON_BYTES)
_parse = FromInputFile.table_metadata


def remember_metadata(location: str, metadata: TableMetadata) -> None:
    """Keep what a commit just wrote, so that the next load need not parse it."""
    _parsed.keep((location,), metadata, _size_bytes(metadata))


def read_logged(io: FileIO, location: str) -> TableMetadata | None:
    """A state that a table's log names; None where that file has gone, as those do that left a log."""
    try:
        return FromInputFile.table_metadata(io.new_input(location))
    except FileNotFoundError:
        return None
    except MetadataUnreadableError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def install() -> None:
    """Make PyIceberg use the cache in this process. Safe to repeat."""
    FromInputFile.table_metadata = staticmethod(_load)  # type: ignore[method-assign]
    for frozen in (TableMetadataV1, TableMetadataV2):
        frozen.__deepcopy__ = _copy  # type: ignore[method-assign,assignment]
        frozen.model_dump_json = _to_json  # type: ignore[method-assign,assignment]
        frozen.snapshot_by_id = _find_snapshot  # type: ignore[method-assign,assignment]


def _load(input_file: InputFile, *args: Any, **kwargs: Any) -> TableMetadata:
    found: TableMetadata | None = _parsed.find((input_file.location,))
    if found is None:
        try:
            found = _parse(input_file, *args, **kwargs)
        except (FileNotFoundError, ValueError) as error:
            raise MetadataUnreadableError(input_file.location, f"{type(error).__name__}: {error}") from error
        remember_metadata(input_file.location, found)
    return found


def _size_bytes(metadata: TableMetadata) -> int:
    """About the size of its JSON: nearly all of it are snapshots, each with a ledger of some hundred bytes."""
    return 1024 * (1 + len(metadata.snapshots))


def _to_json(self: TableMetadata, **how: Any) -> str:
    """What PyIceberg makes of it, put together from what was made of its parts before."""
    if not how.keys() <= {"exclude_none"}:
        return IcebergBaseModel.model_dump_json(self, **how)
    text = IcebergBaseModel.model_dump_json(self.model_copy(update=dict.fromkeys(_LISTS, [])), **how)
    for name, key in _LISTS.items():
        kept_as = (str(self.table_uuid), name, str(how))
        spelled = _Spelled.of(getattr(self, name), _texts.find(kept_as), how)
        _texts.keep(kept_as, spelled, 2 * len(spelled.joined))
        text = text.replace(f'"{key}":[]', f'"{key}":[{spelled.joined}]', 1)  # in a text it would have its quotes escaped
    return text


@dataclass(frozen=True, slots=True)
class _Spelled:
    """JSON of each member of a list, and of all. The members are kept too, so that no other object can be taken for one."""

    members: Sequence[IcebergBaseModel]
    texts: Sequence[str]
    joined: str

    @classmethod
    def of(cls, members: Sequence[IcebergBaseModel], before: "_Spelled | None", how: Mapping[str, Any]) -> "_Spelled":
        """Mostly there is one more than before; looking at the others would be what costs most."""
        if before is not None and before.members and _begins_with(members, before.members):
            fresh = [one.model_dump_json(**how) for one in members[len(before.members) :]]
            return cls(members, [*before.texts, *fresh], ",".join([before.joined, *fresh]))
        known = {id(one): text for one, text in zip(before.members, before.texts, strict=True)} if before is not None else {}
        texts = [known.get(id(one)) or one.model_dump_json(**how) for one in members]
        return cls(members, texts, ",".join(texts))


def _begins_with(members: Sequence[object], others: Sequence[object]) -> bool:
    return len(members) >= len(others) and all(map(is_, members, others))


def _find_snapshot(self: TableMetadata, snapshot_id: int) -> Snapshot | None:
    """From the newest on, which nearly everybody asks for."""
    return next((one for one in reversed(self.snapshots) if one.snapshot_id == snapshot_id), None)


def _copy(self: TableMetadata, memo: dict[int, Any] | None = None) -> TableMetadata:
    return self.model_copy()
